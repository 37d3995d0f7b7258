"""What a prediction looks like as JSON."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import NotNegative, Share


class ScoreDocument(TypedDict):
    """One class and its probability."""

    label: str
    confidence: Share


class WithSet(TypedDict, total=False):
    """What `--coverage` adds.

    set: labels that hold the right one with the probability that was asked for, likeliest first; null where known is false.
    """

    set: list[str] | None


class PredictionDocument(ScoreDocument, WithSet):
    """The model's answer for one photo.

    label: the likeliest class; unknown where known is false.
    known: false for a picture that is like none of the training photos.
    top: the likeliest classes, likeliest first.
    latency_ms: crop, resize and inference, without decoding.
    """

    known: bool
    top: Annotated[list[ScoreDocument], Meta(min_length=1)]
    latency_ms: NotNegative


class PredictLine(PredictionDocument):
    """A line of edge-tl predict --json: one object for each photo.

    source: the photo.
    """

    source: str
