"""A long run over a source that drops and returns: memory, handles, and whether each frame was real. Prints Markdown.

    python benchmarks/long_run.py MODEL [--frames 100000] [--fps 300]

The whole runner (log, status file) on a scripted test pattern in its real capture process. The stages of the script, one for
each connection, end, hang, freeze, refuse to open, change size and channels, and deliver things that are no frames. Every frame
that was classified is compared with the picture that the source paints for its number.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from ratios import record

from edge_tl_runtime.core.statistics import Z95
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.stream import Result, Stream
from edge_tl_runtime.run.runner import Runner
from edge_tl_runtime.run.status import StatusFile
from edge_tl_runtime.sinks import FileTarget, Log, QueuedSink
from edge_tl_runtime.sources import Counts, LiveOptions, Patience, State, open_source
from edge_tl_runtime.sources.patterns import PATTERNS, read_number

PATIENCE = Patience(first_frame=3, stale=0.3, lost=0.7, frozen=0.4, backoff=0.05, backoff_max=0.4, steady=1, stop=0.3)
STAGES = (
    "1000,end",
    "1000,hang",
    "1000,freeze",
    "300,size=96x64,300,size=48x80,300,size=64x48,100,end",
    "300,grey,300,bgra,300,colour,100,end",
    "300,bad=20,300,freeze=5,300,bad=1,100,end",
    "500,size=320x240,500,hang",
    "refuse",
    "refuse",
    "hang",
)
EVERY = 500
"""Frames between two looks at the memory."""


@dataclass
class Ledger:
    """What was seen of the frames that were classified."""

    frames: int = 0
    foreign: int = 0
    """Not the picture that the source paints for the number in it, or under another index."""
    late: int = 0
    """Numbers that are not above the one before: repeated, or out of order."""
    longest_gap: float = 0.0
    within: dict[State, float] = field(default_factory=dict)
    """Seconds of the longest gap that the source was in each state."""
    memory: list[tuple[int, float]] = field(default_factory=list)
    last: int = -1
    last_at: float = 0.0
    _state: State = State.LIVE
    _since: float = 0.0
    _spent: dict[State, float] = field(default_factory=dict)

    def look(self, state: State) -> None:
        now = time.monotonic()
        self._spent[self._state] = self._spent.get(self._state, 0.0) + now - self._since
        self._state, self._since = state, now

    def enter(self, result: Result) -> None:
        frame, index, now = result.record.frame, result.record.index, time.monotonic()
        self.frames += 1
        self.foreign += not genuine(frame, index)
        self.late += index <= self.last
        self.look(State.LIVE)
        gap = now - self.last_at if self.last_at else 0.0
        if gap > self.longest_gap:
            self.longest_gap, self.within = gap, self._spent
        self.last, self.last_at, self._spent = index, now, {}
        if self.frames % EVERY == 0:
            self.memory.append((self.frames, psutil.Process().memory_info().rss / 2**20))


def genuine(frame: Frame, index: int) -> bool:
    if frame.ndim == 3 and read_number(frame) != index:
        return False
    picture = np.empty((*frame.shape[:2], 3), np.uint8)
    PATTERNS["counter"](picture, index)
    if frame.ndim == 2:
        return np.array_equal(frame, cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    return np.array_equal(frame[..., :3], picture)


class Checked(Stream):
    """A stream whose frames are looked at while they are lent."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ledger = Ledger()
        self.start = self.end = (0, 0)
        """Open handles and threads while frames flow."""

    def __iter__(self) -> Iterator[Result]:
        for result in super().__iter__():
            self.ledger.enter(result)
            if self.ledger.frames % EVERY == 0:
                self.end = handles_and_threads()
                self.start = self.start if any(self.start) else self.end
            yield result


def handles_and_threads() -> tuple[int, int]:
    process = psutil.Process()
    return process.num_fds(), process.num_threads()


def slope(memory: list[tuple[int, float]]) -> tuple[float, float]:
    """Megabytes for 10 000 frames by least squares without the first tenth, and half of its 95 % interval."""
    frames, megabytes = np.array(memory[len(memory) // 10 :]).T
    (rate, _), covariance = np.polyfit(frames / 1e4, megabytes, 1, cov=True)
    return float(rate), Z95 * float(np.sqrt(covariance[0, 0]))


def allowed() -> dict[State, float]:
    """Seconds of patience in each state between two frames at the worst place of the script: hang, refuse, refuse, hang."""
    limit = PATIENCE
    pauses = [min(limit.backoff_max, limit.backoff * 2**tries) for tries in range(4)]
    return {
        State.LIVE: limit.stale,
        State.STALE: limit.lost - limit.stale + limit.stop,
        State.LOST: sum(pauses),
        State.CONNECTING: limit.first_frame + limit.stop,
    }


def main(model: Path, frames: int, fps: float) -> None:
    classifier = Classifier(model)
    name = f"test://counter?size=64x48&fps={fps:g}&script={';'.join(STAGES)}"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outlet = QueuedSink(Log(FileTarget(Path(folder, "log.jsonl"))), lossless=False)
        with open_source(name, LiveOptions(patience=PATIENCE)) as source:
            stream = Checked(source, classifier)
            source.on_idle = lambda: stream.ledger.look(source.state)
            status = StatusFile(Path(folder, "status.json"))
            Runner(stream, [outlet], status=status, max_frames=frames).run()
            counts, torn = source.counts, stream.torn
    report(stream, counts, torn, outlet.counts(), time.monotonic() - began)


def report(stream: Checked, counts: Counts, torn: int, log: dict[str, Any], seconds: float) -> None:
    ledger = stream.ledger
    left = [child.pid for child in psutil.Process().children()]
    rate, half = slope(ledger.memory)
    gone = f"{counts.dropped} dropped, {counts.rejected} no frames, {counts.repeated} repeated, {torn} torn"
    print("| | |")
    print("|---|---|")
    print(f"| frames classified | {ledger.frames} in {seconds:.0f} s |")
    print(f"| drops and returns | {counts.reconnects} |")
    print(f"| of the source's frames, not classified | {gone} |")
    print(f"| classified, but never made by the source | {ledger.foreign} |")
    print(f"| classified twice or out of order | {ledger.late} |")
    print(f"| log: lines written, dropped, failed | {log['written']}, {log['dropped']}, {log['failed']} |")
    print(f"| memory at the start and at the end, MB | {ledger.memory[0][1]:.1f}, {ledger.memory[-1][1]:.1f} |")
    print(f"| its slope, MB for 10 000 frames (95 %) | {rate:.3f} ({rate - half:.3f} to {rate + half:.3f}) |")
    print(f"| open handles at the start and at the end | {stream.start[0]}, {stream.end[0]} |")
    print(f"| threads at the start and at the end | {stream.start[1]}, {stream.end[1]} |")
    print(f"| processes left | {len(left)} |")
    print(f"| longest time between two results, s | {ledger.longest_gap:.2f} |")
    for state, limit in allowed().items():
        more = " and three starts of a process" if state is State.CONNECTING else ""
        print(
            f"| of it {state.value}, and the patience for it, s | {ledger.within.get(state, 0.0):.2f}, {limit:.2f}{more} |"
        )
    against = f"{ledger.frames} frames, {counts.reconnects} losses"
    for what, count in (
        ("frames classified that were never made", ledger.foreign),
        ("frames classified twice or out of order", ledger.late),
        ("processes left", len(left)),
        ("open handles more than at the start", stream.end[0] - stream.start[0]),
    ):
        record(what, against, count, kind="count", goal="<= 0")
    growth = ledger.memory[-1][1] / ledger.memory[0][1]
    record("memory at the end", f"at the start of {against}", growth, goal="<= 1.02")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--fps", type=float, default=300.0, help="Frames a second of the source.")
    given = parser.parse_args()
    main(given.model, given.frames, given.fps)
