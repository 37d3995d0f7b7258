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
