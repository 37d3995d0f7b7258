"""Accuracy, aliasing and time of crop-and-resize rules. Prints Markdown.

    python benchmarks/resize.py IMAGENET_SAMPLE_FOLDER

Top-1 of efficientnet_lite0 on photos named by class index; the same after a fourfold shrink (each method shrinks the photo to
56 px, all are enlarged alike), which shows aliasing on real labels; the error of a zone plate shrunk from 1080p against
Lanczos in Pillow; and milliseconds on one core for two frame sizes.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from edge_tl.training.run import published_run
from edge_tl_export import to_onnx
from edge_tl_runtime import preprocess
from edge_tl_runtime.classifier import SessionSettings, open_session
from edge_tl_runtime.dataset import load_labelled
from edge_tl_runtime.photos import map_in_order, read_photo

Shrink = Callable[[np.ndarray, int], np.ndarray]
SIZE = 224


def pillow(filter: Image.Resampling) -> Shrink:
    return lambda crop, size: np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((size, size), filter))


def opencv(interpolation: int) -> Shrink:
    return lambda crop, size: cv2.resize(crop, (size, size), interpolation=interpolation)


def area_then(interpolation: int, tolerance: float) -> Shrink:
    def shrink(crop: np.ndarray, size: int) -> np.ndarray:
        k = max(1, int(min(crop.shape[:2]) / size + tolerance))
        if k > 1:
            side = min(crop.shape[:2]) // k
            trim = (min(crop.shape[:2]) - side * k) // 2
            crop = cv2.resize(
                crop[trim : trim + side * k, trim : trim + side * k], (side, side), interpolation=cv2.INTER_AREA
            )
        return cv2.resize(crop, (size, size), interpolation=interpolation)

    return shrink


RULES: dict[str, Shrink] = {
    "Pillow bicubic": pillow(Image.Resampling.BICUBIC),
    "Pillow bilinear": pillow(Image.Resampling.BILINEAR),
    "Pillow Lanczos": pillow(Image.Resampling.LANCZOS),
    "OpenCV cubic": opencv(cv2.INTER_CUBIC),
    "OpenCV linear": opencv(cv2.INTER_LINEAR),
    "OpenCV area": opencv(cv2.INTER_AREA),
    "area k=floor, cubic": area_then(cv2.INTER_CUBIC, 0.0),
    "area k=floor+0.25, cubic": area_then(cv2.INTER_CUBIC, 0.25),
    "area k=round, cubic": area_then(cv2.INTER_CUBIC, 0.5),
    "area k=round, linear": area_then(cv2.INTER_LINEAR, 0.5),
    "**edge-tl**": lambda crop, size: preprocess.RESAMPLES[preprocess.DEFAULT_RESAMPLE](crop, size, size),
}


def zone_plate(height: int, width: int) -> np.ndarray:
    """A chirp whose frequency grows from 0 at the centre to the sampling limit at the side of the height."""
    y, x = np.mgrid[:height, :width]
    radius = (x - width / 2) ** 2 + (y - height / 2) ** 2
    plate = 127.5 + 127.5 * np.cos(np.pi * radius / height)
    return np.repeat(plate.round().astype(np.uint8)[..., None], 3, 2)


def crop_of(frame: np.ndarray, part: float = 0.875) -> np.ndarray:
    side = round(min(frame.shape[:2]) * part)
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return frame[top : top + side, left : left + side]


def milliseconds(rule: Shrink, height: int, width: int) -> float:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    times = []
    for _ in range(60):
        started = time.perf_counter()
        rule(crop_of(frame), SIZE)
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def main(folder: Path) -> None:
    cv2.setNumThreads(1)
    run = published_run("efficientnet_lite0", "pretrained")
    model = to_onnx(run.network.module, run.spec)
    session = open_session(model, "efficientnet_lite0", SessionSettings(spin=True))
    photos = load_labelled(folder, run.spec.labels, "all")
    targets = np.asarray(photos.targets)
    hits: dict[tuple[str, float], int] = {}
    scales = (1.0, 1.5, 1.9, 2.5, 4.0)  # shrink applied by the method itself; 1.0 is the photo as it comes

    def variants(path: Path) -> list[np.ndarray]:
        crop = crop_of(read_photo(path))
        stack = []
        for scale in scales:
            for rule in RULES.values():
                if scale == 1.0:
                    small = rule(crop, SIZE)
                else:
                    small = rule(crop, round(min(crop.shape[:2]) / scale))
                    small = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
                stack.append(small[:, :, ::-1])
        return stack

    keys = [(name, scale) for scale in scales for name in RULES]
    for index, stack in enumerate(map_in_order(variants, photos.paths)):
        (logits,) = session.run(None, {"pixels": np.stack(stack)})
        for key, row in zip(keys, logits, strict=True):
            hits[key] = hits.get(key, 0) + int(row.argmax() == targets[index])

    plate = crop_of(zone_plate(1080, 1920))
    reference = RULES["Pillow Lanczos"](plate, SIZE).astype(float)
    print(
        f"| rule | {' | '.join(f'top-1, shrink {s:g}x' if s != 1 else 'top-1' for s in scales)} "
        "| zone plate RMS | 640x480 ms | 1920x1080 ms |"
    )
    print("|---|" + "---|" * (len(scales) + 3))
    for name, rule in RULES.items():
        error = float(np.sqrt(np.mean((rule(plate, SIZE).astype(float) - reference) ** 2)))
        rates = " | ".join(f"{100 * hits[name, scale] / len(photos):.1f}" for scale in scales)
        print(
            f"| {name} | {rates} | {error:.1f} | {milliseconds(rule, 480, 640):.2f} | {milliseconds(rule, 1080, 1920):.2f} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
