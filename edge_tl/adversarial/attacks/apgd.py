"""Auto-PGD: the step length follows from the course of the loss, so that there is nothing to set but the number of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.base import AttackState, Stop
from edge_tl.adversarial.attacks.criteria import TargetedMisclassification
from edge_tl.adversarial.attacks.norms import Norm, per_photo
from edge_tl.adversarial.attacks.pgd import GradientAscent, GradientAttack

FIRST_LENGTH = 2.0
"""Length of the first steps over epsilon."""
MOMENTUM = 0.75
"""Share of the new step; the rest is of the one before (alpha in the paper)."""
RISING = 0.75
"""Share of the steps since the last checkpoint that must raise the loss for the step length to last (rho in the paper)."""


def checkpoints(steps: int) -> list[int]:
    """Steps after which the length is reconsidered: nearer to each other towards the end (section 3.2 of the paper)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    # Rounded before it is rounded up: 0.57 * 100 is a little more than 57 in floats.
    places = {math.ceil(round(share * steps, 6)) for share in shares[1:]}
    return sorted(place for place in places if place <= steps)


class AutoAscent(GradientAscent):
    """Gradient ascent with momentum, whose step is halved, photo by photo; it then goes back to the best point so far.

    The loss is that of the whole pixels, which is what the file gets, not of the point in between that they stand for.
    """

    def __init__(self, norm: Norm, epsilon: float, clean: torch.Tensor, difference: torch.Tensor, steps: int) -> None:
        super().__init__(norm, epsilon, clean, difference, FIRST_LENGTH * epsilon)
        self._checkpoints = checkpoints(steps)
        self._taken = self._last_checkpoint = 0
        lowest = clean.new_full((len(clean),), -torch.inf)
        self._lengths = clean.new_full((len(clean),), self.length)
        self._losses, self._best_losses, self._checked_losses = lowest, lowest, lowest
        self._rises = torch.zeros_like(lowest)
        self._halved = torch.ones_like(lowest, dtype=torch.bool)
        self._previous, self._best = difference, difference.clone()
        self._best_gradient = torch.zeros_like(clean)

    _STATE = (
        "_lengths",
        "_losses",
        "_best_losses",
        "_checked_losses",
        "_rises",
        "_halved",
        "_previous",
        "_best",
        "_best_gradient",
    )

    def keep(self, kept: torch.Tensor) -> None:
        super().keep(kept)
        for name in self._STATE:
            setattr(self, name, getattr(self, name)[kept])

    def step(self, losses: torch.Tensor, gradient: torch.Tensor) -> None:
        if self._taken == 0:
            self._previous, self._checked_losses = self.difference, losses
        else:
            self._rises += losses > self._losses
        self._losses = losses
        better = losses > self._best_losses
        self._best_losses = torch.where(better, losses, self._best_losses)
        torch.where(per_photo(better), self.difference, self._best, out=self._best)
        torch.where(per_photo(better), gradient, self._best_gradient, out=self._best_gradient)
        if self._taken in self._checkpoints:
            gradient = self._reconsider(gradient)
        self._move(gradient)
        self._taken += 1

    def _reconsider(self, gradient: torch.Tensor) -> torch.Tensor:
        """Halve the steps where the loss rises too seldom or has not risen in spite of it; those go on from their best point."""
        seldom = self._rises <= RISING * (self._taken - self._last_checkpoint)
        stuck = ~self._halved & (self._best_losses <= self._checked_losses)
        halve = seldom | stuck
        self._lengths = torch.where(halve, self._lengths / 2, self._lengths)
        self._halved, self._checked_losses = halve, self._best_losses
        self._rises = torch.zeros_like(self._rises)
        self._last_checkpoint = self._taken
        self.difference = torch.where(per_photo(halve), self._best, self.difference)
        return torch.where(per_photo(halve), self._best_gradient, gradient)

    def _move(self, gradient: torch.Tensor) -> None:
        ahead = self.inside(self.norm.steepest(gradient).mul_(per_photo(self._lengths)).add_(self.difference))
        if self._taken:
            # Written out: where it stands, MOMENTUM of the way ahead, and the rest of the way it came.
            ahead = ahead.sub_(self.difference).mul_(MOMENTUM).add_(self.difference)
            came = self._previous.neg_().add_(self.difference)
            ahead = self.inside(ahead.add_(came, alpha=1 - MOMENTUM))
        self._previous, self.difference = self.difference, ahead


@dataclass(frozen=True, kw_only=True)
class APGD(GradientAttack):
    """Auto-PGD with one loss (Croce and Hein 2020, algorithm 1)."""

    paper: ClassVar[str] = "Croce and Hein 2020, arXiv 2003.01690"

    steps: int = 100

    def _start(self, norm: Norm, epsilon: float, clean: torch.Tensor, difference: torch.Tensor) -> GradientAscent:
        return AutoAscent(norm, epsilon, clean, difference, self.steps)


@dataclass(frozen=True, kw_only=True)
class TargetedAPGD(APGD):
    """Auto-PGD towards one likely class after another (APGD-T of the paper): stronger than any untargeted loss, and dearer.

    targets: how many of the other classes, the likeliest on the clean photo first. Each takes `restarts` starts of `steps`. Of a
    criterion that has a target of its own, that alone is tried.
    """

    loss: str = "dlr"
    targets: int = 9

    def _search(self, search: AttackState, keys: NDArray[np.int64], stop: Stop) -> None:
        if search.criterion.targeted:
            super()._search(search, keys, stop)
            return
        likeliest = likeliest_others(search.clean_scores, search.criterion.classes, self.targets)
        for place, classes in enumerate(likeliest.T):
            for restart in range(self.restarts):
                turn = place * self.restarts + restart
                self._ascend(search, keys, turn, stop, TargetedMisclassification(classes))


def likeliest_others(scores: NDArray[np.float32], classes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The classes with the highest scores but for the given one: int64 (N, count or what there is), the likeliest first."""
    others = scores.copy()
    others[np.arange(len(others)), classes] = -np.inf
    return np.argsort(-others, axis=1, kind="stable")[:, : min(count, scores.shape[1] - 1)]
