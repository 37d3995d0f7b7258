"""What drift looks like as JSON: in the status, and in its own file."""

from __future__ import annotations

from typing import TypedDict

from edge_tl_runtime.core.documents import Count, NotNegative, Share


class EventsDocument(TypedDict):
    """Events of a time, and how many of them are unlike the training photos."""

    events: Count
    unknown: Count


class DriftDayDocument(EventsDocument):
    """time: when the day began, ISO 8601; null where the clock was not set. seconds: how long it was watched."""

    time: str | None
    seconds: NotNegative


class WatchedDocument(TypedDict):
    """name: unknown, labels or picture. evidence: at the limit a change is said. dependence: of one day on the day before, by
    which evidence is discounted. since: when the change began that stands, in words; null without one. text: what changed."""

    name: str
    evidence: NotNegative
    limit: NotNegative
    dependence: Share
    since: str | None
    text: str


class DriftDocument(TypedDict):
    """Whether what the camera sees drifts.

    notice: the changes that stand, in a sentence; empty without one. level: how much of the last week is unlike training photos.
    promised: share of photos like the training photos that are called unknown; null where the file says nothing of it.
    learned: days of the `learn` that show what is usual. false_alarms: the rate that was asked for. block_s: length of a "day".
    week: of the last seven days and this one. hours: the last 24 (parts of a block), oldest first. days: whole ones, oldest
    first. pictures: paths, the most unlike first. restarted: why what is usual is learned anew; empty where it is not.
    failed: why state or pictures could not be written; empty where they could.
    """

    notice: str
    level: str
    promised: Share | None
    learned: Count
    learn: Count
    false_alarms: str
    block_s: NotNegative
    week: EventsDocument
    hours: list[EventsDocument]
    days: list[DriftDayDocument]
    watched: list[WatchedDocument]
    pictures: list[str]
    restarted: str
    failed: str


class BlockState(TypedDict):
    """See `Block`."""

    begun: NotNegative
    wall: float
    seconds: NotNegative
    events: Count
    unknown: Count
    labels: list[Count]
    means: list[float]
    aside: list[str]


class WatchedState(TypedDict):
    """See `Watched` and `ChangeDetector`."""

    name: str
    since: NotNegative | None
    dependent: Share
    stakes: list[NotNegative]


class DriftState(TypedDict):
    """The file of --drift. identity: what the days were counted with; other values begin anew. seconds: of watching in all.

    seed: of chance between equal days. closed: days in all. hours: number of the hour, events, unknown.
    """

    format: int
    identity: dict[str, str]
    seed: Count
    seconds: NotNegative
    closed: Count
    blocks: list[BlockState]
    current: BlockState
    watched: list[WatchedState]
    hours: list[list[int]]
