"""Live sources: the newest frame, counted drops, silence noticed. The capture is fed by a real MJPEG server on loopback."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from edge_tl_runtime.errors import SourceError
from edge_tl_runtime.sources import Live, Photos, Video, mask_credentials, open_source


@pytest.fixture
def camera() -> Iterator[tuple[str, threading.Event]]:
    """URL of a camera that sends 50 frames a second, each a grey whose value is its number, until the event is set."""
    end = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for number in range(250):
                    jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), number, np.uint8))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                    if end.wait(0.02):
                        return
            except OSError:
                pass

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}/stream.mjpg", end
    end.set()
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_slow_reader_gets_the_newest_frame_and_the_drops_are_counted(camera):
    url, end = camera
    with open_source(url) as source:
        assert isinstance(source, Live)
        assert "secret" not in source.name
        seen = []
        for record in source:
            seen.append(record.index)
            time.sleep(0.2)
            if len(seen) == 5:
                break
    assert all(later - earlier > 3 for earlier, later in itertools.pairwise(seen[1:])), seen
    assert source.dropped == seen[-1] - len(seen) + 1
    end.set()


@pytest.mark.slow
def test_a_stream_that_ends_ends_the_iteration(camera):
    url, end = camera
    frames = 0
    with open_source(url) as source:
        for _ in source:
            frames += 1
            if frames == 3:
                end.set()
    assert frames >= 3


@pytest.mark.slow
def test_a_silent_camera_can_be_stopped(camera):
    url, end = camera
    with open_source(url) as source:
        frames = iter(source)
        next(frames)
        end.set()
        threading.Timer(0.5, source.stop).start()
        asked = time.monotonic()
        for _ in frames:
            pass
        assert time.monotonic() - asked < 2


def test_kinds_of_sources(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert isinstance(open_source(str(tmp_path / "a.jpg")), Photos)
    assert isinstance(open_source(str(tmp_path)), Photos)
    assert isinstance(open_source(str(tmp_path / "*.jpg")), Photos)
    with pytest.raises(SourceError, match="neither a photo nor a video"):
        open_source(str(tmp_path / "a.mp4"))
    with pytest.raises(SourceError, match="no photos"):
        open_source(str(tmp_path / "none.mp4"))
    with pytest.raises(SourceError, match="no file"):
        Video(str(tmp_path / "none.mp4"))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://u:p@host/x", "rtsp://***@host/x"),
        ("see http://u@h:1/a and rtsp://x:y@z", "see http://***@h:1/a and rtsp://***@z"),
        ("rtsp://host/path@home", "rtsp://host/path@home"),
        ("0", "0"),
    ],
)
def test_credentials_are_masked(text, masked):
    assert mask_credentials(text) == masked
