"""How large sets of labels are, and how often they hold the right one, by the rule that makes them. Prints Markdown.

    python benchmarks/studies/label_sets.py MODEL PHOTOS [--split val] [--splits 100]

MODEL: an ONNX file. PHOTOS: labelled, of which those of the split are used. Half of them place the threshold, the others are
covered; means over so many random splits, and the largest set of a split. The rules are written here anew, in NumPy.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
from numpy.typing import NDArray
from ratios import record

from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings

Array = NDArray[np.float64]
LEVELS = (0.9, 0.95, 0.99)


def before(p: Array) -> tuple[Array, NDArray[np.int64]]:
    """What the likelier labels have together, and the rank of each from 0: (N, C) each."""
    order = np.argsort(-p, 1, kind="stable")
    ordered = np.take_along_axis(p, order, 1)
    mass, rank = np.empty_like(p), np.empty_like(order)
    np.put_along_axis(mass, order, ordered.cumsum(1) - ordered, 1)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(p.shape[1]), p.shape), 1)
    return mass, rank


RULES: dict[str, Callable[[Array, Array, NDArray[np.int64], np.random.Generator], Array]] = {
    "probability, likeliest always": lambda p, mass, rank, rng: np.where(rank == 0, 0, 1 - p),
    "probability": lambda p, mass, rank, rng: 1 - p,
    "adaptive, exclusive": lambda p, mass, rank, rng: mass,
    "adaptive, inclusive": lambda p, mass, rank, rng: mass + p,
    "adaptive, drawn at random": lambda p, mass, rank, rng: mass + rng.random((len(p), 1)) * p,
    "RAPS 0.05 from 2 labels, exclusive": lambda p, mass, rank, rng: mass + 0.05 * np.maximum(0, rank - 1),
}
"""Scores of labels, (N, C): a label is in the set if its score is at most the threshold."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--splits", type=int, default=100)
    options = parser.parse_args()
    classifier = Classifier(options.model, SessionSettings(spin=True))
    spec, rows, places = classifier.spec, [], []
    photos = load_labelled(options.photos, spec.labels, options.split)
    for batch in PixelReader(photos, spec.resize):
        rows.append(classifier.logits(batch.pixels))
        places += batch.indices
    p, targets = spec.scores.probabilities(np.concatenate(rows)), np.array([photos.targets[i] for i in places])
    n, (mass, rank) = len(p), before(p)
    print(
        f"{spec.arch}, {spec.precision}, {len(spec.labels)} classes, {n} photos, top-1 {(p.argmax(1) == targets).mean():.3f}\n"
    )
    print("| rule | " + " | ".join(f"{100 * c:g} %: covered, labels, largest, empty" for c in LEVELS) + " |")
    print("|---|" + "---|" * len(LEVELS))
    sizes: dict[str, list[float]] = {}
    for name, rule in RULES.items():
        cells = []
        for level in LEVELS:
            found, rng = [], np.random.default_rng(0)
            for _ in range(options.splits):
                order = rng.permutation(n)
                fitted, fresh = order[: n // 2], order[n // 2 :]
                place = math.ceil(level * (len(fitted) + 1) - 1e-9)
                if place > len(fitted):
                    break
                score = rule(p, mass, rank, rng)
                inside = score[fresh] <= np.sort(score[fitted, targets[fitted]])[place - 1]
                labels = inside.sum(1)
                held = inside[np.arange(len(fresh)), targets[fresh]].mean()
                found.append((held, labels.mean(), labels.max(), (labels == 0).mean()))
            if not found:
                cells.append("too few photos")
                continue
            held, mean, largest, empty = np.mean(found, 0)
            cells.append(f"{100 * held:.1f} %, {mean:.2f}, {largest:.0f}, {100 * empty:.1f} %")
            if level == 0.95:
                sizes[name] = [row[1] for row in found]
        print(f"| {name} | {' | '.join(cells)} |")
    chosen, other = (np.array(sizes[name]) for name in ("probability, likeliest always", "adaptive, exclusive"))
    low, middle, high = np.percentile(other / chosen, (25, 50, 75))
    record(
        f"labels in a set at 95 %, {options.photos.resolve().name}, {len(spec.labels)} classes",
        "adaptive sets, exclusive",
        float(middle),
        low=float(low),
        high=float(high),
        better="higher",
        note=f"quartiles of {options.splits} splits",
        headline=False,
    )


if __name__ == "__main__":
    main()
