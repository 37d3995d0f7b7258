"""Where frames come from: photos, video files, cameras, network streams. One string names any of them.

Photo sources give every picture; live ones give the newest frame and count what they dropped. A kind is an entry in SOURCES:
a test that says whether a string names it, and the class that opens it.
"""

from __future__ import annotations

import functools
import glob
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from edge_tl_runtime.errors import BadImage, SourceError
from edge_tl_runtime.photos import EXTENSIONS, Frame, Unreadable, foreign_files, map_in_order, photo_files, read_photo

FIRST_FRAME_S = 15.0
"""How long a camera may take to deliver its first frame; some need seconds to set exposure."""
WAKE_S = 0.2
"""How often a wait for a frame looks whether it was asked to stop."""
STALL_S = 10.0
"""How long a live source may be silent before it counts as lost."""


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """A frame and where it is from. frame: uint8 (H, W, 3), BGR. index: 0-based in its source. seconds: since the start."""

    frame: Frame
    source: str
    index: int
    seconds: float


class Source:
    """A context manager and iterator of FrameRecords. `skipped`: files passed over; `dropped`: frames nobody waited for."""

    live = False
    hold_s = 0.0
    """How long a person needs to see each frame in a window."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.skipped: list[Unreadable] = []
        self.dropped = 0
        self.stopping = False

    def stop(self) -> None:
        """Ask the iteration to end, at once or within WAKE_S. Only sets a flag: safe in a signal handler."""
        self.stopping = True

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[FrameRecord]:
        raise NotImplementedError

    def close(self) -> None:
        """Release the device; safe to call twice."""


class Photos(Source):
    """One photo, a folder of photos or a glob, in the order of their paths; unreadable ones are listed in `skipped`."""

    hold_s = 1.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        path = Path(name)
        if path.is_dir():
            self.paths = photo_files(path)
            self.skipped += foreign_files(path)
        elif path.exists():
            self.paths = [path]
        else:
            found = sorted(Path(match) for match in glob.glob(name, recursive=True))
            self.paths = [match for match in found if match.suffix.lower() in EXTENSIONS and match.is_file()]
        if not self.paths:
            raise SourceError(f"no photos at {name}; give a photo, a folder, a pattern, a video or a camera index")

    def __iter__(self) -> Iterator[FrameRecord]:
        started = time.monotonic()

        def read(path: Path) -> Frame | Unreadable:
            try:
                return read_photo(path)
            except BadImage as error:
                return Unreadable(path, str(error))

        index = 0
        for path, frame in zip(self.paths, map_in_order(read, self.paths), strict=True):
            if isinstance(frame, Unreadable):
                self.skipped.append(frame)
                continue
            yield FrameRecord(frame, str(path), index, time.monotonic() - started)
            index += 1


class Video(Source):
    """Every frame of a video file; `seconds` is the position in the video."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        if not Path(name).is_file():
            raise SourceError(f"no file at {name}; check the path")
        self._capture = cv2.VideoCapture(name)
        if not self._capture.isOpened():
            raise SourceError(f"{name} is neither a photo nor a video that this OpenCV can decode")

    def __iter__(self) -> Iterator[FrameRecord]:
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        rate = rate if np.isfinite(rate) and rate > 0 else 25.0
        index = 0
        while True:
            good, frame = self._capture.read()
            if not good:
                break
            if _is_frame(frame):
                yield FrameRecord(np.asarray(frame, np.uint8), self.name, index, index / rate)
            else:
                self.dropped += 1
            index += 1
        if index == 0:
            raise SourceError(f"{self.name} holds no frame that can be decoded")

    def close(self) -> None:
        self._capture.release()


class Live(Source):
    """A camera (index or /dev path) or a network stream: the newest frame, never an old or an invented one.

    A thread reads as fast as the camera delivers and keeps one frame; what nobody asked for is counted in `dropped`.
    Credentials in a URL stay out of names and messages.
    """

    live = True

    def __init__(self, name: str) -> None:
        super().__init__(mask_credentials(name))
        self._capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"cannot open {self.name}; {_cameras()}")
        self._newest: tuple[int, float, Frame] | None = None
        self._count = 0
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)

    def __iter__(self) -> Iterator[FrameRecord]:
        started = time.monotonic()
        self._thread.start()
        last, patience = -1, FIRST_FRAME_S
        while True:
            deadline = time.monotonic() + patience
            ready = False
            while not ready and time.monotonic() < deadline:
                with self._changed:
                    ready = self._changed.wait_for(functools.partial(self._ready, last), timeout=WAKE_S)
                    newest, ended = self._newest, self._ended
                if self.stopping:
                    return
            if newest is None or newest[0] <= last:
                if ended and last >= 0:
                    return
                raise SourceError(
                    f"{self.name} delivered no frame for {patience:.0f} s; check the camera and its cable"
                )
            index, seen, frame = newest
            self.dropped += index - last - 1
            last, patience = index, STALL_S
            yield FrameRecord(frame, self.name, index, seen - started)

    def close(self) -> None:
        with self._changed:
            self._ended = True
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)  # a driver may hang in read(); the thread is a daemon
        if not self._thread.is_alive():
            self._capture.release()

    def _ready(self, last: int) -> bool:
        return self._ended or (self._newest is not None and self._newest[0] > last)

    def _read(self) -> None:
        failures = 0
        while not self._ended:
            good, frame = self._capture.read()
            good = good and _is_frame(frame)
            failures = 0 if good else failures + 1
            with self._changed:
                if good:
                    self._newest = (self._count, time.monotonic(), np.asarray(frame, np.uint8))
                    self._count += 1
                elif failures >= 30:
                    self._ended = True
                self._changed.notify_all()
            if not good:
                time.sleep(0.02)


_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)

# In order: the first whose test says yes opens the string.
SOURCES: tuple[tuple[str, Callable[[str], bool], type[Source]], ...] = (
    ("camera", lambda name: name.isdigit() or name.startswith("/dev/"), Live),
    ("stream", lambda name: bool(_URL.match(name)), Live),
    ("photos", lambda name: Path(name).is_dir() or not Path(name).exists() or _is_photo(name), Photos),
    ("video", lambda name: True, Video),
)


def open_source(name: str) -> Source:
    """Open what `name` means: a camera index or path, a URL, a photo, a folder, a glob or a video file.

    Raises SourceError with what was found and what to do.
    """
    return next(kind for _, test, kind in SOURCES if test(name))(name)


def mask_credentials(text: str) -> str:
    """`rtsp://user:secret@host/` as `rtsp://***@host/`, wherever it stands in a text."""
    return re.sub(r"(?<=://)[^/@\s]+@", "***@", text)


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def _is_frame(frame: object) -> bool:
    """A decoder's word that it succeeded is not trusted: the array must be a picture."""
    return isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.size > 0 and frame.ndim in (2, 3)


def _cameras() -> str:
    found = sorted(glob.glob("/dev/video*"))
    return f"cameras here: {', '.join(found)}" if found else "there is no camera here (no /dev/video*)"
