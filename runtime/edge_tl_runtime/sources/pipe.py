"""A live source on a pipe: a FIFO, or standard input. What is on it, its first bytes tell; the newest frame wins."""

from __future__ import annotations

import base64
import io
import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from edge_tl_runtime.errors import BadImage, SourceError, one_line
from edge_tl_runtime.photos import Frame, decode_photo
from edge_tl_runtime.sources.base import WAKE_S
from edge_tl_runtime.sources.first_bytes import LOOK_BYTES, Content, content
from edge_tl_runtime.sources.http_camera import PictureStream
from edge_tl_runtime.sources.request import CaptureRequest, Opened
from edge_tl_runtime.sources.watching import WatchingDevice

if TYPE_CHECKING:
    import av

_PORTION = 65536
MIDWAY_BYTES = 2**20
"""A pipe that is joined midway is searched so far for something to begin with."""
_WORD_S = 3.0
"""Silence of standard input after which a person is told what is waited for."""


def first_bytes(handle: int, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False) -> bytes:
    """Read until it shows what is there; b"" for an empty one. A person is told when that takes long. Raises SourceError when the
    descriptor is not open for reading."""
    head, told = b"", False
    began = time.monotonic()
    try:
        while not stopped():
            if not select.select([handle], [], [], WAKE_S)[0]:
                if not told and time.monotonic() - began > _WORD_S:
                    say("waiting for the first bytes on standard input")
                    told = True
                continue
            part = os.read(handle, LOOK_BYTES)
            head += part
            if not part or content(head).kind in ("pictures", "other pictures", "video") or len(head) >= LOOK_BYTES:
                return head
    except OSError as error:
        raise SourceError(f"cannot read standard input: {error.strerror}; give photos or a video on it") from None
    return head


def unfit(what: str, found: Content, head: bytes) -> SourceError:
    """Why nothing can be done with what is on a pipe. what: the pipe, for a person."""
    if found.kind == "empty":
        return SourceError(f"{what} is empty: the program before it wrote nothing; see what that says")
    if found.kind == "other pictures":
        return SourceError(f"{what} holds {found.name}, which cannot be taken from a pipe; give the files themselves")
    if found.kind == "text":
        return SourceError(
            f"{what} holds text, no pictures (it begins with {one_line(head[:40].decode('utf-8', 'replace'))!r}); paths of photos, "
            "one a line, are given as a file: --source list.txt"
        )
    begins = " ".join(f"{byte:02x}" for byte in head[:8])
    return SourceError(
        f"{what} holds {found.name} (it begins with {begins}); JPEG, PNG, WebP, BMP, H.264, H.265, MPEG-TS, Matroska, AVI, "
        "fragmented MP4 and YUV4MPEG2 are understood"
    )


class _Decoder(Protocol):
    ended: bool

    def next(self) -> Any:
        """A frame, a BadImage for something damaged, None when nothing came."""


class Pipe(WatchingDevice):
    """The FIFO that the request names, or its descriptor (standard input of the capture process)."""

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__(request)
        self._handle = -1
        self._decoder: _Decoder | None = None
        self._frame: Any = None
        self._what = "standard input" if request.handle >= 0 else request.name

    def open(self) -> Opened:
        if self.request.handle >= 0:
            self._handle = 0  # where `live.CaptureProcess` puts it
        else:
            try:
                self._handle = os.open(self.request.name, os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                raise SourceError(f"cannot open {self.request.name}: {error.strerror}") from None
        head = base64.b64decode(self.request.head)
        found = content(head)
        if found.kind not in ("pictures", "video"):
            head, found = self._look(head)
        if found.kind == "pictures":
            self._decoder = PictureStream(self._read, head)
        elif found.kind == "video":
            make = RawVideo if found.format in ("h264", "hevc") else ContainerVideo
            self._decoder = make(self._read, head, found, self._what)
        else:
            raise unfit(self._what, found, head)
        return Opened(backend=f"pipe, {found.name}")

    def grab(self) -> bool:
        decoder = self._decoder
        assert decoder is not None
        self._frame = decoder.next()
        self.missed += getattr(decoder, "missed", 0)
        self.ended = decoder.ended and self._frame is None
        return self._frame is not None

    def retrieve(self, out: Frame | None) -> object:
        if isinstance(self._frame, bytes):
            try:
                return decode_photo(self._frame)
            except BadImage:
                return None
        return None if isinstance(self._frame, BadImage) else self._frame.to_ndarray(format="bgr24")

    def close(self) -> None:
        if self._handle > 0:
            os.close(self._handle)
        self._handle = -1

    def _look(self, head: bytes) -> tuple[bytes, Content]:
        until = time.monotonic() + 0.9 * self.request.open_ms / 1e3
        while True:
            part = self._read(WAKE_S)
            head += part or b""
            found = content(head)
            if found.kind in ("pictures", "video", "other pictures") or len(head) >= MIDWAY_BYTES:
                return head, found
            if part == b"" and head:
                return head, found
            if time.monotonic() > until:
                if head:
                    return head, found
                raise SourceError(
                    f"{self._what} is a pipe that no program has written to; start the one that gives frames"
                )
            if part == b"":
                time.sleep(WAKE_S)  # nobody has it open for writing

    def _read(self, wait_s: float) -> bytes | None:
        """What is there; None when nothing comes within the time, b"" when the writer is gone."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        if not poll.poll(1e3 * wait_s):
            return None
        try:
            return os.read(self._handle, _PORTION)
        except BlockingIOError:
            return None


def _library() -> Any:
    try:
        import av
    except ImportError:
        raise SourceError("video on a pipe needs PyAV; run: pip install 'edge-tl[video]'") from None
    return av


class RawVideo:
    """H.264 or H.265 as an encoder writes it, without a container: what has come is decoded at once, nothing is probed."""

    def __init__(self, read: Callable[[float], bytes | None], head: bytes, found: Content, what: str) -> None:
        self._av = _library()
        self._read = read
        self._codec: av.VideoCodecContext = self._av.CodecContext.create(found.format, "r")
        self._codec.thread_count = 1
        self._codec.flags |= self._av.codec.context.Flags.low_delay
        self._frames: deque[Any] = deque()
        self.ended = False
        self._take(head)

    def next(self) -> Any:
        if not self._frames and not self.ended:
            part = self._read(WAKE_S)
            if part == b"":
                self.ended = True
                self._take(b"")
                self._decode(None)
            elif part:
                self._take(part)
        return self._frames.popleft() if self._frames else None

    def _take(self, part: bytes) -> None:
        for packet in self._codec.parse(part or None):
            self._decode(packet)

    def _decode(self, packet: Any) -> None:
        try:
            for frame in self._codec.decode(packet):
                self._frames.append(BadImage("damaged") if frame.is_corrupt else frame)
        except self._av.error.EOFError:
            return
        except self._av.FFmpegError:
            self._frames.append(BadImage("damaged"))


class ContainerVideo:
    """A video in a container that can be read without going back: MPEG-TS, Matroska, AVI, fragmented MP4, YUV4MPEG2."""

    OPTIONS = {"probesize": "1000000", "analyzeduration": "500000"}
    """Enough for a key frame of a camera; by default 5 MB are read first."""

    def __init__(self, read: Callable[[float], bytes | None], head: bytes, found: Content, what: str) -> None:
        self._av = _library()
        self.ended = False
        try:
            self._container = self._av.open(_File(read, head), format=found.format, options=dict(self.OPTIONS))
            self._frames = self._container.decode(video=0)
        except (self._av.FFmpegError, IndexError) as error:
            hint = (
                "; on a pipe MP4 must be fragmented (ffmpeg -movflags frag_keyframe+empty_moov)"
                if found.format == "mp4"
                else ""
            )
            text = getattr(error, "strerror", "") or "it holds no video"
            raise SourceError(f"{what} holds {found.name} that cannot be decoded: {one_line(text)}{hint}") from None

    def next(self) -> Any:
        try:
            frame = next(self._frames, None)
        except self._av.error.EOFError:
            frame = None
        except self._av.FFmpegError:
            return BadImage("damaged")
        self.ended = frame is None
        return BadImage("damaged") if frame is not None and frame.is_corrupt else frame


class _File(io.RawIOBase):
    """A pipe as the file that PyAV reads."""

    def __init__(self, read: Callable[[float], bytes | None], head: bytes) -> None:
        self._source, self._head = read, head

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._head:
            part = self._source(WAKE_S)
            if part == b"":
                return b""
            self._head = part or b""
        part, self._head = self._head[:size], self._head[size:]
        return part
