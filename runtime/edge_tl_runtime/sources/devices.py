"""What the capture process reads: cameras, network streams, videos at their own pace, test patterns.

A device is opened, then asked in turn to `grab` (wait for the next frame) and to `retrieve` it (decode it, into memory that is
given where it fits). A kind is an entry in DEVICES.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np

from edge_tl_runtime.cameras import camera_path, found_cameras, stable_path
from edge_tl_runtime.errors import SourceError
from edge_tl_runtime.photos import Frame
from edge_tl_runtime.sources.base import mask_credentials
from edge_tl_runtime.sources.patterns import Pattern
from edge_tl_runtime.sources.request import CaptureRequest, Opened
from edge_tl_runtime.sources.video import USUAL_FPS, told_fps


class Device(Protocol):
    """ended: nothing will come any more, unlike one grab that failed."""

    ended: bool

    def open(self) -> Opened:
        """Raises SourceError when there is no such device, or it is busy."""
        ...

    def grab(self) -> bool:
        """Wait for the next frame. False when none came."""
        ...

    def retrieve(self, out: Frame | None) -> object:
        """The frame just grabbed: `out` itself where that had the right size, else another array; not to be trusted."""
        ...

    def close(self) -> None: ...


class Capture:
    """Anything that OpenCV opens."""

    def __init__(self, request: CaptureRequest) -> None:
        self.request = request
        self.ended = False
        self._capture = cv2.VideoCapture()

    def open(self) -> Opened:
        raise NotImplementedError

    def grab(self) -> bool:
        return bool(self._capture.grab())

    def retrieve(self, out: Frame | None) -> object:
        good, frame = self._capture.retrieve(out)
        return frame if good else None

    def close(self) -> None:
        self._capture.release()

    def _opened(self, stable: str = "") -> Opened:
        get = self._capture.get
        return Opened(
            backend=str(self._capture.getBackendName()),
            width=int(get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=int(get(cv2.CAP_PROP_FRAME_HEIGHT)),
            fps=round(told_fps(self._capture), 3),
            pixel_format=four_letters(get(cv2.CAP_PROP_FOURCC)),
            stable=stable,
        )


class Camera(Capture):
    """A camera of this machine, by index, by path or by the name under /dev/v4l/by-id that survives a replug."""

    def open(self) -> Opened:
        path = camera_path(self.request.name)
        if path.startswith("/dev/") and not os.path.exists(path):
            raise SourceError(f"cannot open {self.request.name}; {found_cameras()}")
        if path.startswith("/dev/") and not os.access(path, os.R_OK | os.W_OK):
            raise SourceError(f"no permission for {path}; run: sudo usermod -aG video $USER, then log in again")
        # By real path: OpenCV takes the digits of /dev/videoN, whatever link led there.
        real = os.path.realpath(path)
        backend = cv2.CAP_V4L2 if real.startswith("/dev/") else cv2.CAP_ANY
        if not self._capture.open(int(path) if path.isdigit() else real, backend):
            raise SourceError(f"cannot open {self.request.name}: it is busy or no camera; {found_cameras()}")
        self._configure()
        return self._opened(stable_path(real))

    def _configure(self) -> None:
        """The format comes first: over USB 2, raw frames of a large size are refused or slow, compressed ones are not."""
        request = self.request
        wanted = request.pixel_format or ("MJPG" if request.width * request.height > 640 * 480 else "")
        if wanted:
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted))
        if request.width:
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, request.width)
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, request.height)
        if request.fps:
            self._capture.set(cv2.CAP_PROP_FPS, request.fps)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)


class NetworkStream(Capture):
    """RTSP, HTTP (MJPEG, HLS) and whatever else FFmpeg takes, with as little buffering as it can do with."""

    OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"

    def open(self) -> Opened:
        # OpenCV's default for RTSP changed between releases and loses frames over UDP on a busy network. The variable counts
        # for the whole process, which is this stream's own: of a file, these options would lose the last frame.
        os.environ.setdefault(self.OPTIONS, "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay")
        limits = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            self.request.open_ms,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            self.request.read_ms,
        ]
        if not self._capture.open(self.request.name, cv2.CAP_FFMPEG, limits):
            raise SourceError(
                f"cannot open {mask_credentials(self.request.name)}; check the address, the camera and the network"
            )
        return self._opened()

    def grab(self) -> bool:
        good = super().grab()
        self.ended = not good  # FFmpeg does not come back after an end or a time-out
        return good


class PacedVideo(Capture):
    """A video file at the pace at which it was taken, as if it were a camera."""

    def open(self) -> Opened:
        if not self._capture.open(self.request.name, cv2.CAP_FFMPEG):
            raise SourceError(f"{self.request.name} is no video that this OpenCV can decode")
        opened = self._opened()
        self._interval = 1.0 / (opened.fps or USUAL_FPS)
        self._count = 0
        self._started = time.monotonic()
        return opened

    def grab(self) -> bool:
        time.sleep(max(0.0, self._started + self._count * self._interval - time.monotonic()))
        self._count += 1
        good = super().grab()
        self.ended = not good
        return good


def _http(request: CaptureRequest) -> Device:
    from edge_tl_runtime.sources.http_camera import (
        HttpCamera,
    )  # brings TLS, which a camera of this machine does not need

    return HttpCamera(request)


def _rpicam(request: CaptureRequest) -> Device:
    from edge_tl_runtime.sources.rpicam import PiCamera

    return PiCamera(request)


def _pipe(request: CaptureRequest) -> Device:
    from edge_tl_runtime.sources.pipe import Pipe

    return Pipe(request)


DEVICES: dict[str, Callable[[CaptureRequest], Device]] = {
    "camera": Camera,
    "stream": NetworkStream,
    "video": PacedVideo,
    "test": Pattern,
    "http": _http,
    "rpicam": _rpicam,
    "pipe": _pipe,
}


def four_letters(code: Any) -> str:
    """The name of a FOURCC number, or "" where it is none."""
    number = int(code) if np.isfinite(code) and 0 < code < 2**32 else 0
    text = number.to_bytes(4, "little").decode("latin-1")
    return text if re.fullmatch(r"[A-Za-z0-9 ]{4}", text) else ""
