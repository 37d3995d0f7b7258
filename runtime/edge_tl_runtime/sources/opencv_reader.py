"""A video or a stream by OpenCV, where PyAV is not installed. OpenCV tells neither why it failed nor which frames are damaged."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import Any

import cv2
import numpy as np

from edge_tl_runtime.errors import SourceError
from edge_tl_runtime.photos import Frame
from edge_tl_runtime.sources.address import parse_address, shown_address
from edge_tl_runtime.sources.base import is_frame
from edge_tl_runtime.sources.poison import Poison
from edge_tl_runtime.sources.reader import ADVICE
from edge_tl_runtime.sources.reasons import why_no_video

OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
UNWRITTEN = "not written by OpenCV, which says it did"
NO_PICTURE = "no picture"


class CheckedCapture:
    """cv2.VideoCapture whose word that it wrote a picture is not taken: see `poison`."""

    def __init__(self, capture: cv2.VideoCapture, rejections: Counter[str]) -> None:
        self.capture, self.rejections = capture, rejections
        self._poison = Poison()
        self._own: Frame | None = None

    def retrieve(self, out: Frame | None) -> Frame | None:
        """The frame just grabbed, in `out` or in memory of its own; None, and counted, where it was not written there.

        A frame of another size than expected is put by OpenCV into memory that could not be marked: that one is left out.
        """
        target = out if out is not None else self._expected()
        if target is not None:
            self._poison.put(target)
        good, frame = self.capture.retrieve(target)
        if not good or not isinstance(frame, np.ndarray) or not is_frame(frame):
            self.rejections[NO_PICTURE] += 1
            return None
        if target is None or frame.__array_interface__["data"] != target.__array_interface__["data"]:
            self._own = np.empty(frame.shape, np.uint8)
            self.rejections["of a new size"] += 1
            return None
        if self._poison.stands(target):
            self.rejections[UNWRITTEN] += 1
            return None
        return target

    def _expected(self) -> Frame | None:
        """Memory of our own for a frame of the size that OpenCV tells, or that came last."""
        if self._own is None:
            width = int(self.capture.get(cv2.CAP_PROP_FRAME_WIDTH))
            height = int(self.capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
            if width > 0 and height > 0:
                self._own = np.empty((height, width, 3), np.uint8)
        return self._own


class OpenCvReader:
    """See `reader.Reader`. The position of frames is OpenCV's; every frame counts as one coded by itself."""

    intra_only = True
    key_frame = True

    def __init__(
        self, name: str, *, live: bool = False, open_s: float = 15.0, read_s: float = 10.0, file: Any = None
    ) -> None:
        self.shown = shown_address(name)
        self.rejections: Counter[str] = Counter()
        self.notes: list[str] = []
        self.ended = False
        self.error = ""
        self.seconds = self.captured = 0.0
        self._count = self._given = 0
        if file is not None:
            raise SourceError(f"{self.shown}: OpenCV reads no video from a pipe; run: {ADVICE}")
        address = parse_address(name)
        self._capture = cv2.VideoCapture()
        limits: list[int] = []
        if address is not None:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1e3 * open_s)]
            limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1e3 * read_s)]
            if live:
                # The variable counts for the whole process, which is this stream's own. nobuffer would cost the first key frame.
                os.environ.setdefault(OPTIONS, "rtsp_flags;prefer_tcp|analyzeduration;300000|fpsprobesize;2")
        if not self._capture.open(address.url if address else name, cv2.CAP_FFMPEG, limits):
            if address is None:
                raise SourceError(why_no_video(name))
            raise SourceError(
                f"cannot open {self.shown}; check the address, the password, the camera and the network. {ADVICE} says which"
            )
        self._checked = CheckedCapture(self._capture, self.rejections)
        if live:
            self.notes.append(
                f"{self.shown} is read by OpenCV; {ADVICE} also says what is wrong and leaves out damaged frames"
            )

    @property
    def codec(self) -> str:
        return four_letters(self._capture.get(cv2.CAP_PROP_FOURCC))

    @property
    def fps(self) -> float:
        return told_fps(self._capture)

    @property
    def size(self) -> tuple[int, int]:
        get = self._capture.get
        return int(get(cv2.CAP_PROP_FRAME_WIDTH)), int(get(cv2.CAP_PROP_FRAME_HEIGHT))

    def grab(self) -> bool:
        if not self._capture.grab():
            self.ended = True  # FFmpeg does not come back after an end or a time-out
            return False
        self.captured = time.monotonic()
        position = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        if self._count:
            self.seconds = position if position > self.seconds else self.seconds + 1 / (self.fps or 25.0)
        self._count += 1
        return True

    def retrieve(self, out: Frame | None) -> Frame | None:
        frame = self._checked.retrieve(out)
        self._given += frame is not None
        return frame

    def missing(self) -> str:
        """What to do where most frames were not written."""
        lost = self.rejections[UNWRITTEN]
        return f"OpenCV cannot decode {lost} frames of {self.shown} (interlaced video?); run: {ADVICE}" if lost else ""

    def close(self) -> None:
        self._capture.release()


def told_fps(capture: cv2.VideoCapture) -> float:
    """Frames a second as the device or file says; 0 where it says nothing that can be."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if np.isfinite(rate) and 0 < rate <= 1000 else 0.0


def four_letters(code: Any) -> str:
    """The name of a FOURCC number, or "" where it is none."""
    number = int(code) if np.isfinite(code) and 0 < code < 2**32 else 0
    text = number.to_bytes(4, "little").decode("latin-1")
    return text if text.isascii() and text.replace(" ", "").isalnum() else ""
