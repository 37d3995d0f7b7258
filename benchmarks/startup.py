"""Time and memory of device commands over a bare import of their libraries. Prints Markdown.

    python benchmarks/startup.py MODEL PHOTO

Each command is a fresh process; they are run in turns after one warm-up, and ratios are medians over turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measure import paired
from ratios import record

TURNS = 9


def measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak megabytes of one process."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024


def main(model: Path, photo: Path) -> None:
    load = f"onnxruntime.InferenceSession({str(model)!r})"
    edge_tl = [sys.executable, "-m", "edge_tl"]
    commands = {
        "import onnxruntime, cv2, numpy": [sys.executable, "-c", "import onnxruntime, cv2, numpy"],
        "the same and load the model": [sys.executable, "-c", f"import onnxruntime, cv2, numpy; {load}"],
        "edge-tl --help": [*edge_tl, "--help"],
        "edge-tl predict PHOTO": [*edge_tl, "predict", str(model), str(photo)],
        "edge-tl inspect": [*edge_tl, "inspect", str(model)],
    }
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(TURNS + 1):
        for name, command in commands.items():
            figures = measure(command)
            if turn:
                results[name].append(figures)
    base = results["import onnxruntime, cv2, numpy"]
    print("| process | seconds | ratio | peak MB | ratio |")
    print("|---|---|---|---|---|")
    for name, rows in results.items():
        seconds, megabytes = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = [statistics.median(a[part] / b[part] for a, b in zip(rows, base, strict=True)) for part in range(2)]
        print(f"| {name} | {seconds:.2f} | {ratios[0]:.2f} | {megabytes:.0f} | {ratios[1]:.2f} |")
    for part, unit in enumerate(("seconds", "peak memory")):
        loaded, predict = (results[name] for name in ("the same and load the model", "edge-tl predict PHOTO"))
        found = paired([row[part] for row in predict], [row[part] for row in loaded])
        record(f"edge-tl predict PHOTO, {unit}", "importing its libraries and loading the model", **found, better="")
        found = paired([row[part] for row in results["edge-tl --help"]], [row[part] for row in base])
        record(f"edge-tl --help, {unit}", "importing its libraries", **found, better="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("photo", type=Path, metavar="PHOTO")
    given = parser.parse_args()
    main(given.model, given.photo)
