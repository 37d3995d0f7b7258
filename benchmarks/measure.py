"""Things timed in turns, and the medians and intervals of what was measured in pairs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, TypeVar

FRAMES, PAUSE_S = 10, 0.05
PACES = {"back to back": 0.0, "30 a second": 1 / 30}
"""Seconds before each frame: as photos of a folder come, and as a camera gives them."""
Item = TypeVar("Item")


@dataclass(frozen=True)
class Times:
    """A way's milliseconds: of each frame, and the processor's for a frame of each turn, pauses included."""

    latency: list[float]
    cpu: list[float]


def in_turns(
    ways: Sequence[Callable[[Item], object]], frames: Sequence[Item], between_s: float, turns: int
) -> list[Times]:
    """Of each way, for the same frames in the same order, with a pause before each.

    Before a turn there is a longer pause and a frame that is not counted, so that none inherits another's spinning workers.
    """
    found = [Times([], []) for _ in ways]
    for turn in range(turns):
        chosen = [frames[(turn * FRAMES + i) % len(frames)] for i in range(FRAMES)]
        for way, times in zip(ways, found, strict=True):
            time.sleep(PAUSE_S)
            way(chosen[-1])
            used = time.process_time()
            for frame in chosen:
                if between_s:  # even to sleep for nothing gives the core away
                    time.sleep(between_s)
                started = time.perf_counter()
                way(frame)
                times.latency.append(1e3 * (time.perf_counter() - started))
            times.cpu.append(1e3 * (time.process_time() - used) / FRAMES)
    return found


def over(own: Sequence[float], base: Sequence[float]) -> str:
    """Two cells: the median, and what it is over the base, pair by pair."""
    spread = paired(own, base)
    return f"{statistics.median(own):.2f} | {spread['ratio']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"


class Spread(TypedDict):
    """A figure and the interval around it, as `record` takes them."""

    ratio: float
    low: float
    high: float


def quartiles(values: Collection[float]) -> Spread:
    """Of at least one paired ratio, for `record(what, against, **quartiles(found))`."""
    low, ratio, high = statistics.quantiles([*values, *values] if len(values) == 1 else values, n=4, method="inclusive")
    return {"ratio": ratio, "low": low, "high": high}


def paired(first: Sequence[float], second: Sequence[float]) -> Spread:
    """Quartiles of the first over the second, pair by pair."""
    return quartiles([a / b for a, b in zip(first, second, strict=True)])


def rows_over(
    sides: Mapping[str, Sequence[float]], base: Sequence[float], per_ms: float, digits: int
) -> Iterator[tuple[str, str, Spread]]:
    """Of each side: its name, Markdown cells from the base's median to the ratio of the fastest tenths, and the ratio's spread.

    per_ms: how many units of the times a millisecond has. digits: of the ratios.
    """
    for side, times in sides.items():
        spread = paired(times, base)
        fastest = [statistics.quantiles(values, n=10, method="inclusive")[0] for values in (times, base)]
        medians = " | ".join(f"{statistics.median(values) / per_ms:.2f}" for values in (base, times))
        ratios = [f"{ratio:.{digits}f}" for ratio in (spread["ratio"], spread["low"], spread["high"])]
        quiet = f"{fastest[0] / fastest[1]:.{digits}f}"
        yield side, f"| {medians} | {ratios[0]} | {ratios[1]} to {ratios[2]} | {quiet} |", spread


def paired_points(first: Sequence[bool], second: Sequence[bool]) -> Spread:
    """How many points more of the same photos are right in the first, and the 95 % interval (Bonett and Price 2012)."""
    # Here, so that an interpreter without the project's packages can record.
    from edge_tl_runtime.core.statistics import paired_interval

    pairs = list(zip(first, second, strict=True))
    gained, lost = (sum(bool(a) and not b for a, b in pairs), sum(bool(b) and not a for a, b in pairs))
    low, high = paired_interval(gained, lost, len(pairs))
    return {"ratio": 100 * (gained - lost) / len(pairs), "low": 100 * low, "high": 100 * high}
