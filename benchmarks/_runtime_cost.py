"""What onnxruntime and OpenVINO cost a device beside the time of a frame: part of `runtimes.py`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

from measure import quartiles
from ratios import record

COST = """
import json, sys, time
kind, model = sys.argv[1:]
import numpy as np
started = time.perf_counter()
if kind == "openvino":
    import openvino
else:
    import onnxruntime
imported = time.perf_counter() - started
started = time.perf_counter()
if kind == "openvino":
    run = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    shape = run.input(0).partial_shape
    run(np.zeros((1, *(d.get_length() for d in list(shape)[1:])), np.uint8))
else:
    session = onnxruntime.InferenceSession(model)
    given = session.get_inputs()[0]
    session.run(None, {given.name: np.zeros((1, *given.shape[1:]), np.uint8)})
loaded = time.perf_counter() - started
resident = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(json.dumps([imported, loaded, resident / 1024]))
"""


def cost_table(model: Path) -> None:
    """What each runtime costs a device, in processes of their own, in turns."""
    print("| runtime | package MB | import s | first answer s, from the file | resident MB then |")
    print("|---|---|---|---|---|")
    found: dict[str, list[list[float]]] = {"onnxruntime": [], "openvino": []}
    for _ in range(3):
        for kind, rows in found.items():
            done = subprocess.run([sys.executable, "-c", COST, kind, str(model)], capture_output=True, text=True)
            if done.returncode == 0:
                rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    for kind, rows in found.items():
        if not rows:
            print(f"| {kind} | not installed, or it does not start | - | - | - |")
            continue
        imported, loaded, resident = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {kind} | {package_megabytes(kind):.0f} | {imported:.2f} | {loaded:.2f} | {resident:.0f} |")
    print(flush=True)
    if all(found.values()):
        for what, column in (("import and first answer", slice(0, 2)), ("resident memory", slice(2, 3))):
            pairs = [
                sum(a[column]) / sum(b[column]) for a, b in zip(found["onnxruntime"], found["openvino"], strict=True)
            ]
            record(f"{what} of onnxruntime", "openvino", **quartiles(pairs), note=model.name)


def package_megabytes(name: str) -> float:
    """Of its files alone, without what it depends on."""
    paths = [Path(str(file.locate())) for file in files(name) or []]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
