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
