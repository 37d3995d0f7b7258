"""The frame loop: a source and a classifier, joined into an iterator of results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edge_tl_runtime.classifier import Classifier, Prediction
from edge_tl_runtime.sources import FrameRecord, Source

RATE_WINDOW_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """A frame with what the model said of it. fps: results a second over the last RATE_WINDOW_S."""

    record: FrameRecord
    prediction: Prediction
    fps: float

    def to_dict(self) -> dict[str, Any]:
        """One line of `edge-tl run --json`."""
        return {
            "source": self.record.source,
            "frame": self.record.index,
            "seconds": round(self.record.seconds, 4),
            **self.prediction.to_dict(),
            "fps": round(self.fps, 2),
        }


class Stream:
    """Iterates over the results of classifying every frame that the source gives.

    >>> with open_source("0") as source:
    ...     for result in Stream(source, Classifier("model-int8.onnx")):
    ...         print(result.prediction.label)
    """

    def __init__(self, source: Source, classifier: Classifier, top: int = 5) -> None:
        self.source, self.classifier, self.top = source, classifier, top

    def __iter__(self) -> Iterator[Result]:
        times: deque[float] = deque()
        for record in self.source:
            prediction = self.classifier.classify(record.frame, self.top)
            now = time.monotonic()
            times.append(now)
            while now - times[0] > RATE_WINDOW_S:
                times.popleft()
            span = now - times[0]
            yield Result(record, prediction, (len(times) - 1) / span if span > 0 else 0.0)
