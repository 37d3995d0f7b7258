"""What the capture process reads: cameras, network streams, videos at their own pace, test patterns.

A device is opened, then asked in turn to `grab` (wait for the next frame) and to `retrieve` it (decode it, into memory that is
given where it fits). A kind is an entry in DEVICES.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import cv2

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.decoding.opencv_reader import CheckedCapture, four_letters, told_fps
from edge_tl_runtime.sources.decoding.reader import Reader, library, open_reader
from edge_tl_runtime.sources.device import Device
from edge_tl_runtime.sources.patterns import Pattern
from edge_tl_runtime.sources.request import CaptureRequest, Opened
from edge_tl_runtime.sources.v4l import camera_path, found_cameras, stable_path
from edge_tl_runtime.sources.video import USUAL_FPS

OPENING_S = 2.0
"""What the start of this process may take of the patience for a first frame."""


class Camera(Device):
    """A camera of this machine, by index, by path or by the name under /dev/v4l/by-id that survives a replug."""

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__()
        self.request = request
        self._capture = cv2.VideoCapture()
        self._checked = CheckedCapture(self._capture, self.rejections)

    def grab(self) -> bool:
        return bool(self._capture.grab())

    def retrieve(self, out: Frame | None) -> object:
        return self._checked.retrieve(out)

    def close(self) -> None:
        self._capture.release()

    def open(self) -> Opened:
        path = camera_path(self.request.name)
        if path.startswith("/dev/") and not os.path.exists(path):
            raise SourceError(f"cannot open {shown_address(self.request.name)}; {found_cameras()}")
        if path.startswith("/dev/") and not os.access(path, os.R_OK | os.W_OK):
            raise SourceError(
                f"no permission for {one_line(path)}; run: sudo usermod -aG video $USER, then log in again"
            )
        # By real path: OpenCV takes the digits of /dev/videoN, whatever link led there.
        real = os.path.realpath(path)
        backend = cv2.CAP_V4L2 if real.startswith("/dev/") else cv2.CAP_ANY
        if not self._capture.open(int(path) if path.isdigit() else real, backend):
            raise SourceError(
                f"cannot open {shown_address(self.request.name)}: it is busy, or it is no camera; {found_cameras()}"
            )
        self._configure()
        get = self._capture.get
        return Opened(
            backend=str(self._capture.getBackendName()),
            width=int(get(cv2.CAP_PROP_FRAME_WIDTH)),
            height=int(get(cv2.CAP_PROP_FRAME_HEIGHT)),
            fps=round(told_fps(self._capture), 3),
            pixel_format=four_letters(get(cv2.CAP_PROP_FOURCC)),
            stable=stable_path(real),
        )

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


class NetworkStream(Device):
    """RTSP, HTTP (MJPEG, HLS) and whatever else FFmpeg takes, with as little buffering as it can do with."""

    live = True

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__()
        self.request = request
        self._reader: Reader | None = None

    def open(self) -> Opened:
        request = self.request
        # Opening fails before the watchdog in the runner loses its patience, for the reason is known here alone. Of a stream that
        # falls silent the watchdog knows more: its patience for the first frame is another one.
        patience = request.open_ms / 1e3
        silence = max(patience, request.read_ms / 1e3)
        open_s = max(patience / 2, patience - OPENING_S)
        self._reader = reader = open_reader(request.name, live=self.live, open_s=open_s, read_s=silence)
        self.rejections, self.notes = reader.rejections, reader.notes
        self.inter_coded = not reader.intra_only
        width, height = reader.size
        return Opened(
            backend=library(), width=width, height=height, fps=round(reader.fps, 3), pixel_format=reader.codec
        )

    def grab(self) -> bool:
        assert self._reader is not None
        good = self._reader.grab()
        self.key_frame, self.captured = self._reader.key_frame, self._reader.captured
        self.ended, self.error = not good, self._reader.error
        return good

    def retrieve(self, out: Frame | None) -> object:
        assert self._reader is not None
        return self._reader.retrieve(out)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()


class PacedVideo(NetworkStream):
    """A video file at the pace at which it was taken, as if it were a camera."""

    live = False

    def open(self) -> Opened:
        opened = super().open()
        self._interval = 1.0 / (opened.fps or USUAL_FPS)
        self._count = 0
        self._started = time.monotonic()
        return opened

    def grab(self) -> bool:
        time.sleep(max(0.0, self._started + self._count * self._interval - time.monotonic()))
        self._count += 1
        good = super().grab()
        self.captured = 0.0  # it was decoded ahead of its time
        if self.ended and self._reader is not None:
            self.notes += filter(None, (self._reader.missing(), self.error))
            self.error = ""  # what was seen was seen: it is not played again from its start
        return good


def _http(request: CaptureRequest) -> Device:
    # It brings TLS, which a camera of this machine does not need.
    from edge_tl_runtime.sources.http.camera import HttpCamera

    return HttpCamera(request)


def _rpicam(request: CaptureRequest) -> Device:
    from edge_tl_runtime.sources.rpicam import PiCamera

    return PiCamera(request)


def _pipe(request: CaptureRequest) -> Device:
    from edge_tl_runtime.sources.pipe import Pipe

    return Pipe(request)


def make_device(kind: str, request: CaptureRequest) -> Device:
    """The device of an entry in DEVICES, or of a package that adds one, imported here by its entry point."""
    if kind not in DEVICES:
        from edge_tl_runtime.sources.plugin_sources import added_device

        return added_device(request)
    return DEVICES[kind](request)


DEVICES: dict[str, Callable[[CaptureRequest], Device]] = {
    "camera": Camera,
    "stream": NetworkStream,
    "video": PacedVideo,
    "test": Pattern,
    "http": _http,
    "rpicam": _rpicam,
    "pipe": _pipe,
}
