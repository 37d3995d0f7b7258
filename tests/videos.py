"""Small videos made for tests, by PyAV, of what a test wants to know again."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_video(
    path: Path,
    frames: Sequence[np.ndarray | av.VideoFrame],
    codec: str = "libx264",
    *,
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    gop: int = 12,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    sample_aspect: Fraction | None = None,
    tags: dict[str, int] | None = None,
    interlaced: bool = False,
) -> Path:
    """frames: uint8 BGR arrays, or frames of `pix_fmt` that are written as they are. tags: colorspace, color_range, color_trc."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        first = frames[0]
        stream.width, stream.height = (
            (first.width, first.height) if isinstance(first, av.VideoFrame) else first.shape[1::-1]
        )
        stream.pix_fmt, stream.codec_context.gop_size = pix_fmt, gop
        stream.options = options or {}
        if sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if interlaced:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        for number, frame in enumerate(frames):
            picture = frame if isinstance(frame, av.VideoFrame) else av.VideoFrame.from_ndarray(frame, "bgr24")
            picture.pts, picture.time_base = number, Fraction(1, rate)
            for packet in stream.encode(picture):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def texture(width: int = 160, height: int = 120, seed: int = 0, cell: int = 8) -> np.ndarray:
    """Coloured squares of `cell` pixels: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 220, (-(-height // cell), -(-width // cell), 3), np.uint8)
    return small.repeat(cell, 0).repeat(cell, 1)[:height, :width]


def moving(count: int, width: int = 160, height: int = 120, step: int = 2) -> list[np.ndarray]:
    """A texture that moves to the right."""
    picture = texture(width, height)
    return [np.roll(picture, step * number, axis=1) for number in range(count)]


def plain_yuv(
    planes: tuple[int, int, int], size: tuple[int, int] = (64, 48), pix_fmt: str = "yuv420p", **tags: Any
) -> Any:
    """A frame of one colour, given as it is coded; more than 8 bits as well."""
    frame = av.VideoFrame(*size, pix_fmt)
    deep = frame.format.components[0].bits > 8
    for plane, value in zip(frame.planes, planes, strict=True):
        data = np.frombuffer(memoryview(plane), np.uint16 if deep else np.uint8)
        data[:] = value
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame
