"""Of photos that are evaluated: how often their sets of labels hold the right one, and how large the sets are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.statistics import group_dependence, wilson
from edge_tl_runtime.core.text import percent
from edge_tl_runtime.images.fingerprint import Role

if TYPE_CHECKING:
    from edge_tl_runtime.evaluation.documents import CoverageDocument


class Sets(Protocol):
    """What makes sets of labels. asked: how often they should hold the right one; stored: for what the threshold is."""

    @property
    def asked(self) -> float: ...

    @property
    def stored(self) -> float: ...

    def members(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(N, C) to bool (N, C): which labels are in the sets."""
        ...


@dataclass(frozen=True, slots=True)
class Coverage:
    """Sets of n photos. asked: how often they should hold the right label; stored: what the threshold is for, as often or more.

    covered: photos whose set holds it. mean_size: labels in a set; largest: the most. single: photos with one label alone.
    worst: of the classes, the one that is covered least often, with its covered photos and all its photos.
    placed: whether these photos placed the threshold, and say nothing of others. dependence: as in `Evaluation`.
    """

    asked: float
    stored: float
    covered: int
    n: int
    mean_size: float
    largest: int
    single: int
    worst: tuple[str, int, int]
    placed: bool
    dependence: float = 1.0

    @property
    def ci95(self) -> tuple[float, float]:
        return wilson(self.covered / self.dependence, self.n / self.dependence)

    def describe(self) -> str:
        low, high = self.ci95
        label, right, photos = self.worst
        text = (
            f"sets for a coverage of {self.stored:g} hold the right label of {percent(self.covered / self.n)} "
            f"({self.covered} of {self.n}, 95 % interval {100 * low:.1f} to {100 * high:.1f}); {self.mean_size:.2f} labels on "
            f"average, {self.largest} at most, one alone for {self.single} photos; covered least: {label}, {right} of {photos}"
        )
        if not self.placed:
            return text
        return (
            f"{text}; these photos placed the threshold, so their share says little of others: evaluate on other photos"
        )

    def to_dict(self) -> CoverageDocument:
        label, right, photos = self.worst
        return {
            "asked": self.asked,
            "stored": self.stored,
            "covered": self.covered,
            "n": self.n,
            "ci95": [round(x, 6) for x in self.ci95],
            "mean_size": round(self.mean_size, 6),
            "largest": self.largest,
            "single": self.single,
            "worst_class": {"label": label, "covered": right, "n": photos},
            "placed": self.placed,
        }


def coverage_of(
    sets: Sets,
    probabilities: NDArray[np.float64],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    groups: Sequence[str],
    roles: Sequence[Role],
) -> Coverage:
    """Of the photos that are new to the file; where there are none, of those that placed the threshold.

    probabilities: (N, C); targets: (N,), N >= 1; groups: origins; roles: what each photo was to the file."""
    new = np.array([role == "new" for role in roles])
    placed = not new.any()
    if not placed:
        probabilities, targets = probabilities[new], targets[new]
        groups = [key for key, one in zip(groups, new, strict=True) if one]
    members = sets.members(probabilities)
    held, sizes = members[np.arange(len(targets)), targets], members.sum(1)
    per_class = [(int(held[targets == place].sum()), int((targets == place).sum())) for place in range(len(labels))]
    there = [place for place, (_, n) in enumerate(per_class) if n]
    worst = min(there, key=lambda place: per_class[place][0] / per_class[place][1])
    return Coverage(
        asked=sets.asked,
        stored=sets.stored,
        covered=int(held.sum()),
        n=len(targets),
        mean_size=float(sizes.mean()),
        largest=int(sizes.max()),
        single=int((sizes == 1).sum()),
        worst=(labels[worst], *per_class[worst]),
        placed=placed,
        dependence=group_dependence(held, groups),
    )
