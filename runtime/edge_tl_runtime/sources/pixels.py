"""From a decoded frame of FFmpeg to the picture that a person sees: BGR, progressive, upright, of square pixels, opaque."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import av.filter
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from edge_tl_runtime.photos import Frame

NEUTRAL = 127
"""The grey behind transparent pixels."""
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
_LUMA = {1: (0.0722, 0.7152, 0.2126), 9: (0.0593, 0.678, 0.2627), 10: (0.0593, 0.678, 0.2627)}
"""Weights of B, G and R by FFmpeg's number of the matrix; BT.601 for all others."""
_TRC = {16: "HDR (PQ)", 18: "HDR (HLG)"}


class NotWritten(Exception):
    """The conversion reported success, and the picture is not that of the frame."""


class Deinterlacer:
    """Half pictures of two moments made one (bwdif). Frames come out one later; those that are whole pass as they are."""

    def __init__(self, frame: av.VideoFrame, time_base: Fraction) -> None:
        self._like = (frame.width, frame.height, frame.format.name)
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=time_base, name="in"
        )
        weave = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(weave)
        weave.link_to(sink)
        self._graph.configure()

    def fits(self, frame: av.VideoFrame) -> bool:
        return self._like == (frame.width, frame.height, frame.format.name)

    def push(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """Frames that are ready. None: no more come, the last one is wanted."""
        self._graph.push(frame)
        while True:
            try:
                ready = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            assert isinstance(ready, av.VideoFrame)
            yield ready


class Painter:
    """Converts frames of one stream. sample_aspect: width over height of a pixel, None where the stream does not say."""

    def __init__(self, sample_aspect: Fraction | None) -> None:
        self.aspect = sample_aspect if sample_aspect and Fraction(1, 4) <= sample_aspect <= 4 else Fraction(1)
        self._reformatter = VideoReformatter()

    def said(self, frame: av.VideoFrame) -> list[str]:
        """What a person should know of how frames like this one are shown."""
        lines = []
        if abs(self.aspect - 1) > 0.01:
            width, height = self._size(frame)
            lines.append(f"its pixels are not square: {frame.width}x{frame.height} is shown as {width}x{height}")
        if frame.rotation % 360:
            turned = frame.rotation % 360 in _TURNS
            lines.append(
                f"it is turned by {abs(frame.rotation)} degrees" + ("" if turned else ", which is left as it is")
            )
        if frame.color_trc in _TRC:
            lines.append(
                f"it is {_TRC[frame.color_trc]}: colours look paler than in photos, since none are tone-mapped"
            )
        if _has_alpha(frame):
            lines.append("it is transparent in places: grey is put behind it")
        return lines

    def paint(self, frame: av.VideoFrame, out: Frame | None) -> Frame:
        """uint8 (H, W, 3), BGR; `out` itself where that has the right shape, else another array, never the frame's own memory.

        Matrix and range are the frame's; where it names none, BT.601 in the limited range, as ffmpeg and OpenCV take it. Raises
        NotWritten, and av.FFmpegError for what cannot be converted.
        """
        width, height = self._size(frame)
        alpha = _has_alpha(frame)
        shown = self._reformatter.reformat(
            frame, width, height, "bgra" if alpha else "bgr24", src_colorspace=frame.colorspace, threads=1
        )
        plane = shown.planes[0]
        channels = 4 if alpha else 3
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : channels * width]
        pixels = rows.reshape(height, width, channels)
        if not _fits(frame, pixels):
            raise NotWritten
        if alpha:
            pixels = _opaque(pixels)
        turn = _TURNS.get(frame.rotation % 360)
        shape = (width, height, 3) if turn is not None and turn != cv2.ROTATE_180 else (height, width, 3)
        if out is None or out.shape != shape or out.dtype != np.uint8:
            out = np.empty(shape, np.uint8)
        if turn is None:
            np.copyto(out, pixels)
        else:
            cv2.rotate(pixels, turn, out)
        return out

    def _size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Width and height with square pixels: one of them grows, so that nothing is lost."""
        width, height = frame.width, frame.height
        if abs(self.aspect - 1) <= 0.01:
            return width, height
        if self.aspect > 1:
            return round(width * self.aspect), height
        return width, round(height / self.aspect)


def _has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)


def _opaque(pixels: Frame) -> Frame:
    alpha = pixels[..., 3:].astype(np.uint16)
    mixed = (pixels[..., :3] * alpha + NEUTRAL * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)


def _fits(frame: av.VideoFrame, pixels: Frame) -> bool:
    """Whether the converted picture is as bright as the frame where both are looked at; True where that cannot be told.

    A conversion that wrote nothing leaves memory of something else. Colours outside of BGR are clipped, so a quarter may differ.
    """
    kind = frame.format
    luma = kind.components[0]
    if kind.is_rgb or not (kind.is_planar and luma.is_luma and luma.bits == 8) or pixels.shape[1] != frame.width:
        return True
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    places = tuple(slice(side // 16, None, max(1, side // 8)) for side in (frame.height, frame.width))
    wanted = rows[places].astype(np.float32)
    if not (kind.name.startswith("yuvj") or frame.color_range == 2):
        wanted = (wanted - 16) * (255 / 219)
    found = pixels[places][..., :3] @ np.array(_LUMA.get(frame.colorspace, (0.114, 0.587, 0.299)), np.float32)
    return float(np.mean(np.abs(np.clip(wanted, 0, 255) - found) > 24)) <= 0.25
