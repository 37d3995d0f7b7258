"""What is watched for drift: the share of unknowns, the labels, the picture itself. When each changed, and in which words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.scene.events import DayCounts
from edge_tl_runtime.scene.martingale import (
    Array,
    ChangeDetector,
    changed_days,
    conformal_p,
    dependence,
    in_spreads,
    unusual,
)

LEARN = 14
"""Days that show what is usual before anything is called a change: two of each day of the week."""
BACK = 7
"""Days in a row as before after which a change is over."""
HOLD = 7
"""The newest days, which may be changed ones, do not say how dependent days are."""


def _share(blocks: Sequence[DayCounts]) -> Array:
    return np.array([[block.share] for block in blocks])


def _labels(blocks: Sequence[DayCounts]) -> Array:
    # Half an event more of each label, so that a day without any says nothing loud. Distances of square roots are Hellinger's.
    counts = np.array([block.labels for block in blocks]) + 0.5
    return np.asarray(np.sqrt(counts / counts.sum(1, keepdims=True)))


def _picture(blocks: Sequence[DayCounts]) -> Array:
    events = np.array([max(1, block.events) for block in blocks])
    return in_spreads(np.array([block.means for block in blocks]) / events[:, None])


VALUES: dict[str, Callable[[Sequence[DayCounts]], Array]] = {"unknown": _share, "labels": _labels, "picture": _picture}
"""By the name of what is watched: N days to (N, D). The first goes up or down; of the others the distance counts."""


@dataclass(slots=True)
class Watched:
    """One thing that is watched. since: seconds of watching before the change that stands; None without one."""

    name: str
    detector: ChangeDetector
    since: float | None = None
    dependent: float = 0.0

    @classmethod
    def of(cls, name: str, limit: float) -> Watched:
        return cls(name, ChangeDetector(limit, two_sided=name == "unknown"))

    def scores(self, blocks: Sequence[DayCounts]) -> Array:
        values = VALUES[self.name](blocks)
        return values[:, 0] if self.name == "unknown" else unusual(values)

    def close(self, before: Sequence[DayCounts], newest: DayCounts, tie: float) -> bool:
        """A day is over. before: all days kept, oldest first. tie: uniform in [0, 1).

        Returns whether something is to be said: a change, or that it is over. Days since a change are set aside.
        """
        usual = [block for block in before if self.name not in block.aside]
        if self.since is not None:
            newest.aside.append(self.name)
            return self._over(usual, [*before, newest])
        if len(usual) < LEARN:
            return False
        scores = self.scores([*usual, newest])
        self.dependent = dependence(scores[: max(LEARN, len(usual) - HOLD)])
        if not self.detector.update(conformal_p(scores[:-1], float(scores[-1]), tie), self.dependent):
            return False
        changed = [*usual, newest][-changed_days(scores, LEARN // 2) :]
        for block in changed:
            block.aside.append(self.name)
        self.since = changed[0].begun
        return True

    def _over(self, usual: Sequence[DayCounts], blocks: Sequence[DayCounts]) -> bool:
        recent = blocks[-BACK:]
        if len(recent) < BACK or recent[0].begun <= (self.since or 0) or not self._all_usual(usual, recent):
            return False
        for block in recent:
            block.aside.remove(self.name)
        self.since = None
        self.detector.reset()
        return True

    def _all_usual(self, usual: Sequence[DayCounts], recent: Sequence[DayCounts]) -> bool:
        """Whether each recent day is within what usual days were."""
        values = VALUES[self.name]([*usual, *recent])
        before, now = values[: len(usual)], values[len(usual) :]
        if self.name == "unknown":
            return bool((now >= before.min()).all() and (now <= before.max()).all())
        centre = before.mean(0)
        farthest = np.linalg.norm(before - centre, axis=1).max()
        return bool((np.linalg.norm(now - centre, axis=1) <= farthest).all())

    def words(self, blocks: Sequence[DayCounts], current: DayCounts, labels: Sequence[str]) -> str:
        """What changed, to stand after "since Tuesday"; "" without a change."""
        if self.since is None:
            return ""
        before = [block for block in blocks if self.name not in block.aside]
        since = [block for block in [*blocks, current] if block.begun >= self.since]
        if self.name == "unknown":
            return _unknown_words(before, since)
        if self.name == "labels":
            return _label_words(before, since, labels)
        return "the picture itself differs from before: its light, focus, position or background"


def rate(part: float, whole: float) -> str:
    """`31 %`, `4.2 %`, `0 %`."""
    value = 100 * part / whole if whole else 0.0
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


def _unknown_words(before: Sequence[DayCounts], since: Sequence[DayCounts]) -> str:
    unknown, events = sum(block.unknown for block in since), sum(block.events for block in since)
    usual = rate(sum(block.unknown for block in before), sum(block.events for block in before))
    return (
        f"{rate(unknown, events)} of events are unlike the training photos ({unknown:,} of {events:,}; before: {usual})"
    )


def _label_words(before: Sequence[DayCounts], since: Sequence[DayCounts], labels: Sequence[str]) -> str:
    old, new = (np.sum([block.labels for block in blocks], axis=0) for blocks in (before, since))
    shares = [counts / max(1, counts.sum()) for counts in (old, new)]
    if len(labels) > len(old):
        return "labels are distributed otherwise than before"
    most = int(np.argmax(np.abs(np.sqrt(shares[1]) - np.sqrt(shares[0]))))
    was, now = (rate(float(share[most]), 1) for share in shares)
    return f"{one_line(labels[most], 60)} is {now} of the known events (before: {was})"
