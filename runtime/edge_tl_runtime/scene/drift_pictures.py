"""The nine frames that are most unlike the training photos: small JPEGs in a folder, of bounded number and size."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import make_folder
from edge_tl_runtime.scene.events import MOVED, Look

Picture = Callable[[], NDArray[np.uint8]]
"""Gives a frame, uint8 (H, W, 3) BGR or (H, W); called only where it is kept."""
SHOWN = 9
DAYS = 30
"""Days of which pictures are kept, SHOWN each at most."""
SIDE = 320
MOST_BYTES = 40_000
_FORM = re.compile(r"unlike-(\d{6})-(\d{7})(?:-\d+)?\.jpg")


@dataclass(slots=True)
class _Kept:
    """score: how like the training photos; place: where among them, empty for a picture of an earlier run."""

    path: Path
    day: int
    score: float
    place: NDArray[np.floating]


class DriftPictures:
    """Keeps of each day the SHOWN frames that are most unlike the training photos and not alike each other.

    Only files of its own names are counted and deleted: unlike-DAY-FAR.jpg, at most SHOWN * DAYS of MOST_BYTES each, 10.8 MB. FAR
    orders them, so that a restart knows which are the most unlike; which are alike it does not know of earlier ones.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OutputError for a folder that cannot be made or read."""
        self.folder = make_folder(folder)
        self.failed = ""
        """Why the newest picture could not be written, or ""."""
        try:
            found = sorted(path for path in folder.iterdir() if _FORM.fullmatch(path.name) and path.is_file())
        except OSError as error:
            raise OutputError(f"cannot read the folder {folder}: {error.strerror}; choose another") from None
        self._kept = [_found(path) for path in found]

    def clear(self) -> None:
        """The days are counted anew: what was kept is of others."""
        for kept in self._kept:
            kept.path.unlink(missing_ok=True)
        self._kept = []

    def offer(self, day: int, look: Look, picture: Picture) -> None:
        today = [kept for kept in self._kept if kept.day == day]
        alike = [kept for kept in today if _alike(kept, look)]
        full = len(today) >= SHOWN
        rival = max(alike or (today if full else []), key=lambda kept: kept.score, default=None)
        if rival is not None and look.score >= rival.score:
            return
        path = self._free(day, look.score)
        if not self._write(path, _jpeg(picture())):
            return
        if rival is not None:
            rival.path.unlink(missing_ok=True)
            self._kept.remove(rival)
        self._kept.append(_Kept(path, day, look.score, np.array(look.place)))
        self._forget(day - DAYS)

    def best(self, first_day: int) -> list[Path]:
        """The SHOWN most unlike since that day, near-duplicates of other days left out."""
        chosen: list[_Kept] = []
        for kept in sorted((kept for kept in self._kept if kept.day >= first_day), key=lambda kept: kept.score):
            if len(chosen) < SHOWN and not any(_near(kept, other.place) for other in chosen):
                chosen.append(kept)
        return [kept.path for kept in chosen]

    def _free(self, day: int, score: float) -> Path:
        stem = f"unlike-{day:06d}-{_far(score):07d}"
        names = (self.folder / f"{stem}{more}.jpg" for more in ("", *(f"-{number}" for number in range(2, SHOWN + 3))))
        return next(name for name in names if all(kept.path != name for kept in self._kept))

    def _forget(self, last_day: int) -> None:
        for kept in [kept for kept in self._kept if kept.day <= last_day]:
            kept.path.unlink(missing_ok=True)
            self._kept.remove(kept)

    def _write(self, path: Path, data: bytes) -> bool:
        """Replaced in one step, without waiting for the disk. A full one is told and forgiven."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self.failed = f"cannot write {path}: {error.strerror}"
            return False
        self.failed = ""
        return True


def _far(score: float) -> int:
    """A number of seven digits that grows the less a frame is like the training photos; tenths of a unit of the score."""
    return int(1e6 + min(8.9e6, max(-9e5, -10 * score)))


def _found(path: Path) -> _Kept:
    found = _FORM.fullmatch(path.name)
    assert found is not None
    return _Kept(path, int(found[1]), (1e6 - int(found[2])) / 10, np.empty(0))


def _alike(kept: _Kept, look: Look) -> bool:
    return _near(kept, np.asarray(look.place))


def _near(kept: _Kept, place: NDArray[np.floating]) -> bool:
    """Whether two frames show about the same; never where the file says nothing of where they lie."""
    if not len(place) or len(kept.place) != len(place):
        return False
    apart = np.asarray(place, np.float64) - kept.place
    return float(apart @ apart) <= MOVED


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    """A small JPEG of at most MOST_BYTES."""
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    for quality in (80, 60, 40, 20, 5):
        good, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if good and len(data) <= MOST_BYTES:
            break
    return data.tobytes()
