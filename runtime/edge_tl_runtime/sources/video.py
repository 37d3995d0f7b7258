"""A video file, every frame of it, decoded ahead of the reader by one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

from edge_tl_runtime.core.errors import EdgeTLError, SourceError
from edge_tl_runtime.core.progress import Say, silent
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.base import WAKE_S, FrameRecord, Source, told_rejections
from edge_tl_runtime.sources.decoding.reader import open_reader

USUAL_FPS = 25.0
"""Of a file that does not tell."""
AHEAD = 2
"""Frames that wait decoded; with the one in use and the one being written, AHEAD + 2 are in memory."""


class Video(Source):
    """Every frame of a video file, or of the URL of one; `seconds` is the position in it. Frames are lent, as a live source's."""

    def __init__(self, name: str, say: Say = silent) -> None:
        """say: told of how the frames are made, and of what is missing."""
        super().__init__(shown_address(name))
        if "://" not in name and not Path(name).is_file():
            raise SourceError(f"no file at {self.name}; check the path")
        self._reader = open_reader(name)  # says in words what cannot be decoded
        self.fps = self._reader.fps or USUAL_FPS
        """Frames a second as the file says."""
        self._say = say
        self._ready: queue.Queue[tuple[Frame | None, int, float]] = queue.Queue(AHEAD)
        self._spent: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._decode, name="video", daemon=True)
        self._failure: Exception | None = None

    def __iter__(self) -> Iterator[FrameRecord]:
        self._thread.start()
        shown = 0
        while not self.stopping:
            try:
                frame, index, seconds = self._ready.get(timeout=WAKE_S)
            except queue.Empty:
                continue
            self._tell()
            if frame is None:
                self._finish(shown)
                return
            shown += 1
            yield FrameRecord(frame, self.name, index, seconds)
            self._spent.put(frame)

    def close(self) -> None:
        self.stopping = True
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._reader.close()

    def _tell(self) -> None:
        """Say what there is to say, and carry over what was counted."""
        while self._reader.notes:
            self._say(self._reader.notes.pop(0))
        self.counts.take_rejections(self._reader.rejections)

    def _finish(self, shown: int) -> None:
        self.ended = True
        if self._failure is not None:
            raise self._failure
        missing = self._reader.missing()
        if not shown:
            why = missing or told_rejections(self.counts.reasons) or self._reader.error
            raise SourceError(f"{self.name} holds no frame that can be decoded{f': {why}' if why else ''}")
        for line in (missing, self._reader.error):
            if line:
                self._say(line)

    def _decode(self) -> None:
        reader, given = self._reader, 0
        try:
            while not self.stopping and reader.grab():
                frame = reader.retrieve(self._empty())
                if frame is not None:
                    self._offer(frame, given + reader.rejections.total(), reader.seconds)
                    given += 1
        except (EdgeTLError, MemoryError) as error:
            self._failure = error
        self._offer(None, 0, 0.0)

    def _empty(self) -> Frame | None:
        """Memory of a frame that was shown, to decode the next into."""
        try:
            return self._spent.get_nowait()
        except queue.Empty:
            return None

    def _offer(self, frame: Frame | None, index: int, seconds: float) -> None:
        while not self.stopping:
            try:
                self._ready.put((frame, index, seconds), timeout=WAKE_S)
            except queue.Full:
                continue
            return
