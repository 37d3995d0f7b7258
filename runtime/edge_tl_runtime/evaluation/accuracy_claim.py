"""What may be said of one classifier's accuracy beside another's on the same photos, and how many photos could say more.

One place makes these words, so that a table, a page and a document never claim different things of the same photos.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_tl_runtime.core.statistics import paired_interval
from edge_tl_runtime.core.text import plural

if TYPE_CHECKING:
    from edge_tl_runtime.evaluation.documents import ClaimDocument, ClaimName

KEPT: Final = "kept"
UNDECIDED: Final = "undecided"
LOWER: Final = "lower"
TOO_LOW: Final = "too low"
CLAIMS = (KEPT, UNDECIDED, LOWER, TOO_LOW)
"""kept: the whole interval of the loss is within what is allowed. undecided: the loss seen is, the interval is not, and holds 0.
lower: as undecided, but chance does not explain the loss. too low: the loss seen is more than allowed."""

ASSUMED_DISAGREEMENT, ASSUMED_PHOTOS = 0.02, 50
"""Share of photos that only one of two files gets right, and how many photos that assumption counts as. A few photos on which two
files never disagree do not show that they never will; the INT8 files of this project differ from FP32 on 1 to 3 % of photos."""
MOST_PHOTOS = 10_000_000
"""Numbers above this are not worth naming."""
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class AccuracyClaim:
    """What n photos show of a loss of top-1.

    drop: top-1 of the first minus that of this one, a fraction; interval: its paired 95 % interval. allowed: the loss that is
    accepted, a fraction. only_first, only_this: photos that only one of the two gets right. dependence: how many photos count as
    one, since on photos of one origin the two differ together (`group_dependence`).
    """

    only_first: int
    only_this: int
    n: int
    allowed: float
    dependence: float = 1.0

    @property
    def drop(self) -> float:
        return (self.only_first - self.only_this) / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        first, this = self.only_first / self.dependence, self.only_this / self.dependence
        return paired_interval(first, this, self._effective)

    @property
    def _effective(self) -> float:
        return self.n / self.dependence

    @property
    def is_within(self) -> bool:
        """Whether the loss that was seen is allowed, which says nothing of photos that were not seen."""
        return self.drop <= self.allowed + _TOLERANCE

    @property
    def claim(self) -> ClaimName:
        """One of CLAIMS."""
        low, high = self.interval
        if not self.is_within:
            return TOO_LOW
        if high <= self.allowed + _TOLERANCE:
            return KEPT
        return LOWER if low > 0 else UNDECIDED

    @property
    def photos_needed(self) -> int | None:
        """About how many photos, of different origins, could show that the accuracy is kept; None where that is shown or refuted,
        or no number would do.

        Where the interval is wider than what is allowed: as many as make its half-width what is allowed, if the two are equally
        good and disagree as often as here. Where it is not: as many as tell the loss seen from the loss allowed.
        """
        if self.claim in (KEPT, TOO_LOW):
            return None
        low, high = self.interval
        margin = self.allowed if (high - low) / 2 > self.allowed else self.allowed - self.drop
        differ = (self.only_first + self.only_this) / self.dependence
        disagreement = (differ + ASSUMED_DISAGREEMENT * ASSUMED_PHOTOS) / (self._effective + ASSUMED_PHOTOS)
        return photos_for(margin, disagreement, int(self._effective))

    @property
    def words(self) -> str:
        """For a table, a page or a line: `not shown to be worse; 16 photos cannot tell, about 3,200 could`."""
        low, high = (100 * bound for bound in self.interval)
        allowed, lost = f"{100 * self.allowed:g} points", f"{100 * self.drop:.1f} points"
        if self.claim == KEPT:
            return f"accuracy kept: at most {allowed} lost (95 %, {plural(self.n, 'photo')})"
        if self.claim == TOO_LOW:
            said = f"{lost} LESS ACCURATE than FP32"
            return said if low > 0 else f"{said} on {plural(self.n, 'photo')}, which chance could explain"
        needed = self.photos_needed
        could = "no number of photos could" if needed is None else f"about {_about(needed)} could"
        cannot = f"{plural(self.n, 'photo')} cannot tell"
        if self.dependence > 1:
            cannot = f"{plural(self.n, 'photo')}, which say as much as {self._effective:.0f} of different origins, cannot tell"
        if self.claim == LOWER:
            return f"{lost} less accurate ({low:.1f} to {high:.1f}); {cannot} whether more than {allowed} are lost, {could}"
        return f"not shown to be worse; {cannot}, {could}"

    def to_dict(self) -> ClaimDocument:
        """As documents hold it; losses in points."""
        return {
            "claim": self.claim,
            "words": self.words,
            "n": self.n,
            "allowed": round(100 * self.allowed, 4),
            "photos_needed": self.photos_needed,
        }


def photos_for(margin: float, disagreement: float, more_than: int = 0) -> int | None:
    """The least number of photos above `more_than` whose paired interval is at most `margin` to either side.

    disagreement: share of photos that only one of the two gets right, as often the one as the other. None beyond MOST_PHOTOS.
    """

    def half(n: int) -> float:
        low, high = paired_interval(n * disagreement / 2, n * disagreement / 2, n)
        return (high - low) / 2

    low, high = more_than, MOST_PHOTOS
    if margin <= 0 or half(high) > margin:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if half(middle) > margin else (low, middle)
    return high


def _about(n: int) -> str:
    """Two digits, upwards: more would claim to know how often two files will disagree."""
    step = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return f"{math.ceil(n / step) * step:,}"
