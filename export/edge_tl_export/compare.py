"""Model files side by side: size, time, accuracy, agreement, and what to make of them in words."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.dataset import LabelledPhotos
from edge_tl_runtime.evaluate import Evaluation, Logits, PixelReader, Progress, score
from edge_tl_runtime.photos import Unreadable
from edge_tl_runtime.spec import ResizeRule

MAX_DROP = 0.01
"""Loss of top-1 against FP32, as a fraction, that the table calls by name."""
WARM_UP, RUNS = 10, 60


@dataclass(frozen=True)
class Row:
    """One file of the table.

    agreement: share of photos with the label of the FP32 file. latency_ms: median, one photo, model alone.
    speedup: median of paired ratios FP32 / this. Accuracy is None where there were no photos to judge on.
    """

    precision: str
    bytes: int
    latency_ms: float
    speedup: float
    evaluation: Evaluation | None
    agreement: float | None
    drop: float | None

    @property
    def top1(self) -> float | None:
        return None if self.evaluation is None else self.evaluation.top1

    @property
    def verdict(self) -> str:
        """In words: whether this file is worth having on this machine."""
        if self.precision == "fp32":
            return "reference"
        said = []
        if self.speedup < 1:
            said.append(f"SLOWER than FP32 ({self.speedup:.2f}x)")
        if self.drop is not None and self.drop > MAX_DROP:
            said.append(f"{100 * self.drop:.1f} points LESS ACCURATE than FP32")
        if said:
            return " and ".join(said)
        return "faster, accuracy not judged" if self.drop is None else "faster, accuracy kept"

    def to_dict(self) -> dict[str, Any]:
        evaluation = self.evaluation
        return {
            "precision": self.precision,
            "bytes": self.bytes,
            "top1": None if evaluation is None else round(evaluation.top1, 6),
            "n": None if evaluation is None else evaluation.n,
            "ci95": None if evaluation is None else [round(x, 6) for x in evaluation.ci95],
            "agreement": self.agreement,
            "latency_ms": round(self.latency_ms, 4),
            "speedup": round(self.speedup, 4),
            "verdict": self.verdict,
        }


def measure(
    models: Mapping[str, Logits],
    sizes: Mapping[str, int],
    photos: LabelledPhotos | None,
    rule: ResizeRule,
    progress: Progress = lambda done: None,
) -> tuple[list[Row], tuple[Unreadable, ...]]:
    """A row for each model by precision, "fp32" first, and the photos that could not be read.

    Every model judges the same bytes: a photo is read once for all of them. Times are taken in turns.
    """
    evaluations: dict[str, Evaluation] = {}
    answers: dict[str, NDArray[np.int64]] = {}
    skipped: tuple[Unreadable, ...] = ()
    if photos is not None:
        evaluations, answers, skipped = _judge(models, photos, rule, progress)
    times = _latencies(models, rule)
    reference = evaluations.get("fp32")
    rows = []
    for precision in models:
        evaluation = evaluations.get(precision)
        ratios = [a / b for a, b in zip(times["fp32"], times[precision], strict=True)]
        rows.append(
            Row(
                precision=precision,
                bytes=sizes[precision],
                latency_ms=1e3 * statistics.median(times[precision]),
                speedup=statistics.median(ratios),
                evaluation=evaluation,
                agreement=None if evaluation is None else float((answers[precision] == answers["fp32"]).mean()),
                drop=None if evaluation is None or reference is None else reference.top1 - evaluation.top1,
            )
        )
    return rows, skipped


def _judge(
    models: Mapping[str, Logits], photos: LabelledPhotos, rule: ResizeRule, progress: Progress
) -> tuple[dict[str, Evaluation], dict[str, NDArray[np.int64]], tuple[Unreadable, ...]]:
    reader = PixelReader(photos, rule, progress=progress)
    scores: dict[str, list[NDArray[np.float32]]] = {precision: [] for precision in models}
    targets: list[int] = []
    for batch in reader:
        targets += [photos.targets[i] for i in batch.indices]
        for precision, logits in models.items():
            scores[precision].append(logits(batch.pixels))
    truth = np.asarray(targets, np.int64)
    joined = {precision: np.concatenate(parts) for precision, parts in scores.items()}
    data = f"{photos.split} of {photos.root.resolve().name}"
    evaluations = {p: score(rows, truth, photos.labels, data) for p, rows in joined.items()}
    return evaluations, {p: rows.argmax(1) for p, rows in joined.items()}, tuple(reader.skipped)


def _latencies(models: Mapping[str, Logits], rule: ResizeRule) -> dict[str, list[float]]:
    pixels = np.random.default_rng(0).integers(0, 256, (1, rule.height, rule.width, 3), np.uint8)
    times: dict[str, list[float]] = {precision: [] for precision in models}
    for turn in range(WARM_UP + RUNS):
        for precision, logits in models.items():
            seconds = _timed(logits, pixels)
            if turn >= WARM_UP:
                times[precision].append(seconds)
    return times


def _timed(function: Callable[[NDArray[np.uint8]], object], pixels: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    function(pixels)
    return time.perf_counter() - started
