"""Is a crop that a person gives looked at whole, and what does a second region cost? Prints Markdown.

    python benchmarks/studies/where_to_look.py MODEL.onnx PHOTOS

Top-1 on centred squares of the validation photos, of their middle 87.5 % and of all of them; then the time of a 1280x720 frame
without a crop, with one, rotated, and with two regions, in turn: medians of the ratios to the frame without one.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
from ratios import record

from edge_tl_runtime.images.asked_geometry import AskedGeometry
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.inference.classifier import Classifier

MIDDLE = 0.875
WAYS = {
    "one crop": {"crop": "200,0,720,720"},
    "one crop, rotated by 90 degrees": {"crop": "0,200,720,720", "rotate": 90},
    "two regions": {"crop": ["left=0,0,640,720", "right=640,0,640,720"]},
}


def square(frame: Frame) -> Frame:
    side = min(frame.shape[:2])
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return frame[top : top + side, left : left + side]


def accuracy(classifier: Classifier, folder: Path) -> None:
    photos = load_labelled(folder, classifier.spec.labels, "val")
    rules = [replace(classifier.spec.resize, crop_pct=share) for share in (MIDDLE, 1.0)]
    right = np.zeros((2, len(photos)), bool)
    for place, (path, target) in enumerate(zip(photos.paths, photos.targets, strict=True)):
        part = square(read_photo(path))
        pixels = np.stack([crop_resize(part, rule) for rule in rules])
        right[:, place] = classifier.logits(pixels).argmax(1) == target
    middle, whole = right
    print("| photos | middle 87.5 % | all of it | only the first, only the second right |\n|---|---|---|---|")
    print(
        f"| {folder.name} ({len(photos)}) | {100 * middle.mean():.1f} % | {100 * whole.mean():.1f} % "
        f"| {(middle & ~whole).sum()}, {(whole & ~middle).sum()} |\n"
    )
    gained = 100 * float(whole.mean() - middle.mean())
    record(f"a crop looked at whole, {folder.name}", "its middle 87.5 %", gained, better="", kind="points")


def cost(classifier: Classifier, turns: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    rule = classifier.spec.resize
    looks = [AskedGeometry.parse(**way).regions(rule, 720, 1280) for way in ({}, *WAYS.values())]
    pixels = np.empty((2, rule.height, rule.width, 3), np.uint8)
    spent = np.empty((turns, len(looks)))
    for turn in spent:
        for place, regions in enumerate(looks):
            started = time.perf_counter()
            if len(regions) == 1:
                classifier.frame_logits(frame, regions[0].rule)
            else:
                for region, out in zip(regions, pixels, strict=True):
                    crop_resize(frame, region.rule, out=out)
                classifier.answers(pixels)
            turn[place] = time.perf_counter() - started
    print("| a frame of 1280x720 | over one without a crop |\n|---|---|")
    for place, name in enumerate(WAYS, 1):
        low, middle, high = np.percentile(spent[:, place] / spent[:, 0], (25, 50, 75))
        print(f"| {name} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
        record(f"a frame with {name}", "one without a crop", middle, low=low, high=high, better="", note="quartiles")


def main(model: Path, photos: Path, turns: int) -> None:
    classifier = Classifier(model)
    accuracy(classifier, photos)
    cost(classifier, turns)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--turns", type=int, default=300)
    given = parser.parse_args()
    main(given.model, given.photos, given.turns)
