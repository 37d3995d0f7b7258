"""The linear probe on few and on unequal photos beside scikit-learn's logistic regression. Prints Markdown.

    python benchmarks/few_photos.py DATA_FOLDER [--seeds 10] [--arch efficientnet_lite0]

For hymenoptera and cats-dogs below DATA_FOLDER: so many training photos of either class are drawn, and both are fitted to the
same features of them and evaluated on the validation photos. The peer is LogisticRegression with balanced weights and otherwise
its defaults, unscaled features and C = 1. Losses are means over classes, in nats, of the probabilities before any temperature.
Draws are paired; the intervals are 95 % of the mean difference over the draws.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from ratios import record
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss

from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training.probe.features import FeatureExtractor, Features
from edge_tl.training.probe.probe import fit_probe
from edge_tl_runtime.images.datasets.dataset import load_training
from edge_tl_runtime.modelfile.spec import Scores

EQUAL = ((2, 2), (3, 3), (5, 5), (10, 10), (20, 20))
UNEQUAL = ((100, 2), (100, 5), (100, 10), (100, 30))
PEER = "scikit-learn's logistic regression, balanced"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arch", default="efficientnet_lite0")
    options = parser.parse_args()
    torch.set_num_threads(1)  # fits this small lose to waiting what they gain
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("EDGE_TL_CACHE", folder)
        backbone = find_backbone(options.arch)
        extract = FeatureExtractor(
            build_network(backbone, WeightsSource.parse("pretrained", backbone)), torch.device("cpu")
        )
        print("| photos | per class | balanced accuracy | peer | log-loss | peer |")
        print("|---|---|---|---|---|---|")
        for name in ("hymenoptera", "cats-dogs"):
            train, val = (extract(part) for part in load_training(options.data / name))
            for counts in EQUAL + UNEQUAL:
                row(name, counts, train, val, options.seeds)


def row(name: str, counts: tuple[int, int], train: Features, val: Features, seeds: int) -> None:
    """Print a row of the table and record what it is about: accuracy of unequal classes, loss of few photos."""
    ours, theirs = zip(*(figures(counts, train, val, seed) for seed in range(seeds)), strict=True)
    (accuracy, loss), (peer_accuracy, peer_loss) = np.mean(ours, 0), np.mean(theirs, 0)
    drawn = f"{counts[0]}:{counts[1]}"
    print(
        f"| {name} | {drawn} | {accuracy:.3f} | {peer_accuracy:.3f} | {loss:.3f} | {peer_loss:.3f} |",
        flush=True,
    )
    unequal = counts[0] != counts[1]
    place, factor = (0, 100) if unequal else (1, 1)
    differences = [factor * (a[place] - b[place]) for a, b in zip(ours, theirs, strict=True)]
    mean, half = statistics.mean(differences), 1.96 * statistics.stdev(differences) / math.sqrt(seeds)
    note = f"{seeds} draws, paired; 95 %"
    if unequal:
        record(
            f"balanced accuracy, {drawn} photos, {name}",
            PEER,
            mean,
            low=mean - half,
            high=mean + half,
            goal=">= 0",
            better="higher",
            note=note,
            kind="points",
        )
    else:
        record(f"log-loss, {drawn} photos, {name}", PEER, loss / peer_loss, goal="<= 1.00", note=note)


def figures(
    counts: tuple[int, int], train: Features, val: Features, seed: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Balanced accuracy and log-loss of the probe and of the peer, fitted to the same photos."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(train.targets == c))[:n] for c, n in enumerate(counts)]
    places = np.concatenate(drawn)
    values, targets = train.values[places], train.targets[places]
    probe = fit_probe(values, targets, [train.names[i] for i in places.tolist()], len(counts))
    logits = probe.logits(val.values)
    peer = LogisticRegression(class_weight="balanced", max_iter=5000).fit(values, targets)
    weights = 1 / np.bincount(val.targets)[val.targets]
    both = []
    for answers in (Scores().probabilities(logits), peer.predict_proba(val.values)):
        loss = log_loss(val.targets, answers, sample_weight=weights)
        both.append((balanced_accuracy_score(val.targets, answers.argmax(1)), loss))
    return both[0], both[1]


if __name__ == "__main__":
    main()
