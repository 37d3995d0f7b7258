"""Accuracy, aliasing and time of crop-and-resize rules. Prints Markdown.

    python benchmarks/studies/resize_rules.py IMAGENET_SAMPLE_FOLDER [MODEL]

Top-1 of efficientnet_lite0, or of MODEL, on photos named by class index, as they come and after a shrink (each method shrinks
the photo by itself, all are enlarged alike), which shows aliasing on real labels; the error of a zone plate shrunk from 1080p
against Lanczos in Pillow; and milliseconds on one core for two frame sizes. A second table sets the rules that a file may name
beside each other, photo by photo.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import _shared  # noqa: F401
import cv2
import numpy as np
from measure import paired_points
from PIL import Image
from ratios import record

from edge_tl.training.run_folder import published_run
from edge_tl_export import to_onnx
from edge_tl_runtime.core.statistics import discordant, mcnemar
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.crop import DEFAULT_RESAMPLE, RESAMPLES
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import SessionSettings, open_session
from edge_tl_runtime.modelfile.onnx import parse_spec, read_model
from edge_tl_runtime.modelfile.spec import ModelSpec

Shrink = Callable[[np.ndarray, int], np.ndarray]
SIZE = 224
SCALES = (1.0, 1.5, 1.9, 2.5, 4.0)
"""Shrink applied by the method itself; 1.0 is the photo as it comes."""
OURS, PILLOW = f"**{DEFAULT_RESAMPLE}**", "Pillow bicubic"


def pillow(filter: Image.Resampling) -> Shrink:
    return lambda crop, size: np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((size, size), filter))


def opencv(interpolation: int) -> Shrink:
    return lambda crop, size: cv2.resize(crop, (size, size), interpolation=interpolation)


def area_then(rest: Shrink, tolerance: float) -> Shrink:
    def shrink(crop: np.ndarray, size: int) -> np.ndarray:
        k = max(1, int(min(crop.shape[:2]) / size + tolerance))
        if k > 1:
            side = min(crop.shape[:2]) // k
            trim = (min(crop.shape[:2]) - side * k) // 2
            blocks = crop[trim : trim + side * k, trim : trim + side * k]
            crop = cv2.resize(blocks, (side, side), interpolation=cv2.INTER_AREA)
        return rest(crop, size)

    return shrink


def remapped(crop: np.ndarray, size: int) -> np.ndarray:
    """Bicubic with whole-number weights at 1/32 of a pixel."""
    rows, columns = ((np.arange(size) + 0.5) * (old / size) - 0.5 for old in crop.shape[:2])
    across, down = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    return cv2.remap(crop, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def rule(name: str) -> Shrink:
    return lambda crop, size: RESAMPLES[name](crop, size, size)


RULES: dict[str, Shrink] = {
    PILLOW: pillow(Image.Resampling.BICUBIC),
    "Pillow bilinear": pillow(Image.Resampling.BILINEAR),
    "Pillow Lanczos": pillow(Image.Resampling.LANCZOS),
    "OpenCV cubic": opencv(cv2.INTER_CUBIC),
    "OpenCV linear": opencv(cv2.INTER_LINEAR),
    "OpenCV area": opencv(cv2.INTER_AREA),
    "area k=round, cubic": area_then(opencv(cv2.INTER_CUBIC), 0.5),
    "area k=round, linear": area_then(opencv(cv2.INTER_LINEAR), 0.5),
    "area k=floor, Lanczos": area_then(opencv(cv2.INTER_LANCZOS4), 0.0),
    "area k=floor, cubic by remap": area_then(remapped, 0.0),
    OURS: rule(DEFAULT_RESAMPLE),
    **{name: rule(name) for name in RESAMPLES if name != DEFAULT_RESAMPLE},
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


def network(model: Path | None) -> tuple[bytes, ModelSpec]:
    if model is None:
        run = published_run("efficientnet_lite0", "pretrained")
        return to_onnx(run.network.module, run.spec), run.spec
    data = read_model(model)
    return data, parse_spec(data, str(model))


def evaluate(folder: Path, model: Path | None) -> dict[tuple[str, float], np.ndarray]:
    """By rule and shrink, which photos are named right: bool (photos,)."""
    data, spec = network(model)
    session = open_session(data, spec.arch, SessionSettings(spin=True))
    photos = load_labelled(folder, spec.labels, "all")
    keys = [(name, scale) for scale in SCALES for name in RULES]
    right = {key: np.zeros(len(photos), bool) for key in keys}

    def variants(path: Path) -> list[np.ndarray]:
        crop, stack = crop_of(read_photo(path)), []
        for name, scale in keys:
            if scale == 1.0:
                small = RULES[name](crop, SIZE)
            else:
                small = RULES[name](crop, round(min(crop.shape[:2]) / scale))
                small = cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            stack.append(small[:, :, ::-1])
        return stack

    for index, stack in enumerate(map_in_order(variants, photos.paths)):
        (logits,) = session.run(None, {"pixels": np.stack(stack)})
        for key, row in zip(keys, logits, strict=True):
            right[key][index] = row.argmax() == photos.targets[index]
    return right


def main(folder: Path, model: Path | None) -> None:
    cv2.setNumThreads(1)
    right = evaluate(folder, model)
    plate = crop_of(zone_plate(1080, 1920))
    reference = RULES["Pillow Lanczos"](plate, SIZE).astype(float)
    columns = [f"top-1, shrink {scale:g}x" if scale != 1 else "top-1" for scale in SCALES]
    print(f"| rule | {' | '.join(columns)} | zone plate RMS | 640x480 ms | 1920x1080 ms |")
    print("|---|" + "---|" * (len(SCALES) + 3))
    times = {name: (milliseconds(rule, 480, 640), milliseconds(rule, 1080, 1920)) for name, rule in RULES.items()}
    for name, rule in RULES.items():
        error = float(np.sqrt(np.mean((rule(plate, SIZE).astype(float) - reference) ** 2)))
        rates = " | ".join(f"{100 * right[name, scale].mean():.1f}" for scale in SCALES)
        print(f"| {name} | {rates} | {error:.1f} | {times[name][0]:.2f} | {times[name][1]:.2f} |")
    print(f"\n| {OURS} beside | shrink | photos it alone has right | the other alone | p |\n|---|---|---|---|---|")
    for other in (*sorted(RESAMPLES.keys() - {DEFAULT_RESAMPLE}), PILLOW):
        for scale in SCALES:
            gained, lost = discordant(right[OURS, scale], right[other, scale])
            print(f"| {other} | {scale:g}x | {gained} | {lost} | {mcnemar(gained, lost):.3f} |")
    spread = paired_points(right[OURS, 1.0], right[PILLOW, 1.0])
    note = f"{len(right[OURS, 1.0])} photos, 95 % interval"
    record("top-1, crop and resize", PILLOW, **spread, kind="points", better="higher", note=note)
    record("crop and resize, 1920x1080", PILLOW, times[OURS][1] / times[PILLOW][1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path, nargs="?")
    given = parser.parse_args()
    main(given.folder, given.model)
