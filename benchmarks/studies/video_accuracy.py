"""Accuracy of the live loop on videos made of labelled photos, against `edge-tl evaluate` on the photos. Prints Markdown.

    python benchmarks/studies/video_accuracy.py MODEL PHOTOS [--shown 5]

PHOTOS holds a folder for each class. Each photo is shown for some frames, scaled so that its shorter side (the side of the
square that the centre crop is cut from) becomes the shorter side of the video; what then exceeds the frame is outside the
centre crop and is cut off, and where the photo ends before the frame does, outside the centre crop too, its edge is continued.
So both see the same part of the scene, once more resampled and through the codec. A photo's label in a video is the majority
over its frames of `edge-tl run --headless --json`; one row plays the video at its own pace through the capture process
(--realtime), where frames may be dropped but none may be missed for a photo. The difference is paired over photos; `edge-tl
predict` gives the labels photo by photo, and must agree with `edge-tl evaluate` on how many are right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import _shared  # noqa: F401
import cv2
import numpy as np
from measure import Spread, paired_points
from ratios import record

from edge_tl_runtime.core.statistics import mcnemar, wilson
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.modelfile.onnx import read_spec

FPS = 10


@dataclass(frozen=True)
class Film:
    """encoder: four letters for cv2.VideoWriter, or arguments for the ffmpeg program where those begin with a dash."""

    name: str
    file: str
    width: int
    height: int
    encoder: str
    realtime: bool = False


FILMS = (
    Film("MJPEG, avi", "mjpeg.avi", 640, 480, "MJPG"),
    Film("MJPEG, avi, --realtime", "mjpeg.avi", 640, 480, "MJPG", realtime=True),
    Film("MJPEG, avi, odd portrait", "portrait.avi", 405, 721, "MJPG"),
    Film("MPEG-4, mp4", "mpeg4.mp4", 1280, 720, "mp4v"),
    Film("H.264, mp4", "h264.mp4", 1920, 1080, "-c:v libx264 -preset veryfast -crf 23 -pix_fmt yuv420p"),
    Film("H.264, mkv, portrait", "h264.mkv", 480, 854, "-c:v libx264 -preset veryfast -crf 28 -pix_fmt yuv420p"),
    Film("VP9, webm", "vp9.webm", 640, 360, "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 1M -pix_fmt yuv420p"),
)


def fitted(photo: np.ndarray, width: int, height: int) -> np.ndarray:
    scale = min(width, height) / min(photo.shape[:2])
    rows, columns = (max(min(width, height), round(side * scale)) for side in photo.shape[:2])
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    photo = cv2.resize(photo, (columns, rows), interpolation=shrink)
    top, left = max(0, rows - height) // 2, max(0, columns - width) // 2
    photo = photo[top : top + height, left : left + width]
    y, x = height - photo.shape[0], width - photo.shape[1]
    return cv2.copyMakeBorder(photo, y // 2, y - y // 2, x // 2, x - x // 2, cv2.BORDER_REPLICATE)


def write(film: Film, path: Path, frames: Iterable[np.ndarray]) -> str:
    """Why it could not be written; "" when it was."""
    if not film.encoder.startswith("-"):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*film.encoder), FPS, (film.width, film.height))
        if not writer.isOpened():
            return "this OpenCV does not write it"
        for frame in frames:
            writer.write(frame)
        writer.release()
        return ""
    if shutil.which("ffmpeg") is None:
        return "no ffmpeg program"
    raw = f"-f rawvideo -pix_fmt bgr24 -s {film.width}x{film.height} -r {FPS} -i -".split()
    command = ["ffmpeg", "-loglevel", "error", "-y", *raw, *film.encoder.split(), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        try:
            for frame in frames:
                process.stdin.write(frame.tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass
    return "this ffmpeg does not write it" if process.returncode else ""


def edge_tl(*arguments: object) -> list[dict]:
    command = [sys.executable, "-m", "edge_tl", *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def shown(film: Film, photos: LabelledPhotos, each: int) -> Iterator[np.ndarray]:
    for path in photos.paths:
        frame = fitted(read_photo(path), film.width, film.height)
        for _ in range(each):
            yield frame


def majorities(lines: list[dict], count: int, each: int) -> list[str]:
    """The label that most of a photo's frames got; "" where none of them was seen."""
    votes = [Counter[str]() for _ in range(count)]
    for line in lines:
        votes[line["frame"] // each][line["label"]] += 1
    return [vote.most_common(1)[0][0] if vote else "" for vote in votes]


def rate(right: int, n: int) -> str:
    low, high = wilson(right, n)
    return f"{100 * right / n:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def row(title: str, frames: str, labels: list[str], alone: list[bool], truth: list[str]) -> tuple[str, Spread]:
    """The line of a table, and what of it is recorded."""
    right = [label == true for label, true in zip(labels, truth, strict=True)]
    gained = sum(here and not there for here, there in zip(right, alone, strict=True))
    lost = sum(there and not here for here, there in zip(right, alone, strict=True))
    spread = paired_points(right, alone)
    difference = f"{spread['ratio']:+.1f} ({spread['low']:+.1f} to {spread['high']:+.1f})"
    chance = f"{gained}, {lost} | {mcnemar(gained, lost):.2f}"
    line = f"| {title} | {frames} | {rate(sum(right), len(truth))} | {difference} | {chance} |"
    return line, spread


def main(model: Path, folder: Path, each: int) -> None:
    spec = read_spec(model)
    photos = load_labelled(folder, spec.labels, "all")
    truth = [spec.labels[target] for target in photos.targets]
    evaluated = edge_tl("evaluate", model, folder, "--split", "all")[0]
    by_name = {line["source"]: line["label"] for line in edge_tl("predict", model, folder)}
    alone = [by_name[str(path)] == true for path, true in zip(photos.paths, truth, strict=True)]
    if sum(alone) != round(evaluated["top1"] * evaluated["n"]):
        raise SystemExit(
            f"predict is right for {sum(alone)} photos, evaluate for {evaluated['top1'] * evaluated['n']:.1f}"
        )
    print("| what | frames | top-1 (95 %) | less the photos alone, points (95 % paired) | gained, lost | p |")
    print("|---|---|---|---|---|---|")
    print(f"| `edge-tl evaluate`, photos alone | | {rate(sum(alone), len(truth))} | | | |", flush=True)
    found: list[tuple[Spread, str]] = []
    classified = 1.0
    with tempfile.TemporaryDirectory() as name:
        for film in FILMS:
            path = Path(name, film.file)
            title = f"{film.name}, {film.width}x{film.height}"
            if not path.exists() and (reason := write(film, path, shown(film, photos, each))):
                print(f"| {title} | not measured: {reason} | | | | |")
                continue
            realtime = ["--realtime"] if film.realtime else []
            lines = edge_tl("run", model, "--source", path, "--headless", *realtime)
            labels = majorities(lines, len(photos), each)
            frames = f"{len(lines)} of {len(photos) * each}"
            line, spread = row(title, frames, labels, alone, truth)
            print(line, flush=True)
            found.append((spread, title))
            classified = min(classified, len(lines) / (len(photos) * each))
    if found:
        spread, title = min(found, key=lambda pair: pair[0]["ratio"])
        note = f"worst of {len(found)} videos: {title}; 95 %, paired"
        record("top-1 on videos", "the photos alone", **spread, better="higher", note=note, kind="points")
        record("frames of a video that are classified", "frames in it", classified, goal=">= 1", note="least")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--shown", type=int, default=5, help="Frames for which each photo is shown, 10 a second.")
    given = parser.parse_args()
    main(given.model, given.photos, given.shown)
