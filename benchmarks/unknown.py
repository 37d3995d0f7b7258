"""How many pictures of other things a model file calls unknown, beside scores of its logits and detectors of pytorch-ood.

    python benchmarks/unknown.py MODEL KNOWN UNKNOWN... [--without 151-268,281-287] [--near dog] [--also KNOWN2...]

MODEL: an ONNX file with features. KNOWN: the labelled photos it was trained on. UNKNOWN: folders of photos of anything else, the
first of many things: close-ups are the middle fifth of every eighth of them. Textures are windows of scikit-image's photographs
of brick, grass and gravel. Plain colours, covered lenses and noise come as `export` makes them; covered lenses once more with
noise as sensors have it: shot and read noise, hot pixels, demosaicing, JPEG. `--without` leaves out photos whose names begin with
these numbers. `--near` takes labels of KNOWN for unknown: look-alikes. `--also`: photos of known kinds from another source.

Validation photos are dealt into five parts. What tells known from unknown is fitted on the training photos and on four parts,
as `export` does it, and tried on the fifth part and on every fifth unknown photo, so that each photo is tried once by a threshold
that it had no part in. Peers are fitted on the training photos, and the four parts place their thresholds. Intervals are
Wilson's. AUROC is the chance that a known photo scores higher than an unknown one, within a part.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from ratios import record

from edge_tl_export.detection.detector import features_are_frozen
from edge_tl_export.detection.trials import empty_pictures, seen_by_model
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, load_unlabelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.inference.ood import energy, threshold
from edge_tl_runtime.inference.ood_fit import KnownPhotos, fit_detector
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule

Array = NDArray[np.float64]
Rows = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits, (N, C), and features, (N, D)."""
Score = Callable[[Rows], Array]
Rule = tuple[Score, dict[float, float]]
"""A score, and its thresholds by the fraction to keep."""
KEEPS = (0.99, 0.95)
PARTS = 5
OWN = "features of the file"


def numbers(text: str) -> set[int]:
    """{1, 5, 6, 7} of "1,5-7"."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def answers(classifier: Classifier, photos: LabelledPhotos) -> tuple[Rows, NDArray[np.int64]]:
    rows, places = [], []
    for batch in PixelReader(photos, classifier.spec.resize):
        rows.append(classifier.answers(batch.pixels))
        places += [photos.targets[i] if photos.targets else 0 for i in batch.indices]
    logits, features = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return (logits, features), np.asarray(places, np.int64)


def of_pictures(classifier: Classifier, pixels: NDArray[np.uint8]) -> Rows:
    found = [classifier.answers(pixels[i : i + 8]) for i in range(0, len(pixels), 8)]
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def peers(training: Rows, targets: NDArray[np.int64]) -> dict[str, Score]:
    """Detectors of pytorch-ood with their own settings, on the same features; none where it is not installed."""
    try:
        import torch

        from edge_tl.models._torchvision import import_torchvision

        import_torchvision()  # which pytorch-ood imports, and which may not fit a torch for the processor alone
        from pytorch_ood.detector import KNN, Mahalanobis
    except ImportError as error:
        print(f"pytorch-ood is left out: {error}")
        return {}
    labels = torch.from_numpy(targets)

    def scored(detector: object) -> Score:
        fitted = detector.fit_features(torch.from_numpy(training[1]), labels)  # type: ignore[attr-defined]
        return lambda rows: -np.asarray(fitted.predict_features(torch.from_numpy(rows[1])), np.float64)

    return {
        "pytorch-ood, Mahalanobis": scored(Mahalanobis(None)),
        "pytorch-ood, KNN": scored(KNN(None)),
    }


def auroc(known: Array, unknown: Array) -> float:
    return float(np.mean((known[:, None] > unknown) + 0.5 * (known[:, None] == unknown)))


def rate(count: int, n: int) -> str:
    low, high = wilson(count, n)
    return f"{100 * count / n:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def parts_of(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 to PARTS - 1 for each photo: those of a class take turns."""
    part = np.empty(len(targets), np.int64)
    part[np.argsort(targets, kind="stable")] = np.arange(len(targets)) % PARTS
    return part


def textures(rule: ResizeRule) -> NDArray[np.uint8]:
    """Sixteen windows of each of scikit-image's photographs of brick, grass and gravel."""
    import skimage.data

    whole = [read_photo(Path(skimage.data.__file__).parent / f"{name}.png") for name in ("brick", "grass", "gravel")]
    windows = [
        photo[y : y + side, x : x + side]
        for photo in whole
        for side in [min(photo.shape[:2]) // 4]
        for y in range(0, 4 * side, side)
        for x in range(0, 4 * side, side)
    ]
    return seen_by_model(windows, rule)


def close_ups(photos: LabelledPhotos, rule: ResizeRule) -> NDArray[np.uint8]:
    """The middle fifth of every eighth photo: fur, leaves, cloth, sky and what else lies there."""
    windows = []
    for path in photos.paths[::8]:
        photo = read_photo(path)
        height, width = photo.shape[0] // 5, photo.shape[1] // 5
        windows.append(np.ascontiguousarray(photo[2 * height : 3 * height, 2 * width : 3 * width]))
    return seen_by_model(windows, rule)


def covered_sensor(rule: ResizeRule, count: int = 60) -> NDArray[np.uint8]:
    """A lens under a cap, a hand or cloth: a smooth, dark or reddish light, with the noise of a sensor at high gain.

    Electrons are Poisson's, reading adds Gaussian noise, one pixel of 2000 is hot; a Bayer pattern is interpolated, JPEG follows.
    """
    rng = np.random.default_rng(0)
    height, width = 2 * rule.height, 2 * rule.width
    across = np.hypot(*np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height)))
    frames = []
    for place in range(count):
        colour = np.array(
            [(1, 1, 1), (0.25, 0.4, 1.0), (0.2, 0.3, 0.55)][place % 3]
        )  # blue, green, red: a cap, a hand, leather
        level = rng.uniform(0.5, 6) if place % 3 == 0 else rng.uniform(4, 90)
        leak = cv2.GaussianBlur(rng.uniform(0, 1, (height, width)), (0, 0), width / 5)
        leak = (leak - leak.min()) / np.ptp(leak)
        light = level * (0.4 + 0.6 * leak) * (1 - 0.35 * across**2)
        gain = rng.uniform(0.5, 3)  # grey levels an electron
        mosaic = np.empty((height, width))
        for y, x, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
            mosaic[y::2, x::2] = light[y::2, x::2] * colour[channel]
        mosaic = gain * rng.poisson(np.maximum(mosaic, 0) / gain) + rng.normal(2, 1.5 * gain, mosaic.shape)
        hot = rng.random(mosaic.shape) < 1 / 2000
        mosaic[hot] += rng.uniform(20, 200, int(hot.sum()))
        frame = cv2.cvtColor(np.clip(np.rint(mosaic), 0, 255).astype(np.uint8), cv2.COLOR_BayerRG2BGR)
        jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
        frames.append(np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8))
    return seen_by_model(frames, rule)


@dataclass(frozen=True)
class Material:
    """train, held: answers and classes of known photos. sets: answers of unknown pictures by name. also: of known kinds."""

    train: tuple[Rows, NDArray[np.int64]]
    held: tuple[Rows, NDArray[np.int64]]
    sets: dict[str, Rows]
    also: dict[str, Rows]


def some(rows: Rows, places: NDArray[np.bool_] | slice) -> Rows:
    return rows[0][places], rows[1][places]


def own_rule(material: Material, part: int, dealt: NDArray[np.int64], rank: int, frozen: bool) -> Rule:
    """What `export` would have fitted without this part."""
    (_, training), targets = material.train
    (_, features), held = material.held
    rest = dealt != part
    fitted = fit_detector(
        KnownPhotos(training, targets), KnownPhotos(features[rest], held[rest]), "", rank, frozen=frozen
    )
    assert fitted is not None
    detector = fitted.detector
    bounds = {keep: detector.thresholds.threshold(keep) for keep in KEEPS}
    return lambda rows: np.maximum(detector.scores(rows[1]), -1e30), bounds


def figures(material: Material, scores: dict[str, Score], own: Callable[[int, NDArray[np.int64]], Rule]) -> list[Row]:
    """By score: how often known photos are kept and others noticed, each by a threshold that it had no part in."""
    rows, targets = material.held
    dealt = parts_of(targets)
    found = {
        name: Row(name, len(targets), {n: len(r[0]) for n, r in {**material.sets, **material.also}.items()})
        for name in (*scores, OWN)
    }
    for part in range(PARTS):
        here, rest = some(rows, dealt == part), some(rows, dealt != part)
        right = here[0].argmax(1) == targets[dealt == part]
        rules = {
            name: (score, {keep: threshold(score(rest), keep) for keep in KEEPS}) for name, score in scores.items()
        }
        rules[OWN] = own(part, dealt)
        for name, (score, bounds) in rules.items():
            known = score(here)
            for keep in KEEPS:
                found[name].kept[keep] += int((known >= bounds[keep]).sum())
                found[name].right[keep] += int((right & (known >= bounds[keep])).sum())
            for other, unknown in {**material.sets, **material.also}.items():
                values = score(some(unknown, slice(part, None, PARTS)))
                found[name].curve[other].append(auroc(known, values))
                for keep in KEEPS:
                    found[name].noticed[keep][other] += int((values < bounds[keep]).sum())
    return list(found.values())


@dataclass
class Row:
    """Counts of one score. right: known photos whose class is right and that stay known."""

    name: str
    known: int
    sizes: dict[str, int]
    kept: Counter[float] = field(default_factory=Counter)
    right: Counter[float] = field(default_factory=Counter)
    noticed: dict[float, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    curve: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def auroc(self, other: str) -> float:
        return float(np.mean(self.curve[other]))


def table(found: list[Row], keep: float) -> str:
    sizes = found[0].sizes
    head = [
        "score",
        f"kept at {100 * keep:g} %",
        "right and kept",
        *(f"{name} ({n})" for name, n in sizes.items()),
        "AUROC",
    ]
    lines = [head, ["---"] * len(head)]
    for row in found:
        cells = [rate(row.noticed[keep][other], n) for other, n in sizes.items()]
        curve = ", ".join(f"{row.auroc(other):.3f}" for other in sizes)
        lines.append([row.name, rate(row.kept[keep], row.known), rate(row.right[keep], row.known), *cells, curve])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_all(options: argparse.Namespace, classifier: Classifier) -> Material:
    spec = classifier.spec
    fraction, seed = spec.training.get("val_fraction"), spec.training.get("seed", 0)
    train, held = (
        answers(classifier, load_labelled(options.known, spec.labels, part, val_fraction=fraction, seed=seed))
        for part in ("train", "val")
    )
    sets: dict[str, Rows] = {}
    for folder in options.unknown:
        photos = load_unlabelled(folder)
        left_out = {f"{number:04d}" for number in options.without}
        places = [i for i, path in enumerate(photos.paths) if path.name.partition("_")[0] not in left_out]
        chosen = photos.subset(places, "unlabelled")
        sets[folder.resolve().name] = answers(classifier, chosen)[0]
        if folder == options.unknown[0]:
            sets["close-ups"] = of_pictures(classifier, close_ups(chosen, spec.resize))
    sets["textures"] = of_pictures(classifier, textures(spec.resize))
    sets["covered lenses"] = of_pictures(classifier, covered_sensor(spec.resize))
    sets["colours, covers, noise"] = of_pictures(classifier, np.concatenate(list(empty_pictures(spec.resize).values())))
    also = {
        f"kept of {folder.resolve().name}": answers(classifier, load_unlabelled(folder))[0] for folder in options.also
    }
    return Material(train, held, sets, also)


def without_near(material: Material, spec: ModelSpec, near: list[str]) -> Material:
    """With photos of these labels as unknown ones, and logits of the others alone."""
    out = [spec.labels.index(label) for label in near]
    stay = [place for place in range(len(spec.labels)) if place not in out]

    def narrow(rows: Rows) -> Rows:
        return rows[0][:, stay], rows[1]

    def known(rows: Rows, targets: NDArray[np.int64]) -> tuple[Rows, NDArray[np.int64]]:
        inside = np.isin(targets, stay)
        return narrow(some(rows, inside)), np.searchsorted(stay, targets[inside])

    sets = {"look-alikes": narrow(some(material.held[0], np.isin(material.held[1], out)))}
    sets |= {name: narrow(rows) for name, rows in material.sets.items()}
    return Material(
        known(*material.train), known(*material.held), sets, {k: narrow(v) for k, v in material.also.items()}
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("known", type=Path)
    parser.add_argument("unknown", type=Path, nargs="+")
    parser.add_argument("--without", type=numbers, default=set(), metavar="NUMBERS")
    parser.add_argument("--near", nargs="*", default=[], metavar="LABEL")
    parser.add_argument("--also", type=Path, nargs="*", default=[], metavar="FOLDER")
    options = parser.parse_args()
    classifier = Classifier(options.model, SessionSettings(spin=True))
    if classifier.detector is None or classifier.detector.distance is None:
        parser.error(f"{options.model} holds no features; export it again")
    material = read_all(options, classifier)
    report(material, classifier, options.known.name, options.near)


def report(material: Material, classifier: Classifier, known: str, near: list[str]) -> None:
    spec, detector = classifier.spec, classifier.detector
    assert detector is not None
    assert detector.distance is not None
    rank = detector.distance.basis.shape[1]
    if near:
        material = without_near(material, spec, near)
    scores: dict[str, Score] = {
        "energy": lambda rows: energy(rows[0]),
        "largest probability": lambda rows: spec.scores.probabilities(rows[0]).max(1),
        **peers(*material.train),
    }
    frozen = features_are_frozen(spec)
    found = figures(material, scores, lambda part, dealt: own_rule(material, part, dealt, rank, frozen))
    photos = len(material.train[1]), len(material.held[1])
    shown = f"{spec.arch}, {spec.precision}, {len(spec.labels) - len(near)} classes of {known}"
    print(f"{shown}; {photos[0]} training photos, {photos[1]} validation photos\n")
    for keep in KEEPS:
        print(table(found, keep) + "\n")
    usual, own = found[0], found[-1]
    for other in material.sets:
        gain = own.auroc(other) - usual.auroc(other)
        what = f"AUROC of unknown pictures, {known} and {other}"
        record(what, "energy of the logits", 100 * gain, better="higher", kind="points")


if __name__ == "__main__":
    main()
