"""The same photos evaluated twice: what changed, and whether chance explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.statistics import discordant, mcnemar, paired_interval

if TYPE_CHECKING:
    from edge_tl.report.documents import PairedDocument


@dataclass(frozen=True)
class Pair:
    """Photos that only the first, or only this one, gets right, of n. difference: this one minus the first, with its 95 %
    interval; p: exact two-sided McNemar."""

    only_first: int
    only_this: int
    n: int
    difference: float
    ci95: tuple[float, float]
    p: float

    def to_dict(self) -> PairedDocument:
        return {
            "only_first": self.only_first,
            "only_this": self.only_this,
            "n": self.n,
            "difference": self.difference,
            "ci95": list(self.ci95),
            "p": self.p,
        }


def p_words(p: float) -> str:
    """A p value as text: 0.000 would claim what none can be."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def paired(first: NDArray[np.bool_], this: NDArray[np.bool_]) -> Pair:
    """first, this: right or not, bool (n,), of the same photos in the same order."""
    (only_first, only_this), n = discordant(first, this), len(first)
    interval = paired_interval(only_this, only_first, n)
    difference = (only_this - only_first) / n
    return Pair(only_first, only_this, n, difference, interval, mcnemar(only_first, only_this))


def from_text(outcomes: str) -> NDArray[np.bool_]:
    """Outcomes as documents hold them, a 1 or 0 for each photo."""
    return np.array([outcome == "1" for outcome in outcomes], np.bool_)
