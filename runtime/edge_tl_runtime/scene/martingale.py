"""A test that may look every day for ever: conformal p-values, bets on them, and an alarm with a stated rate of false ones.

A day is summed up in a number, and its p-value is its place among all days before it, uniform if the days are exchangeable
(Vovk, Nouretdinov and Gammerman 2003, "Testing exchangeability on-line"). A bet multiplies a stake by a density of that p-value:
on average it wins nothing while nothing changes. A change may begin any day, so a stake of one is added each day (Shin, Ramdas
and Rinaldo 2023, "E-detectors"; the recursion is that of Shiryaev and Roberts). Its sum less the number of days is then a
martingale, and the mean number of days until it reaches a limit by chance is at least that limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import UsageError

Array = NDArray[np.float64]

TAILS = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 16])
"""Shares of the most unusual days that bets are put on: little history needs a wide tail, much history rewards a narrow one."""
ON_TAIL = 0.8
"""What part of a stake lies on its tail."""
MOST_DEPENDENT = 0.9
DOUBT = 1.0
"""Standard errors by which the measured dependence of days is lessened."""
_PERIODS = {"hour": 3600.0, "day": 86400.0, "week": 7 * 86400.0, "month": 365.25 * 7200.0, "year": 365.25 * 86400.0}


def parse_false_alarms(text: str) -> float:
    """Seconds a false alarm: 31557600 of "1/year". Raises UsageError for what is no rate."""
    count, slash, period = text.strip().partition("/")
    try:
        number = float(count)
    except ValueError:
        number = 0.0
    if not slash or period not in _PERIODS or not 1e-6 <= number <= 1e6:
        raise UsageError(f"{text!r} is no rate of false alarms; give one as 1/year, 2/month or 0.5/year")
    return _PERIODS[period] / number


def conformal_p(scores: Array, newest: float, tie: float) -> float:
    """The share of scores at least as high as the newest one, itself counted, with ties broken by chance.

    scores: (N,), of the days before. tie: uniform in [0, 1). Returns a number in (0, 1], small where the newest is
    unusually high; exactly uniform if the N + 1 scores are exchangeable (smoothed conformal p-value, Vovk et al. 2005).
    """
    higher, equal = int((scores > newest).sum()), int((scores == newest).sum())
    return (higher + (1 - tie) * (equal + 1)) / (len(scores) + 1)


def bets(p: float, two_sided: bool) -> Array:
    """What each bet makes of a stake of one, (B,); with a mean of one over uniform p."""
    places = np.array([p, 1 - p]) if two_sided else np.array([p])
    inside = places[:, None] <= TAILS
    won: Array = np.where(inside, ON_TAIL / TAILS, (1 - ON_TAIL) / (1 - TAILS))
    return won.ravel()


def dependence(values: Array) -> float:
    """How alike neighbouring days are: the correlation of ranks from one day to the next, less its error of chance; in [0, 0.9].

    values: (N,), in order. 0 for fewer than four days.
    """
    n = len(values)
    if n < 4:
        return 0.0
    order = np.lexsort((np.arange(n) * 7919 % n, values))  # ties in an order that says nothing
    ranks = np.empty(n)
    ranks[order] = np.arange(n) - (n - 1) / 2
    found = float(ranks[1:] @ ranks[:-1] / (ranks @ ranks)) + 1 / n  # by chance it is -1/n on average
    return float(min(MOST_DEPENDENT, max(0.0, found - DOUBT * n**-0.5)))


@dataclass(slots=True)
class ChangeDetector:
    """Takes the p-value of each day and tells when a change is no longer chance.

    limit: of the evidence, in days without a false alarm on average. stakes: of each bet.
    """

    limit: float
    two_sided: bool
    stakes: list[float] = field(default_factory=list)

    def update(self, p: float, dependent: float = 0.0) -> bool:
        """Whether the evidence is enough.

        dependent: as `dependence` measured it on days before. Bets are then raised to the power (1 - r) / (1 + r), the share of
        independent days in a series with this correlation: a stake wins less than nothing on average, so the limit still holds.
        """
        won = bets(p, self.two_sided) ** ((1 - dependent) / (1 + dependent))
        before = np.array(self.stakes) if self.stakes else np.zeros(len(won))
        self.stakes = ((1 + before) * won).tolist()
        return self.evidence >= self.limit

    @property
    def evidence(self) -> float:
        return float(np.mean(self.stakes)) if self.stakes else 0.0

    def reset(self) -> None:
        self.stakes = []


def changed_days(scores: Array, least_before: int) -> int:
    """How many of the newest days are changed ones: the split into before and since with the least squared error.

    scores: (N,), oldest first, N > least_before >= 1. Returns 1 to N - least_before.
    """
    n, total = len(scores), float(scores.sum())
    since = np.arange(1, n - least_before + 1)
    sums = np.cumsum(scores[::-1])[: len(since)]
    apart = sums / since - (total - sums) / (n - since)
    return int(np.argmax(apart**2 * since * (n - since))) + 1


def unusual(vectors: Array) -> Array:
    """How far each of N days is from the mean of all: (N, D) to (N,). It treats all days alike, as a conformal score must."""
    return np.asarray(np.linalg.norm(vectors - vectors.mean(0), axis=1))


def in_spreads(vectors: Array) -> Array:
    """Each of D numbers in units of its own spread over N days, (N, D); zeros where it has none."""
    spread = vectors.std(0)
    return np.where(spread > 1e-9, vectors - vectors.mean(0), 0) / np.where(spread > 1e-9, spread, 1)
