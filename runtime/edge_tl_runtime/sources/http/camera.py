"""A camera at an http address: a stream of JPEG pictures, one picture that is asked for again and again, or a video.

Small boards send MJPEG in many ways: without the first boundary or any, without a content type, with wrong lengths. None of that
is needed here, since a picture tells itself where it ends. Which of the three an address is, the first bytes tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.images.formats.several import several_note
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.base import WAKE_S
from edge_tl_runtime.sources.device import ReadAs, WatchingDevice
from edge_tl_runtime.sources.first_bytes import ENOUGH, LOOK_BYTES, Content, content, title
from edge_tl_runtime.sources.http.client import Client, Reply
from edge_tl_runtime.sources.http.picture_stream import MAX_PICTURE_BYTES, PictureStream, decoded
from edge_tl_runtime.sources.picture_splitter import PictureSplitter
from edge_tl_runtime.sources.request import CaptureRequest, Opened

DEFAULT_EVERY_S = 2.0
"""How often a still picture is asked for where nobody says it."""
_LOOK_S = 2.0
"""How long a server that sends little is looked at before it is told what it is."""
_FOLLOWS_S = 1.5
"""A picture after which nothing follows for so long is no stream."""
_VIDEO_KINDS = (
    "video/",
    "audio/mpegurl",
    "application/x-mpegurl",
    "application/vnd.apple.mpegurl",
    "application/dash+xml",
)
_USUAL_PATHS = "the pictures are usually at /video, /mjpeg, /stream, :81/stream or /?action=stream of the same address"


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
        repeats: bool = False,
    ) -> None:
        """ask: sends a request with these headers; every: seconds from one request to the next; limit_s: for a whole picture;
        repeats: give an unchanged picture too."""
        self._repeats = repeats
        self._ask, self._every, self._limit_s, self._clock, self._sleep = ask, every, limit_s, clock, sleep
        self._due = 0.0
        self._known: dict[str, str] = {}
        self._last = self._waiting = b""
        self.asked = False

    def first(self, reply: Reply, data: bytes) -> None:
        """Take the answer that told what the address is as the first picture, which `next` gives at once."""
        self._due = self._clock() + self._every
        self._waiting = data
        self._remember(reply, data)

    def next(self) -> bytes | None:
        """The body of the answer if one is due and it is new; None else, after WAKE_S at most. `asked`: whether the server was.

        Raises SourceError for an answer that failed.
        """
        self.asked = False
        if self._waiting:
            data, self._waiting = self._waiting, b""
            return data
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
                return self._last if self._repeats else None
            data = reply.read_all(self._limit_s)
        finally:
            reply.close()
        if data == self._last and not self._repeats:
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
        self._picture: bytes | None = None

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
        if found.kind == "video" or (kind.startswith(_VIDEO_KINDS) and found.kind != "pictures"):
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
            self._picture = self._still.next()
            if self._picture is None:
                self.heard = time.monotonic() if self._still.asked else self.heard
                return False
            head = self._picture[:LOOK_BYTES]
            found = content(head)
            if found.kind != "pictures":  # a page that asks to log in, after a while
                raise SourceError(f"{shown_address(self.request.name)} {self._no_picture('', found, head)}")
            return True
        assert self._stream is not None
        self._picture = self._stream.next()
        self.missed, self._stream.missed = self.missed + self._stream.missed, 0
        self.ended = self._stream.ended and self._picture is None
        return self._picture is not None

    def retrieve(self, out: Frame | None) -> object:
        assert self._picture is not None
        return decoded(self._picture, self.rejections)

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
                    f"{shown_address(self.request.name)}: the picture was cut off after {len(head)} bytes"
                )
        more = reply.read_some(_FOLLOWS_S)
        return head + (more or b""), not more

    def _open_stream(self, head: bytes) -> Opened:
        assert self._reply is not None
        self._stream = PictureStream(self._reply.read_some, self.rejections, head)
        return Opened(backend="HTTP, a stream of pictures", pixel_format="MJPG")

    def _open_still(self, head: bytes, over: bool) -> Opened:
        assert self._reply is not None
        assert self._client is not None
        if over:
            self._reply.check_whole()
        data = head if over else head + self._reply.read_all(self.request.read_ms / 1e3 + self.request.open_ms / 1e3)
        every = self.request.every or DEFAULT_EVERY_S
        self.polls = True
        self._still = StillPicture(
            self._client.get, every, self.request.read_ms / 1e3, repeats=self.request.frozen <= 0
        )
        self._still.first(self._reply, data)
        if several_note(data):
            self.notes.append(
                f"{self._client.shown}: the picture there is an animation or has several pages; the first of it is used"
            )
        self._reply.close()
        return Opened(backend=f"HTTP, a picture every {every:g} s", every=every)

    def _no_picture(self, kind: str, found: Content, head: bytes) -> str:
        if found.kind == "page" or kind == "text/html":
            name = f" ({title(head)})" if title(head) else ""
            return f"is a web page{name}, not its pictures; {_USUAL_PATHS}"
        if found.kind == "empty":
            return f"answers, but sends nothing within {_LOOK_S + self.request.read_ms / 1e3:.0f} s; check the camera"
        told = kind or found.name
        return f"gives {told}, no picture and no video; {_USUAL_PATHS}"
