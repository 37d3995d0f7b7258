"""A whole frame through the live loop over the bare session call on the same input. Prints Markdown.

    python benchmarks/frame_overhead.py MODEL ... [--ultralytics PYTHON]

Each row's two sides use one session with the runner's default settings; nothing is drawn. "memory": the frame lies in an array.
"ring": it lies in the shared memory that a capture process writes to, and is taken from there and looked at again afterwards as
the live source does. "bare again" is the bare call against itself, the noise of the ratio. All are timed in turns, so that a
slow moment of the machine hits them alike; the ratio is the median over turns of the mean of 20 frames each. "fastest tenths":
the fastest tenth of the side's turns over that of the bare call's, as on an idle machine.

--ultralytics: an interpreter with ultralytics, onnx and onnxruntime; adds `YOLO(...).predict(frame)` of a classifier with
random weights over the bare call of the very session that it uses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from measure import rows_over
from ratios import record

from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, Classifier
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.sources import FrameRecord, Source
from edge_tl_runtime.sources.capture.ring import SLOTS, Ring, create_memory

TURNS, FRAMES = 60, 20
GOALS = {(640, 480): "<= 1.15", (1920, 1080): "<= 1.25"}
SIZES = tuple(GOALS)

PEER = """
import json, os, sys, tempfile, time
import numpy as np, torch
try:
    import torchvision
except RuntimeError:  # its compiled operators do not fit this torch; a classifier needs none, so declaring two is enough
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision
import ultralytics

turns, frames, sizes = json.loads(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    made = ultralytics.YOLO("yolo11n-cls.yaml").export(format="onnx", imgsz=224, simplify=False, verbose=False)
    model = ultralytics.YOLO(made, task="classify")
    for width, height in sizes:
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        model.predict(frame, imgsz=224, verbose=False)
        loaded = model.predictor.model
        session = getattr(loaded, "backend", loaded).session
        pixels = {session.get_inputs()[0].name: np.zeros((1, 3, 224, 224), np.float32)}
        sides = {
            "bare": lambda: session.run(None, pixels),
            "bare again": lambda: session.run(None, pixels),
            "predict": lambda: model.predict(frame, imgsz=224, verbose=False),
        }
        times = {name: [] for name in sides}
        for turn in range(turns):
            for name, action in sides.items():
                started = time.perf_counter()
                for _ in range(frames):
                    action()
                times[name].append((time.perf_counter() - started) / frames)
        print("RESULT", json.dumps([ultralytics.__version__, times]))
    os.chdir("/")
"""


class Memory(Source):
    """The same frame again and again."""

    def __init__(self, frame: np.ndarray, count: int) -> None:
        super().__init__("memory")
        self.frame, self.count = frame, count

    def __iter__(self) -> Iterator[FrameRecord]:
        for index in range(self.count):
            yield FrameRecord(self.frame, self.name, index, 0.0)


class Slots(Source):
    """The same frame in all slots of a ring: published again and taken again for each turn, never copied."""

    live = True

    def __init__(self, frame: np.ndarray, count: int) -> None:
        super().__init__("ring")
        handle = create_memory(frame.nbytes)
        self.writer, self.reader = Ring(os.dup(handle)), Ring(handle)
        self.writer.prepare()
        self.shape, self.count, self.after = frame.shape, count, 0
        for slot in range(SLOTS):
            np.copyto(self.writer.pixels(slot, frame.shape), frame)

    def __iter__(self) -> Iterator[FrameRecord]:
        for index in range(self.count):
            self.writer.publish(self.writer.free_slot(), self.shape, index, time.monotonic())
            self.taken = self.reader.take(self.after)
            assert self.taken is not None
            self.after = self.taken.sequence
            yield FrameRecord(self.taken.frame, self.name, self.taken.index, 0.0, self.taken.captured)

    def intact(self, record: FrameRecord) -> bool:
        return self.taken is not None and self.reader.intact(self.taken)


def through(source: Source, classifier: Classifier) -> None:
    for _ in Stream(source, classifier):
        pass


def ours(classifier: Classifier, width: int, height: int) -> dict[str, list[float]]:
    """Seconds a frame of each side in each turn."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    pixels = crop_resize(frame, classifier.spec.resize)[None]

    def bare() -> None:
        for _ in range(FRAMES):
            classifier.session.run([OUTPUT_NAME], {INPUT_NAME: pixels})

    ring = Slots(frame, FRAMES)
    sides: dict[str, Callable[[], None]] = {
        "bare": bare,
        "bare again": bare,
        "memory": lambda: through(Memory(frame, FRAMES), classifier),
        "ring": lambda: through(ring, classifier),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    through(ring, classifier)  # its pages are mapped on first touch
    for _ in range(TURNS):
        for name, action in sides.items():
            started = time.perf_counter()
            action()
            times[name].append((time.perf_counter() - started) / FRAMES)
    return times


def peer(python: Path) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """The same of ultralytics, for each size."""
    quiet = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
    command = [str(python), "-c", PEER, json.dumps([TURNS, FRAMES, SIZES])]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet}, check=False)
    if result.returncode:
        raise SystemExit(f"{python} failed:\n{result.stderr}")
    for line in result.stdout.splitlines():
        if line.startswith("RESULT "):
            version, times = json.loads(line.removeprefix("RESULT "))
            yield f"ultralytics {version}, yolo11n-cls, ONNX", times


def print_rows(model: str, width: int, height: int, times: dict[str, list[float]]) -> float:
    """Median seconds of a frame of the first side that is not the bare call, beside those of the bare call."""
    bare = times.pop("bare")
    for side, cells, spread in rows_over(times, bare, 1e-3, digits=2):
        print(f"| {model} | {width}x{height} | {side} {cells}", flush=True)
        if side in ("memory", "ring"):
            what = f"a frame of {width}x{height} through the live loop, from {side} ({model})"
            goal, headline = GOALS[width, height], side == "ring"
            record(what, "the bare session call", **spread, goal=goal, headline=headline)
    used = next(whole for side, whole in times.items() if side != "bare again")
    return statistics.median(w - b for w, b in zip(used, bare, strict=True))


def main(models: list[Path], python: Path | None) -> None:
    print("| model | frame | side | bare call ms | side ms | ratio (median) | quartiles | fastest tenths |")
    print("|---|---|---|---|---|---|---|---|")
    spent: dict[tuple[int, int], float] = {}
    for path in models:
        classifier = Classifier(path)
        name = f"{classifier.spec.arch}, {classifier.spec.precision}, {len(classifier.spec.labels)} classes"
        for width, height in SIZES:
            extra = print_rows(name, width, height, ours(classifier, width, height))
            spent.setdefault((width, height), extra)
    if python is not None:
        for (width, height), (name, times) in zip(SIZES, peer(python), strict=True):
            theirs = print_rows(name, width, height, times)
            what = f"what the live loop adds to the bare call, {width}x{height}"
            note = "medians, each beside its own network"
            record(what, f"predict of {name}", spent[width, height] / theirs, note=note)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--ultralytics", type=Path, metavar="PYTHON")
    given = parser.parse_args()
    main(given.models, given.ultralytics)
