"""Times of single queries, one after the other, and what they come to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.energy import EnergyMeter

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import DriftDocument, PercentilesDocument, StreamDocument, TimingDocument

WARM_UP_S, WARM_UP_QUERIES = 1.0, 5
"""Queries before the first that is timed: as many as fit into the seconds, and so many at least."""
WINDOW_S = 1.0
LEAST_WINDOWS = 10
MAX_WINDOWS = 600
"""More are pooled: a slope over all pairs of them costs the square."""
SLOWER = 1.03
"""Factor of the last tenth's median over the first tenth's from which a run counts as slowed."""

_ROOM = 4096

Times = NDArray[np.int64]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Timings:
    """Nanoseconds: when each of N queries began, since the first, and how long it took; int64 (N,) both. begins ascend.

    complete: False where `stop` ended it.
    """

    begins: Times
    took: Times
    complete: bool = True

    @property
    def seconds(self) -> float:
        """From the first query's beginning to the last one's end."""
        return float(self.begins[-1] + self.took[-1]) / 1e9

    def to_dict(self) -> TimingDocument:
        """jitter_ms: p99 less p50. std_ms: of the queries about their mean; iqr_ms: between their quartiles."""
        ms, seconds = self.took / 1e6, self.seconds
        ranks = percentiles(ms)
        low, high = np.percentile(ms, (25, 75))
        return {
            "queries": len(ms),
            "seconds": round(seconds, 3),
            "mean_ms": _ms(ms.mean()),
            **ranks,
            "least_ms": _ms(ms.min()),
            "most_ms": _ms(ms.max()),
            "jitter_ms": round(ranks["p99_ms"] - ranks["p50_ms"], 4),
            "std_ms": _ms(ms.std()),
            "iqr_ms": _ms(high - low),
            "queries_per_second": round(len(ms) / seconds, 3),
        }


def percentiles(ms: NDArray[np.float64]) -> PercentilesDocument:
    """Of milliseconds, float64 (N,)."""
    p50, p90, p95, p99 = (_ms(value) for value in np.percentile(ms, (50, 90, 95, 99)))
    return {"p50_ms": p50, "p90_ms": p90, "p95_ms": p95, "p99_ms": p99}


def _ms(value: np.floating[Any]) -> float:
    return round(float(value), 4)


def single_stream(
    call: Callable[[_Item], object],
    items: Sequence[_Item],
    least: int,
    seconds: float,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda done: None,
) -> Timings:
    """Time `call` of one item after the other, round and round, for at least `least` calls and at least `seconds`.

    Each query begins when the one before has been answered, as in MLPerf's single stream (Reddi and others, ISCA 2020).
    stop: asked about once a second; a true answer ends it after the query at hand. progress: told of each second of `seconds`.
    """
    clock = time.perf_counter_ns
    begins: NDArray[np.int64] = np.empty(_ROOM, np.int64)
    took: NDArray[np.int64] = np.empty(_ROOM, np.int64)
    count, told, items_count = 0, 0, len(items)
    first = clock()
    ends, tick = first + int(1e9 * seconds), first + 1_000_000_000
    while True:
        item = items[count % items_count]
        begun = clock()
        call(item)
        ended = clock()
        begins[count], took[count] = begun - first, ended - begun
        count += 1
        if ended >= ends and count >= least:
            break
        if ended >= tick:
            if stop():
                return Timings(begins[:count].copy(), took[:count].copy(), complete=False)
            passed = min(int(seconds), (ended - first) // 1_000_000_000)
            progress(passed - told)
            told, tick = passed, ended + 1_000_000_000
        if count == len(took):
            begins, took = (np.concatenate([array, np.empty_like(array)]) for array in (begins, took))
    progress(int(seconds) - told)
    return Timings(begins[:count].copy(), took[:count].copy())


def warm_up(call: Callable[[_Item], object], items: Sequence[_Item]) -> None:
    """Queries that no figure counts."""
    ends, count = time.perf_counter() + WARM_UP_S, 0
    while count < WARM_UP_QUERIES or time.perf_counter() < ends:
        call(items[count % len(items)])
        count += 1


def measured_stream(
    call: Callable[[_Item], object],
    items: Sequence[_Item],
    least: int,
    seconds: float,
    stop: Callable[[], bool],
    progress: Callable[[int], None],
) -> StreamDocument:
    """Warm up, time a single stream, and say what it came to, with its drift and the energy where that can be read."""
    warm_up(call, items)
    with EnergyMeter() as meter:
        timings = single_stream(call, items, least, seconds, stop, progress)
    return {
        **timings.to_dict(),
        "drift": drift(timings),
        "energy": meter.to_dict(len(timings.took)),
        "complete": timings.complete,
    }


def drift(timings: Timings) -> DriftDocument:
    """Whether queries became slower: the median of each window, the first tenth of the windows against the last, and a slope.

    The slope is Theil and Sen's, the median of the slopes of all pairs of windows, in ms a minute, with Sen's interval (1968),
    which takes windows for independent; so a run counts as slowed where the whole interval is above 0 and the last tenth is
    beyond SLOWER. Every figure is None for a run too short for LEAST_WINDOWS windows, with `why`.
    """
    # A window holds a few queries of the slowest model too.
    width = max(WINDOW_S, timings.seconds / MAX_WINDOWS, 10 * float(np.median(timings.took)) / 1e9)
    places = (timings.begins / (1e9 * width)).astype(np.int64)
    whole = int(timings.seconds / width)
    medians = [
        float(np.median(timings.took[places == place])) / 1e6 for place in range(whole) if (places == place).any()
    ]
    found: DriftDocument = {
        "window_s": round(width, 3),
        "windows": len(medians),
        "why": "",
        "first_ms": None,
        "last_ms": None,
        "change": None,
        "ms_per_minute": None,
        "ms_per_minute_ci95": None,
        "slowed": None,
        "p50_ms": None,
    }
    if len(medians) < LEAST_WINDOWS:
        found["why"] = f"{len(medians)} windows of {width:.3g} s are too few to tell; {LEAST_WINDOWS} are needed"
        return found
    values = np.asarray(medians)
    tenth = len(values) // 10
    first, last = float(np.median(values[:tenth])), float(np.median(values[-tenth:]))
    slope, low, high = theil_sen(values)
    a_minute = 60 / width
    return {
        **found,
        "first_ms": round(first, 4),
        "last_ms": round(last, 4),
        "change": round(last / first - 1, 4),
        "ms_per_minute": round(slope * a_minute, 5),
        "ms_per_minute_ci95": [round(low * a_minute, 5), round(high * a_minute, 5)],
        "slowed": bool(low > 0 and last > SLOWER * first),
        "p50_ms": [round(value, 4) for value in medians],
    }


def theil_sen(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median slope of all pairs of float64 (N,) values at 0, 1, 2..., and its 95 % interval (Sen 1968). N of at least 2."""
    n = len(values)
    first, second = np.triu_indices(n, 1)
    slopes = np.sort((values[second] - values[first]) / (second - first))
    half = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, round((len(slopes) - half) / 2) - 1)
    high = min(len(slopes) - 1, round((len(slopes) + half) / 2))
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])
