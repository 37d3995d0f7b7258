"""What an evaluation looks like as JSON."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import AtLeastOne, Count, Interval, Labels, NotNegative, Share
from edge_tl_runtime.images.documents import SkippedDocument

ClaimName = Literal["kept", "undecided", "lower", "too low"]


class ByRole(TypedDict):
    """A figure for each kind of photo; null where there is none of it, or it is not known.

    validation: photos that chose the recipe and the temperature.
    """

    trained_on: NotNegative | None
    validation: NotNegative | None
    new: NotNegative | None


class OverlapDocument(TypedDict):
    """What the photos were to the model.

    known: whether the model lists the photos it was trained on.
    listed: share of its training photos whose file is recognised.
    copies_listed: share of them of which a copy that was saved again is recognised.
    left_out: photos that the model was trained on and that were not used.
    photos: photos used.
    top1: of each kind alone; null where there is none of it, or it was not asked.
    """

    known: bool
    why_unknown: str
    listed: Share
    copies_listed: Share
    left_out: Count
    left_out_names: Annotated[list[str], Meta(max_length=20)]
    photos: ByRole
    top1: ByRole


class ClaimDocument(TypedDict):
    """What the photos show of the accuracy beside FP32.

    allowed: points.
    photos_needed: about how many photos could show that no more than allowed is lost; null where that is shown or refuted, or
        no number would do.
    """

    claim: ClaimName
    words: str
    n: Count
    allowed: NotNegative
    photos_needed: AtLeastOne | None


class UnknownDocument(TypedDict):
    """Photos that would be called unknown.

    keep: fraction of photos like the training photos that should stay known.
    right: photos called unknown whose likeliest class is the right one.
    """

    keep: Share
    count: Count
    n: Count
    right: Count


class CoveredClassDocument(TypedDict):
    """A class, and how many of its photos are covered."""

    label: str
    covered: Count
    n: AtLeastOne


class CoverageDocument(TypedDict):
    """How often sets of labels hold the right one.

    asked: the coverage that a person wants.
    stored: that of the threshold, the same or higher.
    covered: photos whose set holds the right label, of n that are new to the file.
    mean_size: labels in a set.
    largest: labels of the largest set.
    single: photos with one label alone.
    worst_class: the class that is covered least often.
    placed: true where none of the photos is new: they placed the threshold, and say little of others.
    """

    asked: Share
    stored: Share
    covered: Count
    n: AtLeastOne
    ci95: Interval
    mean_size: NotNegative
    largest: AtLeastOne
    single: Count
    worst_class: CoveredClassDocument
    placed: bool


class ReliabilityDocument(TypedDict):
    """How far confidences can be believed, per bin of confidence.

    ece: expected calibration error.
    counts: photos per bin.
    confidence: mean confidence per bin.
    accuracy: share of photos right per bin.
    """

    ece: Share
    counts: list[Count]
    confidence: list[Share]
    accuracy: list[Share]


class ClassDocument(TypedDict):
    """The figures of one class."""

    label: str
    n: Count
    recall: Share
    precision: Share


class EvaluationDocument(TypedDict):
    """Accuracy on the photos of a folder.

    effective_n: how many photos of different origins would say as much, which the intervals are for; below n for bursts.
    balanced_accuracy: mean recall over the classes that have photos.
    top5: null below six classes.
    confusion: rows are the truth, columns the answer; null above 100 classes.
    ece: expected calibration error, null where the model does not say how scores become probabilities.
    data: the photos, in words.
    skipped: files that were passed over, each with the reason.
    adjusted: names of photos whose pixels had to be changed to be read, by what was done.
    unknown: null where it was not asked.
    coverage: of sets of labels; null where it was not asked.
    training_overlap: null where it was not asked.
    """

    top1: Share
    n: AtLeastOne
    effective_n: float
    ci95: Interval
    balanced_accuracy: Share
    balanced_ci95: Interval
    top5: Share | None
    per_class: list[ClassDocument]
    labels: Labels
    confusion: list[list[Count]] | None
    ece: Share | None
    data: str
    skipped: list[SkippedDocument]
    adjusted: dict[str, list[str]]
    unknown: UnknownDocument | None
    coverage: CoverageDocument | None
    training_overlap: OverlapDocument | None
