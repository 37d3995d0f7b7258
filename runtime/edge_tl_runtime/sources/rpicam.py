"""The camera module of a Raspberry Pi, which its system does not offer as a V4L2 camera: frames from the program `rpicam-vid`.

The program writes raw YUV 4:2:0 to its standard output, frame after frame without anything between them. How large a frame is
there (rows are padded) it says on standard error when it is asked to be verbose.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import deque

import cv2
import numpy as np

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.base import WAKE_S
from edge_tl_runtime.sources.device import WatchingDevice
from edge_tl_runtime.sources.names import pi_camera_index
from edge_tl_runtime.sources.request import CaptureRequest, Opened
from edge_tl_runtime.sources.v4l import PI_PROGRAMS, pi_cameras, pi_program

DEFAULT_SIZE = (640, 480)
_STREAM = re.compile(r"configuring streams: \(0\) (\d+)x(\d+)-YUV420(?:/(\S+))?")
_FRAME_BYTES = re.compile(r"output buffer \S+ size (\d+)")
_PIPE_BYTES = 2**20
_F_SETPIPE_SZ = 1031
_PR_SET_PDEATHSIG = 1
_MAX_SKIPPED = 8
"""Frames in a row that are passed over when the reader is late; then one is given, be it not the newest."""
_KEPT_LINES = 40

_NO_SUCH_CAMERA = r"selected camera is not available"
_REASONS = (
    (r"no cameras available", "no camera is found; check the ribbon cable at both ends, then restart the Pi"),
    (_NO_SUCH_CAMERA, "there is no camera of that number"),
    (
        r"in use by another process|failed to acquire camera|[Dd]evice or resource busy",
        "another program uses the camera; end that one first",
    ),
    (
        r"unrecognised option '?([^'\s]+)",
        "it does not know the option {0}; update it with: sudo apt install --only-upgrade rpicam-apps",
    ),
    (r"Device timeout detected|frontend has timed out", "the camera stopped sending; check its ribbon cable"),
    (r"failed to valid|failed to configure streams", "the camera cannot give this size or rate; try --size 640x480"),
    (r"ERROR: \*\*\* (.+?) \*\*\*", "{0}"),
)
"""What the program writes when it fails, and what to tell. The first that is found counts."""


def failure(lines: list[str]) -> str:
    """Why the program ended, from what it wrote on standard error; "" when it wrote nothing of use."""
    text = "\n".join(lines)
    for pattern, reason in _REASONS:
        if found := re.search(pattern, text):
            return reason.format(*(one_line(group) for group in found.groups()))
    return one_line(next((line.strip() for line in reversed(lines) if line.strip()), ""))


def row_bytes(width: int, height: int, frame_bytes: int) -> int:
    """Bytes from one row of Y to the next. Rows are padded to 64 bytes on a Pi 4 and 128 on a Pi 5, and a frame may be followed
    by padding of its own. Raises SourceError when the frame is too small for the size."""
    candidates = sorted({-(-width // pad) * pad for pad in (128, 64, 32, 2)}, reverse=True)
    exact = [row for row in candidates if row * height * 3 // 2 == frame_bytes]
    fitting = exact or [row for row in candidates if row * height * 3 // 2 <= frame_bytes]
    if not fitting:
        raise SourceError(f"a frame of {frame_bytes} bytes is too small for {width}x{height}; update rpicam-apps")
    return fitting[0]


class PiCamera(WatchingDevice):
    """`rpicam:N`. The program is a child of the capture process, and ends with it however that ends."""

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__(request)
        self._index = pi_camera_index(request.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._text = b""
        self._size = (request.width, request.height) if request.width else DEFAULT_SIZE
        self._space = "sYCC"
        self._buffer = bytearray()
        self._filled = 0
        self._row = 0

    def open(self) -> Opened:
        program = pi_program()
        if not program:
            raise SourceError(
                f"{shown_address(self.request.name)} needs the program {PI_PROGRAMS[0]}, which is not here; on a Raspberry "
                "Pi run: sudo apt install rpicam-apps-lite"
            )
        self._start(program)
        while not self._row:
            self._wait()
            self._learn_frame()
        return Opened(
            backend=os.path.basename(program),
            width=self._size[0],
            height=self._size[1],
            fps=self.request.fps,
            pixel_format="YUV420",
        )

    def grab(self) -> bool:
        skipped = 0
        while self._read_frame():
            if skipped < _MAX_SKIPPED and self._readable(0.0):
                skipped += 1
                continue
            self.missed += skipped
            return True
        return False

    def retrieve(self, out: Frame | None) -> object:
        """Full-range Y'CbCr of BT.601 (what the program's YUV is, as in JPEG), or limited range where it says so."""
        width, height = self._size
        planes = np.frombuffer(self._buffer, np.uint8, self._row * height * 3 // 2).reshape(-1, self._row)
        if self._space == "sYCC":
            # OpenCV converts the limited range alone. Two scalings and its fast path differ from the exact arithmetic by less
            # than 2 of 255, at a tenth of the time that its full-range conversion takes with the colours enlarged by hand.
            limited = np.empty_like(planes)
            cv2.convertScaleAbs(planes[:height], limited[:height], 219 / 255, 16)
            cv2.convertScaleAbs(planes[height:], limited[height:], 224 / 255, 128 - 128 * 224 / 255)
            planes = limited
        if self._row == width and out is not None and out.shape == (height, width, 3):
            return cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420, dst=out)
        return cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)[:, :width]

    def close(self) -> None:
        if self._process is None:
            return
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.3)
        self._process.kill()
        self._process.wait()
        self._process = None

    def _start(self, program: str) -> None:
        width, height = self._size
        rate = [f"--framerate={self.request.fps:g}"] if self.request.fps else []
        arguments = [
            program,
            f"--camera={self._index}",
            f"--width={width}",
            f"--height={height}",
            *rate,
            "--codec=yuv420",
            "--timeout=0",
            "--nopreview",
            "--flush",
            "--verbose",
            "--output=-",
        ]
        environment = {k: v for k, v in os.environ.items() if k not in ("LIBCAMERA_LOG_LEVELS", "LIBCAMERA_LOG_FILE")}
        try:
            self._process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # the interrupt key of a terminal reaches the runner alone
                preexec_fn=_end_with_parent if sys.platform.startswith("linux") else None,
            )
        except OSError as error:
            raise SourceError(f"cannot run {program}: {error.strerror}") from None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out, self._err = self._process.stdout.fileno(), self._process.stderr.fileno()
        os.set_blocking(self._out, False)
        os.set_blocking(self._err, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._out, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._poll.register(self._err, select.POLLIN)

    def _learn_frame(self) -> None:
        """The size of a frame and of its rows, from what the program wrote before the first one."""
        text = "\n".join(self._lines)
        if configured := _STREAM.search(text):
            self._size = int(configured[1]), int(configured[2])
            self._space = configured[3] or "sYCC"
        width, height = self._size
        if stated := _FRAME_BYTES.search(text):
            frame_bytes = int(stated[1])
        elif self._readable(0.0):  # the first bytes are there and it did not tell: rows as on most boards
            self._listen()
            stated = _FRAME_BYTES.search("\n".join(self._lines))
            frame_bytes = int(stated[1]) if stated else -(-width // 64) * 64 * height * 3 // 2
        else:
            return
        self._row = row_bytes(width, height, frame_bytes)
        self._buffer = bytearray(frame_bytes)

    def _read_frame(self) -> bool:
        """Read on until a frame is whole. False when the program has nothing more to give at the moment."""
        view = memoryview(self._buffer)
        if self._filled == len(view):
            self._filled = 0
        until = time.monotonic() + WAKE_S
        while self._filled < len(view):
            try:
                size = os.readv(self._out, [view[self._filled :]])
            except BlockingIOError:
                if time.monotonic() > until:
                    return False
                self._wait()
                continue
            if not size:
                self._fail()
            self._filled += size
        return True

    def _wait(self) -> None:
        """Until the program writes something, WAKE_S at most. Raises SourceError when it has ended."""
        ready = dict(self._poll.poll(1e3 * WAKE_S))
        if self._err in ready:
            self._listen()
        if self._out in ready and not ready[self._out] & select.POLLIN:
            self._fail()

    def _listen(self) -> None:
        """Take in what the program wrote on standard error, which must be emptied for it to go on."""
        try:
            while part := os.read(self._err, 65536):
                *lines, self._text = (self._text + part).split(b"\n")
                # Known by now; it comes with every frame, and so does the other line.
                noise = re.compile(
                    rb"FileOutput: output buffer|Viewfinder frame" if self._row else rb"Viewfinder frame"
                )
                self._lines.extend(line.decode("utf-8", "replace") for line in lines if not noise.search(line))
                self._text = self._text[-4096:]
        except BlockingIOError:
            return
        with contextlib.suppress(KeyError):
            self._poll.unregister(self._err)  # closed: it would be ready for ever

    def _readable(self, seconds: float) -> bool:
        return bool(select.select([self._out], [], [], seconds)[0])

    def _fail(self) -> None:
        """Raises SourceError with the program's own reason."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        with contextlib.suppress(BlockingIOError):
            self._listen()
        if self._text:
            self._lines.append(self._text.decode("utf-8", "replace"))
        code = self._process.poll()
        name = os.path.basename(str(self._process.args[0]))  # type: ignore[index]
        reason = failure(list(self._lines))
        if any(re.search(_NO_SUCH_CAMERA, line) for line in self._lines):
            found = pi_cameras()
            reason += f"; there are: {', '.join(map(str, found))}" if found else ""
        how = f"signal {-code}" if code is not None and code < 0 else f"code {code}"
        reason = reason if reason and code else f"the program ended ({how})"
        raise SourceError(f"{shown_address(self.request.name)} ({name}): {reason}")


def _end_with_parent() -> None:
    """In the child: a capture process that is ended by force must leave no camera taken."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
