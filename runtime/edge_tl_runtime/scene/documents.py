"""What is told of a scene, as JSON."""

from __future__ import annotations

from typing import TypedDict

from edge_tl_runtime.core.documents import Count, NotNegative


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
