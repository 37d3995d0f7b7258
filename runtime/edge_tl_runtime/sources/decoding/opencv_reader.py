"""A video or a stream by OpenCV, where PyAV is not installed. OpenCV tells neither why it failed nor which frames are damaged."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.address import parse_address, shown_address
from edge_tl_runtime.sources.base import is_frame
from edge_tl_runtime.sources.decoding.reasons import ADVICE, why_no_video
from edge_tl_runtime.sources.decoding.unwritten import Poison
from edge_tl_runtime.sources.decoding.wholeness import cut_short

OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
LOG_LEVELS = ("OPENCV_FFMPEG_LOGLEVEL", "OPENCV_FFMPEG_DEBUG")
_OF_FFMPEG = re.compile(rb"^\[[^\]]* @ 0x[0-9a-f]+\]|^\s*Last message repeated")
UNWRITTEN = "not written by OpenCV, which says it did"
NO_PICTURE = "no picture"


class CheckedCapture:
    """A cv2.VideoCapture that is checked: it may report a picture that it did not write, see `unwritten`."""

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
    """See `reader.Reader`. OpenCV does not tell which frames are key frames."""

    key_frame = False

    def __init__(
        self, name: str, *, live: bool = False, open_s: float = 15.0, read_s: float = 10.0, file: Any = None
    ) -> None:
        self.shown = shown_address(name)
        self.rejections: Counter[str] = Counter()
        self.notes: list[str] = []
        self.ended = False
        self.error = ""
        self.seconds = self.captured = 0.0
        self._count = 0
        self._errors = StandardError()
        if file is not None:
            raise SourceError(f"{self.shown}: OpenCV reads no video from a pipe; run: {ADVICE}")
        address = parse_address(name)
        self._is_address, self._path = address is not None, Path(name)
        # Read when FFmpeg is first used. With one of them OpenCV sends what FFmpeg says to standard output, or nowhere;
        # without, its errors go to standard error, which is listened to.
        for variable in LOG_LEVELS:
            os.environ.pop(variable, None)
        self._capture = cv2.VideoCapture()
        limits: list[int] = []
        if address is not None:
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(1e3 * open_s)]
            limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1e3 * read_s)]
            if live:
                # The variable counts for the whole process, which is this stream's own. nobuffer would cost the first key frame.
                os.environ.setdefault(OPTIONS, "rtsp_flags;prefer_tcp|analyzeduration;300000|fpsprobesize;2")
        with self._errors:
            opened = self._capture.open(address.url if address else name, cv2.CAP_FFMPEG, limits)
        if not opened:
            self._errors.close()
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
    def intra_only(self) -> bool:
        return self.codec in ("MJPG", "JPEG")

    @property
    def fps(self) -> float:
        return told_fps(self._capture)

    @property
    def size(self) -> tuple[int, int]:
        get = self._capture.get
        return int(get(cv2.CAP_PROP_FRAME_WIDTH)), int(get(cv2.CAP_PROP_FRAME_HEIGHT))

    def grab(self) -> bool:
        with self._errors:
            grabbed = self._capture.grab()
        if not grabbed:
            self.ended = True  # FFmpeg does not come back after an end or a time-out
            return False
        self.captured = time.monotonic()
        position = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        if self._count:
            self.seconds = position if position > self.seconds else self.seconds + 1 / (self.fps or 25.0)
        self._count += 1
        return True

    def retrieve(self, out: Frame | None) -> Frame | None:
        with self._errors:
            frame = self._checked.retrieve(out)
        if frame is not None and "swscaler" in self._errors.text:
            # OpenCV copied memory that FFmpeg's conversion had not written; what it says on standard error is all that tells.
            self.rejections[UNWRITTEN] += 1
            return None
        return frame

    def missing(self) -> str:
        """What to do where most frames were not written; what is missing at the end of a file."""
        lost = self.rejections[UNWRITTEN]
        if lost:
            return f"OpenCV cannot decode {lost} frames of {self.shown} (interlaced video?); run: {ADVICE}"
        cut = "" if self._is_address else cut_short(self._path)
        return f"{self.shown} is cut short: {cut}; all that is there was read" if cut else ""

    def close(self) -> None:
        self._capture.release()
        self._errors.close()


class StandardError:
    """Listens to what C libraries write to standard error. text: what was written within the last `with`; FFmpeg's lines, which
    `edge-tl` tells in its own words, go no further."""

    def __init__(self) -> None:
        self.text = ""
        self._file = os.memfd_create("edge-tl-stderr") if hasattr(os, "memfd_create") else -1
        self._saved = -1

    def __enter__(self) -> StandardError:
        self.text = ""
        with contextlib.suppress(OSError):  # closed by the program that started this process
            if self._file >= 0:
                self._saved = os.dup(2)
                os.dup2(self._file, 2)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved < 0:
            return
        os.dup2(self._saved, 2)
        os.close(self._saved)
        self._saved = -1
        written = os.pread(self._file, 65536, 0)
        if written:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self.text = written.decode("utf-8", "replace")
            rest = [line for line in written.splitlines(keepends=True) if not _OF_FFMPEG.match(line)]
            if rest:
                os.write(2, b"".join(rest))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def told_fps(capture: cv2.VideoCapture) -> float:
    """Frames a second as the device or file says; 0 where it says nothing that can be."""
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if np.isfinite(rate) and 0 < rate <= 1000 else 0.0


def four_letters(code: Any) -> str:
    """The name of a FOURCC number, or "" where it is none."""
    number = int(code) if np.isfinite(code) and 0 < code < 2**32 else 0
    text = number.to_bytes(4, "little").decode("latin-1")
    return text if text.isascii() and text.replace(" ", "").isalnum() else ""
