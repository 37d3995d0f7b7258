"""How much a split by chance flatters where photos come in bursts. Prints Markdown.

    python benchmarks/burst_splits.py DATA [--photos 60] [--frames 8] [--seeds 5]

DATA: a folder with train and val of one kind of photo, as cats-dogs. Each photo of `train` that is drawn becomes a burst: crops
that wander and turn a little, as a hand does, some lighter, each saved as JPEG of its own quality. A linear probe learns from
each split of the bursts; the truth is its accuracy on photos of `val`, which no burst shows.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from ratios import record

from edge_tl.cli.console import silent
from edge_tl.data.grouping import finder
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training.probe.features import FeatureExtractor, Features
from edge_tl.training.probe.probe import fit_probe
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_splits
from edge_tl_runtime.images.decode import Frame, read_photo

ROWS = (("burst3_frame_0002.jpg", "none"), ("burst3_frame_0002.jpg", "by-name"), ("a name of its own", "auto"))
"""How the frames are called, and what `--group` is; their bytes are the same."""
SIDE = 320


@dataclass(frozen=True)
class Outcome:
    """Accuracies of one split, fractions. kept: share of the bursts that lie on one side."""

    validation: float
    truth: float
    kept: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    given = load_splits(options.data)
    backbone = find_backbone("efficientnet_lite0")
    extract = FeatureExtractor(
        build_network(backbone, WeightsSource.parse("pretrained", backbone)), torch.device("cpu")
    )
    unseen = extract(given.val.spread(300))
    print("| names | --group | bursts on one side | validation says | truth | flattery, points |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for naming, method in ROWS:
            root = Path(folder, naming.split("_")[0].replace(" ", "-"))
            if not root.exists():
                write_bursts(given.train.spread(options.photos), root, options.frames, naming.startswith("burst"))
            outcomes = [outcome(root, method, seed, extract, unseen) for seed in range(options.seeds)]
            show(naming, method, outcomes)


def show(naming: str, method: str, outcomes: list[Outcome]) -> None:
    told, truth = (100 * np.median([getattr(o, name) for o in outcomes]) for name in ("validation", "truth"))
    flattery = 100 * np.array([o.validation - o.truth for o in outcomes])
    low, middle, high = np.percentile(flattery, (25, 50, 75))
    kept = 100 * np.median([o.kept for o in outcomes])
    print(
        f"| {naming} | {method} | {kept:.0f} % | {told:.1f} % | {truth:.1f} % | {middle:+.1f} ({low:+.1f} to {high:+.1f}) |",
        flush=True,
    )
    what = f"accuracy told over the truth, bursts ({naming}), --group {method}"
    record(what, "unseen photos", float(middle), low=float(low), high=float(high), better="lower", kind="points")


def outcome(root: Path, method: str, seed: int, extract: FeatureExtractor, unseen: Features) -> Outcome:
    splits = load_splits(root, seed=seed, group=method, find_alike=finder(silent, lambda some: extract(some).values))
    train, val = extract(splits.train), extract(splits.val)
    probe = fit_probe(train.values, train.targets, train.names, len(splits.train.labels))

    def right(features: Features) -> float:
        return float((probe.logits(features.values).argmax(1) == features.targets).mean())

    sides = [{burst_of(path) for path in part.paths} for part in (splits.train, splits.val)]
    kept = 1 - len(sides[0] & sides[1]) / len(sides[0] | sides[1])
    return Outcome(right(val), right(unseen), kept)


def burst_of(path: Path) -> str:
    """The photo that a frame was cut from, by the list beside the frames."""
    return (path.parent / "bursts.txt").read_text().split(f"{path.name} ")[1].split("\n")[0]


def write_bursts(photos: LabelledPhotos, root: Path, frames: int, telling: bool) -> None:
    rng, names = np.random.default_rng(0), np.random.default_rng(1)
    for place, path in enumerate(photos.paths):
        folder = root / photos.labels[photos.targets[place]]
        folder.mkdir(parents=True, exist_ok=True)
        photo = read_photo(path)
        wander = rng.uniform(-0.5, 0.5, 2)
        for frame in range(frames):
            wander = np.clip(wander + rng.normal(0, 0.2, 2), -1, 1)
            name = f"burst{place}_frame_{frame:04d}.jpg" if telling else f"{names.bytes(5).hex()}x.jpg"
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))]
            data = cv2.imencode(".jpg", jittered(photo, wander, rng), quality)[1]
            (folder / name).write_bytes(data.tobytes())
            with (folder / "bursts.txt").open("a") as side:
                side.write(f"{name} {place}\n")


def jittered(photo: Frame, wander: NDArray[np.float64], rng: np.random.Generator) -> Frame:
    """Four fifths of the photo, about; turned by some degrees, lighter or darker by a tenth."""
    height, width = photo.shape[:2]
    share = rng.uniform(0.75, 0.85)
    centre = (0.5 + wander * (1 - share) / 2) * (width, height)
    turn = cv2.getRotationMatrix2D(
        (float(centre[0]), float(centre[1])), rng.normal(0, 2), SIDE / (share * min(width, height))
    )
    turn[:, 2] += SIDE / 2 - centre
    view = cv2.warpAffine(photo, turn, (SIDE, SIDE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.convertScaleAbs(view, alpha=rng.normal(1, 0.05), beta=rng.normal(0, 5)), np.uint8)


if __name__ == "__main__":
    main()
