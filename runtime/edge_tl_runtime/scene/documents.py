"""What is told of a scene, as JSON."""

from __future__ import annotations

from typing import TypedDict

from edge_tl_runtime.core.documents import Count, NotNegative, Share


class MotionDocument(TypedDict):
    """When frames are classified because something moves.

    moving: whether something moves, or did so a few seconds ago.
    moved_s: seconds since the last motion, null where nothing moved yet.
    every_s: a frame is classified at least once in so many seconds.
    looked: frames that were compared with earlier ones.
    still: frames that were not classified because nothing moved, those included that were not even decoded.
    """

    moving: bool
    moved_s: NotNegative | None
    every_s: NotNegative
    looked: Count
    still: Count


class ConditionDocument(TypedDict):
    """Whether a camera sees what it saw.

    condition: LEARNING, FINE, COVERED, BLURRED, DARK, MOVED or OVEREXPOSED.
    since: since when, ISO 8601.
    learned: when the view was learned, ISO 8601; null while it is learned.
    learned_s: seconds since then, null while it is learned.
    tiles: how many of 60 parts of the picture have structure to tell a covered, blurred or moved camera by.
    agree: share of these that show what they showed; of the last look, as all that follow; null before the first.
    flat: share of these that lost their structure.
    sharpness: fine over coarse structure, 1 as it was learned.
    shift: how far the view moved, in widths of the picture.
    brightness: mean grey value of 255.
    white: share of white pixels.
    """

    condition: str
    since: str
    learned: str | None
    learned_s: NotNegative | None
    tiles: Count
    agree: Share | None
    flat: Share | None
    sharpness: float | None
    shift: NotNegative | None
    brightness: NotNegative | None
    white: Share | None


class ViewDocument(TypedDict):
    """A learned view, kept in the status file for the next start.

    size: columns and rows of the frames.
    learned: seconds since 1970.
    white: usual share of white pixels.
    tells: numbers of the tiles that have structure, row by row.
    coarse: usual energy of each tile.
    fine: the same of its fine structure.
    picture: JPEG of 160 x 90 grey pixels in base64, the median of a minute.
    """

    format: int
    source: str
    size: list[int]
    learned: NotNegative
    white: Share
    tells: list[Count]
    coarse: list[float]
    fine: list[float]
    picture: str


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
