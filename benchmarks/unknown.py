"""How many pictures of other things a model file calls unknown, beside scores of its logits and detectors of pytorch-ood.

    python benchmarks/unknown.py MODEL KNOWN UNKNOWN... [--without 151-268,281-287]

MODEL: an ONNX file with features. KNOWN: the labelled photos it was trained on. The training part fits the detectors of
pytorch-ood, where that is installed; the validation part places thresholds. UNKNOWN: folders of photos of anything else. Plain
colours, covered lenses and noise come on top, as `export` makes them. `--without` leaves out photos whose names begin with these
numbers.

Known photos of each class are dealt into two halves. A threshold placed on one half is tried on the other half and on every
second unknown photo, so that each photo is tried once by a threshold that it had no part in. Intervals are Wilson's. AUROC is the
chance that a known photo scores higher than an unknown one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ratios import record

from edge_tl_export.detection.trials import empty_pictures
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, load_unlabelled
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.inference.ood import energy, threshold

Array = NDArray[np.float64]
Rows = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits, (N, C), and features, (N, D)."""
KEEPS = (0.99, 0.95)
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


def peers(training: Rows, targets: NDArray[np.int64], classes: int) -> dict[str, Callable[[Rows], Array]]:
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

    def scored(detector: object) -> Callable[[Rows], Array]:
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


def halves(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 or 1 for each photo: those of a class take turns."""
    half = np.zeros(len(targets), np.int64)
    for target in np.unique(targets):
        (places,) = np.nonzero(targets == target)
        half[places] = np.arange(len(places)) % 2
    return half


def noticed(known: Array, unknown: Array, half: NDArray[np.int64], keep: float) -> int:
    bounds = [threshold(known[half == other], keep) for other in (0, 1)]
    return sum(int((unknown[other::2] < bounds[other]).sum()) for other in (0, 1))


def kept(known: Array, half: NDArray[np.int64], keep: float) -> int:
    return sum(int((known[half != other] >= threshold(known[half == other], keep)).sum()) for other in (0, 1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("known", type=Path)
    parser.add_argument("unknown", type=Path, nargs="+")
    parser.add_argument("--without", type=numbers, default=set(), metavar="NUMBERS")
    options = parser.parse_args()
    classifier = Classifier(options.model, SessionSettings(spin=True))
    spec, detector = classifier.spec, classifier.detector
    if detector is None or not detector.by_features:
        parser.error(f"{options.model} holds no features; export it again")
    fraction, seed = spec.training.get("val_fraction"), spec.training.get("seed", 0)
    train, held = (
        load_labelled(options.known, spec.labels, part, val_fraction=fraction, seed=seed) for part in ("train", "val")
    )
    known, targets = answers(classifier, held)
    sets: dict[str, Rows] = {}
    for folder in options.unknown:
        photos = load_unlabelled(folder)
        left_out = {f"{number:04d}" for number in options.without}
        places = [i for i, path in enumerate(photos.paths) if path.name.partition("_")[0] not in left_out]
        sets[folder.resolve().name] = answers(classifier, photos.subset(places, "unlabelled"))[0]
    empty = np.concatenate(list(empty_pictures(spec.resize).values()))
    sets["colours, covers, noise"] = of_pictures(classifier, empty)
    scores: dict[str, Callable[[Rows], Array]] = {
        "energy": lambda rows: energy(rows[0]),
        "largest probability": lambda rows: spec.scores.probabilities(rows[0]).max(1),
        **peers(*answers(classifier, train), len(spec.labels)),
        OWN: lambda rows: np.maximum(detector.scores(rows[1]), -1e30),
    }
    half = halves(targets)
    shown = f"{spec.arch}, {spec.precision}, {len(spec.labels)} classes"
    print(f"{shown}, {len(targets)} known photos ({held.split} of {options.known.name})\n")
    columns = [f"{name} ({len(rows[0])})" for name, rows in sets.items()]
    for keep in KEEPS:
        print(
            f"| score | kept at {100 * keep:g} % | " + " | ".join(f"noticed: {name}" for name in columns) + " | AUROC |"
        )
        print("|---|---|" + "---|" * (len(columns) + 1))
        for name, score in scores.items():
            own = score(known)
            found = {other: score(rows) for other, rows in sets.items()}
            cells = [rate(noticed(own, values, half, keep), len(values)) for values in found.values()]
            curve = [f"{auroc(own, values):.3f}" for values in found.values()]
            row = [name, rate(kept(own, half, keep), len(own)), *cells, ", ".join(curve)]
            print(f"| {' | '.join(row)} |")
        print()
    own, usual = scores[OWN](known), energy(known[0])
    for other, rows in sets.items():
        gain = auroc(own, scores[OWN](rows)) - auroc(usual, energy(rows[0]))
        what = f"AUROC of unknown pictures, {options.known.name} and {other}"
        record(what, "energy of the logits", 100 * gain, better="higher", kind="points")


if __name__ == "__main__":
    main()
