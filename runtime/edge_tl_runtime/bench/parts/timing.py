"""Times of single queries, one after the other, and what they come to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.energy import EnergyMeter
from edge_tl_runtime.core.progress import Progress, silent

PERCENTILES = (50, 90, 95, 99)
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

    def to_dict(self) -> dict[str, Any]:
        """jitter_ms: p99 less p50. std_ms: of the queries about their mean; iqr_ms: between their quartiles."""
        ms = self.took / 1e6
        ranks = {f"p{p}_ms": float(x) for p, x in zip(PERCENTILES, np.percentile(ms, PERCENTILES), strict=True)}
        low, high = np.percentile(ms, (25, 75))
        figures = {
            "mean_ms": float(ms.mean()),
            **ranks,
            "least_ms": float(ms.min()),
            "most_ms": float(ms.max()),
            "jitter_ms": ranks["p99_ms"] - ranks["p50_ms"],
            "std_ms": float(ms.std()),
            "iqr_ms": float(high - low),
        }
        seconds = self.seconds
        return {
            "queries": len(ms),
            "seconds": round(seconds, 3),
            **{name: round(value, 4) for name, value in figures.items()},
            "queries_per_second": round(len(ms) / seconds, 3),
        }


def single_stream(
    call: Callable[[_Item], object],
    items: Sequence[_Item],
    least: int,
    seconds: float,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
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
    progress: Progress,
) -> dict[str, Any]:
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


def drift(timings: Timings) -> dict[str, Any]:
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
    empty: dict[str, Any] = {"window_s": round(width, 3), "windows": len(medians), "why": ""}
    names = ("first_ms", "last_ms", "change", "ms_per_minute", "ms_per_minute_ci95", "slowed", "p50_ms")
    if len(medians) < LEAST_WINDOWS:
        why = f"{len(medians)} windows of {width:.3g} s are too few to tell; {LEAST_WINDOWS} are needed"
        return {**empty, **dict.fromkeys(names), "why": why}
    values = np.asarray(medians)
    tenth = len(values) // 10
    first, last = float(np.median(values[:tenth])), float(np.median(values[-tenth:]))
    slope, low, high = theil_sen(values)
    a_minute = 60 / width
    figures = (
        round(first, 4),
        round(last, 4),
        round(last / first - 1, 4),
        round(slope * a_minute, 5),
        [round(low * a_minute, 5), round(high * a_minute, 5)],
        bool(low > 0 and last > SLOWER * first),
        [round(value, 4) for value in medians],
    )
    return {**empty, **dict(zip(names, figures, strict=True))}


def theil_sen(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Median slope of all pairs of float64 (N,) values at 0, 1, 2..., and its 95 % interval (Sen 1968). N of at least 2."""
    n = len(values)
    first, second = np.triu_indices(n, 1)
    slopes = np.sort((values[second] - values[first]) / (second - first))
    half = 1.96 * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low = max(0, round((len(slopes) - half) / 2) - 1)
    high = min(len(slopes) - 1, round((len(slopes) + half) / 2))
    return float(np.median(slopes)), float(slopes[low]), float(slopes[high])
