"""A video file, every frame of it, decoded ahead of the reader by one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge_tl_runtime.errors import SourceError
from edge_tl_runtime.photos import Frame
from edge_tl_runtime.sources.base import WAKE_S, FrameRecord, Source, is_frame, mask_credentials

USUAL_FPS = 25.0
"""Of a file that does not tell."""
AHEAD = 2
"""Frames that wait decoded; with the one in use and the one being written, AHEAD + 2 are in memory."""


class Video(Source):
    """Every frame of a video file, or of the URL of one; `seconds` is the position in it. Frames are lent, as a live source's."""

    def __init__(self, name: str) -> None:
        super().__init__(mask_credentials(name))
        if "://" not in name and not Path(name).is_file():
            raise SourceError(f"no file at {name}; check the path")
        self._capture = cv2.VideoCapture(name)
        if not self._capture.isOpened():
            raise SourceError(f"{self.name} is neither a photo nor a video that this OpenCV can decode")
        self.fps = told_fps(self._capture) or USUAL_FPS
        """Frames a second as the file says."""
        self._ready: queue.Queue[tuple[Frame | None, int, float]] = queue.Queue(AHEAD)
        self._spent: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._decode, name="video", daemon=True)

    def __iter__(self) -> Iterator[FrameRecord]:
        self._thread.start()
        shown = 0
        while not self.stopping:
            try:
                frame, index, seconds = self._ready.get(timeout=WAKE_S)
            except queue.Empty:
                continue
            if frame is None:
                self.ended = True
                if not shown:
                    raise SourceError(f"{self.name} holds no frame that can be decoded")
                return
            shown += 1
            yield FrameRecord(frame, self.name, index, seconds)
            self._spent.put(frame)

    def close(self) -> None:
        self.stopping = True
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._capture.release()

    def _decode(self) -> None:
        index = 0
        last = 0.0
        while not self.stopping:
            good, frame = self._capture.read(self._empty())
            if not good:
                break
            # Phones write frames of uneven length: the position is the file's own, where that goes forward.
            position = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
            seconds = last = position if index and position > last else (last + 1 / self.fps if index else 0.0)
            if is_frame(frame):
                self._offer(np.asarray(frame, np.uint8), index, seconds)
            else:
                self.counts.rejected += 1
            index += 1
        self._offer(None, index, 0.0)

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


def told_fps(capture: cv2.VideoCapture) -> float:
    """Frames a second as the device or file says; 0 where it says nothing that can be."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if np.isfinite(rate) and 0 < rate <= 1000 else 0.0
