"""What the Square attack costs over the bare session that it asks, and beside the one of another library. Prints Markdown.

    python benchmarks/studies/square_speed.py MODEL DATA [PHOTOS [QUERIES]]

MODEL: an exported file, asked in onnxruntime by one thread. DATA: photos of its classes; the PHOTOS (16) that are attacked
withstand QUERIES (200) questions at 1/255, so that both libraries spend them all. In turns, medians of ratios taken within a
turn, of processor seconds on one thread, so that they hold on a machine that is busy with other things.

"bare session": batches of the same size through the same session, nothing else. "ART": SquareAttack of the
adversarial-robustness-toolbox, which drives the same session with the same batch, norm, radius and share of the first windows,
for as many proposals; "rows" are the pictures it had evaluated for each of them. Its L2 is left out: it divides by zero on such
photos.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from pathlib import Path
from typing import Any

import _shared  # noqa: F401
import numpy as np
from measure import quartiles
from numpy.typing import NDArray
from ratios import record

from edge_tl_runtime.images.crop import preprocess_batch
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.robustness.square_attack import Square

TURNS = 5
BATCH = 16
P_INIT = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("photos", type=int, nargs="?", default=16, metavar="PHOTOS")
    parser.add_argument("queries", type=int, nargs="?", default=200, metavar="QUERIES")
    given = parser.parse_args()
    path, data, count, queries = given.model, given.data, given.photos, given.queries
    classifier = Classifier(path, SessionSettings(threads=1))
    pixels, classes = withstanding(classifier, data, count, queries)
    print(f"{path.name}, {len(pixels)} photos, {queries} questions each, batches of {BATCH}, one thread\n")
    print(
        "| norm | bare session, pictures per CPU second | ours over bare | ART over ours, seconds | ART, rows a proposal |"
    )
    print("|---|---|---|---|---|")
    for norm, epsilon in (("linf", 1.0), ("l2", 100.0)):
        square = Square(norm, queries, P_INIT, BATCH)
        turns = [turn(classifier, square, pixels, classes, epsilon) for _ in range(TURNS)]
        rate, overhead = (statistics.median(found) for found in list(zip(*turns, strict=True))[:2])
        others = [found[2:] for found in turns if len(found) > 2]
        slower = f"{statistics.median(found[0] for found in others):.2f}x" if others else ""
        rows = f"{statistics.median(found[1] for found in others):.2f}" if others else ""
        print(f"| {norm} | {rate:.0f} | {overhead:.3f}x | {slower} | {rows} |", flush=True)
        what, spread = f"Square, {norm}: questions a CPU second", quartiles([found[1] for found in turns])
        record(what, "the bare session", **spread, goal=">= 0.95")
        if others:
            spread = quartiles([1 / found[0] for found in others])
            record(f"Square, {norm}: CPU seconds", "ART's SquareAttack", **spread)


def turn(
    classifier: Classifier, square: Square, pixels: NDArray[np.uint8], classes: NDArray[np.int64], epsilon: float
) -> tuple[float, ...]:
    """Pictures a second of the bare session; ours over it; for Linf the other's seconds over ours, and its rows a proposal."""
    pictures = len(pixels) * square.queries
    bare = seconds(lambda: ask(classifier, pixels, square.queries))
    own, other = Counted(classifier), Counted(classifier)
    ours = seconds(lambda: square.run(own.logits, pixels, classes, epsilon))
    found = pictures / bare, own.rows / ours / (pictures / bare)
    if square.norm != "linf":
        return found
    attack = art(other, epsilon, square.queries)
    theirs = seconds(lambda: attack.generate(pixels.astype(np.float32), y=classes))
    return *found, theirs / ours, other.rows / pictures


class Counted:
    """The session, and how many pictures it was asked about."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier, self.rows = classifier, 0

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.rows += len(pixels)
        return self._classifier.logits(pixels)

    def floats(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """As the other library asks: float32 of 0..255."""
        parts = [pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH)]
        return np.concatenate([self.logits(np.rint(part).astype(np.uint8)) for part in parts])


def withstanding(
    classifier: Classifier, data: Path, count: int, queries: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Photos that are classified right and stay so under our attack."""
    photos = load_labelled(data, classifier.spec.labels)
    pixels: list[NDArray[np.uint8]] = []
    classes: list[int] = []
    for start in range(0, len(photos), count):
        some = range(start, min(start + count, len(photos)))
        group = preprocess_batch([read_photo(photos.paths[i]) for i in some], classifier.spec.resize)
        truth = np.asarray([photos.targets[i] for i in some], np.int64)
        stays = np.ones(len(group), np.bool_)
        for norm, epsilon in (("linf", 1.0), ("l2", 100.0)):
            stays &= ~Square(norm, 2 * queries, P_INIT, BATCH).run(classifier.logits, group, truth, epsilon).fooled
        pixels += list(group[stays])
        classes += truth[stays].tolist()
        if len(pixels) >= count:
            break
    return np.stack(pixels[:count]), np.asarray(classes[:count], np.int64)


def ask(classifier: Classifier, pixels: NDArray[np.uint8], queries: int) -> None:
    for _ in range(queries):
        for start in range(0, len(pixels), BATCH):
            classifier.logits(pixels[start : start + BATCH])


def art(asked: Counted, epsilon: float, queries: int) -> Any:
    estimators = importlib.import_module("art.estimators.classification")
    shape = asked._classifier.spec.resize
    estimator = estimators.BlackBoxClassifierNeuralNetwork(
        asked.floats,
        (shape.height, shape.width, 3),
        len(asked._classifier.spec.labels),
        channels_first=False,
        clip_values=(0.0, 255.0),
    )
    attack = importlib.import_module("art.attacks.evasion").SquareAttack
    return attack(
        estimator,
        norm=np.inf,
        max_iter=queries,
        eps=epsilon,
        p_init=P_INIT,
        nb_restarts=1,
        batch_size=BATCH,
        verbose=False,
    )


def seconds(work: Any) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
