"""The live loop at work: frame rate, age of frames, and processor time against a plain loop. Prints Markdown.

    python benchmarks/live_loop.py MODEL [PHOTOS] [--turns 5] [--seconds 4]

Rate: results a second from test://bars at 60 frames a second (640x480, a real capture process) over what is possible: 60, or
the rate of crop, resize and inference back to back on a frame in memory where that is lower; measured in turns.

Age: from a frame's capture until its result, in the same runs, against one frame interval and one inference; and for a reader
that looks five times a second, until it begins with the frame.

Processor time: `edge-tl run --headless --json` with its capture process, against a loop of cv2.VideoCapture, cv2.resize, an
onnxruntime session and json.dumps, each a whole process, on the same MJPEG stream over HTTP (640x480, 10 a second) from a
server whose own time is not counted. Each side reads 130 frames and 30, in turns; the difference is 100 frames without
start-up. Without PHOTOS the server shows photographs that scikit-image brings along.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import quartiles
from ratios import record
from reconnect import CameraServer, pictures, write_jpegs

from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.sources import open_source

FPS = 60
SOURCE = f"test://bars?fps={FPS}&size=640x480"
FEW, MANY = 30, 130
SHOWN = 60

PLAIN = """
import json, sys
import cv2, numpy as np, onnxruntime
model, url, count, spin = sys.argv[1:]
options = onnxruntime.SessionOptions()
if spin == "sleep":
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(model, options)
height, width = session.get_inputs()[0].shape[1:3]
capture = cv2.VideoCapture(url)
for number in range(int(count)):
    good, frame = capture.read()
    if not good:
        sys.exit("no frame")
    pixels = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
    logits = session.run(None, {"pixels": pixels[None]})[0][0]
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = np.argsort(-scores)[:5]
    print(json.dumps({"frame": number, "top": [[int(i), float(scores[i])] for i in best]}), flush=True)
"""


def bare_rate(classifier: Classifier, frame: np.ndarray, seconds: float) -> float:
    """Frames a second of crop, resize and inference back to back."""
    started = time.perf_counter()
    count = 0
    while time.perf_counter() - started < seconds:
        classifier.frame_logits(frame)
        count += 1
    return count / (time.perf_counter() - started)


def live(classifier: Classifier, seconds: float) -> tuple[float, list[float], list[float]]:
    """Results a second after the first, and of each its age and the time of crop, resize and inference in ms."""
    ages, latencies = [], []
    began = 0.0
    with open_source(SOURCE) as source:
        for result in Stream(source, classifier):
            now = time.perf_counter()
            if not began:
                began = now  # the capture process has started
                continue
            ages.append(result.age_ms)
            latencies.append(result.prediction.latency_ms)
            if now - began >= seconds:
                return len(ages) / (now - began), ages, latencies
    raise SystemExit("the source ended")


def slow_reader(classifier: Classifier, looks: int) -> list[float]:
    """Age in ms of the frame that a reader gets which looks five times a second."""
    ages = []
    with open_source(SOURCE) as source:
        for record in source:
            ages.append(1e3 * (time.monotonic() - record.captured))
            classifier.frame_logits(record.frame)
            if len(ages) > looks:
                break
            time.sleep(0.2)
    return ages[1:]


def processor_seconds(command: list[str]) -> float:
    """User and system time of a process and of the children that it waited for."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime


def spread(values: list[float]) -> str:
    found = quartiles(values)
    return f"{found['low']:.2f} to {found['high']:.2f}"


def print_rate_and_age(classifier: Classifier, turns: int, seconds: float) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    rates, possible, ages, latencies = [], [], [], []
    for _ in range(turns):
        before = bare_rate(classifier, frame, seconds / 4)
        rate, turn_ages, turn_latencies = live(classifier, seconds)
        possible.append(min(FPS, (before + bare_rate(classifier, frame, seconds / 4)) / 2))
        rates.append(rate)
        ages += turn_ages
        latencies += turn_latencies
    ratios = [rate / best for rate, best in zip(rates, possible, strict=True)]
    print("| live loop | possible | ratio (median) | quartiles |")
    print("|---|---|---|---|")
    print(
        f"| {statistics.median(rates):.1f} fps | {statistics.median(possible):.1f} fps | {statistics.median(ratios):.3f} "
        f"| {spread(ratios)} |\n"
    )
    record("results a second of the live loop", "what is possible", **quartiles(ratios), goal=">= 0.95")
    allowed = 1e3 / FPS + statistics.median(latencies)
    slow = slow_reader(classifier, 5 * turns)
    print("| age of a frame | median ms | p95 ms | max ms | frames | at most a frame interval and an inference |")
    print("|---|---|---|---|---|---|")
    for name, values, limit, against, more in (
        ("when its result is there", ages, allowed, "a frame interval and an inference", ""),
        ("when a reader of 5 a second begins with it", slow, 1e3 / FPS, "a frame interval", " (the interval alone)"),
    ):
        median, high = np.percentile(values, (50, 95))
        print(f"| {name} | {median:.1f} | {high:.1f} | {max(values):.1f} | {len(values)} | {limit:.1f} ms{more} |")
        record(f"age of a frame {name}, p95", against, high / limit, goal="<= 1")


def print_processor_time(model: Path, photos: Path | None, turns: int) -> None:
    def plain(spin: str, url: str, count: int) -> list[str]:
        return [sys.executable, "-c", PLAIN, str(model), url, str(count), spin]

    def ours(url: str, count: int) -> list[str]:
        command = [sys.executable, "-m", "edge_tl", "run", str(model), "--source", url, "--headless", "--json"]
        return [*command, "--max-frames", str(count)]

    sides = {
        "edge-tl run": ours,
        "plain loop, default session": lambda url, count: plain("spin", url, count),
        "plain loop, spinning off": lambda url, count: plain("sleep", url, count),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        shown = pictures(photos)
        server = CameraServer(write_jpegs(shown[:: max(1, len(shown) // SHOWN)], Path(folder, "photos")), 10)
        for _ in range(turns):
            for name, command in sides.items():
                few, many = (processor_seconds(command(server.url, count)) for count in (FEW, MANY))
                spent[name].append((many - few, few))
        server.kill()
    print(
        "\n| 10 frames a second | CPU s for 100 frames | edge-tl over it | quartiles | CPU s of start-up and 30 frames |"
    )
    print("|---|---|---|---|---|")
    for name, rows in spent.items():
        each, begin = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = [mine[0] / theirs[0] for mine, theirs in zip(spent["edge-tl run"], rows, strict=True)]
        print(f"| {name} | {each:.2f} | {statistics.median(ratios):.2f} | {spread(ratios)} | {begin:.2f} |")
        if name != "edge-tl run":
            record("CPU seconds of edge-tl run, 10 frames a second", f"a {name}", **quartiles(ratios))


def main(model: Path, photos: Path | None, turns: int, seconds: float) -> None:
    classifier = Classifier(model)
    print(f"{model.name}: {classifier.spec.arch}, {classifier.spec.precision}\n")
    print_rate_and_age(classifier, turns, seconds)
    print_processor_time(model, photos, turns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="Length of a live run.")
    given = parser.parse_args()
    main(given.model, given.photos, max(2, given.turns), given.seconds)
