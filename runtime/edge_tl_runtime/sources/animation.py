"""Picture files that hold several pictures and are played as a video: animations, and JPEGs one after the other.

FFmpeg plays raw MJPEG, APNG and GIF. Animated WebP and AVIF it does not; OpenCV decodes those, all pictures at once.
"""

from __future__ import annotations

import mmap
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.images.datasets.survey import file_kind
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.images.formats.kinds import AVIF_BRANDS, GIF, HEAD, JPEG, PNG, WEBP, brands
from edge_tl_runtime.images.formats.pixels import over_grey
from edge_tl_runtime.images.formats.several import picture_count
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.base import is_frame

MAX_PIXELS = 64_000_000
"""Of all pictures of an animation that is decoded at once: 256 MB."""


def pictures_in(path: Path, most: int) -> int:
    """How many pictures a regular file holds, counted up to `most`; 1 for what cannot be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return picture_count(data, most)  # type: ignore[arg-type]  # it slices as bytes do
    except (OSError, ValueError):
        return 1


def ffmpeg_format(path: Path) -> str | None:
    """FFmpeg's name for what is in a file of several pictures, where it would take it for a single one; None for all else."""
    kind = file_kind(path)
    form = "mjpeg" if kind == JPEG else "apng" if kind == PNG else None
    return form if form and pictures_in(path, 2) > 1 else None


def is_animation(path: Path) -> bool:
    """Whether a file of pictures is played here, and not only its first picture read."""
    kind = file_kind(path)
    if kind == JPEG and find_spec("av") is None:
        return False  # OpenCV takes the first one alone
    if kind == GIF:
        return True  # read as a video of one picture or more, never as a photo
    return (kind in (JPEG, PNG, WEBP) or _is_avif(path)) and pictures_in(path, 2) > 1


def read_by_opencv(path: Path) -> bool:
    """Whether a file is an animation that FFmpeg does not play, or that is left to OpenCV without it."""
    kind = file_kind(path)
    mine = kind == WEBP or _is_avif(path) or (kind == PNG and find_spec("av") is None)
    return mine and pictures_in(path, 2) > 1


def _is_avif(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return not AVIF_BRANDS.isdisjoint(brands(file.read(HEAD)))
    except OSError:
        return False


class AnimationReader:
    """See `reader.Reader`. Every picture of an animation, by OpenCV."""

    key_frame = True
    intra_only = True

    def __init__(self, path: Path) -> None:
        """Raises SourceError for one that is damaged or too large to be decoded at once."""
        self.shown = shown_address(str(path))
        self.rejections: Counter[str] = Counter()
        self.notes: list[str] = []
        self.ended = False
        self.error = ""
        self.seconds = self.captured = 0.0
        self._told = pictures_in(path, 1_000_000)
        first = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if first is None:
            raise SourceError(
                f"{self.shown} is a damaged animation: its first picture cannot be decoded; copy it again"
            )
        self.size = (int(first.shape[1]), int(first.shape[0]))
        if self._told * first.shape[0] * first.shape[1] > MAX_PIXELS:
            raise SourceError(
                f"{self.shown} is an animation of {self._told} pictures of {self.size[0]}x{self.size[1]}, more than is decoded "
                "at once; convert it to a video"
            )
        good, animation = cv2.imreadanimation(str(path))
        self._frames = list(animation.frames) if good else []
        self._durations = [max(1, int(duration)) for duration in animation.durations] if good else []
        self.codec = "animation"
        mean = sum(self._durations) / max(1, len(self._durations)) / 1e3
        self.fps = 1 / mean if mean > 0 else 0.0
        self._at = -1

    def grab(self) -> bool:
        if self._at + 1 >= len(self._frames):
            self.ended = True
            return False
        if self._at >= 0:
            self.seconds += self._durations[self._at] / 1e3
        self._at += 1
        self.captured = time.monotonic()
        return True

    def retrieve(self, out: Frame | None) -> Frame | None:
        pixels: Frame = np.asarray(self._frames[self._at], np.uint8)
        if not is_frame(pixels):
            self.rejections["no picture"] += 1
            return None
        if pixels.ndim == 2:
            pixels = np.dstack([pixels] * 3)
        shown: Frame = over_grey(pixels, False).frame if pixels.shape[2] == 4 else pixels
        if out is None or out.shape != shown.shape:
            return np.array(shown, np.uint8, order="C")
        np.copyto(out, shown)
        return out

    def missing(self) -> str:
        got = len(self._frames)
        if self._told > got:
            return f"{self.shown} says that it holds {self._told} pictures, {got} could be read: it is cut short or damaged"
        return ""

    def close(self) -> None:
        self._frames.clear()
