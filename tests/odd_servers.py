"""Cameras that speak HTTP in their own ways, as real sockets on loopback: what is sent, byte for byte, is up to each path."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import re
import socket
import ssl
import struct
import termios
import threading
from collections.abc import Callable, Iterator

import cv2
import numpy as np

Serve = Callable[["Visit"], None]


def jpeg(number: int, size: tuple[int, int] = (48, 64)) -> bytes:
    """A picture that tells its number by its brightness."""
    return cv2.imencode(".jpg", np.full((*size, 3), number, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def number_of(frame: np.ndarray) -> int:
    return round(float(frame.mean()))


def without_tables(data: bytes) -> bytes:
    """A JPEG as UVC cameras send it: without its Huffman tables, which are the standard ones."""
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big") + 2
        kept += b"" if data[at + 1] == 0xC4 else data[at : at + size]
        at += size
    return kept + data[at:]


class Visit:
    """One request: its path and head, and the way to answer it."""

    def __init__(self, connection: socket.socket, head: str, end: threading.Event) -> None:
        self._connection, self.head, self.end = connection, head, end
        self.path = head.split(" ")[1] if " " in head else ""

    def header(self, name: str) -> str:
        found = re.search(rf"(?im)^{name}: *(.*?)\r?$", self.head)
        return found[1] if found else ""

    def send(self, *parts: bytes) -> None:
        self._connection.sendall(b"".join(parts))

    def has_arrived(self) -> bool:
        """Whether all that was sent lies at the other side, read or not."""
        unsent = struct.unpack("i", fcntl.ioctl(self._connection, termios.TIOCOUTQ, b"\0" * 4))[0]
        return bool(unsent == 0)

    def answer(self, status: str, *headers: str, body: bytes = b"", protocol: str = "HTTP/1.1") -> None:
        self.send("\r\n".join([f"{protocol} {status}", *headers, "", ""]).encode(), body)

    def wait(self, seconds: float) -> bool:
        """False when the server is to end."""
        return not self.end.wait(seconds)


class OddServer:
    """Answers every request by the function of its path, in a thread each."""

    def __init__(self, paths: dict[str, Serve], port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._paths, self.end, self._tls = paths, threading.Event(), tls
        self.visits: list[Visit] = []
        self.open = 0
        self.most_open = 0
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(16)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, path: str, login: str = "") -> str:
        return f"http{'s' if self._tls else ''}://{f'{login}@' if login else ''}127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        """As a board that loses its power: everything is cut."""
        self.end.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self.end.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.add(connection)
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            with (
                contextlib.suppress(OSError),
                self._tls.wrap_socket(connection, True) if self._tls else connection as connection,
            ):
                head = b""
                while b"\r\n\r\n" not in head and (part := connection.recv(4096)):
                    head += part
                visit = Visit(connection, head.decode("latin-1"), self.end)
                self.visits.append(visit)
                serve = self._paths.get(visit.path.partition("?")[0])
                if serve is None:
                    visit.answer("404 Not Found", "Content-Length: 0")
                else:
                    serve(visit)
        finally:
            with self._lock:
                self._connections.discard(connection)
                self.open -= 1


def mjpeg(
    *,
    boundary: str = "frame",
    told: str = "multipart/x-mixed-replace; boundary={boundary}",
    nl: bytes = b"\r\n",
    first: bool = True,
    preamble: bytes = b"",
    part_head: Callable[[int], list[str]] = lambda size: ["Content-Type: image/jpeg", f"Content-Length: {size}"],
    between: bytes = b"",
    chunked: bool = False,
    protocol: str = "HTTP/1.1",
    headers: tuple[str, ...] = (),
    picture: Callable[[int], bytes] = jpeg,
    pause: float = 0.02,
    login: bool = True,
) -> Serve:
    """A stream of pictures numbered 10, 11, ..., in the way described."""

    def serve(visit: Visit) -> None:
        kind = [f"Content-Type: {told.format(boundary=boundary)}"] if told else []
        chunks = ["Transfer-Encoding: chunked"] if chunked else []
        visit.answer("200 OK", *kind, *chunks, *headers, protocol=protocol)

        def send(data: bytes) -> None:
            visit.send(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)

        if preamble:
            send(preamble)
        for number in range(10, 240):
            data = picture(number)
            mark = b"" if number == 10 and not first else b"--" + boundary.strip('"').encode() + nl
            head = nl.join(line.encode() for line in part_head(len(data))) + nl if part_head(len(data)) else b""
            send(mark + head + nl + data + nl + between)
            if not visit.wait(pause):
                return

    return serve


def basic(serve: Serve, login: str) -> Serve:
    def guarded(visit: Visit) -> None:
        if visit.header("Authorization") != "Basic " + base64.b64encode(login.encode()).decode():
            visit.answer("401 Unauthorized", 'WWW-Authenticate: Basic realm="cam"', "Content-Length: 0")
        else:
            serve(visit)

    return guarded


def digest(serve: Serve, user: str, password: str) -> Serve:
    """RFC 7616 with MD5 and qop=auth, computed here anew."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    def guarded(visit: Visit) -> None:
        sent = dict(re.findall(r'(\w+)="?([^",]+)"?', visit.header("Authorization")))
        if sent.get("nonce") == "abc":
            secret = md5(f"{user}:cam:{password}")
            wanted = md5(f"{secret}:abc:{sent['nc']}:{sent['cnonce']}:auth:{md5('GET:' + visit.path)}")
            if sent["response"] == wanted and sent["username"] == user:
                serve(visit)
                return
        visit.answer(
            "401 Unauthorized",
            'WWW-Authenticate: Digest realm="cam", nonce="abc", qop="auth", algorithm=MD5',
            "Content-Length: 0",
        )

    return guarded


@contextlib.contextmanager
def serving(**paths: Serve) -> Iterator[OddServer]:
    """A server whose paths are the names of the arguments."""
    server = OddServer({f"/{name}": serve for name, serve in paths.items()})
    try:
        yield server
    finally:
        server.close()
