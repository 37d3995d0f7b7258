"""The p50 that `edge-tl bench` reports over that of a bare onnxruntime loop on the same session. Prints Markdown.

    python benchmarks/studies/bench_overhead.py MODEL ...

Both sides ask one session of the runner's default settings about the same arrays, in turns of BLOCK queries. "bench": the loop
and the call that `edge-tl bench` times. "session.run" and "IOBinding": nothing but the call between two readings of the clock;
the binding's input is one fixed array. "session.run again" against itself is the noise of the ratio. The ratio is the median
over turns of the block's p50 over that of session.run; the goal is 1.00 +- 0.03. "fastest tenths": of the blocks, as on an idle
machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
from measure import rows_over
from ratios import record

from edge_tl_runtime.bench.parts.timing import single_stream, warm_up
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, Classifier

TURNS, BLOCK, PHOTOS = 60, 40, 32


def bare(call: Callable[[], object]) -> float:
    """p50 in ns."""
    took = []
    for _ in range(BLOCK):
        begun = time.perf_counter_ns()
        call()
        took.append(time.perf_counter_ns() - begun)
    return statistics.median(took)


def measure(classifier: Classifier) -> dict[str, list[float]]:
    """p50 in ns of each side in each turn."""
    rule, session = classifier.spec.resize, classifier.session
    pixels = np.random.default_rng(0).integers(0, 256, (PHOTOS, rule.height, rule.width, 3), np.uint8)
    queries = [pixels[index : index + 1] for index in range(PHOTOS)]
    following = itertools.cycle(queries)

    def run() -> None:
        session.run([OUTPUT_NAME], {INPUT_NAME: next(following)})

    def bench() -> float:
        return float(np.median(single_stream(classifier.logits, queries, BLOCK, 0.0).took))

    sides: dict[str, Callable[[], float]] = {
        "session.run": lambda: bare(run),
        "session.run again": lambda: bare(run),
        "IOBinding": lambda: bare(lambda: session.run_with_iobinding(classifier._binding)),
        "bench": bench,
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    warm_up(classifier.logits, queries)
    for _ in range(TURNS):
        for name, side in sides.items():
            times[name].append(side())
    return times


def main(models: list[Path]) -> None:
    print("| model | side | session.run p50 ms | side p50 ms | ratio (median) | quartiles | fastest tenths |")
    print("|---|---|---|---|---|---|---|")
    for path in models:
        classifier = Classifier(path)
        name = f"{classifier.spec.arch}, {classifier.spec.precision}, {len(classifier.spec.labels)} classes"
        print_rows(name, measure(classifier))


def print_rows(model: str, times: dict[str, list[float]]) -> None:
    base = times.pop("session.run")
    for side, cells, spread in rows_over(times, base, 1e6, digits=3):
        print(f"| {model} | {side} {cells}", flush=True)
        if side == "bench":
            record(f"p50 that bench reports ({model})", "session.run", **spread, goal="1.00 +- 0.03")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    main(parser.parse_args().models)
