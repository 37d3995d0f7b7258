"""What drift looks like as JSON: in the status, and in its own file."""

from __future__ import annotations

from typing import TypedDict

from edge_tl_runtime.core.documents import Count, NotNegative, Share


class EventsDocument(TypedDict):
    """Events of a time, and how many of them are unlike the training photos."""

    events: Count
    unknown: Count


class DriftDayDocument(EventsDocument):
    """A day of watching.

    time: when it began, ISO 8601; null where the clock was not set.
    seconds: how long it was.
    """

    time: str | None
    seconds: NotNegative


class WatchedDocument(TypedDict):
    """One thing that is watched for drift.

    name: unknown (their share of events), labels or picture.
    evidence: at the limit a change is said.
    limit: of the evidence, in days.
    dependence: of one day on the day before, by which evidence is discounted.
    since: when the change began that stands, in words; null without one.
    text: what changed; empty without a change.
    """

    name: str
    evidence: NotNegative
    limit: NotNegative
    dependence: Share
    since: str | None
    text: str


class CameraDriftDocument(TypedDict):
    """Whether what the camera sees drifts.

    notice: the changes that stand, in a sentence; empty without one.
    level: how much of the last week is unlike the training photos, in a sentence; empty before 20 events.
    promised: share of photos like the training photos that are called unknown; null where the file says nothing of it.
    learned: days of the `learn` that show what is usual.
    learn: how many of them there are.
    false_alarms: the rate that was asked for.
    block_s: seconds of what is called a day here.
    week: events of the last seven days and this one.
    hours: events of the last 24 hours, or parts of a day of another length; oldest first.
    days: whole ones, oldest first, at most 28.
    watched: what is watched.
    pictures: paths, the most unlike first.
    restarted: why what is usual is learned anew; empty where it is not.
    failed: why the file or pictures could not be written; empty where they could.
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


class DayCountsState(TypedDict):
    """A day as it is kept.

    begun: seconds of watching before it.
    wall: seconds since 1970 when it began, by the clock of the device; 0 for a video.
    seconds: how long it is.
    labels: events of each label, or group of labels.
    means: sums over all events, of features and of the distance.
    aside: what is watched for which it is no example of the usual.
    """

    begun: NotNegative
    wall: float
    seconds: NotNegative
    events: Count
    unknown: Count
    labels: list[Count]
    means: list[float]
    aside: list[str]


class WatchedState(TypedDict):
    """One thing that is watched, as it is kept.

    since: seconds of watching before the change that stands; null without one.
    dependent: of one day on the day before.
    stakes: of each bet.
    """

    name: str
    since: NotNegative | None
    dependent: Share
    stakes: list[NotNegative]


class DriftState(TypedDict):
    """The file of --drift.

    identity: what the days were counted with; with other values it begins anew.
    seed: of chance between equal days.
    seconds: of watching in all.
    closed: whole days in all.
    blocks: those that are kept, oldest first.
    current: the day under way.
    hours: number of the hour, events, unknown ones.
    """

    format: int
    identity: dict[str, str]
    seed: Count
    seconds: NotNegative
    closed: Count
    blocks: list[DayCountsState]
    current: DayCountsState
    watched: list[WatchedState]
    hours: list[list[int]]
