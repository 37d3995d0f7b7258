"""The choice of `edge-tl tune` against every configuration measured at length. Prints Markdown.

    python benchmarks/studies/tune_choice.py MODEL...

`tune` runs as a user runs it. Then every configuration is timed in turns, none dropped, for TURNS turns of CALLS calls each:
single frames at a camera's pace and in a row, and batches, each beside tune's choice for it. A ratio is the median time of tune's
choice over that of the fastest configuration; 1 is the best there is. The goal is at most 1.1, and 60 s for a tuning. The last
column is the part of the processor that other programs took while a row was measured: on a busy machine the ranking itself moves.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
import onnxruntime
from ratios import record

from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.machine.cpu import OtherPrograms, cpu_name, this_target
from edge_tl_runtime.machine.tune import BATCH, FRAME_PAUSE_S, configurations, tune

TURNS, CALLS, BATCH_CALLS = 40, 10, 4
SETTLE_S = 0.05


def exhaustive(
    sessions: dict[SessionSettings, Classifier], photos: int, pause_s: float, calls: int
) -> dict[SessionSettings, float]:
    """Median milliseconds of a call for each configuration."""
    rule = next(iter(sessions.values())).spec.resize
    pixels = np.random.default_rng(1).integers(0, 256, (photos, rule.height, rule.width, 3), np.uint8)
    times: dict[SessionSettings, list[float]] = {settings: [] for settings in sessions}
    order = list(sessions)
    shuffled = random.Random(1)
    for _ in range(TURNS):
        shuffled.shuffle(order)
        for settings in order:
            time.sleep(SETTLE_S)
            for call in range(calls + 2):
                started = time.perf_counter()
                sessions[settings].logits(pixels)
                if call > 1:  # the first two fill the caches
                    times[settings].append(time.perf_counter() - started)
                if pause_s:  # even to sleep for nothing gives the core away
                    time.sleep(pause_s)
    return {settings: 1e3 * statistics.median(values) for settings, values in times.items()}


def main(paths: list[Path]) -> None:
    print(
        f"{cpu_name()}, {usable_cores()} cores, {this_target()}, onnxruntime {onnxruntime.__version__}; "
        f"load before the start {os.getloadavg()[0]:.1f}\n"
    )
    print("| model | measured | tune chose | ms | fastest | ms | ratio | tune took s | others |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in paths:
        tuning = tune(path)
        sessions = {}
        for settings in configurations():
            try:
                sessions[settings] = Classifier(path, settings)
            except EdgeTLError as error:
                print(f"{settings}: {error}", file=sys.stderr)
        regimes = (
            ("frame at 30 a second", tuning.profile.frame.settings, 1, FRAME_PAUSE_S, CALLS),
            ("frame in a row", tuning.profile.row.settings, 1, 0.0, CALLS),
            (f"batch of {BATCH}", tuning.profile.batch.settings, BATCH, 0.0, BATCH_CALLS),
        )
        for name, chosen, photos, pause_s, calls in regimes:
            watch = OtherPrograms()
            medians = exhaustive(sessions, photos, pause_s, calls)
            best = min(medians, key=lambda settings: medians[settings])
            ratio = medians[chosen] / medians[best]
            print(
                f"| {path.name} | {name} | {chosen} | {medians[chosen]:.2f} | {best} | {medians[best]:.2f} "
                f"| {ratio:.2f} | {tuning.seconds:.0f} | {watch.share():.2f} |",
                flush=True,
            )
            record(f"tune's choice for a {name}, {path.name}", "the fastest of all", ratio, goal="<= 1.1")
            for settings, median in medians.items():
                print(f"{path.name}, {name}: {settings}: {median:.2f} ms", file=sys.stderr)
        record(f"seconds of a tuning, {path.name}", "the 60 s it may take", tuning.seconds / 60, goal="<= 1")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    main(parser.parse_args().models)
