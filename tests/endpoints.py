"""The two ends of a run, made for tests: a source of frames at a pace of its own, and a sink that keeps what it got."""

from __future__ import annotations

import time

from edge_tl_runtime.sinks import Sink
from edge_tl_runtime.sources.base import FrameRecord, Source


class Paced(Source):
    """Frames at a pace, until stopped."""

    def __init__(self, frame, pause=0.01, count=10**9, live=True):
        super().__init__("paced")
        self.frame, self.pause, self.count, self.live = frame, pause, count, live

    def __iter__(self):
        for index in range(self.count):
            if self.stopping:
                return
            yield FrameRecord(self.frame, self.name, index, index * self.pause)
            time.sleep(self.pause)
        self.ended = True


class Collector(Sink):
    """Keeps indices of frames and documents; pause: seconds that each frame takes it."""

    name = "collector"

    def __init__(self, pause=0.0, depth=256):
        self.indices, self.documents, self.pause, self.depth, self.closed = [], [], pause, depth, False

    def write(self, result):
        time.sleep(self.pause)
        self.indices.append(result.record.index)

    def status(self, document):
        self.documents.append(document)

    def close(self):
        self.closed = True
