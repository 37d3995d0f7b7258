"""A live source on a pipe: a FIFO, or standard input. Its first bytes say what is on it; the newest frame is taken."""

from __future__ import annotations

import base64
import io
import os
import select
import time
from collections.abc import Callable

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.core.progress import Say
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.base import WAKE_S
from edge_tl_runtime.sources.decoding.reader import Reader, open_reader
from edge_tl_runtime.sources.decoding.reasons import ADVICE
from edge_tl_runtime.sources.device import WatchingDevice
from edge_tl_runtime.sources.first_bytes import LOOK_BYTES, Content, content
from edge_tl_runtime.sources.http.picture_stream import PictureStream, decoded
from edge_tl_runtime.sources.request import CaptureRequest, Opened

_PORTION = 65536
MIDWAY_BYTES = 2**20
"""A pipe that is joined midway is searched so far for something to begin with."""
_FRAGMENTED = "on a pipe, MP4 must be fragmented (ffmpeg -movflags frag_keyframe+empty_moov); give the file itself"
_WORD_S = 3.0
"""Silence of standard input after which a person is told what is waited for."""


def first_bytes(handle: int, say: Say) -> bytes:
    """Read until it shows what is there; b"" for an empty one. A person is told when that takes long. Raises SourceError when the
    descriptor is not open for reading."""
    head, told = b"", False
    began = time.monotonic()
    try:
        while True:
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


def unfit(what: str, found: Content, head: bytes) -> SourceError:
    """Why nothing can be done with what is on a pipe. what: the pipe, for a person."""
    if found.kind == "empty":
        return SourceError(f"{what} is empty: the program before it wrote nothing; see what that says")
    if found.kind == "other pictures":
        return SourceError(f"{what} holds {found.name}, which cannot be taken from a pipe; give the files themselves")
    if found.kind == "text":
        text = " ".join(head[:40].decode("utf-8", "replace").split())
        return SourceError(
            f"{what} holds text, no pictures (it begins: {one_line(text)}); paths of photos, "
            "one a line, are given as a file: --source list.txt"
        )
    begins = " ".join(f"{byte:02x}" for byte in head[:8])
    return SourceError(
        f"{what} holds {found.name} (it begins with {begins}); JPEG, PNG, WebP, BMP, H.264, H.265, MPEG-TS, Matroska, AVI, "
        "fragmented MP4 and YUV4MPEG2 are understood"
    )


class Pipe(WatchingDevice):
    """The FIFO that the request names, or its descriptor (standard input of the capture process)."""

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__(request)
        self._handle = -1
        self._pictures: PictureStream | None = None
        self._picture: bytes | None = None
        self._reader: Reader | None = None
        self._found = Content("empty", "nothing")
        self._any = False
        self._what = "standard input" if request.handle >= 0 else shown_address(request.name)

    def open(self) -> Opened:
        if self.request.handle >= 0:
            self._handle = 0  # where `live.CaptureProcess` puts it
        else:
            try:
                self._handle = os.open(self.request.name, os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                raise SourceError(f"cannot open {self._what}: {error.strerror}") from None
        head = base64.b64decode(self.request.head)
        found = content(head)
        if found.kind not in ("pictures", "video"):
            head, found = self._look(head)
        if found.kind == "pictures":
            self._pictures = PictureStream(self._read, self.rejections, head)
            return Opened(backend=f"pipe, {found.name} pictures")
        if found.kind != "video":
            raise unfit(self._what, found, head)
        return self._open_video(head, found)

    def _open_video(self, head: bytes, found: Content) -> Opened:
        file = _File(self._read, head)
        self._found = found
        try:
            self._reader = reader = open_reader(self._what, live=True, file=file, format=found.format)
        except SourceError as error:
            if ADVICE in str(error):
                raise
            raise SourceError(f"{self._what} holds {found.name} that cannot be decoded{self._hint()}") from None
        self.rejections, self.notes = reader.rejections, reader.notes
        self.inter_coded = not reader.intra_only
        width, height = reader.size
        return Opened(backend=f"pipe, {found.name}", width=width, height=height, pixel_format=reader.codec)

    def grab(self) -> bool:
        if self._pictures is not None:
            self._picture = self._pictures.next()
            self.missed, self._pictures.missed = self.missed + self._pictures.missed, 0
            self.ended = self._pictures.ended and self._picture is None
            return self._picture is not None
        assert self._reader is not None
        good = self._reader.grab()
        self.key_frame, self.captured = self._reader.key_frame, self._reader.captured
        self._any = self._any or good
        self.ended, self.error = not good, self._reader.error
        if not good and not self._any and not self.rejections:
            raise SourceError(f"{self._what} holds {self._found.name} and no frame that can be decoded{self._hint()}")
        return good

    def _hint(self) -> str:
        return "; " + (_FRAGMENTED if self._found.format == "mp4" else "it is cut short or damaged")

    def retrieve(self, out: Frame | None) -> object:
        if self._picture is not None:
            return decoded(self._picture, self.rejections)
        assert self._reader is not None
        return self._reader.retrieve(out)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._handle > 0:
            os.close(self._handle)
        self._handle = -1

    def _look(self, head: bytes) -> tuple[bytes, Content]:
        # Before the runner's own patience ends, which knows less of the reason.
        until = time.monotonic() + max(0.5 * self.request.open_ms, self.request.open_ms - 3000) / 1e3
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
