"""What a run gives to its live page, and a viewer of the page without a browser."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
from stopwatch import HANGING

from edge_tl_runtime.inference.classifier import Prediction, Score
from edge_tl_runtime.pipeline.decision import Decision
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sinks import kept
from edge_tl_runtime.sources.base import NO_FRAME, FrameRecord

EVIL = "<img src=x onerror=alert(1)>"


def result_of(scores, index=0, frame=NO_FRAME, raw=None, source="camera"):
    """A result whose shown answer is the first of scores, {label: confidence}."""
    top, single = (tuple(Score(label, c, i) for i, (label, c) in enumerate(s.items())) for s in (scores, raw or scores))
    record = FrameRecord(frame, source, index, index / 30, time.monotonic())
    return Result(
        record, Decision(top[0].label, 0, top[0].confidence, True, top), Prediction(single, 11.25), 29.5, 38.0
    )


def status_of(state="LIVE", **others):
    counts = dict.fromkeys(("dropped", "rejected", "repeated", "torn", "reconnects", "skipped", "model_reloads"), 0)
    figures = {"latency_ms": {"p50": 11.2, "p95": 14.8, "p99": 20.1}, "age_ms": {"p50": 38.0, "p95": 52.0}}
    names = {"model": "bees-int8.onnx", "arch": "mobilenetv2_100", "precision": "int8", "source": "/dev/video0"}
    shown = {"state": state, "notice": "", "frames": 1234, "fps": 29.5, "uptime_s": 4000.0, "frame_age_s": 0.03}
    machine = {"rss_mb": 143.2, "cpu_percent": 41.0, "temperature_c": 58.2, "throttled": False, "model_notice": ""}
    sinks = {"sinks": {"log": {"written": 1200, "dropped": 7, "failed": 0}}}
    return {**names, **shown, **counts, **figures, **machine, **sinks, "time": "2026-01-02T03:04:05+00:00", **others}


def grey(level, height=480, width=640):
    return np.full((height, width, 3), level, np.uint8)


def deliver(page, result):
    """As the runner and the outlet do it; returns the seconds that the sink took."""
    started = time.perf_counter()
    if page.wants(result):
        page.write(kept(result, page.wants_pixels(result)))
    return time.perf_counter() - started


class Camera:
    """Delivers frames whose level of grey is their number, at 60 a second, in a thread."""

    def __init__(self, page, height=480, width=640):
        self.page, self.size, self.number, self.slowest = page, (height, width), 0, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self):
        while not self._over.wait(1 / 60):
            frame = grey(self.number % 250, *self.size)
            took = deliver(self.page, result_of({"bee": 0.9}, self.number, frame))
            self.slowest = max(self.slowest, took)
            self.number += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(5)


class Reply:
    """status, headers and body of a request; the body of a stream is read by hand from `stream`."""

    def __init__(self, page, path="/", method="GET", headers=None, whole=True, lazy=False):
        """lazy: a viewer whose machine takes little before it is read."""
        port = urlsplit(page.url).port
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANGING)
        if lazy:
            self.connection.sock = socket.socket()
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            self.connection.sock.settimeout(5)
            self.connection.sock.connect(("127.0.0.1", port))
        self.connection.request(method, path, headers=headers or {})
        self.stream = self.connection.getresponse()
        self.status, self.headers = self.stream.status, self.stream.headers
        self.body = self.stream.read() if whole else b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.connection.close()

    def part(self):
        """The next picture of the multipart stream, decoded."""
        found = b""
        while not found.endswith(b"\r\n\r\n"):
            found += self.stream.read(1)
        size = int(re.search(rb"Content-Length: (\d+)", found)[1])
        picture = cv2.imdecode(np.frombuffer(self.stream.read(size), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return picture

    def event(self, wanted):
        """The data of the next event of that name."""
        name = ""
        while True:
            line = self.stream.readline().decode()
            assert line, "the stream ended"
            if line.startswith("event: "):
                name = line[7:].strip()
            elif line.startswith("data: ") and name == wanted:
                return json.loads(line[6:])


def until(condition, seconds=HANGING):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)
