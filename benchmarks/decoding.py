"""Decoding by PyAV beside OpenCV: time, processor time, memory, start. Prints Markdown.

    python benchmarks/decoding.py [PHOTOS] [--turns 9]

A photograph that moves (without PHOTOS one that scikit-image brings along), coded as H.264, is read by `OpenCvReader` and by
`Decoder` in turns, each frame as BGR into one buffer. live: as of a camera, a frame at a time; file: by threads, several at once.
Start and memory: a process that imports the reader and gives one frame, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from measure import paired
from ratios import record
from reconnect import pictures

from edge_tl_runtime.sources.decoding.opencv_reader import OpenCvReader
from edge_tl_runtime.sources.decoding.pyav_reader import Decoder

FRAMES = 90
SIZES = ((640, 480), (1920, 1080))
ONE = """
import re, sys
from edge_tl_runtime.sources.{module} import {name}
reader = {name}(sys.argv[1])
reader.grab()
assert reader.retrieve(None) is not None
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""
READERS = {"OpenCV": ("opencv_reader", OpenCvReader), "PyAV": ("decoder", Decoder)}


def write(path: Path, picture: np.ndarray, width: int, height: int) -> Path:
    """A photo that moves by 4 pixels a frame, with the noise of a sensor."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(picture, (width, height))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23"}
        for number in range(FRAMES):
            noisy = np.roll(picture, 4 * number, 1) + rng.normal(0, 2, picture.shape)
            frame = av.VideoFrame.from_ndarray(np.clip(noisy, 0, 255).astype(np.uint8), "bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(kind: str, path: Path, live: bool) -> tuple[float, float]:
    """Seconds and processor seconds for all frames."""
    began, spent = time.perf_counter(), time.process_time()
    reader = READERS[kind][1](str(path), live=live)
    out, count = None, 0
    while reader.grab():
        out = reader.retrieve(out)
        count += out is not None
    reader.close()
    if count != FRAMES:
        raise SystemExit(f"{kind} gave {count} of {FRAMES} frames")
    return time.perf_counter() - began, time.process_time() - spent


def start(kind: str, path: Path) -> tuple[float, float]:
    """Seconds and megabytes of a process that gives one frame."""
    module, reader = READERS[kind]
    began = time.perf_counter()
    code = ONE.format(module=module, name=reader.__name__)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return time.perf_counter() - began, float(done.stdout)


def main(photos: Path | None, turns: int) -> None:
    print(f"PyAV {av.__version__}, OpenCV {cv2.__version__}, {os.cpu_count()} cores\n")
    print("| what | OpenCV ms | PyAV ms | PyAV over OpenCV | quartiles | processor time |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for width, height in SIZES:
            path = write(Path(folder, f"{height}.mkv"), pictures(photos)[0], width, height)
            for live in (True, False):
                times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in READERS}
                for _ in range(turns):
                    for kind in READERS:
                        times[kind].append(read(kind, path, live))
                wall, cpu = (
                    paired(*([row[at] for row in times[kind]] for kind in ("PyAV", "OpenCV"))) for at in (0, 1)
                )
                each = [1e3 * statistics.median(row[0] for row in times[kind]) / FRAMES for kind in READERS]
                what = f"{width}x{height}, {'live' if live else 'file'}"
                print(
                    f"| {what} | {each[0]:.2f} | {each[1]:.2f} | {wall['ratio']:.2f} | {wall['low']:.2f} to {wall['high']:.2f} "
                    f"| {cpu['ratio']:.2f} |",
                    flush=True,
                )
                record(f"decoding H.264 by PyAV, {what}", "by OpenCV", **wall, better="")
        starts = {kind: [start(kind, path) for _ in range(turns)] for kind in READERS}
    seconds = paired(*([row[0] for row in starts[kind]] for kind in ("PyAV", "OpenCV")))
    print(f"\nA process that gives one frame: {seconds['ratio']:.2f} of the time with PyAV; at most ", end="")
    print(", ".join(f"{statistics.median(row[1] for row in rows):.0f} MB with {kind}" for kind, rows in starts.items()))
    record("a process that decodes one frame by PyAV", "by OpenCV", **seconds, better="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--turns", type=int, default=9)
    given = parser.parse_args()
    main(given.photos, max(2, given.turns))
