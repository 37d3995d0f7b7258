"""What a result of the camera loop looks like as JSON."""

from __future__ import annotations

from typing import TypedDict

from edge_tl_runtime.core.documents import Count, NotNegative, Share
from edge_tl_runtime.inference.documents import ScoreDocument, WithSet


class DecisionDocument(WithSet):
    """What is shown of a frame.

    label: what is shown: unknown where known is false.
    known: whether the label is to be believed.
    top: the likeliest classes after smoothing, likeliest first.
    """

    label: str
    confidence: Share
    known: bool
    top: list[ScoreDocument]


class NotedDocument(TypedDict, total=False):
    """What was told of a frame before it was classified.

    still: frames passed over before it because nothing moved.
    camera: what is wrong with the camera's view (covered, blurred, dark, moved, overexposed): the label may be wrong.
    """

    still: Count
    camera: str


class _Where(TypedDict, total=False):
    region: str


class ResultDocument(DecisionDocument, NotedDocument, _Where):
    """One frame, or one region of it.

    region: its name, where run was given several.

    frame: its number, from 0.
    seconds: time of the frame in its source.
    raw: the model's own answer for this very frame.
    latency_ms: crop, resize and inference.
    age_ms: from the frame's capture until its result.
    fps: results per second over the last two seconds.
    """

    source: str
    frame: Count
    seconds: NotNegative
    raw: ScoreDocument
    latency_ms: NotNegative
    age_ms: NotNegative
    fps: NotNegative


class _Timed(TypedDict, total=False):
    time: str


class RunLine(ResultDocument, _Timed):
    """A line of edge-tl run --json and --log: one object for each frame; docs/run.md says what each key means.

    time: of --log: when the frame was captured, ISO 8601.
    """
