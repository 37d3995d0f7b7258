"""What the live page costs a run, by the number of viewers. Prints Markdown.

    python benchmarks/studies/page_viewers.py MODEL [--seconds 12]

The whole runner with the page as its sink, on a test pattern of 640x480 at 30 frames a second from a capture process. Each viewer
is a process that reads the picture and the events. Processor time is of the runner's process alone.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import _shared  # noqa: F401
from ratios import record

from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.stream import Result, Stream
from edge_tl_runtime.run.runner import Runner
from edge_tl_runtime.sinks import QueuedSink
from edge_tl_runtime.sinks.web import WebPage
from edge_tl_runtime.sources import open_source

FPS, VIEWERS = 30, (0, 1, 5)
VIEWER = """
import sys, threading, urllib.request
def read(name):
    with urllib.request.urlopen(sys.argv[1] + name) as stream:
        while stream.read1(65536):
            pass
threading.Thread(target=read, args=("events",), daemon=True).start()
read("picture")
"""


class Watched(Stream):
    """Keeps what the loop took; the clock starts once all viewers are there."""

    def __init__(self, *arguments: object, page: WebPage, viewers: int) -> None:
        super().__init__(*arguments)
        self.page, self.viewers = page, viewers
        self.latencies: list[float] = []
        self.ages: list[float] = []
        self.began = self.cpu = 0.0

    def _result(self, *arguments: object) -> Result:
        result = super()._result(*arguments)
        if not self.began and self.page.viewers >= self.viewers:
            self.began, self.cpu = time.monotonic(), time.process_time()
        if self.began:
            self.latencies.append(result.prediction.latency_ms)
            self.ages.append(result.age_ms)
        return result


def measure(classifier: Classifier, viewers: int, seconds: float) -> tuple[float, ...]:
    """Results a second, median latency in ms, median and p95 of the age in ms, processor time in % of a core."""
    page = WebPage(port=0, labels=classifier.spec.labels)
    watching = [subprocess.Popen([sys.executable, "-c", VIEWER, page.url]) for _ in range(viewers)]
    while page.viewers < viewers:
        time.sleep(0.05)
    with open_source(f"test://bars?size=640x480&fps={FPS}") as source:
        stream = Watched(source, classifier, page=page, viewers=viewers)
        runner = Runner(stream, [QueuedSink(page, lossless=False)], max_frames=round(seconds * FPS))
        runner.run()
        took, cpu = time.monotonic() - stream.began, time.process_time() - stream.cpu
    for viewer in watching:
        viewer.wait(10)
    ages = statistics.quantiles(stream.ages, n=20)
    return len(stream.ages) / took, statistics.median(stream.latencies), ages[9], ages[18], 100 * cpu / took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=12)
    given = parser.parse_args()
    classifier = Classifier(given.model)
    print(f"{given.model.name}: {classifier.spec.arch}, {classifier.spec.precision}\n")
    print("| viewers | results a second | latency ms (median) | age ms (median) | age ms (p95) | CPU, % of a core |")
    print("|---|---|---|---|---|---|")
    found = {}
    for viewers in VIEWERS:
        found[viewers] = rate, latency, age, late, cpu = measure(classifier, viewers, given.seconds)
        print(f"| {viewers} | {rate:.1f} | {latency:.2f} | {age:.1f} | {late:.1f} | {cpu:.1f} |", flush=True)
    most, none = found[VIEWERS[-1]], found[0]
    watched = f"with {VIEWERS[-1]} viewers of the page"
    record(f"results a second {watched}", "without", most[0] / none[0], goal=">= 0.95")
    record(f"latency of a frame {watched}", "without", most[1] / none[1], goal="<= 1.05")
    record(f"processor time of the run {watched}", "without", most[4] / none[4], better="")


if __name__ == "__main__":
    main()
