"""Photos a second in calls of several photos, for a service that classifies folders rather than a camera."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.parts.inputs import pixels
from edge_tl_runtime.bench.parts.part import Bench, Part
from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.inference.classifier import Classifier

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import ThroughputDocument, ThroughputRowDocument

ROUNDS = 3
"""Each size is timed so often, in turns, so that a slow moment of the machine hits all alike; the median counts."""
_SHARE = 0.25
"""Part of the latency's seconds that all sizes together take."""


class Throughput(Part):
    name = "throughput"
    title = "throughput, blocks"

    def pieces(self, bench: Bench) -> int:
        return ROUNDS * len(sizes(bench))

    def run(self, bench: Bench) -> ThroughputDocument:
        ready, _ = pixels(bench)
        wanted = sizes(bench)
        seconds = _SHARE * bench.settings.seconds / (ROUNDS * len(wanted))
        rates: dict[int, list[float]] = {size: [] for size in wanted}
        refused: dict[int, str] = {}
        for turn in range(ROUNDS):
            for size in wanted:
                if size not in refused and not (turn and bench.stop()):
                    try:
                        rates[size].append(_rate(bench.classifier, _batch(ready, size), seconds))
                    except (EdgeTLError, MemoryError) as error:
                        refused[size] = one_line(error)
                bench.progress(1)
        rows = [_row(size, rates[size], refused.get(size, "")) for size in wanted]
        measured = [(rate, row["batch"]) for row in rows if (rate := row["photos_per_second"]) is not None]
        best = max(measured, key=lambda pair: pair[0], default=None)
        return {
            "rows": rows,
            "best": None if best is None else best[1],
            "complete": all(len(rates[size]) == ROUNDS or size in refused for size in wanted),
        }


def sizes(bench: Bench) -> tuple[int, ...]:
    """Batch sizes that the file can take: those asked for, or its own where that is fixed."""
    axis = bench.classifier.session.get_inputs()[0].shape[0]
    return (axis,) if isinstance(axis, int) else bench.settings.batch_sizes()


def _batch(ready: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(ready[np.arange(size) % len(ready)])


def _rate(classifier: Classifier, batch: NDArray[np.uint8], seconds: float) -> float:
    """Photos a second over whole calls of at least `seconds`, one call before them uncounted."""
    classifier.logits(batch)
    calls, started = 0, time.perf_counter()
    while True:
        classifier.logits(batch)
        calls += 1
        passed = time.perf_counter() - started
        if passed >= seconds:
            return calls * len(batch) / passed


def _row(size: int, rates: list[float], why: str) -> ThroughputRowDocument:
    if not rates:
        return {"batch": size, "photos_per_second": None, "spread": None, "ms_a_photo": None, "why": why}
    rate = statistics.median(rates)
    return {
        "batch": size,
        "photos_per_second": round(rate, 2),
        "spread": [round(min(rates), 2), round(max(rates), 2)],
        "ms_a_photo": round(1e3 / rate, 4),
        "why": why,
    }
