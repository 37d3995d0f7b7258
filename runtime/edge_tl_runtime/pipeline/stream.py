"""The frame loop: a source and a classifier, joined into an iterator of results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, UsageError
from edge_tl_runtime.images.crop import centre_crop, crop_resize, three_channels
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference.classifier import Classifier, Prediction
from edge_tl_runtime.inference.settings import PredictSettings
from edge_tl_runtime.pipeline.decision import Decider, Decision
from edge_tl_runtime.sources import FrameRecord, Source, mask_credentials

if TYPE_CHECKING:
    from edge_tl_runtime.pipeline.documents import NotedDocument, ResultDocument

RATE_WINDOW_S = 2.0


class Gate(Protocol):
    """Asked of every frame before it is classified."""

    @property
    def rest_s(self) -> float:
        """How long after a frame no other is needed."""

    def admit(self, record: FrameRecord, view: Callable[[Frame], Frame]) -> FrameRecord | None:
        """The record with what is to be told of it, None where the frame need not be classified. view: what the model sees of a
        frame; it raises BadFrame."""


@dataclass(frozen=True, slots=True)
class Result:
    """A frame with what the model said of it.

    record: the frame; its pixels are lent, see FrameRecord. decision: what to show. prediction: the model's own answer of this
    very frame, before smoothing and thresholds. fps: results a second over the last RATE_WINDOW_S. age_ms: from the frame's
    capture until its result. evidence: what `is_known` looked at, float32 (D,); lent until the next result, as pixels are.
    """

    record: FrameRecord
    decision: Decision
    prediction: Prediction
    fps: float
    age_ms: float
    evidence: NDArray[np.float32] | None = None

    @property
    def label(self) -> str:
        return self.decision.label

    @property
    def confidence(self) -> float:
        return self.decision.confidence

    def with_frame(self, frame: Frame) -> Result:
        """The same result around pixels that may be kept, or NO_FRAME."""
        return replace(self, record=self.record.with_frame(frame))

    def to_dict(self) -> ResultDocument:
        """One line of `edge-tl run --json`."""
        raw = self.prediction.top[0]
        return {
            "source": self.record.source,
            "frame": self.record.index,
            "seconds": round(self.record.seconds, 4),
            **self.decision.to_dict(),
            "raw": raw.to_dict(),
            "latency_ms": round(self.prediction.latency_ms, 3),
            "age_ms": round(self.age_ms, 3),
            "fps": round(self.fps, 2),
            **self._noted(),
        }

    def _noted(self) -> NotedDocument:
        """What the gate told of the frame."""
        noted: NotedDocument = {}
        if self.record.still:
            noted["still"] = self.record.still
        if self.record.camera:
            noted["camera"] = self.record.camera
        return noted


class Stream:
    """Iterates over the results of classifying every frame that the source gives.

    >>> with open_source("bee.jpg") as source:  # or "0", a camera
    ...     for result in Stream(source, Classifier("model-int8.onnx")):
    ...         print(result.label)
    bees
    """

    def __init__(
        self,
        source: Source,
        classifier: Classifier,
        top: int = PredictSettings.top_k,
        *,
        decider: Callable[[Classifier], Decider] | None = None,
        batch: int = 1,
        fresh: Callable[[], Classifier | None] = lambda: None,
        closes: bool = False,
        gate: Gate | None = None,
    ) -> None:
        """top: classes in each answer. decider: makes what decides, for this model and for each that replaces it. batch: pictures
        a call; of a live source always one. fresh: asked before each frame for a classifier to go on with (`ModelReloader`).
        closes: the source is closed when a loop over the stream ends, however it ends. gate: says which frames to classify."""
        self.source, self.classifier = source, classifier
        self._top = top
        self._make_decider = decider or (lambda classifier: Decider(classifier.spec, top=top))
        self._decider = self._make_decider(classifier)
        self._batch = 1 if source.live else max(1, batch)
        self._fresh = fresh
        self._closes, self._closed = closes, False
        self.gate = gate
        self._times: deque[float] = deque()
        self.torn = 0
        """Frames that changed while they were read, and were left out."""
        self.bad = 0
        """Arrays that are no frames, left out."""

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the loop and release the source; safe to call twice."""
        self._closed = True
        self.source.stop()
        self.source.close()

    def __iter__(self) -> Iterator[Result]:
        """Raises UsageError for a stream that was closed."""
        if self._closed:
            raise UsageError(f"the stream of {mask_credentials(self.source.name)} is closed; open another one")
        return self._closing() if self._closes else self._results()

    def _closing(self) -> Iterator[Result]:
        try:
            yield from self._results()
        finally:
            self.close()

    def _frames(self) -> Iterator[FrameRecord]:
        """The frames to classify."""
        if self.gate is None:
            yield from self.source
            return
        for record in self.source:
            admitted = self.gate.admit(record, self._view)
            self.source.rest_s, self.source.beat = self.gate.rest_s, time.monotonic()
            if admitted is not None:
                yield admitted

    def _view(self, frame: Frame) -> Frame:
        """What the model sees of a frame. Raises BadFrame."""
        return centre_crop(three_channels(frame), self.classifier.spec.resize)

    def _results(self) -> Iterator[Result]:
        if self._batch > 1:
            yield from self._in_batches()
            return
        for record in self._frames():
            self._renew()
            started = time.perf_counter()
            try:
                logits = self.classifier.frame_logits(record.frame)
            except BadFrame:
                self.bad += 1
                continue
            if not self.source.intact(record):
                self.torn += 1
                continue
            yield self._result(record, logits, self.classifier.evidence, (time.perf_counter() - started) * 1e3)

    def _in_batches(self) -> Iterator[Result]:
        records: list[FrameRecord] = []
        rule = self.classifier.spec.resize
        pixels = np.empty((0, rule.height, rule.width, 3), np.uint8)
        started, spent = 0.0, 0.0
        for record in self._frames():
            if not records:
                self._renew()
                rule = self.classifier.spec.resize
                if pixels.shape != (self._batch, rule.height, rule.width, 3):
                    pixels = np.empty((self._batch, rule.height, rule.width, 3), np.uint8)
            started = time.perf_counter()
            try:
                crop_resize(record.frame, rule, out=pixels[len(records)])
            except BadFrame:
                self.bad += 1
                continue
            spent += time.perf_counter() - started
            # Sinks see the pictures later than the source lends them.
            records.append(record.with_frame(record.frame.copy()))
            if len(records) == self._batch:
                yield from self._batch_results(records, pixels, spent)
                records, spent = [], 0.0
        if records:
            yield from self._batch_results(records, pixels[: len(records)], spent)

    def _batch_results(self, records: list[FrameRecord], pixels: NDArray[np.uint8], spent: float) -> Iterator[Result]:
        started = time.perf_counter()
        rows, evidence = self.classifier.answers(pixels)
        each_ms = (spent + time.perf_counter() - started) * 1e3 / len(records)
        for record, row, seen in zip(records, rows, evidence, strict=True):
            yield self._result(record, row, seen, each_ms)

    def _result(
        self, record: FrameRecord, logits: NDArray[np.float32], evidence: NDArray[np.float32], latency_ms: float
    ) -> Result:
        probabilities = self.classifier.probabilities(logits)
        prediction = self.classifier.ranked(probabilities, self._top, latency_ms)
        clock = record.captured if self.source.live else record.seconds
        decision = self._decider.decide(evidence, probabilities, clock, prediction.top)
        now = time.monotonic()
        times = self._times
        times.append(now)
        while now - times[0] > RATE_WINDOW_S:
            times.popleft()
        span = now - times[0]
        rate = (len(times) - 1) / span if span > 0 else 0.0
        return Result(record, decision, prediction, rate, 1e3 * (now - record.captured), evidence=evidence)

    def _renew(self) -> None:
        classifier = self._fresh()
        if classifier is not None:
            decider = self._make_decider(classifier)
            self.classifier, self._decider = classifier, decider
