"""The live page as a sink of a run."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.images.crop import three_channels
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sinks.base import Sink
from edge_tl_runtime.sinks.web.access import Access, is_loopback, listen, public_host
from edge_tl_runtime.sinks.web.feed import Feed


class Pace:
    """Lets through at most `rate` a second, and that many on average from any faster stream, however it is spaced."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate if rate > 0 else 0.0
        self._due = 0.0

    def ready(self) -> bool:
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = (now if now - self._due > self._interval else self._due) + self._interval
        return True


class WebPage(Sink):
    """Serves the live page from the moment it is made until it is closed.

    Every result brings its label; pixels are asked for only while somebody watches the picture, and are encoded once for all who
    do. `wants` is to be asked for every result, as a QueuedSink does: changes of the label are noticed there, so that none is
    missed while a picture is encoded.
    """

    name = "web page"
    pixels = True
    depth = 2

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8080,
        token: str = "",
        title: str = "",
        labels: Sequence[str] = (),
        max_fps: float = 15,
        every: bool = False,
        dims: bool = True,
        aspect: float = 0.0,
    ) -> None:
        """port: 0 for any that is free. token: made up where others than this machine can connect and none is given. title,
        labels: of the model. max_fps: of the picture. every: take each frame while somebody watches, though at most max_fps are
        shown, so that the last photo of a run is there at its end. dims: whether the page dims what the model does not see.
        aspect: width over height of the model's input, for a crop that is drawn; 0: not known.

        Raises UsageError when the server's libraries are missing or it cannot listen there.
        """
        try:
            from edge_tl_runtime.sinks.web.server import Server
        except ImportError:
            raise UsageError("the web page needs starlette and uvicorn; run: pip install 'edge-tl[web]'") from None
        listener = listen(host, port)
        address, bound = listener.getsockname()[:2]
        local = is_loopback(address)
        self._access = Access(token or ("" if local else secrets.token_urlsafe(16)), local, bound)
        self._place = f"http://{public_host(host)}:{bound}/"
        self._every = every
        self._pace = Pace(max_fps)
        self._held: Result | None = None
        self._feed = Feed(title, labels, dims, aspect)
        self._server = Server(self._feed, self._access, listener)

    @property
    def url(self) -> str:
        """To open in a browser; with the token where one is needed."""
        return self._place + self._access.query

    @property
    def masked_url(self) -> str:
        """For logs."""
        return self._place + ("?token=***" if self._access.token else "")

    @property
    def viewers(self) -> int:
        """Who watches the picture now."""
        return self._feed.watching

    def wants(self, result: Result) -> bool:
        self._feed.note(result)
        return result.last  # it shows all regions of the frame

    def wants_pixels(self, result: Result) -> bool:
        if self._every:
            return self._feed.watching > 0
        return self._feed.waiting_viewers > 0 and self._pace.ready()

    def write(self, result: Result) -> None:
        self._feed.show(result)
        if not result.record.frame.size:
            return
        self._held = result
        if not self._every or self._pace.ready():
            self._show_held()

    def idle(self) -> None:
        self._show_held()

    def status(self, document: dict[str, Any]) -> None:
        self._feed.tell(document)

    def close(self) -> None:
        try:
            self._show_held()
        finally:
            self._server.close()

    def _show_held(self) -> None:
        result, self._held = self._held, None
        if result is not None:
            jpeg = encode(result.picture())
            self._feed.show_picture(jpeg, result.record.captured)


def encode(frame: Frame, quality: int = 80, max_side: int = 960) -> bytes:
    """The frame as JPEG of a quality of 1 to 100, made smaller where its longer side is above max_side."""
    frame = three_channels(frame)
    height, width = frame.shape[:2]
    scale = max_side / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
    good, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not good:
        raise OutputError("a frame could not be encoded as JPEG")
    return data.tobytes()
