"""What accuracy under corruptions looks like as JSON, and of an attack what more than one document repeats."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import (
    AtLeastOne,
    Count,
    HitsDocument,
    Interval,
    NotNegative,
    RateDocument,
    Sha256,
    Share,
    one_of,
)
from edge_tl_runtime.evaluation.documents import EvaluationDocument
from edge_tl_runtime.images.documents import SkippedDocument
from edge_tl_runtime.modelfile.documents import Precision

Severity = Annotated[int, Meta(ge=1, le=5)]
Norm = Annotated[str, one_of(("linf", "l2"))]
Role = Annotated[str, one_of(("model", "fp32_counterpart"))]
AttackKind = Annotated[str, one_of(("white-box", "transfer", "black-box", "control"))]
Epsilon = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$")]
"""In /255 for linf, of pixels in 0..1 for l2; as text, for it is a key."""
Flags = Annotated[str, Meta(pattern="^[01]*$")]
RateByEpsilon = dict[Epsilon, RateDocument]


class CorruptedHitsDocument(HitsDocument):
    """Accuracy under one corruption at one severity; errors are fractions."""

    error_over_clean: float
    error_over_clean_ci95: Interval


class MeansDocument(TypedDict):
    """Means over corruptions and severities; errors are fractions.

    error_ratio: corrupted error over clean error, null where the clean error is 0.
    """

    mean: Share
    mean_ci95: Interval
    error_over_clean: float
    error_ratio: NotNegative | None


class CorruptionDocument(MeansDocument):
    """One corruption.

    source: the paper, or what it imitates.
    """

    name: str
    group: str
    stage: Literal["frame", "pixels"]
    source: str
    by_severity: dict[Annotated[str, Meta(pattern="^[1-5]$")], CorruptedHitsDocument]


class CorruptionsDocument(TypedDict):
    """Accuracy under corruptions; rates and errors are fractions.

    sets: camera and imagenet-c, where every corruption of the set was measured.
    camera_side: lines of the frame that camera corruptions are applied to.
    complete: false where it was stopped before every photo was classified.
    """

    clean: HitsDocument
    mean_accuracy: Share
    mean_accuracy_ci95: Interval
    mean_error_over_clean: float
    mean_error_ratio: NotNegative | None
    sets: dict[str, MeansDocument]
    rows: list[CorruptionDocument]
    severities: Annotated[list[Severity], Meta(min_length=1)]
    camera_side: AtLeastOne
    seed: Count
    complete: bool
    skipped: list[SkippedDocument]


class _UnderCorruptions(TypedDict, total=False):
    corruptions: CorruptionsDocument


class EvaluateDocument(EvaluationDocument, _UnderCorruptions):
    """What edge-tl evaluate --json prints.

    corruptions: with --corruptions.
    """


class UnplacedModelDocument(TypedDict):
    """A model file, wherever it lies."""

    sha256: Sha256
    precision: Precision
    arch: str
    classes: Annotated[int, Meta(ge=2)]


class _AlarmEpsilons(TypedDict, total=False):
    epsilons: list[NotNegative]


class AlarmDocument(_AlarmEpsilons):
    """A sign that a model looks robust because the attack failed.

    text: the figures.
    explanation: what it means and what to do.
    role: of the file that it is about.
    epsilons: where the figure is withheld for it: none where too few photos are left for the figure to be much too high.
    """

    name: str
    text: str
    explanation: str
    role: Role


class QueriesDocument(TypedDict):
    """Questions asked until a photo was fooled; null where none was."""

    median: NotNegative | None
    p90: NotNegative | None


class EnvironmentDocument(TypedDict):
    """Where an attack ran."""

    machine: str
    cpu: str
    features: list[str]
    threads: AtLeastOne
    provider: str
    gradients_on: str
    python: str
    versions: dict[str, str]


class _Later(TypedDict, total=False):
    time_limit: NotNegative
    attacks: str


class AttackSettingsDocument(_Later):
    """What was asked for; time_limit: minutes. attacks: names given by --attacks; empty for the preset's."""

    preset: str
    norm: Norm
    epsilons: str
    photos: Count
    split: str
    target: str
    source: str
    queries: Count
    corruptions: str
    device: str
    seed: Count
