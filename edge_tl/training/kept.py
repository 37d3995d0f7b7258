"""What stays of a training: answers on photos held out, temperature, contract and settings, all in the run's folder."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from edge_tl.models import Network
from edge_tl.training import run_folder as run
from edge_tl.training.calibrate import Calibration, calibrate
from edge_tl.training.model_selection import CandidateScore
from edge_tl.training.probe.balance import class_counts, class_weights, weighs
from edge_tl.training.probe.cross_validation import CrossValidated
from edge_tl.training.probe.features import Features, fingerprint
from edge_tl.training.result import TrainResult, figures
from edge_tl.training.run_folder import ValidationLogits
from edge_tl.training.seen import background_digests, list_seen_photos
from edge_tl.training.settings import TrainSettings
from edge_tl.training.validation import Validator
from edge_tl_runtime.evaluation.evaluate import Evaluation, score
from edge_tl_runtime.images.asked_geometry import seeing
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits
from edge_tl_runtime.images.datasets.grouping import Grouping
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.modelfile.spec import ModelSpec, Scores

if TYPE_CHECKING:
    from edge_tl.training.documents import RunSettingsDocument


@dataclass(frozen=True)
class Outcome:
    """A training that has ended. features: of the training and validation photos. kept: of the network as it is now.

    decisions: what was found on the way, in words. mirrors: whether views were mirrored. seconds: by stage.
    """

    folder: Path
    data: Path
    splits: Splits
    settings: TrainSettings
    network: Network
    device: torch.device
    processes: int
    features: tuple[Features, Features]
    kept: CandidateScore
    decisions: tuple[str, ...]
    mirrors: bool
    hardening: Mapping[str, Any]
    cross_validated: CrossValidated | None
    seconds: dict[str, float]


def keep_run(outcome: Outcome, say: Callable[[str], None]) -> TrainResult:
    """Evaluate what was held out, calibrate, and write the run. Raises OutputError."""
    train, val = outcome.features
    labels, held_out = outcome.splits.train.labels, outcome.splits.test
    evaluated, skipped, adjusted = _answers(outcome)
    calibration = _calibrate(outcome, evaluated["val"], say)
    test = None
    if held_out:
        answers = evaluated["test"]
        test = score(answers.logits, answers.targets, labels, where_from(held_out), groups=answers.groups)
        say(f"test {test.describe()}")
    spec = _spec(outcome, test, calibration)
    run.save_run(outcome.folder, outcome.network, spec, _settings(outcome), evaluated, outcome.settings)
    return TrainResult(
        outcome.folder,
        spec,
        outcome.kept.evaluation,
        outcome.kept.loss,
        test,
        outcome.kept.name,
        outcome.decisions,
        calibration,
        (len(train.names), len(val.names)),
        skipped,
        outcome.seconds,
        outcome.cross_validated,
        adjusted,
        outcome.splits.train.root,
    )


def where_from(photos: LabelledPhotos) -> str:
    """`val of pets`."""
    return f"{photos.split} of {photos.root.name}"


def _answers(
    outcome: Outcome,
) -> tuple[dict[str, ValidationLogits], tuple[Unreadable, ...], dict[str, tuple[str, ...]]]:
    """The network's answers by part, all that was passed over, and names of photos that had to be changed, by what was done."""
    train, val = outcome.features
    evaluated: dict[str, ValidationLogits] = {}
    skipped = [*train.skipped, *val.skipped]
    adjusted = [train.adjusted, val.adjusted]
    model = outcome.network.pixel_model(outcome.device)
    for photos in (outcome.splits.val, outcome.splits.test):
        if photos is None:
            continue
        evaluator = Validator(photos, outcome.network.backbone.resize, where_from(photos), device=outcome.device.type)
        logits, places = evaluator.logits(model.infer)
        targets = torch.tensor(photos.targets).numpy()[places]
        some = photos.subset(places.tolist(), photos.split)
        evaluated[photos.split] = ValidationLogits(logits, targets, tuple(some.names), some.groups)
        if photos is outcome.splits.test:
            skipped += evaluator.reader.skipped
            adjusted.append(evaluator.reader.adjusted())
    notes = dict.fromkeys(note for part in adjusted for note in part)
    return evaluated, tuple(skipped), {note: sum((part.get(note, ()) for part in adjusted), ()) for note in notes}


def _calibrate(outcome: Outcome, evaluated: ValidationLogits, say: Callable[[str], None]) -> Calibration:
    """The temperature, for classes that are equally common where training gave them equal say."""
    train = outcome.splits.train
    counts = class_counts(evaluated.targets, len(train.labels))
    trained = class_counts(np.asarray(train.targets), len(counts))
    weights = None
    if weighs(outcome.settings.finetune.balance, trained):
        weights = class_weights(counts)[evaluated.targets]
        largest, smallest = int(trained.argmax()), int(np.where(trained, trained, trained.max()).argmin())
        say(
            f"classes are unequal ({trained[largest]} photos of {train.labels[largest]!r}, {trained[smallest]} of "
            f"{train.labels[smallest]!r}): probabilities are those of a photo that may as well be of any class"
        )
    calibration = calibrate(evaluated.logits, evaluated.targets, weights)
    say(
        f"temperature {calibration.temperature:.2f}: expected calibration error "
        f"{calibration.before.ece:.3f} before, {calibration.after.ece:.3f} after"
        + (f"; {calibration.kept}" if calibration.kept else "")
    )
    return calibration


def _settings(outcome: Outcome) -> RunSettingsDocument:
    return {
        **outcome.settings.to_dict(),
        "data": str(outcome.data.resolve()),
        "device": str(outcome.device),
        "processes": outcome.processes,
        "weights_origin": outcome.network.weights,
        "weights_sha256": outcome.network.weights_sha256,
        "versions": {name: version(name) for name in ("torch", "torchvision", "timm", "numpy")}
        | {"opencv": cv2.__version__},
        "python": platform.python_version(),
        "seconds": outcome.seconds,
    }


def _spec(outcome: Outcome, test: Evaluation | None, calibration: Calibration) -> ModelSpec:
    backbone, settings, splits = outcome.network.backbone, outcome.settings, outcome.splits
    crossed = outcome.cross_validated
    spec = ModelSpec(
        labels=splits.train.labels,
        resize=replace(backbone.resize, geometry=None),
        normalization=backbone.normalization,
        arch=backbone.name,
        scores=Scores(temperature=calibration.temperature),
        data_fingerprint=fingerprint(*outcome.features, others=background_digests(settings)),
        training_images=list_seen_photos(splits, outcome.features, settings),
        validation=outcome.kept.evaluation.accuracy,
        training={
            "weights": outcome.network.weights,
            "weights_sha256": outcome.network.weights_sha256,
            "license": backbone.license,
            "data": outcome.data.resolve().name,
            "train_photos": len(outcome.features[0].names),
            "recipe": settings.recipe,
            "best": outcome.kept.name,
            "decisions": list(outcome.decisions),
            "seed": settings.seed,
            "val_fraction": settings.val_fraction,
            **Grouping(settings.group).record(splits.val.names),
            "test": None if test is None else figures(test),
            **({"cross_validated": crossed.to_dict()} if crossed else {}),
            **({"background": Path(settings.background).resolve().name} if settings.background else {}),
            **({} if outcome.mirrors else {"mirror": False}),
            **({"hardening": outcome.hardening} if outcome.hardening else {}),
            "ece": {"before": round(calibration.before.ece, 6), "after": round(calibration.after.ece, 6)},
        },
    )
    return seeing(spec, backbone.resize)
