"""What PGD and Auto-PGD cost over the bare forward and backward passes that they are made of. Prints Markdown.

    python benchmarks/studies/gradient_attack_speed.py MODEL [PHOTOS [STEPS]]

MODEL: an exported file. Random pixels, nothing is ever fooled, so every photo takes every step. The bare loop computes the same
loss and its gradient on the same batches, and nothing else: no step, no projection, no rounding. In turns, medians of ratios of
photos x gradients per processor second, on one thread, so that the ratio holds on a machine that is busy with other things.
"without the file": the judge's answer is made up, so what is left is the attack's own arithmetic; "with": the file is asked about
every point, as in use. The bare loop has no counterpart to that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
import torch
from measure import quartiles
from numpy.typing import NDArray
from ratios import record
from torch.nn import functional

from edge_tl.adversarial.attacks.apgd import APGD
from edge_tl.adversarial.attacks.criteria import Misclassification
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.attacks.pgd import PGD, GradientAttack
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.core.malloc import keep_heap
from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings

TURNS = 7
ATTACKS: tuple[tuple[type[GradientAttack], str, float], ...] = (
    (PGD, "linf", 4),
    (PGD, "l2", 127.5),
    (APGD, "linf", 4),
    (APGD, "l2", 127.5),
)


@dataclass(frozen=True)
class NeverFooled(Misclassification):
    def fooled(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.zeros(len(logits), np.bool_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("photos", type=int, nargs="?", default=8, metavar="PHOTOS")
    parser.add_argument("steps", type=int, nargs="?", default=10, metavar="STEPS")
    given = parser.parse_args()
    path, count, steps = given.model, given.photos, given.steps
    torch.set_num_threads(1)
    keep_heap()  # as an evaluation does; the bare loop gains as much
    classifier = Classifier(path, SessionSettings(threads=1))
    graph = DifferentiableGraph(path.read_bytes())
    rule = classifier.spec.resize
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, rule.height, rule.width, 3), np.uint8)
    classes = rng.integers(0, len(classifier.spec.labels), count)
    silent = np.zeros((count, len(classifier.spec.labels)), np.float32)
    judges: dict[str, Logits] = {"without the file": lambda batch: silent[: len(batch)], "with": classifier.logits}
    print(f"{path.name}, batches of {count}, {steps} steps, one thread, torch {torch.__version__}\n")
    print("| attack | norm | bare loop, photos per CPU second | without the file | with |")
    print("|---|---|---|---|---|")
    worst: tuple[float, str] | None = None
    for attack, norm, epsilon in ATTACKS:
        value = attack(norm=norm, steps=steps)
        ratios: dict[str, list[float]] = {name: [] for name in judges}
        rates = []
        for turn in range(TURNS + 1):
            bare = seconds_of_bare(graph, pixels, classes, steps)
            spent = {}
            for name, judge in judges.items():
                started = time.process_time()
                value.run(AttackedModel(judge, graph), pixels, NeverFooled(classes), epsilon)
                spent[name] = time.process_time() - started
            if turn:
                rates.append(count * steps / bare)
                for name in judges:
                    ratios[name].append(bare / spent[name])
        cells = " | ".join(f"{statistics.median(found):.3f}x" for found in ratios.values())
        print(f"| {attack.__name__} | {norm} | {statistics.median(rates):.1f} | {cells} |", flush=True)
        what, against = f"{attack.__name__}, {norm}: gradients a CPU second", "bare forward and backward passes"
        record(what, against, **quartiles(ratios["without the file"]), goal=">= 0.95")
        asked = statistics.median(ratios["with"]), f"{attack.__name__}, {norm}"
        worst = asked if worst is None else min(worst, asked)
    if worst is not None:
        note = f"worst of {len(ATTACKS)}: {worst[1]}; the passes have no counterpart to the questions"
        record("gradients a CPU second, the file asked about every point", against, worst[0], better="", note=note)


def seconds_of_bare(graph: torch.nn.Module, pixels: NDArray[np.uint8], classes: NDArray[np.int64], steps: int) -> float:
    """As long as it takes to compute the gradient `steps` times."""
    inputs = torch.from_numpy(pixels).float().requires_grad_()
    targets = torch.from_numpy(classes)
    started = time.process_time()
    for _ in range(steps):
        loss = functional.cross_entropy(graph(inputs), targets, reduction="sum")
        torch.autograd.grad(loss, inputs)
    return time.process_time() - started


if __name__ == "__main__":
    main()
