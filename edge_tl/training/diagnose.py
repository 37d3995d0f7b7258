"""Does the backbone's knowledge carry over to these photos? Four ways to use it, or not, on the same split."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.data.grouping import finder
from edge_tl.data.named import resolve
from edge_tl.models import Network, WeightsSource, build_network, find_backbone
from edge_tl.training.devices import pick_device
from edge_tl.training.finetune.choices import default_epochs
from edge_tl.training.finetune.finetune import Finetuner
from edge_tl.training.probe.features import FeatureExtractor, Features
from edge_tl.training.probe.probe import fit_probe
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.splits import asked_geometry, in_fractions, target_backbone
from edge_tl.training.validation import Validator
from edge_tl_export import Stage
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.malloc import keep_heap
from edge_tl_runtime.core.settings import check
from edge_tl_runtime.core.statistics import discordant, significantly_more
from edge_tl_runtime.evaluation.evaluate import Evaluation, score
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_splits

if TYPE_CHECKING:
    from edge_tl.training.documents import DiagnoseDocument

NEIGHBOURS = 5
SCRATCH = FinetuneSettings(
    head_init="random", learning_rate=1e-3, layer_decay=1.0, freeze_bn=False, average="last", label_smoothing=0.0
)
"""Training from random weights: one rate for all layers, statistics of its own."""


@dataclass(frozen=True)
class Way:
    """right: bool (N,), for the validation photos in one order for every way. seconds: features included where used."""

    name: str
    evaluation: Evaluation
    right: NDArray[np.bool_]
    seconds: float


@dataclass(frozen=True)
class BackboneDiagnosis:
    """ways: nearest neighbours, probe, fine-tuning, from scratch. chance: share of the commonest class. verdict: in words."""

    ways: tuple[Way, ...]
    chance: float
    verdict: str

    def to_dict(self) -> DiagnoseDocument:
        """The document of `edge-tl train --diagnose --json`."""
        return {
            "ways": [
                {"name": w.name, "top1": w.evaluation.top1, "n": w.evaluation.n, "ci95": list(w.evaluation.ci95)}
                for w in self.ways
            ],
            "chance": self.chance,
            "verdict": self.verdict,
        }


def diagnose(data: str, settings: TrainSettings, stage: Stage, say: Callable[[str], None]) -> BackboneDiagnosis:
    """Train four ways on one split of `data`; nothing is stored. Raises what `edge_tl.training.train.train` raises."""
    check(settings)
    asked_geometry(settings)
    backbone = find_backbone(settings.arch).resized(settings.size)
    if settings.edge_friendly or backbone.plain is not None:
        raise UsageError(
            f"--diagnose judges {backbone.origin.name} as it was published; leave the edge-friendly variant out"
        )
    keep_heap()
    device = pick_device(settings.device)
    network = build_network(backbone, WeightsSource.parse(settings.weights, backbone))
    extract = FeatureExtractor(network, device)
    splits = load_splits(
        resolve(data, stage, say),
        val_fraction=settings.val_fraction,
        seed=settings.seed,
        group=settings.group,
        find_alike=finder(stage, lambda photos: extract(photos).values),
    )
    say(splits.describe())
    backbone = network.backbone = target_backbone(in_fractions(settings, splits, say))
    extract = FeatureExtractor(network, device)
    started = time.perf_counter()
    with stage("features", len(splits.train) + len(splits.val)) as progress:
        train, val = extract(splits.train, progress), extract(splits.val, progress)
    ready = time.perf_counter() - started
    labels = splits.train.labels

    def way(name: str, logits: NDArray[np.float32], seconds: float) -> Way:
        evaluation = score(logits, val.targets, labels, name, groups=val.groups)
        say(f"{name}: val {evaluation.describe()}, {seconds:.0f} s")
        return Way(name, evaluation, logits.argmax(1) == val.targets, seconds)

    ways = [way("nearest neighbours", nearest(train, val, len(labels)), ready)]
    started = time.perf_counter()
    probe = fit_probe(train.values, train.targets, train.names, len(labels), groups=train.groups)
    ways.append(way("probe", probe.logits(val.values), ready + time.perf_counter() - started))
    network.set_head(torch.from_numpy(probe.weight), torch.from_numpy(probe.bias), labels)
    readable = splits.train.subset(train.indices, "train")
    evaluator = Validator(splits.val.subset(val.indices, "val"), backbone.resize, "val", device=device.type)
    epochs = settings.finetune.epochs or default_epochs(len(readable))
    plain = build_network(backbone, WeightsSource.parse("none", backbone))
    plain.set_head(*_random_head(probe.weight.shape, settings.seed), labels)
    for name, candidate, how in (("fine-tuning", network, settings.finetune), ("from scratch", plain, SCRATCH)):
        started = time.perf_counter()
        logits = _tune(name, candidate, readable, evaluator, replace(how, epochs=epochs), device, settings.seed, stage)
        ways.append(way(name, logits, time.perf_counter() - started))
    chance = float(np.bincount(val.targets).max() / len(val.targets))
    return BackboneDiagnosis(tuple(ways), chance, verdict(ways, chance))


def nearest(train: Features, val: Features, classes: int) -> NDArray[np.float32]:
    """Votes of the nearest training photos by cosine similarity of their features: float32 (N, classes)."""
    centre = train.values.mean(0)
    known, asked = (v - centre for v in (train.values, val.values))
    known, asked = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9) for v in (known, asked))
    similarity = asked @ known.T
    places = np.argsort(-similarity, axis=1)[:, : min(NEIGHBOURS, similarity.shape[1])]
    votes = np.zeros((len(asked), classes), np.float32)
    rows = np.arange(len(asked))[:, None].repeat(places.shape[1], 1)
    np.add.at(votes, (rows, train.targets[places]), 1 + similarity[rows, places])
    return votes


def verdict(ways: list[Way], chance: float) -> str:
    """What the four figures say of the backbone, for a person."""
    _, probe, tuned, scratch = ways
    best = max(ways, key=lambda w: w.evaluation.correct)
    if best.evaluation.ci95[0] <= chance:
        return (
            f"No way is surely better than always naming the commonest class ({chance:.1%}). Check the labels "
            "(edge-tl data check), and whether the photos show what tells the classes apart; or collect more photos."
        )
    mended, broken = _difference(tuned, probe)
    if _surely(scratch, probe):
        return (
            "The backbone's features do not fit this kind of image: training from scratch does better than they do. "
            f"Train every weight (--recipe finetune, {tuned.evaluation.top1:.1%} here) or choose another backbone."
        )
    if _surely(tuned, probe):
        return (
            f"The backbone's features fit in part: training every weight mends {mended} validation photos and breaks {broken}. "
            "Use --recipe finetune."
        )
    if not _surely(probe, scratch):
        return (
            "On so few validation photos the features cannot be told from training from scratch; "
            f"the probe is at {probe.evaluation.top1:.1%}, from scratch at {scratch.evaluation.top1:.1%}. Hold out more photos."
        )
    return (
        f"The backbone's features fit this kind of image: the probe reaches {probe.evaluation.top1:.1%}, training from scratch "
        f"{scratch.evaluation.top1:.1%}, and training every weight changes no more than chance would "
        f"({mended} photos mended, {broken} broken). The probe will do."
    )


def _difference(one: Way, other: Way) -> tuple[int, int]:
    """Photos that only `one` gets right, and those that only `other` does."""
    return discordant(one.right, other.right)


def _surely(better: Way, worse: Way) -> bool:
    return significantly_more(*_difference(better, worse))


def _random_head(shape: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    head = torch.nn.Linear(shape[1], shape[0])
    return head.weight, head.bias


def _tune(
    name: str,
    network: Network,
    train: LabelledPhotos,
    evaluator: Validator,
    settings: FinetuneSettings,
    device: torch.device,
    seed: int,
    stage: Stage,
) -> NDArray[np.float32]:
    """Validation logits after the last epoch; no candidate is chosen, so that no way has an advantage."""
    tuner = Finetuner(network, train, evaluator, settings, device, seed=seed)
    with stage(name, len(train) * tuner.total) as progress:
        for _ in tuner.epochs(progress):
            pass
    return evaluator.logits(tuner.infer)[0]
