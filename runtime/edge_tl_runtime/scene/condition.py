"""Whether a camera still sees what it saw: covered, blurred, dark, moved or overexposed.

A look a second is compared with a reference that was learned on site (`learned_view`). Each look says what it seems to be; a
condition is told only when looks say so for ENTER_S, and is over only when they say so for LEAVE_S.
"""

from __future__ import annotations

import enum
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.scene.learned_view import LEAST_COARSE, LEAST_TILES, LearnedView
from edge_tl_runtime.scene.structure import (
    LEAST_RESPONSE,
    WIDTH,
    Orientation,
    Small,
    coarse_energy,
    layout,
    shift_of,
    small,
    tile_means,
)

if TYPE_CHECKING:
    from edge_tl_runtime.scene.documents import ConditionDocument

LOOK_S = 1.0
LEARNING_LOOKS = 60
"""Looks that a reference is the median of: what walks through in less than half of them is not in it."""
ENTER_S, LEAVE_S = 20.0, 10.0
LEAST_LOOKS = 5
CLEAR = 0.8
"""Share of the looks of that time that must agree."""
_FOLLOW = 1 / 1800
"""Share of a look that the reference takes over: the sun of half an hour ago is forgotten."""
_RENEW_LOOKS = 60

AGREES = 0.4
"""Correlation of a tile's edges with the reference, from which on it shows the same."""
MOST_AGREE, FEW_AGREE = 0.5, 0.3
"""Shares of tiles: from MOST_AGREE on the view is surely the same, below FEW_AGREE it is another."""
FLAT, MOST_FLAT = 0.12, 0.5
"""Coarse energy of a tile over its usual one, below which it lost its structure; and the share of such tiles that is a cover."""
SOFT = 0.3
"""Fine over coarse energy of the middle tile, over the usual: below, the picture is blurred."""
SHIFT = 0.03
"""Of the width: the view has moved."""
TOO_BRIGHT = 0.4
"""Share of white pixels above the usual."""
NOTHING_SEEN = 25.0
"""Of 255: where 98 % of a picture are darker, it is dark, whatever covers it."""
STILL_AGREE, SAME_LAYOUT = 0.8, 0.75
"""A strong blur leaves edges where they were, weak as they are, and the rough order of light and dark; a cover leaves neither."""


class Condition(enum.Enum):
    """What is told of a camera's view. LEARNING: the reference is being made; FINE: nothing is wrong."""

    LEARNING = "LEARNING"
    FINE = "FINE"
    COVERED = "COVERED"
    BLURRED = "BLURRED"
    DARK = "DARK"
    MOVED = "MOVED"
    OVEREXPOSED = "OVEREXPOSED"

    @property
    def wrong(self) -> bool:
        return self not in (Condition.LEARNING, Condition.FINE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look seems to be, and the numbers it is told by. agree: share of tiles that show the same; flat: that lost their
    structure; sharpness: fine over coarse structure, 1 as usual; shift: in widths of the picture; brightness: mean of 255;
    white: share of white pixels."""

    condition: Condition
    agree: float
    flat: float
    sharpness: float
    shift: float
    brightness: float
    white: float


def assessed(now: Small, before: Small, reference: LearnedView) -> Seen:
    """What a look seems to be. before: the look before it."""
    view = Orientation.of(now.even)
    tells = reference.tells
    agree = _share(view.agreement(reference.edges)[tells] >= AGREES)
    shift, moved = _shifted(view, reference.edges) if agree < 1 else (0.0, 0.0)
    if moved < max(agree + 0.15, MOST_AGREE):
        shift = 0.0
    elif shift < SHIFT:
        agree = moved  # a mount that gives a little is no other view
    coarse = coarse_energy(now, before)
    flat = _share(coarse[tells] < FLAT * reference.coarse[tells])
    usual = reference.fine[tells] / reference.coarse[tells]
    sharpness = now.fine[tells] / np.maximum(coarse[tells], 1e-3) / np.maximum(usual, 1e-4)
    sharp = float(np.clip(np.median(sharpness), 0, 10))
    condition = Condition.FINE
    if now.white - reference.white > TOO_BRIGHT:
        condition = Condition.OVEREXPOSED
    elif now.bright < NOTHING_SEEN:
        condition = Condition.DARK
    elif flat >= MOST_FLAT:
        blurred = agree >= STILL_AGREE and layout(now.even, reference.picture) >= SAME_LAYOUT
        condition = Condition.BLURRED if blurred else Condition.COVERED
    elif shift >= SHIFT or agree < FEW_AGREE:
        condition = Condition.MOVED
    elif sharp < SOFT:
        condition = Condition.BLURRED
    return Seen(condition, agree, flat, sharp, shift, now.mean, now.white)


def _shifted(view: Orientation, reference: Orientation) -> tuple[float, float]:
    """How far the view was shifted, in widths, and the share of tiles that show the reference when it is shifted as far."""
    right, down, response = shift_of(view, reference)
    if response < LEAST_RESPONSE or math.hypot(right, down) < 0.5:
        return 0.0, 0.0
    there = reference.moved(right, down)
    held = tile_means(there.length**2) >= LEAST_COARSE
    found = _share(view.agreement(there)[held] >= AGREES) if held.sum() >= LEAST_TILES else 0.0
    return math.hypot(right, down) / WIDTH, found


def _share(which: NDArray[np.bool_]) -> float:
    return float(which.mean()) if which.size else 0.0


class Hysteresis:
    """Turns what looks say into a condition that stays: see ENTER_S and LEAVE_S."""

    def __init__(self) -> None:
        self.condition = Condition.FINE
        self.since = -math.inf
        """When the looks began to say so."""
        self._looks: deque[tuple[float, Condition]] = deque()

    def update(self, seen: Condition, now: float) -> Condition:
        """now: seconds on a clock that only goes forward."""
        looks = self._looks
        looks.append((now, seen))
        wanted = LEAVE_S if self.condition.wrong else ENTER_S
        while len(looks) > LEAST_LOOKS and looks[1][0] <= now - wanted:
            looks.popleft()
        if now - looks[0][0] < wanted or len(looks) < LEAST_LOOKS:
            return self.condition
        counts = Counter(condition for _, condition in looks)
        wrong = sum(count for condition, count in counts.items() if condition.wrong)
        if wrong < CLEAR * len(looks):
            if self.condition.wrong and len(looks) - wrong >= CLEAR * len(looks):
                self._change(Condition.FINE)
            return self.condition
        told = max((condition for condition in counts if condition.wrong), key=lambda condition: counts[condition])
        if told is not self.condition and counts[told] >= CLEAR * wrong:
            self._change(told)
        return self.condition

    def _change(self, condition: Condition) -> None:
        self.condition = condition
        self.since = next(at for at, seen in self._looks if seen.wrong == condition.wrong)


class CameraWatch:
    """Learns what a camera sees and says when it does not see it any more. Times are seconds on a clock that only goes forward.

    reference: None while it is learned. seen: the last look, None before that. wall: seconds since 1970, for what is stored.
    """

    def __init__(self, source: str, reference: LearnedView | None, wall: Callable[[], float]) -> None:
        """source: whose frames these are. reference: from an earlier run; one of another source is not used."""
        self.source, self._wall = source, wall
        self.reference = reference
        self.seen: Seen | None = None
        self.since = wall()
        """Seconds since 1970 since when the condition is what it is."""
        self.notes: list[str] = []
        """Lines for a person, taken out by the reader."""
        self._hysteresis = Hysteresis()
        self._learning: list[Small] = []
        self._before: Small | None = None
        self._looked_at: float | None = None
        self._looks = 0
        self._size = (0, 0)
        self._told_plain = False
        if reference is not None and reference.source != source:
            self._forget(f"the view was learned from {reference.source}")

    @property
    def condition(self) -> Condition:
        told = self._hysteresis.condition
        return Condition.LEARNING if self.reference is None and not told.wrong else told

    def look(self, frame: Frame, now: float) -> Condition:
        """frame: uint8 (H, W, 3), (H, W) or (H, W, 4). One in LOOK_S is looked at, the rest passed over. Raises BadFrame."""
        if self._looked_at is None:
            self._looked_at = now  # the first label is not kept waiting
        if now - self._looked_at < LOOK_S:
            return self.condition
        self._looked_at = now
        picture = small(frame)
        self._meet(frame.shape[1], frame.shape[0])
        before, self._before = self._before, picture
        if before is None:
            return self.condition
        if self.reference is None or not self.reference.enough:
            self.seen = Seen(_without_structure(picture), 0.0, 0.0, 0.0, 0.0, picture.mean, picture.white)
            self._tell(self.seen.condition, now)
            self._learn(picture)
            return self.condition
        self.seen = assessed(picture, before, self.reference)
        self._follow(picture, self.reference)
        self._tell(self.seen.condition, now)
        return self.condition

    def _meet(self, columns: int, rows: int) -> None:
        """Begin anew with frames of another size."""
        if (columns, rows) == self._size:
            return
        self._size, self._before = (columns, rows), None
        self._learning.clear()
        if self.reference is not None and self.reference.size != (columns, rows):
            was = "x".join(map(str, self.reference.size))
            self._forget(f"frames are {columns}x{rows} now, the view was learned from {was}")

    def _forget(self, why: str) -> None:
        self.reference, self._hysteresis = None, Hysteresis()
        self.since = self._wall()
        self.notes.append(f"{why}; it is learned anew")

    def _learn(self, picture: Small) -> None:
        """Again and again until the view has enough that stays: the camera may still be in somebody's hands."""
        if self.seen is not None and self.seen.condition.wrong:
            return  # nothing to learn from
        self._learning.append(picture)
        if len(self._learning) < LEARNING_LOOKS:
            return
        found = LearnedView.of(self._learning, self._wall(), self.source, self._size)
        self._learning.clear()
        self.reference, self.since = found, self._wall()
        if found.enough:
            self.notes.append("camera: the view is learned")
        elif not self._told_plain:
            self.notes.append(
                "camera: too little of the view stays as it is to tell whether it is covered, blurred or moved"
            )
        self._told_plain = not found.enough

    def _follow(self, picture: Small, reference: LearnedView) -> None:
        """Take over the light of now, where all is well."""
        assert self.seen is not None
        self._looks += 1
        if self.condition is Condition.FINE and self.seen.agree >= MOST_AGREE and self.seen.shift == 0:
            reference.blend(picture, _FOLLOW)
        if self._looks % _RENEW_LOOKS == 0:
            reference.renew()

    def _tell(self, seen: Condition, now: float) -> None:
        before = self._hysteresis.condition
        after = self._hysteresis.update(seen, now)
        if after is before:
            return
        since = self._wall() - (now - self._hysteresis.since)
        at = time.strftime("%H:%M", time.localtime(since))
        if after.wrong:
            how = f" by {100 * self.seen.shift:.0f} %" if self.seen is not None and self.seen.shift >= SHIFT else ""
            self.notes.append(f"camera: {after.value.lower()}{how}, since {at}; labels may be wrong")
        else:
            was = round((since - self.since) / 60)
            self.notes.append(f"camera: fine again, since {at}; it was {before.value.lower()} for {was} min")
        self.since = since

    def document(self) -> ConditionDocument:
        """The state as JSON."""
        seen, reference = self.seen, self.reference
        return {
            "condition": self.condition.value,
            "since": iso(self.since),
            "learned": iso(reference.learned) if reference else None,
            "learned_s": round(max(0.0, self._wall() - reference.learned), 1) if reference else None,
            "tiles": int(reference.tells.sum()) if reference else 0,
            "agree": round(seen.agree, 3) if seen else None,
            "flat": round(seen.flat, 3) if seen else None,
            "sharpness": round(seen.sharpness, 3) if seen else None,
            "shift": round(seen.shift, 3) if seen else None,
            "brightness": round(seen.brightness, 1) if seen else None,
            "white": round(seen.white, 3) if seen else None,
        }


def iso(seconds: float) -> str:
    """A time as ISO 8601, UTC. seconds: since 1970."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _without_structure(now: Small) -> Condition:
    """What can be told of a look without a reference: that nothing can be seen."""
    if now.white > 0.9:
        return Condition.OVEREXPOSED
    return Condition.DARK if now.bright < NOTHING_SEEN else Condition.FINE
