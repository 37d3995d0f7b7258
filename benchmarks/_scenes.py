"""Recordings of a camera that looks at a place, made from photographs: what the benchmarks of `scene/` show it.

A place is a photo, larger than the frame, so that the camera can be turned; animals are photos with a soft edge that move over
it. A frame goes through an exposure, bands of mains light (a rolling shutter at 50 Hz), noise of the sensor, and JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_tl_runtime.images.decode import Frame, read_photo

WIDTH, HEIGHT = 480, 270
ROOM = 1.3
"""How much larger than the frame a place is."""
PLACES = (454, 532, 624, 789, 799, 894, 975, 526)
"""Classes of ImageNet: bookshop, dining table, library, shoji, sliding door, wardrobe, lakeside, desk."""


def places(imagenet: Path, count: int = len(PLACES), width: int = WIDTH, height: int = HEIGHT) -> list[Frame]:
    """Photos of rooms and of the open, at least ROOM times the frame."""
    found = [next(iter(sorted(imagenet.glob(f"{number:04d}_*")))) for number in PLACES[:count]]
    return [covering(read_photo(path), round(ROOM * width), round(ROOM * height)) for path in found]


def covering(photo: Frame, width: int, height: int) -> Frame:
    """The middle of a photo, (height, width, 3)."""
    scale = max(width / photo.shape[1], height / photo.shape[0])
    size = max(width, round(scale * photo.shape[1])), max(height, round(scale * photo.shape[0]))
    photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(photo[top : top + height, left : left + width])


class Animals:
    """Photos of animals, cut out with a soft ellipse."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._photos = [read_photo(path) for path in paths]

    def __len__(self) -> int:
        return len(self._photos)

    def paste(self, picture: Frame, which: int, x: float, y: float, size: int) -> None:
        """Onto `picture`, centre at (x, y), `size` pixels high; what is outside is cut off."""
        photo = self._photos[which % len(self._photos)]
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        cut = cv2.resize(photo[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
        across = np.linspace(-1, 1, size)
        alpha = np.clip((1 - np.hypot(*np.meshgrid(across, across))) * 5, 0, 1)[..., None].astype(np.float32)
        x0, y0 = round(x - size / 2), round(y - size / 2)
        x1, y1 = max(0, x0), max(0, y0)
        x2, y2 = min(picture.shape[1], x0 + size), min(picture.shape[0], y0 + size)
        if x1 >= x2 or y1 >= y2:
            return
        part = slice(y1 - y0, y2 - y0), slice(x1 - x0, x2 - x0)
        place = picture[y1:y2, x1:x2]
        place[:] = (place * (1 - alpha[part]) + cut[part] * alpha[part]).astype(np.uint8)


class Camera:
    """Looks at a place. seed: of its noise."""

    def __init__(self, place: Frame, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> None:
        self.place, self.width, self.height = place, width, height
        self._draw = np.random.default_rng(seed)
        shape = (height + 64, width + 64, 3)
        self._noise = self._draw.normal(0, 1, shape).astype(np.float32)

    def view(self, right: float = 0.0, down: float = 0.0, turn: float = 0.0, zoom: float = 1.0) -> Frame:
        """right, down: how far the camera was turned, in widths and heights of the frame; turn: degrees; zoom: 1 as it was."""
        rows, columns = self.place.shape[:2]
        centre = columns / 2 + right * self.width, rows / 2 + down * self.height
        matrix = cv2.getRotationMatrix2D(centre, turn, zoom)
        matrix[:, 2] += self.width / 2 - centre[0], self.height / 2 - centre[1]
        return np.asarray(
            cv2.warpAffine(
                self.place, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
            ),
            np.uint8,
        )

    def shot(
        self, view: Frame, now: float, gain: float = 1.0, noise: float = 4.0, bands: float = 0.05, quality: int = 85
    ) -> Frame:
        """A frame of the view as it comes out of a decoder. bands: amplitude of mains light; quality: of JPEG, 0 for none."""
        rows = gain * (1 + bands * np.sin(2 * np.pi * (np.arange(self.height) / self.height * 1.5 + 100.37 * now)))
        picture = cv2.multiply(
            view.astype(np.float32), np.repeat(rows.astype(np.float32)[:, None, None], 3, 2).repeat(self.width, 1)
        )
        if noise:
            y, x = self._draw.integers(64, size=2)
            picture += noise * self._noise[y : y + self.height, x : x + self.width]
        frame = np.clip(picture, 0, 255).astype(np.uint8)
        if quality:
            frame = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        return np.asarray(frame, np.uint8)
