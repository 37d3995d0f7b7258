"""How long one photo takes: the session alone, the whole frame of a runner, and a long time under load."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.parts.inputs import frames, pixels
from edge_tl_runtime.bench.parts.part import Bench, Part
from edge_tl_runtime.bench.parts.timing import measured_stream, percentiles
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.decision import Decider
from edge_tl_runtime.pipeline.smoothing import Ema
from edge_tl_runtime.pipeline.stream import Result, Stream
from edge_tl_runtime.sources import FrameRecord, Source

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import FrameLatencyDocument, LatencyDocument

FRAME_SHARE = 0.25
"""Part of the seconds and queries of the latency that the whole frame takes."""


class Latency(Part):
    """One photo a call, pixels ready, the next call as soon as the last has answered (MLPerf's single stream)."""

    name = "latency"
    title = "latency, seconds"

    def pieces(self, bench: Bench) -> int:
        return int(bench.settings.seconds)

    def run(self, bench: Bench) -> LatencyDocument:
        settings = bench.settings
        return _stream(bench, settings.calls, settings.seconds)


class Sustained(Part):
    """The same for as long as was asked: whether heat, or anything else, slows the machine down."""

    name = "sustained"
    title = "under load, seconds"

    def absent(self, bench: Bench) -> str:
        return "" if bench.settings.sustained else "give --sustained SECONDS"

    def pieces(self, bench: Bench) -> int:
        return int(bench.settings.sustained)

    def run(self, bench: Bench) -> LatencyDocument:
        return _stream(bench, 1, bench.settings.sustained)


class WholeFrame(Part):
    """A frame as the runner treats it: crop, resize, session, probabilities, smoothing, decision. Decoding is left out."""

    name = "frame"
    title = "whole frames, seconds"

    def pieces(self, bench: Bench) -> int:
        return int(FRAME_SHARE * bench.settings.seconds)

    def run(self, bench: Bench) -> FrameLatencyDocument:
        shown, source = frames(bench)
        settings = bench.settings
        loop = FrameLoop(bench.classifier, shown)
        inner: list[float] = []

        def one_frame(_: None) -> None:
            inner.append(loop.next().prediction.latency_ms)

        least = max(1, round(FRAME_SHARE * settings.calls))
        measured = measured_stream(one_frame, [None], least, FRAME_SHARE * settings.seconds, bench.stop, bench.progress)
        crop_and_session = percentiles(np.asarray(inner[-measured["queries"] :]))
        return {"size": settings.frame_size, "pictures": source, **measured, "crop_and_session": crop_and_session}


class FrameLoop:
    """The runner's own loop over frames in memory, one step at a time."""

    def __init__(self, classifier: Classifier, shown: list[Frame]) -> None:
        """shown: uint8 (H, W, 3), BGR, given round and round."""
        stream = Stream(_Memory(shown), classifier, decider=lambda model: Decider(model.spec, top=5, smoother=Ema()))
        self._results = iter(stream)

    def next(self) -> Result:
        return next(self._results)


class _Memory(Source):
    def __init__(self, shown: list[Frame]) -> None:
        super().__init__("memory")
        self._shown, self._first = shown, perf_counter_ns()

    def __iter__(self) -> Iterator[FrameRecord]:
        index = 0
        while True:
            seconds = (perf_counter_ns() - self._first) / 1e9
            yield FrameRecord(self._shown[index % len(self._shown)], self.name, index, seconds)
            index += 1


def _stream(bench: Bench, least: int, seconds: float) -> LatencyDocument:
    ready, source = pixels(bench)
    queries: list[NDArray[np.uint8]] = [ready[index : index + 1] for index in range(len(ready))]
    logits = bench.classifier.logits
    return {"pictures": source, **measured_stream(logits, queries, least, seconds, bench.stop, bench.progress)}
