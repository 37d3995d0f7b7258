"""The frame loop: a source and a classifier, joined into an iterator of results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, UsageError
from edge_tl_runtime.core.progress import Say, silent
from edge_tl_runtime.images.asked_geometry import AskedGeometry, Region, seen_in_words
from edge_tl_runtime.images.crop import crop_resize, three_channels
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.images.geometry import Box, seen_box, seen_part, sides, turned, turned_size
from edge_tl_runtime.inference.classifier import Classifier, Prediction
from edge_tl_runtime.inference.settings import PredictSettings
from edge_tl_runtime.modelfile.sections import Geometry
from edge_tl_runtime.pipeline.decision import Decider, Decision
from edge_tl_runtime.sources import FrameRecord, Source, mask_credentials

if TYPE_CHECKING:
    from edge_tl_runtime.pipeline.documents import NotedDocument, ResultDocument, _Where

RATE_WINDOW_S = 2.0
Rows = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""One float32 row for each region."""


@dataclass(frozen=True, slots=True)
class SeenRegion:
    """What of the turned frame reached the network, what the model said of it, and what was decided.

    name: "" where there is one region. prediction, decision: as in `Result`.
    """

    name: str
    box: Box
    prediction: Prediction
    decision: Decision


class Gate(Protocol):
    """Asked of every frame before it is classified."""

    @property
    def rest_s(self) -> float:
        """How long after a frame no other is needed."""

    def admit(self, record: FrameRecord, view: Callable[[FrameRecord], Frame]) -> FrameRecord | None:
        """The record with what is to be told of it, None where the frame need not be classified. view: what the model sees of its
        frame; it raises BadFrame."""


@dataclass(frozen=True, slots=True)
class Result:
    """A frame with what the model said of it, or of one region of it.

    record: the frame; its pixels are lent, see FrameRecord. decision: what to show. prediction: the model's own answer of this
    very frame, before smoothing and thresholds. fps: results a second over the last RATE_WINDOW_S. age_ms: from the frame's
    capture until its result. evidence: what `is_known` looked at, float32 (D,); lent until the next frame, as pixels are.
    region: its name, "" where there is one; a result of each comes, in order, with the latency of the frame. seen: all regions
    of the frame. geometry: how the frame was turned; size: its width and height then, (0, 0) where that is not known.
    """

    record: FrameRecord
    decision: Decision
    prediction: Prediction
    fps: float
    age_ms: float
    region: str = ""
    seen: tuple[SeenRegion, ...] = ()
    geometry: Geometry | None = None
    size: tuple[int, int] = (0, 0)
    evidence: NDArray[np.float32] | None = None

    @property
    def label(self) -> str:
        return self.decision.label

    @property
    def confidence(self) -> float:
        return self.decision.confidence

    @property
    def last(self) -> bool:
        """Whether no further result of this frame comes."""
        return not self.seen or self.seen[-1].name == self.region

    def picture(self) -> Frame:
        """The frame as the model's view is drawn on it: turned; the frame itself where it is not."""
        return turned(self.record.frame, self.geometry)

    def with_frame(self, frame: Frame) -> Result:
        """The same result around pixels that may be kept, or NO_FRAME."""
        return replace(self, record=self.record.with_frame(frame))

    def to_dict(self) -> ResultDocument:
        """One line of `edge-tl run --json`."""
        raw = self.prediction.top[0]
        where: _Where = {"region": self.region} if self.region else {}
        return {
            "source": self.record.source,
            **where,
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
        asked: AskedGeometry = AskedGeometry(),
        say: Say = silent,
    ) -> None:
        """top: classes in each answer. decider: makes what decides, for this model and for each that replaces it. batch: pictures
        a call; of a live source always one. fresh: asked before each frame for a classifier to go on with (`ModelReloader`).
        closes: the source is closed when a loop over the stream ends, however it ends. gate: says which frames to classify.
        asked: where to look, in place of what the file says; every region has a decider of its own. say: told what that is of a
        frame, once its size is known."""
        self.source, self.classifier = source, classifier
        self._top = top
        self._make_decider = decider or (lambda classifier: Decider(classifier.spec, top=top))
        self._asked, self._say = asked, say
        self._deciders = self._deciders_for(classifier)
        self._regions: tuple[Region, ...] = ()
        self._boxes: tuple[Box, ...] = ()
        self._size: tuple[int, ...] = ()
        """Rows and columns of the frames that the regions are for."""
        self._fixed: tuple[int, ...] = ()
        """Of all frames, where a crop counts their pixels."""
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

    def _view(self, record: FrameRecord) -> Frame:
        """What the model sees of a frame, of several regions the rectangle around all. Raises BadFrame, UsageError."""
        regions, frame = self._regions_of(record), three_channels(record.frame)
        if len(regions) == 1:
            return seen_part(frame, regions[0].rule)
        left, top = min(box.x for box in self._boxes), min(box.y for box in self._boxes)
        right, below = max(box.x + box.width for box in self._boxes), max(box.y + box.height for box in self._boxes)
        return turned(frame, regions[0].rule.geometry)[top:below, left:right]

    def _results(self) -> Iterator[Result]:
        if self._batch > 1:
            yield from self._in_batches()
            return
        for record in self._frames():
            self._renew()
            started = time.perf_counter()
            try:
                rows, evidence = self._answers(record)
            except BadFrame:
                self.bad += 1
                continue
            if not self.source.intact(record):
                self.torn += 1
                continue
            yield from self._of_frame(record, self._boxes, rows, evidence, (time.perf_counter() - started) * 1e3)

    def _answers(self, record: FrameRecord) -> tuple[Rows, Rows]:
        """Scores and evidence of each region of a frame. Raises BadFrame, UsageError."""
        regions = self._regions_of(record)
        if len(regions) == 1:
            return [self.classifier.frame_logits(record.frame, regions[0].rule)], [self.classifier.evidence]
        pixels = self._pixels(1)  # a model that replaces another may take another size
        for region, place in zip(regions, pixels, strict=True):
            crop_resize(record.frame, region.rule, out=place)
        return self.classifier.answers(pixels)

    def _in_batches(self) -> Iterator[Result]:
        """A batch is of frames: each brings as many pictures as it has regions."""
        waiting: list[tuple[FrameRecord, tuple[Box, ...]]] = []
        pixels, spent = self._pixels(self._batch), 0.0
        each = len(self._deciders)
        for record in self._frames():
            if not waiting:
                self._renew()
                if pixels.shape[1:3] != (self.classifier.spec.resize.height, self.classifier.spec.resize.width):
                    pixels = self._pixels(self._batch)
            started = time.perf_counter()
            try:
                for place, region in enumerate(self._regions_of(record), each * len(waiting)):
                    crop_resize(record.frame, region.rule, out=pixels[place])
            except BadFrame:
                self.bad += 1
                continue
            spent += time.perf_counter() - started
            # Sinks see the pictures later than the source lends them.
            waiting.append((record.with_frame(record.frame.copy()), self._boxes))
            if len(waiting) == self._batch:
                yield from self._of_batch(waiting, pixels, spent)
                waiting, spent = [], 0.0
        if waiting:
            yield from self._of_batch(waiting, pixels[: each * len(waiting)], spent)

    def _of_batch(
        self, waiting: list[tuple[FrameRecord, tuple[Box, ...]]], pixels: NDArray[np.uint8], spent: float
    ) -> Iterator[Result]:
        started = time.perf_counter()
        rows, evidence = self.classifier.answers(pixels)
        each_ms = (spent + time.perf_counter() - started) * 1e3 / len(waiting)
        each = len(self._deciders)
        for place, (record, boxes) in enumerate(waiting):
            own = slice(each * place, each * (place + 1))
            yield from self._of_frame(record, boxes, rows[own], evidence[own], each_ms)

    def _of_frame(
        self, record: FrameRecord, boxes: tuple[Box, ...], logits: Rows, evidence: Rows, latency_ms: float
    ) -> Iterator[Result]:
        """A result of each region; every one knows the decisions of all."""
        clock = record.captured if self.source.live else record.seconds
        seen = []
        for region, box, decider, row, own in zip(self._regions, boxes, self._deciders, logits, evidence, strict=True):
            probabilities = self.classifier.probabilities(row)
            prediction = self.classifier.ranked(probabilities, self._top, latency_ms)
            decision = decider.decide(own, probabilities, clock, prediction.top)
            seen.append(SeenRegion(region.name, box, prediction, decision))
        now = time.monotonic()
        rate, age_ms = self._rate(now), 1e3 * (now - record.captured)
        geometry, every = self._regions[0].rule.geometry, tuple(seen)
        rows, columns = turned_size(*sides(record.frame), geometry)
        for part, own in zip(every, evidence, strict=True):
            yield Result(
                record, part.decision, part.prediction, rate, age_ms, part.name, every, geometry, (columns, rows), own
            )

    def _rate(self, now: float) -> float:
        times = self._times
        times.append(now)
        while now - times[0] > RATE_WINDOW_S:
            times.popleft()
        span = now - times[0]
        return (len(times) - 1) / span if span > 0 else 0.0

    def _pixels(self, frames: int) -> NDArray[np.uint8]:
        rule = self.classifier.spec.resize
        return np.empty((frames * len(self._deciders), rule.height, rule.width, 3), np.uint8)

    def _regions_of(self, record: FrameRecord) -> tuple[Region, ...]:
        """Where to look in this frame. Raises UsageError for a crop that does not fit it, BadFrame for what is no frame."""
        size = record.frame.shape[:2] if isinstance(record.frame, np.ndarray) else ()
        if size != self._size:
            self._look(record, size)
        return self._regions

    def _look(self, record: FrameRecord, size: tuple[int, ...]) -> None:
        if len(size) != 2 or not all(size):
            raise BadFrame(f"a frame has height, width and channels, not shape {size}")
        rule, rows, columns = self.classifier.spec.resize, *size
        if self._asked.pixels:
            self._asked = self._asked.in_fractions(rule, rows, columns)
            self._fixed = () if self.source.live else size
        elif self._fixed and size != self._fixed:
            raise UsageError(
                f"--crop is in pixels of frames of {self._fixed[1]}x{self._fixed[0]} px, and "
                f"{mask_credentials(record.source)} is {columns}x{rows}; give fractions, such as 0,0,0.5,1"
            )
        self._regions, self._size = self._asked.regions(rule, rows, columns), size
        self._boxes = tuple(
            seen_box(*turned_size(rows, columns, region.rule.geometry), region.rule) for region in self._regions
        )
        if self._asked and self.source.sequence:
            for region in self._regions:
                self._say(
                    f"{f'{region.name}: ' if region.name else ''}the model sees {seen_in_words(region.rule, rows, columns)}"
                )

    def _deciders_for(self, classifier: Classifier) -> list[Decider]:
        return [self._make_decider(classifier) for _ in self._asked.crops or ("",)]

    def _renew(self) -> None:
        classifier = self._fresh()
        if classifier is not None:
            deciders = self._deciders_for(classifier)
            self.classifier, self._deciders, self._size = classifier, deciders, ()
