"""What a check of photos looks like as JSON."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import Count, NotNegative, Share
from edge_tl_runtime.images.documents import SkippedDocument


class DuplicatesDocument(TypedDict):
    """Photos that show the same picture.

    exact: whether their files are the same byte for byte.
    leaks: whether they are in more than one split.
    contradicts: whether they carry different labels.
    """

    photos: Annotated[list[str], Meta(min_length=2)]
    exact: bool
    leaks: bool
    contradicts: bool


class OddDocument(TypedDict):
    """A photo and what is odd about it."""

    path: str
    why: Annotated[list[str], Meta(min_length=1)]


class LabelSuspectDocument(TypedDict):
    """A photo whose label is contradicted by a probe that was not trained on it.

    given: probability of the label that it has.
    suggested: probability of the label that the probe suggests.
    """

    path: str
    label: str
    suggestion: str
    given: Share
    suggested: Share


class CheckDocument(TypedDict):
    """What edge-tl data check --json prints.

    layout: how the folder was understood.
    counts: photos per split and label.
    imbalance: photos of the largest class over those of the smallest, in the training part.
    used: photos that can be read.
    unreadable: files that were passed over, each with the reason.
    adjusted: photos whose pixels had to be changed, by what was done.
    held_out_top1: accuracy of the cross-validated probe, null where none was made.
    """

    data: str
    layout: str
    counts: dict[str, dict[str, Count]]
    imbalance: NotNegative
    used: Count
    unreadable: list[SkippedDocument]
    adjusted: dict[str, list[str]]
    duplicates: list[DuplicatesDocument]
    odd: list[OddDocument]
    label_suspects: list[LabelSuspectDocument]
    held_out_top1: Share | None
