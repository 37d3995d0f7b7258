"""What a training gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tl.training.calibrate import Calibration
from edge_tl.training.probe.cross_validation import CrossValidated
from edge_tl_runtime.evaluation.evaluate import Evaluation
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl.training.documents import FiguresDocument, TrainDocument


@dataclass(frozen=True)
class TrainResult:
    """folder: the run. evaluation: on the validation photos, which chose `best`; test: on photos that chose nothing.

    loss: mean cross-entropy on the validation photos, before calibration.
    adjusted: names of photos whose pixels had to be changed to be read, by what was done.
    cross_validated: of the probe over training and validation photos, where the latter are few.
    root: folder below which the paths of photos are told.
    best: where the weights come from, in words. decisions: what `auto` found, in words. seconds: by stage.
    """

    folder: Path
    spec: ModelSpec
    evaluation: Evaluation
    loss: float
    test: Evaluation | None
    best: str
    decisions: tuple[str, ...]
    calibration: Calibration
    photos: tuple[int, int]
    skipped: tuple[Unreadable, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    cross_validated: CrossValidated | None = None
    adjusted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    root: Path | None = None

    def to_dict(self) -> TrainDocument:
        """The document of `edge-tl train --json`."""
        return {
            "run": str(self.folder),
            **figures(self.evaluation),
            "test": None if self.test is None else figures(self.test),
            "cross_validated": None if self.cross_validated is None else self.cross_validated.to_dict(),
            "best": self.best,
            "decisions": list(self.decisions),
            "temperature": self.calibration.temperature,
            "ece": {"before": round(self.calibration.before.ece, 6), "after": round(self.calibration.after.ece, 6)},
            "size": self.spec.resize.height,
            "train_photos": self.photos[0],
            "val_photos": self.photos[1],
            "labels": list(self.spec.labels),
            "skipped": [item.to_dict() for item in dict.fromkeys(self.skipped)],
            "adjusted": {note: list(names) for note, names in self.adjusted.items()},
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
        }


def figures(evaluation: Evaluation) -> FiguresDocument:
    """Accuracy with its interval, as JSON values; the balanced one too where classes are unequal."""
    found: FiguresDocument = {
        "top1": round(evaluation.top1, 6),
        "n": evaluation.n,
        "ci95": [round(x, 6) for x in evaluation.ci95],
    }
    if evaluation.unequal:
        found["balanced_accuracy"] = round(evaluation.balanced_accuracy, 6)
        found["balanced_ci95"] = [round(x, 6) for x in evaluation.balanced_ci95]
    return found
