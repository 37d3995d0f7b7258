"""An RTSP camera on loopback for tests: H.264 over TCP or UDP, passwords, and the faults of real ones. RFC 2326, RFC 6184."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

MTU = 1200


def encoded(
    frames: Sequence[np.ndarray], codec: str = "libx264", options: dict[str, str] | None = None, gop: int = 12
) -> list[tuple[bytes, bool]]:
    """(access unit, key) of each frame, BGR, in the order of the stream; H.264 as Annex B with its parameter sets in band."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.height, encoder.width = frames[0].shape[:2]
    encoder.pix_fmt, encoder.framerate, encoder.gop_size = "yuv420p", 25, gop
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast"} if options is None else options
    packets = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, "bgr24")
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    return [(bytes(packet), packet.is_keyframe) for packet in packets]


@dataclass
class RtspCamera:
    """Serves `units` again and again from the first on, each connection from `begin`. Use as a context manager.

    transports: what SETUP accepts. auth: "", "basic" or "digest". status: answered to DESCRIBE instead. silent: connections are
    taken and never answered. codec: what the SDP calls it. lose: numbers of RTP packets that are not sent. pause: called with the
    number of each frame before it is sent; may block, or raise OSError to end the connection.
    """

    units: list[tuple[bytes, bool]]
    transports: tuple[str, ...] = ("tcp", "udp")
    auth: str = ""
    user: str = "admin"
    password: str = "p@ss/w#rd:1%"
    status: str = ""
    silent: bool = False
    codec: str = "H264"
    fps: float = 25.0
    begin: int = 0
    once: bool = False
    lose: frozenset[int] = frozenset()
    pause: Callable[[int], None] = lambda number: None
    port: int = 0
    asked: list[str] = field(default_factory=list)

    def __enter__(self) -> RtspCamera:
        self._end = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def url(self, credentials: str = "", path: str = "live") -> str:
        return f"rtsp://{credentials}127.0.0.1:{self.port}/{path}"

    def _accept(self) -> None:
        while not self._end.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        send: Callable[[bytes], None] | None = None
        text = b""
        try:
            while not self._end.is_set():
                while b"\r\n\r\n" not in text:
                    part = connection.recv(4096)
                    if not part or self.silent:
                        self._end.wait(60 if part else 0)
                        return
                    text += part
                    if not text[:1].isalpha() and not text.startswith(b"$"):
                        connection.sendall(b"RTSP/1.0 400 Bad Request\r\n\r\n")
                        return
                head, _, text = text.partition(b"\r\n\r\n")
                request = head[head.find(b"$") + 1 if head.startswith(b"$") else 0 :].decode("utf-8", "replace")
                method, address, _ = request.split("\r\n")[0].split(" ", 2)
                self.asked.append(method)
                answer, extra, body, send = self._answer(method, address, request, connection, send)
                sequence = re.search(r"(?i)cseq: *(\d+)", request)
                lines = [f"RTSP/1.0 {answer}", f"CSeq: {sequence[1] if sequence else 0}", *extra]
                lines += [f"Content-Length: {len(body)}"] if body else []
                connection.sendall("\r\n".join([*lines, "", body]).encode())
                if method == "PLAY" and send is not None:
                    threading.Thread(target=self._play, args=(send, connection), daemon=True).start()
                if method == "TEARDOWN":
                    return
        except (OSError, ValueError):
            pass
        finally:
            connection.close()

    def _answer(
        self, method: str, address: str, request: str, connection: socket.socket, send: Callable[[bytes], None] | None
    ) -> tuple[str, list[str], str, Callable[[bytes], None] | None]:
        if method == "OPTIONS":
            return "200 OK", ["Public: DESCRIBE, SETUP, PLAY, TEARDOWN"], "", send
        if self.auth and not self._knows(method, request):
            scheme = 'Basic realm="cam"' if self.auth == "basic" else 'Digest realm="cam", nonce="abc"'
            return "401 Unauthorized", [f"WWW-Authenticate: {scheme}"], "", send
        if method == "DESCRIBE":
            if self.status:
                return self.status, [], "", send
            if not address.rstrip("/").endswith("/live"):
                return "404 Not Found", [], "", send
            lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=cam", "t=0 0", "m=video 0 RTP/AVP 96"]
            lines += [f"a=rtpmap:96 {self.codec}/90000", "a=control:track1", ""]
            return "200 OK", ["Content-Type: application/sdp"], "\r\n".join(lines), send
        if method == "SETUP":
            wanted = re.search(r"(?i)transport: *(\S+)", request)
            transport = wanted[1] if wanted else ""
            kind = "tcp" if "RTP/AVP/TCP" in transport else "udp"
            if kind not in self.transports or "multicast" in transport:
                return "461 Unsupported Transport", [], "", send
            if kind == "tcp":
                return (
                    "200 OK",
                    ["Session: 1", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"],
                    "",
                    self._framed(connection),
                )
            ports = re.search(r"client_port=(\d+)-(\d+)", transport)
            assert ports
            out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            out.bind(("127.0.0.1", 0))
            here, there = out.getsockname()[1], int(ports[1])
            line = f"Transport: RTP/AVP;unicast;client_port={ports[1]}-{ports[2]};server_port={here}-{here + 1}"
            return "200 OK", ["Session: 1", line], "", lambda data: void(out.sendto(data, ("127.0.0.1", there)))
        return "200 OK", ["Session: 1"], "", send

    @staticmethod
    def _framed(connection: socket.socket) -> Callable[[bytes], None]:
        return lambda data: connection.sendall(b"$\0" + struct.pack(">H", len(data)) + data)

    def _knows(self, method: str, request: str) -> bool:
        given = re.search(r"(?i)authorization: *(\w+) (.*)", request)
        if given is None:
            return False
        if self.auth == "basic":
            return b64decode(given[2]).decode() == f"{self.user}:{self.password}"
        said = dict(re.findall(r'(\w+)="([^"]*)"', given[2]))

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        secret = md5(f"{self.user}:cam:{self.password}")
        asked = md5(method + ":" + said.get("uri", ""))
        return said.get("response") == md5(f"{secret}:abc:{asked}")

    def _play(self, send: Callable[[bytes], None], connection: socket.socket) -> None:
        sequence, number = 0, self.begin
        started = time.monotonic()
        try:
            while not self._end.is_set() and not (self.once and number >= len(self.units)):
                self.pause(number)
                unit, _ = self.units[number % len(self.units)]
                for payload, last in packets(unit):
                    if sequence not in self.lose:
                        clock = int(number * 90000 / self.fps) & 0xFFFFFFFF
                        send(struct.pack(">BBHII", 0x80, 96 | last << 7, sequence & 0xFFFF, clock, 7) + payload)
                    sequence += 1
                number += 1
                time.sleep(max(0.0, started + (number - self.begin) / self.fps - time.monotonic()))
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def packets(unit: bytes) -> list[tuple[bytes, bool]]:
    """An access unit as payloads of RTP, and whether each is the last: whole units, or fragments (FU-A)."""
    out: list[bytes] = []
    for nal in re.split(rb"\0\0\0?\x01", unit)[1:]:
        nal = nal.rstrip(b"\0") or nal
        if len(nal) <= MTU:
            out.append(nal)
            continue
        parts = [nal[at : at + MTU] for at in range(1, len(nal), MTU)]
        for place, part in enumerate(parts):
            ends = (place == 0) << 7 | (place == len(parts) - 1) << 6
            out.append(bytes([nal[0] & 0xE0 | 28, ends | nal[0] & 0x1F]) + part)
    return [(payload, place == len(out) - 1) for place, payload in enumerate(out)]


def void(_: object) -> None:
    """Throws a result away."""
