"""Results of a run that never was, for tests of what comes after the model."""

from __future__ import annotations

import time

import numpy as np

from edge_tl_runtime.inference.classifier import Prediction, Score
from edge_tl_runtime.pipeline.decision import Decision
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sources.base import NO_FRAME, FrameRecord


def make_result(
    label: str = "bee",
    index: int = 0,
    *,
    frame: np.ndarray = NO_FRAME,
    source: str = "camera",
    captured: float | None = None,
    confidence: float = 0.75,
) -> Result:
    captured = time.monotonic() if captured is None else captured
    score = Score(label, confidence, 0)
    record = FrameRecord(frame, source, index, index / 10, captured)
    decision = Decision(label, 0, confidence, True, (score,))
    return Result(record, decision, Prediction((score,), 1.5), 10.0, 12.0)
