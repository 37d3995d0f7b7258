"""Ways to do the same thing, timed in turns: part of `runtimes.py` and `spinning.py`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ratios import paired

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
