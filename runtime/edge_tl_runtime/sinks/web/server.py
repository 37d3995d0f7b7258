"""The HTTP side of the live page: its endpoints, the guard before them, and the thread that serves them.

Needs starlette and uvicorn; `WebPage` imports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.sinks.web.access import Access
from edge_tl_runtime.sinks.web.feed import EncodedFrame, Feed, ViewerPosition, event

MAX_PICTURES = 20
MAX_EVENTS = 40
MAX_CONNECTIONS = 150
EVENTS_S = 0.1
"""At least so long between two deliveries to one viewer."""
FRESH_S = 0.5
"""How long a new viewer waits for a new picture before it gets the last one."""
CLOSE_S = 0.4
MAX_PICTURE_BYTES = 2**20
_HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/regions.js": ("regions.js", "text/javascript"),
    "/view.js": ("view.js", "text/javascript"),
}
# A redirect by status would not do: a browser that came from another site leaves a strict cookie out of the request that follows.
_ENTRY = b'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=./"><title>edge-tl</title>'


class Guard:
    """Stands before the endpoints: refuses requests without access, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        if scope["type"] == "http":
            await (self._answer(scope) or self._app)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> ASGIApp | None:
        """The refusal of a request, or None where it may pass."""
        request, access = Request(scope), self._access
        if request.method not in ("GET", "HEAD"):
            return Response("only GET and HEAD\n", 405, {"allow": "GET, HEAD"}, "text/plain")
        if not access.knows_host(request.headers.get("host", "")):
            return Response(
                "this page is for this machine only; open it as http://127.0.0.1\n", 403, None, "text/plain"
            )
        if not access.token or request.url.path == "/healthz":
            return None
        if access.has_token(scope["query_string"]):
            return self._entry() if request.url.path == "/" else None
        if access.has_cookie(request.cookies):
            return None
        return Response("a token is needed: open the address that the runner printed\n", 401, None, "text/plain")

    def _entry(self) -> Response:
        """Puts the token into a cookie and leads on to the page without it."""
        answer = Response(_ENTRY, media_type="text/html")
        answer.set_cookie(*self._access.cookie, httponly=True, samesite="strict")
        return answer


class Streaming:
    """An answer without end: parts as they come, until the viewer is gone or the run is over."""

    def __init__(self, media_type: str, parts: Callable[[], AsyncGenerator[bytes, None]]) -> None:
        self._media_type, self._parts = media_type, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self._media_type.encode()), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        body, gone = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({body, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            body.cancel()
            gone.cancel()
            await asyncio.gather(body, gone, return_exceptions=True)
        if not body.cancelled():
            body.result()

    async def _send(self, send: Send) -> None:
        async with contextlib.aclosing(self._parts()) as parts:
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


class Pages:
    """The endpoints."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._watchers: list[str] = []
        """The names that pages gave themselves, of those whose picture stream is open."""
        folder = Path(__file__).parent
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}

    def app(self) -> ASGIApp:
        dynamic = {
            "/picture": self._picture,
            "/events": self._events,
            "/status.json": self._status,
            "/snapshot.jpg": self._snapshot,
            "/healthz": self._healthz,
            "/drift/{place:int}.jpg": self._drift_picture,
        }
        files = [Route(path, self._file) for path in self._files]
        return Starlette(routes=[*files, *(Route(path, endpoint) for path, endpoint in dynamic.items())])

    async def _file(self, request: Request) -> Response:
        body, kind = self._files[request.url.path]
        return Response(body, media_type=kind)

    async def _status(self, request: Request) -> Response:
        return Response(json.dumps(self._feed.status), media_type="application/json")

    async def _healthz(self, request: Request) -> Response:
        state = str(self._feed.status.get("state"))
        return PlainTextResponse(state + "\n", 200 if state in ("LIVE", "ENDED") else 503)

    async def _drift_picture(self, request: Request) -> Response:
        """One of the pictures that the status names; the file may have given way to another one since."""
        named = (self._feed.status.get("drift") or {}).get("pictures", [])
        with contextlib.suppress(OSError, IndexError):
            data = read_regular(Path(named[request.path_params["place"]]), MAX_PICTURE_BYTES)
            return Response(data, media_type="image/jpeg")
        return PlainTextResponse("there is no such picture\n", 404)

    async def _snapshot(self, request: Request) -> Response:
        self._feed.watching += 1
        try:
            found = await self._first_picture(2 * FRESH_S)
        finally:
            self._feed.watching -= 1
        if found is None:
            return PlainTextResponse("there is no picture yet\n", 503)
        return Response(found.jpeg, media_type="image/jpeg")

    async def _picture(self, request: Request) -> Response | Streaming:
        if self._feed.watching >= MAX_PICTURES:
            return PlainTextResponse(f"{MAX_PICTURES} viewers watch already; try again later\n", 503)
        return Streaming("multipart/x-mixed-replace; boundary=frame", partial(self._picture_parts, _viewer(request)))

    async def _events(self, request: Request) -> Response | Streaming:
        if self._feed.listening >= MAX_EVENTS:
            return PlainTextResponse(f"{MAX_EVENTS} viewers listen already; try again later\n", 503)
        return Streaming("text/event-stream; charset=utf-8", partial(self._event_parts, _viewer(request)))

    async def _first_picture(self, patience: float) -> EncodedFrame | None:
        """The next picture, or after a while the one that is still current."""
        last = self._feed.picture()
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._next_picture(last.number if last else 0), patience)
        return self._feed.current_picture()

    async def _next_picture(self, after: int) -> EncodedFrame | None:
        """None: the run is over."""
        self._feed.waiting_viewers += 1
        try:
            while True:
                if found := self._feed.picture(after):
                    return found
                if self._feed.closed:
                    return None
                await self._feed.news()
        finally:
            self._feed.waiting_viewers -= 1

    async def _picture_parts(self, viewer: str) -> AsyncGenerator[bytes, None]:
        self._feed.watching += 1
        self._watchers.append(viewer)
        try:
            yield b"--frame\r\n"
            number = 0
            if found := await self._first_picture(FRESH_S):
                number = found.number
                yield found.part
            elif last := self._feed.picture():
                number = last.number
            while found := await self._next_picture(number):
                number = found.number
                yield found.part
        finally:
            self._feed.watching -= 1
            self._watchers.remove(viewer)

    async def _event_parts(self, viewer: str) -> AsyncGenerator[bytes, None]:
        seen = ViewerPosition()
        self._feed.listening += 1
        try:
            yield b"retry: 2000\n\n" + self._feed.history(seen)
            while True:
                over, told = self._feed.closed, seen.status
                if news := self._feed.since(seen):
                    # A browser does not say that a picture stream broke off: the page would show its last one as live.
                    yield news + (event("watching", viewer in self._watchers) if seen.status != told else b"")
                if over:
                    break
                await (asyncio.sleep(EVENTS_S) if news else self._feed.news())
            yield event("end", {})
        finally:
            self._feed.listening -= 1


def _viewer(request: Request) -> str:
    """What a page calls itself in both of its streams."""
    return request.query_params.get("viewer", "")[:40]


class Server:
    """uvicorn with an event loop of its own in a thread; signals and logs stay the runner's."""

    def __init__(self, feed: Feed, access: Access, listener: socket.socket) -> None:
        self._feed, self._listener = feed, listener
        config = uvicorn.Config(
            Guard(Pages(feed).app(), access),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
        )
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="web page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End all streams and the thread, in well under a second."""
        self._feed.close()
        self._server.should_exit = True
        self._thread.join(CLOSE_S)
        if self._thread.is_alive() and self._loop is not None:
            # A viewer that has not taken the end of its stream by now is not waited for; uvicorn's message on that helps nobody.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            self._server.force_exit = True
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._drop)
            self._thread.join(CLOSE_S)
        self._listener.close()

    def _work(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._feed.attach(self._loop)
        await self._server.serve(sockets=[self._listener])

    def _drop(self) -> None:
        connections: Any = list(self._server.server_state.connections)
        for connection in connections:
            connection.transport.abort()
