"""What one photo file is like: its hashes and what is odd about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.decode import Frame, decode_noted, read_file

TINY_PX = 64
EXTREME_ASPECT = 4.0
UNIFORM_DEVIATION = 4.0
DARK, BRIGHT = 15.0, 240.0
_WORKING_SIDE = 256


@dataclass(frozen=True)
class ImageRecord:
    """width, height: px. digest: SHA-256 of the file. phash, mirrored: 64 bits as bool arrays, as it is and mirrored.

    oddities: in words, () for an ordinary photo. notes: what was done to its pixels to make it one (`decode_noted`).
    """

    width: int
    height: int
    digest: str
    phash: NDArray[np.bool_]
    mirrored: NDArray[np.bool_]
    oddities: tuple[str, ...]
    notes: tuple[str, ...] = ()


def look_at(path: Path) -> ImageRecord | Unreadable:
    """Read and describe one file."""
    try:
        data = read_file(path)
        frame, notes = decode_noted(data)
    except BadImage as error:
        return Unreadable(path, str(error))
    small = _small(frame)
    return ImageRecord(
        frame.shape[1],
        frame.shape[0],
        hashlib.sha256(data).hexdigest(),
        _phash(small),
        _phash(np.ascontiguousarray(small[:, ::-1])),
        _oddities(frame, small),
        notes,
    )


def _small(frame: Frame) -> Frame:
    scale = _WORKING_SIDE / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _phash(frame: Frame) -> NDArray[np.bool_]:
    return np.asarray(imagehash.phash(Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))).hash.ravel(), bool)


def _oddities(frame: Frame, small: Frame) -> tuple[str, ...]:
    height, width = frame.shape[:2]
    aspect = max(width, height) / min(width, height)
    brightness = float(small.mean())
    found = (
        (min(width, height) < TINY_PX, f"tiny: {width}x{height} px"),
        (aspect > EXTREME_ASPECT, f"very long: {width}x{height} px"),
        (float(small.std()) < UNIFORM_DEVIATION, "almost a single colour"),
        (brightness < DARK, f"very dark: mean {brightness:.0f} of 255"),
        (brightness > BRIGHT, f"very bright: mean {brightness:.0f} of 255"),
    )
    return tuple(words for there, words in found if there)
