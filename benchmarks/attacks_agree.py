"""Our attacks beside those of other libraries on the same network and photos. Prints Markdown.

    python benchmarks/attacks_agree.py MODEL DATA [PHOTOS [PART...]]

MODEL: an exported file; its rebuild in PyTorch is what every attack gets, and what decides. DATA: a folder of photos of its
classes, of which PHOTOS (200) that it classifies right are attacked. PART: of `PARTS`, by default all.

The others move in floats and never round. What they found is counted as it is ("in floats"), and after rounding to the pixels a
camera delivers ("as pixels"); ours are such pixels. Steps and their lengths are equal. Libraries that are not installed are
skipped, with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure import Spread, paired_points
from numpy.typing import NDArray
from ratios import record
from torch import nn

from edge_tl.adversarial.attacks.apgd import APGD, TargetedAPGD
from edge_tl.adversarial.attacks.base import Attack
from edge_tl.adversarial.attacks.black_box import SquareAttack
from edge_tl.adversarial.attacks.criteria import Misclassification
from edge_tl.adversarial.attacks.deepfool import DeepFool
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.attacks.norms import NORMS
from edge_tl.adversarial.attacks.pgd import PGD
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.images.crop import preprocess_batch
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings

BATCH = 16
FEW_STEPS = (("linf", 1.0, 1), ("linf", 1.0, 3))
LARGER = (("linf", 2.0, 1), ("linf", 4.0, 1), ("linf", 8.0, 1))
LENGTHS = (("l2", 127.5, 3), ("l2", 255.0, 3))
MANY = (("linf", 1.0, 10), ("linf", 2.0, 10), ("linf", 4.0, 10), ("linf", 8.0, 10))
"""An undefended network has nothing left of 10 steps of 1/255, so few steps are what tells attacks apart there."""
DEEPFOOL_PHOTOS = 40
"""Of the smallest perturbation: the other library takes photos one at a time."""


class Unit(nn.Module):
    """The network as other libraries expect it: float32 (N, 3, H, W) in 0..1 to logits."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.graph(photos.permute(0, 2, 3, 1) * 255)


@dataclass(frozen=True)
class Bench:
    """pixels: uint8 (N, H, W, 3), all classified right. model: rebuild and judge in one. unit: the same for the others."""

    model: AttackedModel
    unit: Unit
    pixels: NDArray[np.uint8]
    classes: NDArray[np.int64]

    def part(self, count: int) -> Bench:
        return Bench(self.model, self.unit, self.pixels[:count], self.classes[:count])

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.pixels), BATCH):
            pixels = torch.from_numpy(self.pixels[start : start + BATCH]).permute(0, 3, 1, 2)
            yield pixels.contiguous() / 255, torch.from_numpy(self.classes[start : start + BATCH])

    def ours(self, attack: Attack, epsilon: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Whether each photo is fooled, and the size of its perturbation."""
        fooled, sizes = [], []
        for start in range(0, len(self.pixels), BATCH):
            chunk = slice(start, start + BATCH)
            wish = Misclassification(self.classes[chunk])
            keys = np.arange(start, start + len(wish))
            result = attack.run(self.model, self.pixels[chunk], wish, epsilon, keys=keys)
            fooled.append(result.fooled)
            sizes.append(NORMS[attack.norm].sizes(result.adversarial.astype(int) - self.pixels[chunk]))
        return np.concatenate(fooled), np.concatenate(sizes)

    def fooled(self, adversarial: torch.Tensor) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether floats in 0..1, (N, 3, H, W), fool as they are, and as pixels."""
        pixels = (adversarial.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        with torch.no_grad():
            labels = [self.unit(part).argmax(1).numpy() for part in adversarial.split(BATCH)]
        return np.concatenate(labels) != self.classes, self.model.evaluated(pixels).argmax(1) != self.classes


Peer = Callable[[Bench, str, float, int], torch.Tensor]
"""An attack of another library: bench, norm, epsilon in 0..1, steps, to floats (N, 3, H, W) in 0..1."""


def art_classifier(bench: Bench) -> object:
    estimators = importlib.import_module("art.estimators.classification")
    shape = (3, *bench.pixels.shape[1:3])
    with torch.no_grad():
        count = bench.unit(torch.zeros(1, *shape)).shape[1]
    loss = nn.CrossEntropyLoss()
    return estimators.PyTorchClassifier(bench.unit, loss, shape, count, clip_values=(0.0, 1.0), device_type="cpu")


def by_art(name: str, **settings: object) -> Peer:
    def run(bench: Bench, norm: str, epsilon: float, steps: int) -> torch.Tensor:
        attack = getattr(importlib.import_module("art.attacks.evasion"), name)
        kind = np.inf if norm == "linf" else 2
        given = {"norm": kind, "eps": epsilon, "max_iter": steps, "batch_size": BATCH, "verbose": False}
        lengths = {"eps_step": epsilon * (2 if name.startswith("Auto") else 2.5 / steps)}
        np.random.seed(0)  # noqa: NPY002  # the library draws from it
        made = attack(art_classifier(bench), **given, **lengths, **settings)
        photos, classes = (torch.cat(parts) for parts in zip(*bench.batches(), strict=True))
        return torch.from_numpy(made.generate(photos.numpy(), y=classes.numpy()))

    return run


def by_pyautoattack(loss: str) -> Peer:
    def run(bench: Bench, norm: str, epsilon: float, steps: int) -> torch.Tensor:
        attack = importlib.import_module("pyautoattack.autopgd_base").APGDAttack
        kind = {"linf": "Linf", "l2": "L2"}[norm]
        made = attack(bench.unit, n_iter=steps, norm=kind, eps=epsilon, loss=loss, device="cpu", seed=0)
        return torch.cat([made.perturb(photos, classes) for photos, classes in bench.batches()])

    return run


def by_torchattacks(bench: Bench, norm: str, epsilon: float, steps: int) -> torch.Tensor:
    library = importlib.import_module("torchattacks")
    attack = library.PGD if norm == "linf" else library.PGDL2
    torch.manual_seed(0)
    made = attack(bench.unit, eps=epsilon, alpha=epsilon * 2.5 / steps, steps=steps)
    return torch.cat([made(photos, classes) for photos, classes in bench.batches()])


PEERS: tuple[tuple[str, type[PGD] | type[APGD], str, str, Peer], ...] = (
    ("PGD", PGD, "cross-entropy", "ART", by_art("ProjectedGradientDescent", num_random_init=1)),
    ("PGD", PGD, "cross-entropy", "torchattacks", by_torchattacks),
    ("APGD-CE", APGD, "cross-entropy", "pyautoattack", by_pyautoattack("ce")),
    (
        "APGD-CE",
        APGD,
        "cross-entropy",
        "ART",
        by_art("AutoProjectedGradientDescent", nb_random_init=1, loss_type="cross_entropy"),
    ),
    ("APGD-DLR", APGD, "dlr", "pyautoattack", by_pyautoattack("dlr")),
    (
        "APGD-DLR",
        APGD,
        "dlr",
        "ART",
        by_art("AutoProjectedGradientDescent", nb_random_init=1, loss_type="difference_logits_ratio"),
    ),
)


def compare(bench: Bench, cases: tuple[tuple[str, float, int], ...]) -> None:
    print(
        "| norm | radius | steps | attack | ours, robust % | peer | in floats | as pixels | ours less pixels | s, ours, peer |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    known: dict[tuple[str, str, float, int], tuple[NDArray[np.bool_], float]] = {}
    pairs: dict[tuple[str, str], list[tuple[Spread, str]]] = {}
    for norm, epsilon, steps in cases:
        for name, attack, loss, library, peer in PEERS:
            key = (name, norm, epsilon, steps)
            if key not in known:
                started = time.perf_counter()
                fooled, _ = bench.ours(attack(norm=norm, steps=steps, loss=loss), epsilon)
                known[key] = fooled, time.perf_counter() - started
            own, spent = known[key]
            ours = 100 * (1 - own.mean())
            radius = f"{epsilon:g}/255" if norm == "linf" else f"{epsilon / 255:g}"
            row = f"| {norm} | {radius} | {steps} | {name} | {ours:.1f} | {library} | "
            started = time.perf_counter()
            try:
                found = peer(bench, norm, epsilon / 255, steps)
            except (ImportError, ValueError, RuntimeError, TypeError) as error:
                print(f"{row}skipped: {str(error).splitlines()[0]} | | | |", flush=True)
                continue
            seconds = time.perf_counter() - started
            in_floats, in_pixels = bench.fooled(found)
            floats, pixels = (100 * (1 - fooled.mean()) for fooled in (in_floats, in_pixels))
            pairs.setdefault((name, library), []).append(
                (paired_points(~own, ~in_pixels), f"{norm} {radius}, steps {steps}")
            )
            print(
                f"{row}{floats:.1f} | {pixels:.1f} | {ours - pixels:+.1f} | {spent:.0f}, {seconds:.0f} |",
                flush=True,
            )

    for (name, library), found in pairs.items():
        spread, case = max(found, key=lambda pair: pair[0]["ratio"])
        note = f"worst of {len(found)}: {case}; 95 %, paired, {len(bench.pixels)} photos"
        record(f"robust accuracy that {name} leaves", library, **spread, note=note, kind="points")


def smallest(bench: Bench) -> None:
    """Our DeepFool beside ART's, lengths in units of pixels in 0..1."""
    part = bench.part(DEEPFOOL_PHOTOS)
    fooled, sizes = part.ours(DeepFool(norm="l2"), 1e6)
    attack = importlib.import_module("art.attacks.evasion").DeepFool
    made = attack(art_classifier(part), max_iter=50, epsilon=0.02, nb_grads=10, batch_size=1, verbose=False)
    photos = torch.cat([photos for photos, _ in part.batches()])
    found = torch.from_numpy(made.generate(photos.numpy()))
    floats, pixels = part.fooled(found)
    change = found - photos
    rounded = NORMS["l2"].sizes((change * 255).round().numpy().astype(int))
    print(f"\nDeepFool, {len(part.pixels)} photos: fooled %, median length of those\n")
    print("| | fooled % | median L2 |")
    print("|---|---|---|")
    print(f"| ours, pixels | {100 * fooled.mean():.1f} | {np.median(sizes[fooled]) / 255:.3f} |")
    lengths = change.flatten(1).norm(dim=1).numpy()
    print(f"| ART, in floats | {100 * floats.mean():.1f} | {np.median(lengths[floats]):.3f} |")
    print(
        f"| ART, as pixels | {100 * pixels.mean():.1f} | {np.median(rounded[pixels]) / 255 if pixels.any() else np.nan:.3f} |",
        flush=True,
    )
    note = f"medians of what fools: {fooled.sum()} and {pixels.sum()} of {len(part.pixels)}"
    if fooled.any() and pixels.any():
        record("L2 that DeepFool needs", "ART", np.median(sizes[fooled]) / np.median(rounded[pixels]), note=note)


def standard(bench: Bench) -> None:
    """The whole of pyautoattack's standard evaluation beside ours of the same attacks, within 1/255."""
    print("\n| within 1/255 | robust % | s |")
    print("|---|---|---|")
    started = time.perf_counter()
    left = np.ones(len(bench.pixels), np.bool_)
    for attack in (APGD(steps=100), TargetedAPGD(), SquareAttack(queries=5000)):
        kept = np.flatnonzero(left)
        rest = Bench(bench.model, bench.unit, bench.pixels[kept], bench.classes[kept])
        if len(kept):
            left[kept] = ~rest.ours(attack, 1)[0]
        print(
            f"| ours, after {type(attack).__name__} | {100 * left.mean():.1f} | {time.perf_counter() - started:.0f} |",
            flush=True,
        )
    spent = time.perf_counter() - started
    logging.basicConfig(level=logging.DEBUG, format="%(message)s")
    suite = importlib.import_module("pyautoattack").AutoAttack(bench.unit, norm="Linf", eps=1 / 255, seed=0)
    photos, classes = (torch.cat(parts) for parts in zip(*bench.batches(), strict=True))
    started = time.perf_counter()
    found = suite.run_standard_evaluation(photos, classes, batch_size=BATCH)
    found = found[0] if isinstance(found, tuple) else found
    seconds = time.perf_counter() - started
    suites = dict(zip(("in floats", "as pixels"), bench.fooled(found), strict=True))
    spread = paired_points(left, ~suites["as pixels"])
    what, note = "robust accuracy that the standard attacks leave", f"95 %, paired, {len(left)} photos"
    record(what, "pyautoattack", **spread, note=note, kind="points")
    record("seconds of the standard attacks", "pyautoattack", spent / seconds)
    for name, fooled in suites.items():
        print(f"| pyautoattack standard, {name} | {100 * (1 - fooled.mean()):.1f} | {seconds:.0f} |", flush=True)


PARTS: dict[str, Callable[[Bench], None]] = {
    "few": lambda bench: compare(bench, FEW_STEPS),
    "larger": lambda bench: compare(bench, LARGER),
    "l2": lambda bench: compare(bench, LENGTHS),
    "many": lambda bench: compare(bench, MANY),
    "smallest": smallest,
    "standard": standard,
}


def open_bench(path: Path, data: Path, count: int) -> Bench:
    classifier = Classifier(path, SessionSettings(threads=1))
    graph = DifferentiableGraph(path.read_bytes())
    photos = load_labelled(data, classifier.spec.labels)
    order = np.random.default_rng(0).permutation(len(photos))

    def judge(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            return graph(torch.from_numpy(pixels)).numpy()

    model = AttackedModel(judge, graph)
    kept: list[NDArray[np.uint8]] = []
    classes: list[int] = []
    for index in order:
        if len(kept) == count:
            break
        pixels = preprocess_batch([read_photo(photos.paths[index])], classifier.spec.resize)
        if model.evaluated(pixels).argmax() == photos.targets[index]:
            kept.append(pixels)
            classes.append(int(photos.targets[index]))
    return Bench(model, Unit(graph).eval(), np.concatenate(kept), np.array(classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("photos", type=int, nargs="?", default=200, metavar="PHOTOS")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all without")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    bench = open_bench(given.model, given.data, given.photos)
    print(
        f"{given.model.name}, {len(bench.pixels)} photos that are classified right, torch {torch.__version__}\n",
        flush=True,
    )
    for name in given.parts or PARTS:
        PARTS[name](bench)


if __name__ == "__main__":
    main()
