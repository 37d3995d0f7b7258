"""What waiting threads that spin win and cost: the ways that onnxruntime offers, beside threads that sleep. Prints Markdown.

    python benchmarks/studies/spinning_threads.py MODEL [--turns 20]

MODEL: an exported file. "asleep" is how edge-tl opens a session unless it is told otherwise, "within a call" how it does with
`spin`: onnxruntime stops its threads when a call ends. "for N us" spins that long after the last work, "always" is onnxruntime's
default. Sessions of all usable cores, a frame each, in turns after a pause, back to back and at the pace of a camera; processor
time is of all threads and has the pauses in it. Ratios are medians over frames or turns; below 1 spinning needs less.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
import onnxruntime
from measure import PACES, in_turns, over, paired
from numpy.typing import NDArray
from ratios import record

from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.inference.classifier import INPUT_NAME
from edge_tl_runtime.machine.cpu import OtherPrograms, cpu_name
from edge_tl_runtime.modelfile.onnx import read_spec

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


def opened(path: Path, entries: Mapping[str, str]) -> Callable[[NDArray[np.uint8]], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {INPUT_NAME: pixels})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--turns", type=int, default=20)
    options = parser.parse_args()
    spec = read_spec(options.model)
    size = (1, spec.resize.height, spec.resize.width, 3)
    pixels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    ways = [opened(options.model, entries) for entries in WAYS.values()]
    print(f"{cpu_name()}, {usable_cores()} cores; load before the start {os.getloadavg()[0]:.1f}\n")
    print("| frames | threads spin | ms | over asleep | CPU ms a frame | over asleep | other programs |")
    print("|---|---|---|---|---|---|---|")
    for pace, between_s in PACES.items():
        watch = OtherPrograms()
        found = dict(zip(WAYS, in_turns(ways, [pixels], between_s, options.turns), strict=True))
        others, asleep = watch.share(), found[ASLEEP]
        for name, times in found.items():
            cells = f"{over(times.latency, asleep.latency)} | {over(times.cpu, asleep.cpu)}"
            print(f"| {pace} | {name} | {cells} | {others:.2f} |", flush=True)
        what, against = (
            f"a frame {pace}, threads asleep ({spec.arch}, {spec.precision})",
            "onnxruntime's default, spinning",
        )
        record(what, against, **paired(asleep.latency, found[ALWAYS].latency))
        record(f"processor time of {what}", against, **paired(asleep.cpu, found[ALWAYS].cpu))


if __name__ == "__main__":
    main()
