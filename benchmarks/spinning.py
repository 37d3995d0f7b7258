"""What waiting threads that spin win and cost: the ways that onnxruntime offers, beside threads that sleep. Prints Markdown.

    python benchmarks/spinning.py MODEL [--turns 20]

MODEL: an exported file. "asleep" is how edge-tl opens a session unless it is told otherwise, "within a call" how it does with
`spin`: onnxruntime stops its threads when a call ends. "for N us" spins that long after the last work, "always" is onnxruntime's
default. Sessions of all usable cores, a frame each, in turns after a pause, back to back and at the pace of a camera; processor
time is of all threads and has the pauses in it. Ratios are medians over turns; below 1 spinning needs less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from ratios import quartiles, record

from edge_tl_runtime.classifier import INPUT_NAME
from edge_tl_runtime.machine import OtherPrograms, cpu_name
from edge_tl_runtime.onnx_file import read_spec
from edge_tl_runtime.photos import usable_cores

ASLEEP, WITHIN, ALWAYS = "asleep", "within a call", "always"
ALLOW, STOP, DURATION = (
    f"session.{name}" for name in ("intra_op.allow_spinning", "force_spinning_stop", "intra_op.spin_duration_us")
)
WAYS: Mapping[str, Mapping[str, str]] = {
    ASLEEP: {ALLOW: "0", STOP: "1"},
    WITHIN: {ALLOW: "1", STOP: "1"},
    **{f"for {us} us": {ALLOW: "1", DURATION: str(us)} for us in (100, 1000)},
    ALWAYS: {},
}
FRAMES, PAUSE_S = 10, 0.1
PACES = {"back to back": 0.0, "30 a second": 1 / 30}


def session(path: Path, entries: Mapping[str, str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def measure(
    sessions: Mapping[str, onnxruntime.InferenceSession], pixels: NDArray[np.uint8], between_s: float, turns: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Of each way the median milliseconds of a frame, and the processor's for one, of each turn."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in sessions}
    for _ in range(turns):
        for name, opened in sessions.items():
            time.sleep(PAUSE_S)
            opened.run(None, {INPUT_NAME: pixels})
            times, used = [], time.process_time()
            for _ in range(FRAMES):
                if between_s:  # even to sleep for nothing gives the core away
                    time.sleep(between_s)
                started = time.perf_counter()
                opened.run(None, {INPUT_NAME: pixels})
                times.append(1e3 * (time.perf_counter() - started))
            time.sleep(between_s)
            found[name][0].append(statistics.median(times))
            found[name][1].append(1e3 * (time.process_time() - used) / FRAMES)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    spec = read_spec(options.model)
    size = (1, spec.resize.height, spec.resize.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    sessions = {name: session(options.model, entries) for name, entries in WAYS.items()}
    print(f"{cpu_name()}, {usable_cores()} cores; load before the start {os.getloadavg()[0]:.1f}\n")
    print("| frames | threads spin | ms | over asleep | CPU ms a frame | over asleep | other programs |")
    print("|---|---|---|---|---|---|---|")
    for pace, between_s in PACES.items():
        watch = OtherPrograms()
        found = measure(sessions, pixels, between_s, options.turns)
        others = watch.share()
        for name, columns in found.items():
            cells = []
            for own, base in zip(columns, found[ASLEEP], strict=True):
                spread = quartiles([a / b for a, b in zip(own, base, strict=True)])
                cells.append(
                    f"{statistics.median(own):.2f} "
                    f"| {spread['ratio']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"
                )
            print(f"| {pace} | {name} | {' | '.join(cells)} | {others:.2f} |", flush=True)
        what = f"a frame {pace}, threads asleep ({spec.arch}, {spec.precision})"
        for prefix, column in (("", 0), ("processor time of ", 1)):
            pairs = zip(found[ASLEEP][column], found[ALWAYS][column], strict=True)
            record(f"{prefix}{what}", "onnxruntime's default, spinning", **quartiles([a / b for a, b in pairs]))


if __name__ == "__main__":
    main()
