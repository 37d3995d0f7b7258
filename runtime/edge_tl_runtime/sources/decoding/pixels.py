"""From a decoded frame of FFmpeg to the picture that a person sees: BGR, progressive, upright, of square pixels, opaque."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.filter
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from edge_tl_runtime.images.decode import Frame

NEUTRAL = 127
"""The grey behind transparent pixels."""
_TURNS = {
    (False, True, True): cv2.ROTATE_180,
    (True, True, False): cv2.ROTATE_90_CLOCKWISE,
    (True, False, True): cv2.ROTATE_90_COUNTERCLOCKWISE,
}
_TOLD = {
    (False, False, False): "",
    (False, True, True): "it is turned by 180 degrees",
    (True, True, False): "it is turned by 90 degrees, clockwise",
    (True, False, True): "it is turned by 90 degrees, counterclockwise",
    (False, True, False): "it is mirrored, left for right",
    (False, False, True): "it is mirrored, top for bottom",
    (True, False, False): "it is mirrored and turned by 90 degrees",
    (True, True, True): "it is mirrored and turned by 90 degrees",
}
"""By transposed, left for right, top for bottom."""
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


@dataclass(frozen=True, slots=True)
class Upright:
    """How the pixels as coded become those that a person sees: transposed first, then flipped. told: the same in words, or ""."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False
    told: str = ""

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Upright:
        """By the frame's display matrix (ISO/IEC 14496-12, 8.3.2.3): x' = ax + cy, y' = bx + dy. What is no multiple of a right
        angle is left as it is, and told."""
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, np.int32)[:5])
        straight, across = min(abs(a), abs(d)), min(abs(b), abs(c))
        if max(abs(b), abs(c)) <= 0.02 * straight:
            key = (False, a < 0, d < 0)
        elif max(abs(a), abs(d)) <= 0.02 * across:
            key = (True, c < 0, b < 0)
        else:
            return cls(told=f"it is turned by {abs(frame.rotation)} degrees, which is left as it is")
        return cls(*key, told=_TOLD[key])

    def put(self, pixels: Frame, out: Frame) -> None:
        """Write the upright picture to `out`, which has its shape."""
        key = (self.transposed, self.left_right, self.top_bottom)
        if key == (False, False, False):
            np.copyto(out, pixels)
        elif key in _TURNS:
            cv2.rotate(pixels, _TURNS[key], out)
        else:
            view = pixels.transpose(1, 0, 2) if self.transposed else pixels
            view = view[:, ::-1] if self.left_right else view
            np.copyto(out, view[::-1] if self.top_bottom else view)


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
        if told := Upright.of(frame).told:
            lines.append(told)
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
        upright = Upright.of(frame)
        shape = (width, height, 3) if upright.transposed else (height, width, 3)
        if out is None or out.shape != shape or out.dtype != np.uint8:
            out = np.empty(shape, np.uint8)
        upright.put(pixels, out)
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
