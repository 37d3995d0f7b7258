"""Takes pictures from the very source of a run, spread over the time, into a folder: photos to train with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, BadImage, OutputError, SourceError
from edge_tl_runtime.core.files import make_folder, write_bytes
from edge_tl_runtime.core.progress import Progress, silent
from edge_tl_runtime.core.text import plural
from edge_tl_runtime.images.crop import three_channels
from edge_tl_runtime.images.decode import Frame, decode_photo, read_file
from edge_tl_runtime.images.fingerprint import picture_hash
from edge_tl_runtime.run.collect_settings import CollectSettings
from edge_tl_runtime.sources import Source

ENCODING = {"jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], "png": [cv2.IMWRITE_PNG_COMPRESSION, 3]}
SAME_BITS = 4
"""Of the 96 of a picture's hash: those of a scene that stands still differ in so few."""
SAME_LIGHT = 2.0
"""Grey levels, of 255, by which two pictures of one scene differ on average before they count as two: other light teaches."""
FEW = 20
"""Photos below which a person is advised to collect more."""
_SIDE = 32
_ROUNDED = 1e-6
"""Of an interval: times of frames are rounded."""
_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(slots=True)
class Collected:
    """What came of it. taken: photos written; alike: pictures left out because they look like one that is there; torn: pictures
    that changed while they were read, or were none; there: photos in the folder before; unreadable: files there that are none.
    silent_s: seconds without a frame at the end."""

    folder: Path
    taken: int = 0
    alike: int = 0
    torn: int = 0
    there: int = 0
    unreadable: int = 0
    silent_s: float = 0.0

    def lines(self) -> list[str]:
        """For a person."""
        now = f", which holds {self.there + self.taken} now" if self.there else ""
        left = {
            "nearly the same as one that is there": self.alike,
            "changed while they were read": self.torn,
        }
        reasons = ", ".join(f"{count} {why}" for why, count in left.items() if count)
        found = [
            f"took {plural(self.taken, 'photo')} into {self.folder}{now}"
            + (f"; left out: {reasons}" if reasons else "")
        ]
        if self.unreadable:
            found.append(
                f"{plural(self.unreadable, 'file')} in {self.folder} could not be read and were not compared with"
            )
        if self.silent_s >= 1:
            found.append(f"the source gave no picture for the last {self.silent_s:.0f} s")
        if self.there + self.taken < FEW:
            found.append(
                f"{plural(self.there + self.taken, 'photo')} in all, which is few: collect again in other light and with other "
                "things in view; the folder is continued"
            )
        return found


def collect(
    source: Source,
    folder: Path,
    settings: CollectSettings,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> Collected:
    """Write pictures of `source` into `folder` until the time is over, the source ends or is stopped; what was taken stays.

    A picture that nearly equals one in the folder is left out. A live source that is gone is waited for while time is left.
    clock, now: seconds that only go forward, and seconds since 1970. Raises OutputError, SourceError where nothing came at all.
    """
    found = Collected(make_folder(folder))
    seen = _Seen()
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _ENDINGS:
            try:
                seen.add(decode_photo(read_file(path)))
                found.there += 1
            except (BadImage, BadFrame):
                found.unreadable += 1
    first: float | None = None
    started = last = clock()

    def idle() -> None:
        if first is not None and clock() - started >= settings.seconds:
            source.stop()

    source.on_idle = idle
    turn = -1
    for record in source:
        source.beat = last = clock()
        at = record.captured if source.live else record.seconds
        if first is None:
            first, started = at, last
        due = math.floor((at - first) / settings.interval + _ROUNDED)
        if source.stopping or due >= settings.photos:
            break
        if due <= turn:
            continue
        turn = due
        progress(1)
        frame = np.array(record.frame)
        if not source.intact(record) or frame.ndim not in (2, 3) or not frame.size:
            found.torn += 1
            continue
        frame = three_channels(frame)
        if not seen.add(frame):
            found.alike += 1
            continue
        # Of a file, the time in it: 25 frames a second come as fast as they are read.
        captured = now() - (clock() - record.captured) if source.live else now()
        _write(folder, frame, captured, settings.image_format, found)
    found.silent_s = max(0.0, clock() - last) if source.live and first is not None else 0.0
    if first is None and not source.stopping_asked:
        raise SourceError(f"{source.name} gave no picture; nothing was collected")
    return found


def _write(folder: Path, frame: Frame, captured: float, image_format: str, found: Collected) -> None:
    good, data = cv2.imencode(f".{image_format}", frame, ENCODING[image_format])
    if not good:
        raise OutputError(f"cannot encode a picture of {frame.shape}")
    milliseconds = round(1e3 * captured)
    while (path := folder / f"{_stamp(milliseconds)}.{image_format}").exists():
        milliseconds += 1
    try:
        write_bytes(path, data.tobytes())
    except OutputError as error:
        raise OutputError(
            f"{error}; {plural(found.taken, 'photo')} taken before are whole: make room and collect again, {folder} is continued"
        ) from None
    found.taken += 1


def _stamp(milliseconds: int) -> str:
    """The time of day, UTC: 20260131T120000-123. Photos of one minute count as of one origin where photos are split."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(milliseconds // 1000)) + f"-{milliseconds % 1000:03d}"


class _Seen:
    """Pictures that are there already."""

    def __init__(self) -> None:
        self._hashes: list[NDArray[np.uint8]] = []
        self._lights: list[NDArray[np.float32]] = []

    def add(self, frame: Frame) -> bool:
        """Remember a frame, uint8 (H, W, 3); False where it nearly equals one that is remembered."""
        small = cv2.resize(
            cv2.cvtColor(three_channels(frame), cv2.COLOR_BGR2GRAY), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA
        )
        light = np.asarray(small, np.float32)
        own = picture_hash(three_channels(frame))
        # A blank wall has no hash: its light alone tells.
        bits = np.zeros(12, np.uint8) if own is None else own
        if self._lights:
            same_light = np.abs(np.stack(self._lights) - light).mean((1, 2)) < SAME_LIGHT
            differ = np.unpackbits(np.stack(self._hashes) ^ bits, axis=1).sum(1)
            if bool((same_light & (differ <= SAME_BITS)).any()):
                return False
        self._hashes.append(bits)
        self._lights.append(light)
        return True
