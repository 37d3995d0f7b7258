"""From a folder of photos to a run: features once, the linear probe, then fine-tuning when asked for."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch

from edge_tl.features import FeatureExtractor, Features, fingerprint
from edge_tl.finetune import FinetuneSettings, finetune
from edge_tl.models import Network, WeightsSource, build_network, find_backbone
from edge_tl.probe import Probe, fit_probe
from edge_tl.run import Journal, check_output, save_run
from edge_tl_export import Stage
from edge_tl_runtime.dataset import LabelledPhotos, load_training
from edge_tl_runtime.errors import UsageError
from edge_tl_runtime.evaluate import Evaluation, score
from edge_tl_runtime.photos import Unreadable
from edge_tl_runtime.spec import ModelSpec


@dataclass(frozen=True)
class TrainSettings:
    """What was asked for; written to settings.json as it is.

    weights: "pretrained", "none" or a file. finetune: epochs after the probe. val_fraction: share of each class that is held
    out where the data has no val folder. device: "auto", "cpu", "cuda" or "mps".
    """

    arch: str = "efficientnet_lite0"
    weights: str = "pretrained"
    finetune: int = 0
    batch_size: int = 32
    learning_rate: float = 1e-4
    val_fraction: float = 0.2
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class TrainResult:
    """folder: the run. best: "probe" or "epoch N", whichever judged best. seconds: by stage."""

    folder: Path
    spec: ModelSpec
    evaluation: Evaluation
    best: str
    photos: tuple[int, int]
    skipped: tuple[Unreadable, ...]
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The document of `edge-tl train --json`."""
        return {
            "run": str(self.folder),
            "top1": round(self.evaluation.top1, 6),
            "n": self.evaluation.n,
            "ci95": [round(x, 6) for x in self.evaluation.ci95],
            "best": self.best,
            "train_photos": self.photos[0],
            "val_photos": self.photos[1],
            "labels": list(self.spec.labels),
            "skipped": [item.to_dict() for item in self.skipped],
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def train(data: Path, folder: Path, settings: TrainSettings, stage: Stage, say: Callable[[str], None]) -> TrainResult:
    """Train on `data`, leave the run in `folder`. `say` takes lines for the person.

    Raises DataError for photos that cannot make a classifier, WeightsError, UsageError, OutputError.
    """
    backbone = find_backbone(settings.arch)
    device = pick_device(settings.device)
    train_photos, val_photos = load_training(data, val_fraction=settings.val_fraction, seed=settings.seed)
    check_output(folder)
    torch.manual_seed(settings.seed)
    network = build_network(backbone, WeightsSource.parse(settings.weights, backbone))
    journal = Journal(folder)
    try:
        trainer = _Trainer(network, device, settings, journal, stage, say)
        result = trainer.run(data, folder, train_photos, val_photos)
        journal.finish()
    finally:
        journal.close()
    return result


def pick_device(name: str) -> torch.device:
    """The device called "cpu", "cuda" or "mps"; "auto" takes the best there is. Raises UsageError when it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if name not in available:
        raise UsageError(f"no device called {name!r}; there are auto, cpu, cuda and mps")
    if not available[name]:
        raise UsageError(f"device {name!r} was asked for and is not available here; use --device auto")
    return torch.device(name)


class _Trainer:
    def __init__(
        self,
        network: Network,
        device: torch.device,
        settings: TrainSettings,
        journal: Journal,
        stage: Stage,
        say: Callable[[str], None],
    ) -> None:
        self.network, self.device, self.settings, self.journal, self.stage = network, device, settings, journal, stage
        self._say = say
        self.seconds: dict[str, float] = {}

    def run(self, data: Path, folder: Path, train: LabelledPhotos, val: LabelledPhotos) -> TrainResult:
        classes = len(train.labels)
        self.say(
            f"{data}: {len(train)} training and {len(val)} validation photos of {classes} classes; "
            f"{self.settings.arch}, weights: {self.network.weights}, {self.device}"
        )
        train_features, val_features = self._features(train, val)
        evaluation = self._probe(train, val, train_features, val_features)
        best = "probe"
        spec = self._spec(data, train, train_features, val_features)
        if self.settings.finetune:
            evaluation, best = self._finetune(train, val, evaluation)
        spec = self._judged(spec, evaluation, best)
        settings = {
            **asdict(self.settings),
            "data": str(data.resolve()),
            "device": str(self.device),
            "weights_origin": self.network.weights,
            "weights_sha256": self.network.weights_sha256,
            "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}
            | {"opencv": cv2.__version__},
            "python": platform.python_version(),
            "seconds": self.seconds,
        }
        save_run(folder, self.network, spec, settings)
        skipped = train_features.skipped + val_features.skipped
        photos = (len(train_features.names), len(val_features.names))
        return TrainResult(folder, spec, evaluation, best, photos, skipped, self.seconds)

    def say(self, line: str) -> None:
        self._say(line)
        self.journal.log(line)

    def _features(self, train: LabelledPhotos, val: LabelledPhotos) -> tuple[Features, Features]:
        started = time.perf_counter()
        extract = FeatureExtractor(self.network, self.device)
        with self.stage("features", len(train) + len(val)) as progress:
            parts = extract(train, progress), extract(val, progress)
        self.seconds["features"] = time.perf_counter() - started
        computed, total = sum(p.computed for p in parts), sum(len(p.names) for p in parts)
        self.journal.metric(stage="features", photos=total, computed=computed, seconds=self.seconds["features"])
        self.say(f"features of {total} photos in {self.seconds['features']:.1f} s ({total - computed} were cached)")
        if extract.cache_problem:
            self.say(f"features were not kept for next time: {extract.cache_problem}")
        return parts

    def _probe(
        self, train: LabelledPhotos, val: LabelledPhotos, train_features: Features, val_features: Features
    ) -> Evaluation:
        started = time.perf_counter()
        probe = fit_probe(train_features.values, train_features.targets, train_features.names, len(train.labels))
        self.network.set_head(torch.from_numpy(probe.weight), torch.from_numpy(probe.bias), train.labels)
        self.seconds["probe"] = time.perf_counter() - started
        evaluation = score(
            probe.logits(val_features.values), val_features.targets, train.labels, _describe(val), val_features.skipped
        )
        self.journal.metric(stage="probe", **_figures(evaluation), penalty=probe.penalty, cv_loss=_loss(probe))
        self.say(f"linear probe: {describe_accuracy(evaluation)} in {self.seconds['probe']:.1f} s")
        return evaluation

    def _finetune(self, train: LabelledPhotos, val: LabelledPhotos, probe: Evaluation) -> tuple[Evaluation, str]:
        started = time.perf_counter()
        settings = FinetuneSettings(
            epochs=self.settings.finetune,
            learning_rate=self.settings.learning_rate,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
        )
        best, name, state = probe, "probe", _snapshot(self.network)
        with self.stage("fine-tuning", len(train) * settings.epochs) as progress:
            for epoch in finetune(self.network, train, val, settings, self.device, progress):
                self.journal.metric(
                    stage="finetune",
                    epoch=epoch.number,
                    loss=epoch.loss,
                    learning_rate=epoch.learning_rate,
                    **_figures(epoch.evaluation),
                )
                self.say(f"epoch {epoch.number}: loss {epoch.loss:.3f}, {describe_accuracy(epoch.evaluation)}")
                if epoch.evaluation.correct > best.correct:
                    best, name, state = epoch.evaluation, f"epoch {epoch.number}", _snapshot(self.network)
        self.network.module.load_state_dict(state)
        self.seconds["finetune"] = time.perf_counter() - started
        self.say(f"kept: {name}, {describe_accuracy(best)}")
        return best, name

    def _spec(self, data: Path, train: LabelledPhotos, train_features: Features, val_features: Features) -> ModelSpec:
        backbone = self.network.backbone
        return ModelSpec(
            labels=train.labels,
            resize=backbone.resize,
            normalization=backbone.normalization,
            arch=backbone.name,
            data_fingerprint=fingerprint(train_features, val_features),
            training={
                "weights": self.network.weights,
                "weights_sha256": self.network.weights_sha256,
                "license": backbone.license,
                "data": data.resolve().name,
                "train_photos": len(train_features.names),
                "finetune": self.settings.finetune,
                "seed": self.settings.seed,
                "val_fraction": self.settings.val_fraction,
            },
        )

    def _judged(self, spec: ModelSpec, evaluation: Evaluation, best: str) -> ModelSpec:
        return replace(spec, validation=evaluation.accuracy, training={**spec.training, "best": best})


def describe_accuracy(evaluation: Evaluation) -> str:
    """`val top-1 94.8 % (145 of 153, 95 % interval 90.0 to 97.3)`."""
    low, high = evaluation.ci95
    return (
        f"val top-1 {100 * evaluation.top1:.1f} % "
        f"({evaluation.correct} of {evaluation.n}, 95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )


def _figures(evaluation: Evaluation) -> dict[str, Any]:
    return {"val_top1": evaluation.top1, "val_n": evaluation.n, "val_ci95": list(evaluation.ci95)}


def _loss(probe: Probe) -> dict[str, float]:
    return {f"{penalty:g}": round(loss, 6) for penalty, loss in probe.cv_loss.items()}


def _describe(photos: LabelledPhotos) -> str:
    return f"{photos.split} of {photos.root.name}"


def _snapshot(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.module.state_dict().items()}
