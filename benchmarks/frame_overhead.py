"""A whole frame through the live loop over the bare session call on the same input. Prints Markdown.

    python benchmarks/frame_overhead.py MODEL

Both sides use the same session with the runner's default settings; frames are in memory, nothing is drawn. They are timed in
turns, so that a slow moment of the machine hits both; the ratio is the median over turns of the mean of 20 frames each.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_tl_runtime.classifier import INPUT_NAME, OUTPUT_NAME, Classifier
from edge_tl_runtime.preprocess import crop_resize
from edge_tl_runtime.sources import FrameRecord, Source
from edge_tl_runtime.stream import Stream

TURNS, FRAMES = 60, 20


class Memory(Source):
    """The same frame again and again."""

    def __init__(self, frame: np.ndarray, count: int) -> None:
        super().__init__("memory")
        self.frame, self.count = frame, count

    def __iter__(self) -> Iterator[FrameRecord]:
        for index in range(self.count):
            yield FrameRecord(self.frame, self.name, index, 0.0)


def main(path: Path) -> None:
    classifier = Classifier(path)
    print(f"{path.name}: {classifier.spec.arch}, {classifier.spec.precision}\n")
    print("| frame | bare call ms | whole frame ms | ratio (median) | quartiles |")
    print("|---|---|---|---|---|")
    for width, height in ((640, 480), (1920, 1080)):
        frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        pixels = crop_resize(frame, classifier.spec.resize)[None]
        bare, whole = [], []
        for _ in range(TURNS):
            started = time.perf_counter()
            for _ in range(FRAMES):
                classifier.session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
            middle = time.perf_counter()
            for _ in Stream(Memory(frame, FRAMES), classifier):
                pass
            whole.append((time.perf_counter() - middle) / FRAMES)
            bare.append((middle - started) / FRAMES)
        low, ratio, high = statistics.quantiles([w / b for w, b in zip(whole, bare, strict=True)], n=4)
        print(
            f"| {width}x{height} | {1e3 * statistics.median(bare):.2f} | {1e3 * statistics.median(whole):.2f} "
            f"| {ratio:.2f} | {low:.2f} to {high:.2f} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
