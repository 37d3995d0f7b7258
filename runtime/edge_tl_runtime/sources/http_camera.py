"""A camera at an http address: a stream of JPEG pictures, one picture that is asked for again and again, or a video.

Small boards send MJPEG in many ways: without the first boundary or any, without a content type, with wrong lengths. None of that is
needed here, since a picture tells itself where it ends. Which of the three an address is, the first bytes tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_tl_runtime.errors import BadImage, SourceError
from edge_tl_runtime.photos import Frame, decode_photo
from edge_tl_runtime.sources.base import WAKE_S, mask_credentials
from edge_tl_runtime.sources.first_bytes import ENOUGH, LOOK_BYTES, Content, content, title
from edge_tl_runtime.sources.http_client import Client, Reply
from edge_tl_runtime.sources.request import CaptureRequest, Opened
from edge_tl_runtime.sources.split import NoPicture, PictureSplitter
from edge_tl_runtime.sources.watching import ReadAs, WatchingDevice

DEFAULT_EVERY_S = 2.0
"""How often a still picture is asked for where nobody says it."""
MAX_PICTURE_BYTES = 32 * 2**20
"""Of a stream: a part without an end is not held beyond this."""
_LOOK_S = 2.0
"""How long a server that sends little is looked at before it is told what it is."""
_FOLLOWS_S = 1.5
"""A picture after which nothing follows for so long is no stream."""
_CATCH_UP_S = 0.1
"""How long newer pictures are looked for while they keep coming."""
_VIDEO_KINDS = (
    "video/",
    "audio/mpegurl",
    "application/x-mpegurl",
    "application/vnd.apple.mpegurl",
    "application/dash+xml",
)
_USUAL_PATHS = "the pictures are usually at /video, /mjpeg, /stream, :81/stream or /?action=stream of the same address"


class PictureStream:
    """The newest of the pictures in bytes that arrive, for MJPEG over any connection.

    read: gives what has arrived within a time, None when nothing did, b"" at the end.
    """

    def __init__(self, read: Callable[[float], bytes | None], head: bytes = b"") -> None:
        self._read = read
        self._splitter = PictureSplitter(MAX_PICTURE_BYTES)
        self._found: list[bytes | BadImage] = self._pictures(head)
        self.ended = False
        self.missed = 0

    def next(self, clock: Callable[[], float] = time.monotonic) -> bytes | BadImage | None:
        """The newest complete picture, waited for WAKE_S; a BadImage for each that is damaged; None when nothing came.

        `missed` is how many good ones were passed over for it.
        """
        self.missed = 0
        began = clock()
        while True:
            if self._found and isinstance(self._found[0], BadImage):
                return self._found.pop(0)
            part = None if self.ended else self._read(0.0 if self._found else WAKE_S)
            if part:
                self._add(self._pictures(part))
            self.ended = self.ended or part == b""
            late = clock() - began > (_CATCH_UP_S if self._found else WAKE_S)
            if not part or late:
                return self._found.pop(0) if self._found else None

    def _add(self, items: list[bytes | BadImage]) -> None:
        """Keep the newest good picture alone, and each that is damaged, to be counted before it."""
        for item in items:
            if isinstance(item, BadImage):
                self._found.insert(0, item)
                continue
            if self._found and not isinstance(self._found[-1], BadImage):
                self._found.pop()
                self.missed += 1
            self._found.append(item)

    def _pictures(self, part: bytes) -> list[bytes | BadImage]:
        return [item for item in self._splitter.feed(part) if not isinstance(item, NoPicture)] if part else []


class StillPicture:
    """One picture at an address, asked for at a steady pace; requests never overlap. A picture that did not change is not given.

    Times are those of `clock`; `sleep` waits.
    """

    def __init__(
        self,
        ask: Callable[[dict[str, str]], Reply],
        every: float,
        limit_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """ask: sends a request with these headers; every: seconds from one request to the next; limit_s: for a whole picture."""
        self._ask, self._every, self._limit_s, self._clock, self._sleep = ask, every, limit_s, clock, sleep
        self._due = 0.0
        self._known: dict[str, str] = {}
        self._last = b""

    def first(self, reply: Reply, data: bytes) -> None:
        """Take the answer that told what the address is as the first picture."""
        self._due = self._clock() + self._every
        self._remember(reply, data)

    def next(self) -> bytes | None:
        """The picture if it is due and new; None else, after WAKE_S at most. `asked` tells whether the server was asked.

        Raises SourceError for an answer that is no picture.
        """
        self.asked = False
        wait = self._due - self._clock()
        if wait > 0:
            self._sleep(min(wait, WAKE_S))
            return None
        # From now, not from when it was due: after a slow answer nothing is caught up on.
        self._due = self._clock() + self._every
        reply = self._ask(self._known)
        try:
            self.asked = True
            if reply.status == 304:
                return None
            data = reply.read_all(self._limit_s)
        finally:
            reply.close()
        if data == self._last:
            return None
        self._remember(reply, data)
        return data

    def _remember(self, reply: Reply, data: bytes) -> None:
        self._last = data
        asks = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
        self._known = {ask: str(reply.headers[name]) for name, ask in asks.items() if reply.headers[name]}


class HttpCamera(WatchingDevice):
    """Whatever gives pictures over HTTP; what it is shows when it is opened."""

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__(request)
        self._client: Client | None = None
        self._reply: Reply | None = None
        self._stream: PictureStream | None = None
        self._still: StillPicture | None = None
        self._picture: bytes | BadImage | None = None
        self._shown: bytes | None = None

    def open(self) -> Opened:
        self._client = Client(self.request.name, self.request.open_ms / 1e3, self.request.read_ms / 1e3)
        self._reply = self._client.get()
        if self._reply.note:
            self.notes.append(f"{self._client.shown}: {self._reply.note}")
        head, over = self._look(self._reply)
        found = content(head)
        kind = self._reply.kind
        if kind.startswith("multipart/"):
            return self._open_stream(head)
        if kind.startswith(_VIDEO_KINDS) or found.kind == "video":
            self._reply.close()
            raise ReadAs("stream")
        if found.kind == "pictures":
            single = over or self._reply.length is not None
            if not single:
                head, single = self._first_picture(self._reply, head)
                over = single
            return self._open_still(head, over) if single else self._open_stream(head)
        raise SourceError(f"{self._client.shown} {self._no_picture(kind, found, head)}")

    def grab(self) -> bool:
        if self._still is not None:
            if self._shown is not None:  # the answer that told what it is
                self._picture, self._shown = self._shown, None
                return True
            data = self._still.next()
            if data is None:
                self.heard = time.monotonic() if self._still.asked else self.heard
                return False
            self._picture = data
            return True
        assert self._stream is not None
        self._picture = self._stream.next()
        self.missed += self._stream.missed
        self.ended = self._stream.ended and self._picture is None
        return self._picture is not None

    def retrieve(self, out: Frame | None) -> object:
        if isinstance(self._picture, bytes):
            try:
                return decode_photo(self._picture)
            except BadImage:
                return None
        return None

    def close(self) -> None:
        if self._reply is not None:
            self._reply.close()

    def _look(self, reply: Reply) -> tuple[bytes, bool]:
        """The first bytes, as soon as they tell what it is; and whether they are all."""
        head = b""
        until = time.monotonic() + _LOOK_S
        while True:
            part = reply.read_some(WAKE_S)
            head += part or b""
            if part == b"":
                return head, True
            known = content(head).kind not in ("text", "unknown", "empty", "page")
            if len(head) >= (ENOUGH if known else LOOK_BYTES) or (head and time.monotonic() > until):
                return head, False
            if time.monotonic() > until + self.request.read_ms / 1e3:
                return head, False

    def _first_picture(self, reply: Reply, head: bytes) -> tuple[bytes, bool]:
        """Read on until a picture is whole; and whether nothing follows it, for a while or at all."""
        splitter = PictureSplitter(MAX_PICTURE_BYTES)
        until = time.monotonic() + (self.request.open_ms + self.request.read_ms) / 1e3
        part: bytes | None = head
        while not any(isinstance(item, bytes) for item in splitter.feed(part or b"")):
            part = reply.read_some(WAKE_S)
            head += part or b""
            if part == b"" or time.monotonic() > until or len(head) > MAX_PICTURE_BYTES:
                raise SourceError(
                    f"{mask_credentials(self.request.name)}: the picture was cut off after {len(head)} bytes"
                )
        more = reply.read_some(_FOLLOWS_S)
        return head + (more or b""), not more

    def _open_stream(self, head: bytes) -> Opened:
        assert self._reply is not None
        self._stream = PictureStream(self._reply.read_some, head)
        return Opened(backend="HTTP, a stream of pictures", pixel_format="MJPG")

    def _open_still(self, head: bytes, over: bool) -> Opened:
        assert self._reply is not None
        assert self._client is not None
        data = head if over else head + self._reply.read_all(self.request.read_ms / 1e3 + self.request.open_ms / 1e3)
        every = self.request.every or DEFAULT_EVERY_S
        self.polls = True
        self._still = StillPicture(self._client.get, every, self.request.read_ms / 1e3)
        self._still.first(self._reply, data)
        self._reply.close()
        self._shown = data
        return Opened(backend=f"HTTP, a picture every {every:g} s", every=every)

    def _no_picture(self, kind: str, found: Content, head: bytes) -> str:
        if found.kind == "page" or kind == "text/html":
            name = f" ({title(head)})" if title(head) else ""
            return f"is a web page{name}, not its pictures; {_USUAL_PATHS}"
        if found.kind == "empty":
            return f"answers, but sends nothing within {_LOOK_S + self.request.read_ms / 1e3:.0f} s; check the camera"
        told = kind or found.name
        return f"gives {told}, no picture and no video; {_USUAL_PATHS}"
