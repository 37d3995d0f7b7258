"""What accuracy under corruptions looks like as JSON."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import AtLeastOne, Count, HitsDocument, Interval, NotNegative, Share
from edge_tl_runtime.evaluation.documents import EvaluationDocument
from edge_tl_runtime.images.documents import SkippedDocument

Severity = Annotated[int, Meta(ge=1, le=5)]


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


class _OfBench(TypedDict, total=False):
    workstation: Share | None


class CorruptionsDocument(_OfBench):
    """Accuracy under corruptions; rates and errors are fractions.

    sets: camera and imagenet-c, where every corruption of the set was measured.
    camera_side: lines of the frame that camera corruptions are applied to.
    complete: false where it was stopped before every photo was classified.
    workstation: of edge-tl bench: mean accuracy there, null where it was measured of something else.
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
