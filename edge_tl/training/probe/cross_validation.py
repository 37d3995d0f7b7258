"""Accuracy of the linear probe by cross-validation: what a handful of validation photos cannot say.

Every photo, for training or validation, is evaluated by a probe that did not see it, penalty and rise of small classes found anew
each time. Folds share their training photos, so their errors hang together, and so do those of photos of one origin: the interval
is that of fewer photos than there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl.training.probe.balance import class_counts
from edge_tl.training.probe.probe import FOLDS, classes_of_one_group, fit_probe, make_folds
from edge_tl_runtime.core.statistics import group_dependence, mean_of_rates, wilson
from edge_tl_runtime.evaluation.evaluate import told_dependence, unequal

if TYPE_CHECKING:
    from edge_tl.training.documents import FiguresDocument

FEW = 20
"""Validation photos of the smallest class below which the cross-validated figure is given too: an interval of all right photos
then begins below 84 %."""
DEPENDENCE = FOLDS * (1 / FOLDS + 1 / (FOLDS - 1))
"""How many dependent photos count as one: Nadeau and Bengio 2003 multiply the variance of K folds' mean by 1 + K / (K - 1)."""
NAMED = 5
"""Classes that a line names."""
AT_MOST = 2000
"""Photos above which it is not done: so many validation photos speak for themselves, and the fits would take minutes."""


@dataclass(frozen=True)
class CrossValidated:
    """right: photos of each class that were named right; sizes: all of each class. Both int64 (C,), no class without photos.

    groups: how many photos count as one because photos of one origin are right or wrong together (`group_dependence`).
    """

    right: NDArray[np.int64]
    sizes: NDArray[np.int64]
    groups: float = 1.0

    @property
    def n(self) -> int:
        return int(self.sizes.sum())

    @property
    def top1(self) -> float:
        return float(self.right.sum() / self.n)

    @property
    def dependence(self) -> float:
        """How many photos count as one, for they share training photos and origins."""
        return DEPENDENCE * self.groups

    @property
    def ci95(self) -> tuple[float, float]:
        return wilson(self.right.sum() / self.dependence, self.n / self.dependence)

    @property
    def balanced(self) -> tuple[float, float, float]:
        """Balanced accuracy and its interval."""
        return mean_of_rates(self.right / self.dependence, self.sizes / self.dependence)

    def describe(self) -> str:
        """`top-1 90.0 % (18 of 20 photos, 95 % interval 62.1 to 98.4)`; with the balanced accuracy where classes are unequal."""
        low, high = self.ci95
        text = (
            f"top-1 {100 * self.top1:.1f} % "
            f"({self.right.sum()} of {self.n}, {told_dependence(self.n, self.groups)}"
            f"95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )
        if unequal(self.sizes):
            rate, low, high = self.balanced
            text += f", balanced accuracy {100 * rate:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        return text

    def to_dict(self) -> FiguresDocument:
        """JSON values."""
        rate, low, high = self.balanced
        return {
            "top1": round(self.top1, 6),
            "n": self.n,
            "ci95": [round(x, 6) for x in self.ci95],
            "balanced_accuracy": round(rate, 6),
            "balanced_ci95": [round(low, 6), round(high, 6)],
        }


def wanted(validation: NDArray[np.int64], photos: int) -> bool:
    """Whether the validation photos are too few to rely on. validation: their classes, int64 (N,). photos: training ones too."""
    counts = np.bincount(validation)
    return bool(counts[counts > 0].min() < FEW) and photos <= AT_MOST


def cross_validate(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    names: Sequence[str],
    classes: int,
    balance: str = "auto",
    groups: Sequence[str] = (),
) -> CrossValidated | None:
    """Of a probe on features (N, D) of photos of class targets (N,); None where a class has a single photo.

    groups: as for `make_folds`. Photos of one group are held out together, here and where the penalty is chosen.
    """
    counts = class_counts(targets, classes)
    present = counts > 0
    if counts[present].min() < 2:
        return None
    folds = make_folds(targets, names, "outer", groups)
    right = np.zeros(len(targets), bool)
    for fold in np.unique(folds):
        kept, held = np.flatnonzero(folds != fold), folds == fold
        known = [names[i] for i in kept.tolist()], [groups[i] for i in kept.tolist()] if groups else ()
        probe = fit_probe(features[kept], targets[kept], known[0], classes, balance, groups=known[1])
        right[held] = probe.logits(features[held]).argmax(1) == targets[held]
    correct = np.bincount(targets[right], minlength=classes)
    return CrossValidated(correct[present], counts[present], group_dependence(right, groups))


def told_few(
    validation: NDArray[np.int64], targets: NDArray[np.int64], groups: Sequence[str], labels: Sequence[str]
) -> str:
    """The line that says why there is a cross-validated figure. validation, targets: classes of those that validate, of all."""
    counts = np.bincount(validation, minlength=len(labels))
    least = min(np.flatnonzero(counts).tolist(), key=lambda target: counts[target])
    return (
        f"{len(validation)} validation photos, of which {counts[least]} of {labels[least]!r}, are few: the probe is "
        f"cross-validated on all {len(targets)} photos{_in_groups(targets, groups, labels)}"
    )


def _in_groups(targets: NDArray[np.int64], groups: Sequence[str], labels: Sequence[str]) -> str:
    """How groups (bursts, videos) are held out, for the end of a line; "" without groups."""
    several = len(groups) - groups.count("") - len(set(groups) - {""})
    if not several:
        return ""
    alone = [repr(labels[target]) for target in classes_of_one_group(targets, groups)]
    but = f", but the photos of {', '.join(alone[:NAMED])}, which are one group, one by one" if alone else ""
    return f", groups held out whole{but}"
