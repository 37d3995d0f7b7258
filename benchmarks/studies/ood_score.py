"""How many photos of other things a model notices, by three scores of its logits. Prints Markdown.

    python benchmarks/studies/ood_score.py MODEL KNOWN UNKNOWN [--without 151-268,281-285]

MODEL: an ONNX file. KNOWN: the folder it was trained on, of which the validation photos are taken. UNKNOWN: a folder of photos of
anything else. `--without` leaves out photos whose name begins with such a number: the ImageNet classes that MODEL does know.

The known photos of each class are dealt into two halves. A threshold placed on one half is tried on the known photos of the other
half and every second unknown one, so that each photo is tried once by a threshold that it had no part in. Intervals are
Wilson's, of the photos tried; what a threshold on other known photos would differ by comes on top. AUROC is the chance that a
known photo scores higher than an unknown one. The last line uses the thresholds that the file carries, which stand on all known
photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
from measure import Spread
from numpy.typing import NDArray
from ratios import record
from unknown import auroc, numbers, rate

from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, load_unlabelled
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.inference.ood import KEEP, energy, ood_thresholds_of, threshold

Array = NDArray[np.float64]

RESAMPLES = 300


def halves(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 or 1 for each photo: those of a class take turns."""
    half = np.zeros(len(targets), np.int64)
    for target in np.unique(targets):
        (places,) = np.nonzero(targets == target)
        half[places] = np.arange(len(places)) % 2
    return half


def answers(classifier: Classifier, photos: LabelledPhotos) -> tuple[Array, list[int]]:
    """Logits, (N, C), and the places of the photos that could be read."""
    rows, places = [], []
    for batch in PixelReader(photos, classifier.spec.resize):
        rows.append(classifier.logits(batch.pixels))
        places += batch.indices
    return np.concatenate(rows).astype(np.float64), places


def resampled_gain(known: Array, unknown: Array, usual_known: Array, usual_unknown: Array) -> Spread:
    """Points of AUROC that a score is above the usual one on the same photos, and the 95 % interval of a bootstrap."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(RESAMPLES):
        some, others = rng.integers(0, len(known), len(known)), rng.integers(0, len(unknown), len(unknown))
        gains.append(auroc(known[some], unknown[others]) - auroc(usual_known[some], usual_unknown[others]))
    low, high = np.percentile(gains, (2.5, 97.5))
    gain = auroc(known, unknown) - auroc(usual_known, usual_unknown)
    return {"ratio": 100 * gain, "low": 100 * float(low), "high": 100 * float(high)}


def crossed(known: Array, unknown: Array, half: NDArray[np.int64], keep: float) -> tuple[int, int]:
    """Known photos kept and unknown ones noticed, each by the threshold of the other half."""
    kept = noticed = 0
    for other in (0, 1):
        bound = threshold(known[half == other], keep)
        kept += int((known[half != other] >= bound).sum())
        noticed += int((unknown[other::2] < bound).sum())
    return kept, noticed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("known", type=Path)
    parser.add_argument("unknown", type=Path)
    parser.add_argument("--without", type=numbers, default=set(), metavar="NUMBERS")
    options = parser.parse_args()
    classifier = Classifier(options.model, SessionSettings(spin=True))
    spec = classifier.spec
    scores: dict[str, Callable[[Array], Array]] = {
        "energy": energy,
        f"energy at the fitted temperature, {spec.scores.temperature:g}": lambda x: energy(x, spec.scores.temperature),
        "largest logit": lambda x: x.max(1),
        "calibrated probability": lambda x: spec.scores.probabilities(x).max(1),
    }
    fraction, seed = spec.training.get("val_fraction"), spec.training.get("seed", 0)
    photos = load_labelled(options.known, spec.labels, "val", val_fraction=fraction, seed=seed)
    others = load_unlabelled(options.unknown)
    kept = [i for i, path in enumerate(others.paths) if path.name.partition("_")[0] not in named(options.without)]
    known, places = answers(classifier, photos)
    unknown, _ = answers(classifier, others.subset(kept, "unlabelled"))
    half = halves(np.asarray([photos.targets[i] for i in places], np.int64))
    print(
        f"{spec.arch}, {spec.precision}, {len(spec.labels)} classes: {len(known)} known photos ({photos.split} of "
        f"{options.known.resolve().name}), {len(unknown)} unknown ({options.unknown})\n"
    )
    print(
        "| score | AUROC | " + " | ".join(f"known kept, of {100 * keep:g} % | unknown noticed" for keep in KEEP) + " |"
    )
    print("|---|---|" + "---|---|" * len(KEEP))
    for name, score in scores.items():
        of_known, of_unknown = score(known), score(unknown)
        cells = [name, f"{auroc(of_known, of_unknown):.3f}"]
        for keep in KEEP:
            counts = crossed(of_known, of_unknown, half, keep)
            cells += [rate(count, n) for count, n in zip(counts, (len(known), len(unknown)), strict=True)]
        print(f"| {' | '.join(cells)} |")
    usual = scores["calibrated probability"]
    pair = f"{options.known.resolve().name} known, {options.unknown.resolve().name} not"
    gain = resampled_gain(*(score(x) for score in (scores["energy"], usual) for x in (known, unknown)))
    note = f"95 % of {RESAMPLES} resamplings of the photos"
    record(f"AUROC of energy, {pair}", "the calibrated probability", **gain, better="higher", note=note, kind="points")
    count, _ = crossed(energy(known), energy(unknown), half, KEEP[0])
    kept, low, high = (100 * (x - KEEP[0]) for x in (count / len(known), *wilson(count, len(known))))
    what, against = f"known photos kept by energy, {pair}", f"the {100 * KEEP[0]:g} % asked for"
    record(what, against, kept, low=low, high=high, better="higher", note="95 %", kind="points")
    ood_thresholds = ood_thresholds_of(spec)
    if ood_thresholds is not None and ood_thresholds.score == "energy":
        found = [
            rate(sum(not ood_thresholds.is_known(row, keep) for row in unknown), len(unknown)) + f" at {100 * keep:g} %"
            for keep in KEEP
        ]
        print(f"\nby the thresholds in the file, noticed: {', '.join(found)}")


def named(without: set[int]) -> set[str]:
    """Beginnings of names, as imagenet-1k-sample counts: four digits."""
    return {f"{number:04}" for number in without}


if __name__ == "__main__":
    main()
