"""What a training leaves and prints, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import AtLeastOne, Count, Interval, Labels, NotNegative, Share
from edge_tl_runtime.images.documents import SkippedDocument


class _Balanced(TypedDict, total=False):
    balanced_accuracy: Share
    balanced_ci95: Interval


class FiguresDocument(_Balanced):
    """Accuracy on photos.

    balanced_accuracy: mean recall over the classes that have photos; where classes are unequal.
    """

    top1: Share
    n: AtLeastOne
    ci95: Interval


class CalibrationDocument(TypedDict):
    """Expected calibration error before and after the temperature."""

    before: NotNegative
    after: NotNegative


class TrainDocument(FiguresDocument):
    """What edge-tl train --json prints; figures are of the validation photos.

    run: the folder.
    test: of photos that chose nothing; null where there are none.
    cross_validated: of the probe over all photos; null where validation photos are many.
    best: where the weights come from, in words.
    decisions: what was found on the way, in words.
    size: side of the input in pixels.
    skipped: files that were passed over, each with the reason.
    adjusted: names of photos whose pixels had to be changed to be read, by what was done.
    seconds: by stage.
    """

    run: str
    test: FiguresDocument | None
    cross_validated: FiguresDocument | None
    best: str
    decisions: list[str]
    temperature: Annotated[float, Meta(gt=0)]
    ece: CalibrationDocument
    size: AtLeastOne
    train_photos: AtLeastOne
    val_photos: AtLeastOne
    labels: Labels
    skipped: list[SkippedDocument]
    adjusted: dict[str, list[str]]
    seconds: dict[str, NotNegative]


class WayDocument(FiguresDocument):
    """One way to train, and its accuracy on the validation photos."""

    name: str


class DiagnoseDocument(TypedDict):
    """What edge-tl train --diagnose --json prints.

    chance: share of the commonest class.
    verdict: in words.
    """

    ways: Annotated[list[WayDocument], Meta(min_length=1)]
    chance: Share
    verdict: str


class AskedTrainingDocument(TypedDict):
    """The settings of a training; edge-tl train --help-all says what each means.

    finetune: those of fine-tuning.
    """

    arch: str
    edge_friendly: bool
    weights: str
    recipe: str
    size: Count
    crop: str
    rotate: int
    flip: str
    fit: str
    val_fraction: Share
    group: str
    test: str
    teacher: str
    unlabelled: str
    background: str
    seed: Count
    device: str
    finetune: dict[str, Any]


class RunSettingsDocument(AskedTrainingDocument):
    """The file settings.json of a run: what was asked for, and what it ran with.

    data: where the photos were.
    device: that it ran on.
    weights_origin: where the first weights are from, in words.
    weights_sha256: of their file; empty where there is none.
    seconds: by stage.
    """

    data: str
    processes: AtLeastOne
    weights_origin: str
    weights_sha256: str
    versions: dict[str, str]
    python: str
    seconds: dict[str, NotNegative]


class _Continued(TypedDict, total=False):
    finished_epochs: Count


class ResumeDocument(_Continued):
    """The file resume.json of a training that is under way or was interrupted.

    photos: digest of them.
    finished_epochs: of the finished run that gets more of them.
    """

    data: str
    settings: AskedTrainingDocument
    photos: str


class _Metrics(TypedDict, total=False):
    photos: Count
    computed: Count
    size: AtLeastOne
    seconds: NotNegative
    top1: Share
    n: AtLeastOne
    ci95: Interval
    balanced_accuracy: Share
    balanced_ci95: Interval
    val_loss: float
    val_top1: Share
    penalty: NotNegative
    cv_loss: dict[str, float]
    rates: list[NotNegative]
    losses: list[float]
    suggestion: NotNegative
    epoch: AtLeastOne
    loss: float
    learning_rate: NotNegative
    name: str
    robust_top1: Share
    robust_n: AtLeastOne
    robust_ci95: Interval
    robust_loss: float
    fgsm_top1: Share


class MetricsLine(_Metrics):
    """A line of metrics.jsonl in a run: what one stage measured; top1, n and ci95 on the validation photos.

    computed: photos whose features were not known yet.
    penalty: of the probe.
    cv_loss: of the probe, cross-validated on the training photos, by penalty.
    rates, losses: of the search for a learning rate.
    robust_top1, robust_n, robust_ci95, robust_loss: under PGD.
    fgsm_top1: under a single step.
    """

    stage: Literal["features", "probe", "cross-validation", "rate", "finetune", "candidate"]
