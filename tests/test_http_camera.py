"""Cameras over HTTP as they really are. The servers are real sockets, and every picture tells its number."""

from __future__ import annotations

import itertools
import ssl
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_servers import OddServer, Visit, basic, digest, jpeg, mjpeg, number_of, serving, without_tables
from stopwatch import HANGING

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.images.decode import decode_photo
from edge_tl_runtime.sources import LiveOptions, Patience, open_source
from edge_tl_runtime.sources.device import ReadAs
from edge_tl_runtime.sources.http import picture_stream
from edge_tl_runtime.sources.http.camera import HttpCamera
from edge_tl_runtime.sources.http.client import _is_private
from edge_tl_runtime.sources.request import CaptureRequest


def request(url: str, **more: object) -> CaptureRequest:
    return CaptureRequest(**{"kind": "http", "name": url, "open_ms": 20_000, "read_ms": 10_000, **more})


def numbers(url: str, count: int = 5, **more: object) -> list[int]:
    """The first pictures of a camera, read in this process: what the capture process does, without the ring. Of a stream that
    counts from 10, none is lost unmentioned."""
    device = HttpCamera(request(url, **more))
    seen: list[int] = []
    try:
        device.open()
        until = time.monotonic() + HANGING
        while len(seen) < count and not device.ended:
            assert time.monotonic() < until, (seen, device.rejections)
            if device.grab():
                frame = device.retrieve(None)
                assert isinstance(frame, np.ndarray)
                seen.append(number_of(frame))
    finally:
        device.close()
    assert device.polls or seen[-1] == 10 + device.missed + len(seen) - 1
    assert not device.rejections
    return seen


ODD = {
    "plain": mjpeg(),
    "no_first": mjpeg(first=False),
    "no_type": mjpeg(part_head=lambda size: [f"Content-Length: {size}"]),
    "no_length": mjpeg(part_head=lambda size: ["Content-Type: image/jpeg"]),
    "no_heads": mjpeg(part_head=lambda size: []),
    "wrong_length": mjpeg(part_head=lambda size: ["Content-Type: image/jpeg", "Content-Length: 7"]),
    "length_of_all": mjpeg(headers=("Content-Length: 0",)),
    "preamble": mjpeg(preamble=b"hello\r\nthis is a camera\r\n"),
    "line_feeds": mjpeg(nl=b"\n"),
    "quoted": mjpeg(boundary='"my bound"'),
    "dashes": mjpeg(told="multipart/x-mixed-replace;boundary=--frame"),
    "no_boundary": mjpeg(told="multipart/x-mixed-replace"),
    "other_boundary": mjpeg(told="multipart/x-mixed-replace; boundary=nothing"),
    "mixed_case": mjpeg(told="Multipart/X-Mixed-Replace; Boundary={boundary}"),
    "as_video": mjpeg(told="video/x-motion-jpeg"),
    "unnamed": mjpeg(told=""),
    "as_octets": mjpeg(told="application/octet-stream"),
    "as_text": mjpeg(told="text/plain"),
    "bare_pictures": mjpeg(told="image/jpeg", part_head=lambda size: [], nl=b""),
    "garbage": mjpeg(between=b"\xff\xfe\x00BM\xff\xd9garbage" * 20),
    "padding": mjpeg(between=b"\0" * 4096),
    "chunked": mjpeg(chunked=True),
    "old_http": mjpeg(protocol="HTTP/1.0"),
    "keep_alive": mjpeg(headers=("Connection: keep-alive",)),
    "no_tables": mjpeg(picture=lambda number: without_tables(jpeg(number))),
    "fast": mjpeg(pause=0.0),
}


@pytest.mark.parametrize("name", ODD)
def test_every_way_of_sending_pictures_is_read(name):
    with serving(**{name: ODD[name]}) as server:
        seen = numbers(server.url(f"/{name}"))
    assert len(seen) == 5 or (name == "fast" and seen[-1] == 239)
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


@pytest.mark.parametrize("seed", range(4))
def test_pixels_are_those_of_the_same_file(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (31, 45, 3), np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    with serving(a=mjpeg(picture=lambda number: data)) as server:
        device = HttpCamera(request(server.url("/a")))
        device.open()
        while not device.grab():
            pass
        frame = device.retrieve(None)
        device.close()
    assert np.array_equal(frame, decode_photo(data))


def test_a_picture_that_is_cut_off_is_rejected_and_the_next_one_is_whole():
    def serve(number: int) -> bytes:
        data = cv2.imencode(".jpg", np.random.default_rng(number).integers(0, 256, (40, 60, 3), np.uint8))[1].tobytes()
        return data if number % 3 else data[: len(data) // 2]

    with serving(a=mjpeg(picture=serve)) as server:
        device = HttpCamera(request(server.url("/a")))
        device.open()
        whole = 0
        while whole < 8:
            if device.grab():
                assert device.retrieve(None) is not None
                whole += 1
        device.close()
    assert device.rejections["cut off"] >= 2


def test_the_newest_picture_wins_and_the_others_are_counted(monkeypatch):
    """The reader is away while the camera sends; what waits in the socket is passed over, except the last."""
    monkeypatch.setattr(picture_stream, "_CATCH_UP_S", HANGING)  # a busy machine takes longer to look at 50 pictures
    sent = threading.Event()

    def serve(visit: Visit) -> None:
        visit.answer("200 OK", "Content-Type: multipart/x-mixed-replace; boundary=b")
        # At once: many small packets would fill the reader's window before their bytes do.
        visit.send(*(part for number in range(10, 60) for part in (b"--b\r\n\r\n", jpeg(number), b"\r\n")))
        while not visit.has_arrived() and visit.wait(0.01):
            pass
        sent.set()
        visit.wait(20)

    with serving(a=serve) as server:
        device = HttpCamera(request(server.url("/a")))
        device.open()
        assert sent.wait(HANGING)
        assert device.grab()
        frame = device.retrieve(None)
        device.close()
    assert isinstance(frame, np.ndarray)
    assert number_of(frame) == 59
    assert device.missed == 49


@pytest.mark.parametrize("password", ["secret", "p@ss w", "a/b#c", "100%", "ü"])
@pytest.mark.parametrize("guard", ["basic", "digest"])
def test_credentials_with_any_character(guard, password):
    login = f"admin:{password}"
    # What a header may hold is Latin-1; Python's client sends Basic in UTF-8.
    serve = basic(mjpeg(), login) if guard == "basic" else digest(mjpeg(), "admin", password)
    with serving(a=serve) as server:
        assert numbers(server.url("/a", login), 2)
        with pytest.raises(SourceError, match=r"401.*does not accept this user name and password") as caught:
            numbers(server.url("/a", "admin:wrong"))
        assert "wrong" not in str(caught.value)
        with pytest.raises(SourceError, match=r"401.*asks for a user name and password"):
            numbers(server.url("/a"))


def _status(line: str, *headers: str):
    return lambda visit: visit.answer(line, "Content-Length: 0", *headers)


def _page(visit: Visit) -> None:
    visit.answer("200 OK", "Content-Type: text/html", body=b"<!DOCTYPE html><title>IP  Camera\n viewer</title><body>")


def _json(visit: Visit) -> None:
    visit.answer("200 OK", "Content-Type: application/json", "Content-Length: 2", body=b"{}")


def _endless_head(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 200 OK\r\n")
    while visit.wait(0.001):
        visit.send(b"X-More: yes\r\n")


def _drip(visit: Visit) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 999999\r\n":
        visit.send(bytes([byte]))
        if not visit.wait(0.3):
            return


FAILURES = {
    "/nothing": (None, "answers 404.*nothing at this path"),
    "/broken": (_status("500 Internal Server Error"), "answers 500.*restart it"),
    "/busy": (_status("503 Service Unavailable"), "answers 503.*too many viewers"),
    "/forbidden": (_status("403 Forbidden"), "answers 403.*rights"),
    "/elsewhere": (
        _status("302 Found", "Location: rtsp://me:secret@10.0.0.1/x"),
        r"leads on to rtsp://\*\*\*@10.0.0.1/x",
    ),
    "/loop": (_status("302 Found", "Location: /loop"), "leads in a circle"),
    "/page": (_page, r"is a web page \(IP Camera viewer\), not its pictures; the pictures are usually at"),
    "/json": (_json, "gives application/json, no picture and no video"),
    "/silent": (lambda visit: visit.wait(20), "did not answer in time"),
    "/closed": (lambda visit: None, "closed the connection without an answer"),
    "/empty": (_status("200 OK"), "sends nothing"),
    "/ssh": (lambda visit: visit.send(b"SSH-2.0-OpenSSH_9.6\r\n"), "does not speak HTTP"),
    "/endless": (_endless_head, "makes no sense"),
    "/drip": (_drip, "did not answer in time"),
    "/short": (
        lambda visit: visit.answer("200 OK", "Content-Type: image/jpeg", "Content-Length: 5000", body=jpeg(9)[:300]),
        "cut off: 300 of 5000 bytes",
    ),
}


@pytest.mark.parametrize("path", FAILURES)
def test_each_failure_says_what_it_is(path):
    serve, text = FAILURES[path]
    server = OddServer({path: serve} if serve else {})
    try:
        with pytest.raises(SourceError, match=text) as caught:
            numbers(server.url(path), open_ms=800, read_ms=800)
    finally:
        server.close()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:1/x", "nothing listens at this port"),
        ("http://no-such-host.invalid/x", "no machine of this name"),
        ("http://:80/x", "names no server"),
        ("http://127.0.0.1:99999/x", "names no server"),
    ],
)
def test_an_address_that_leads_nowhere(url, text):
    with pytest.raises(SourceError, match=text):
        numbers(url)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("video/mp4", b"\0\0\0\x20ftypisom"),
        ("application/vnd.apple.mpegurl", b"#EXTM3U\n"),
        ("application/octet-stream", b"\x1aE\xdf\xa3" + bytes(20)),
        ("", b"#EXTM3U\n#EXT-X-VERSION:3\n"),
    ],
)
def test_a_video_is_left_to_the_video_decoder(kind, head):
    headers = [f"Content-Type: {kind}"] if kind else []
    with serving(a=lambda visit: visit.answer("200 OK", *headers, body=head)) as server:
        device = HttpCamera(request(server.url("/a")))
        with pytest.raises(ReadAs) as caught:
            device.open()
    assert caught.value.kind == "stream"


def test_it_follows_to_another_address():
    paths = {"/a": _status("302 Found", "Location: /b"), "/b": _status("307 Moved", "Location: /c"), "/c": mjpeg()}
    server = OddServer(paths)
    try:
        assert numbers(server.url("/a"), 2)
    finally:
        server.close()


def test_a_certificate_of_its_own_is_accepted_at_home_and_said(tmp_path):
    """As cameras have it. The server is on loopback, which is a private address."""
    server = OddServer({"/a": mjpeg()}, tls=_own_certificate(tmp_path))
    try:
        device = HttpCamera(request(server.url("/a")))
        device.open()
        while not device.grab():
            pass
        device.close()
    finally:
        server.close()
    assert any("certificate is its own" in note for note in device.notes)


def _own_certificate(folder: Path) -> ssl.SSLContext:
    pytest.importorskip("cryptography", reason="makes the certificate")
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "pem").write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context


@pytest.mark.parametrize(
    ("host", "private"),
    [
        ("192.168.1.5", True),
        ("10.0.0.1", True),
        ("cam.local", True),
        ("cam", True),
        ("8.8.8.8", False),
        ("example.com", False),
    ],
)
def test_which_networks_are_ones_own(host, private):
    assert _is_private(host) is private


def test_a_picture_without_a_length_is_a_still_when_nothing_follows():
    def lone(visit: Visit) -> None:
        visit.answer("200 OK", "Content-Type: image/jpeg", body=jpeg(77))
        visit.wait(4)

    with serving(a=lone, b=lambda visit: visit.answer("200 OK", body=jpeg(78))) as server:
        assert numbers(server.url("/a"), 1) == [77]
        assert numbers(server.url("/b"), 1) == [78]


@pytest.mark.slow
def test_a_board_that_loses_its_power_again_and_again():
    """Eight times: frames go on, none comes twice, and neither handles nor processes are left."""
    import os

    import psutil
    from conftest import living

    server = OddServer({"/a": mjpeg(pause=0.01)})
    patience = Patience(first_frame=10, stale=1, lost=3, frozen=5, backoff=0.05, backoff_max=0.1, steady=1, stop=0.3)
    with open_source(server.url("/a"), LiveOptions(patience=patience)) as source:
        frames, handles = iter(source), []
        for _ in range(8):
            before = source.counts.reconnects
            last = -1
            for _ in range(3):
                number = number_of(next(frames).frame)
                assert number > last
                last = number
            handles.append(psutil.Process().num_fds())
            server.close()
            server = OddServer({"/a": mjpeg(pause=0.01)}, server.port)
            while source.counts.reconnects == before:
                next(frames)
        # The server's own sockets come and go in this process too.
        assert max(handles[4:]) <= max(handles[:4]) + 4
        assert len(living(os.getpid())) <= 1
    server.close()
