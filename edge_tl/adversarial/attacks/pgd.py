"""Projected gradient descent, and the single step that it grew from."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.base import Attack, AttackState, Stop, as_bytes
from edge_tl.adversarial.attacks.criteria import Criterion
from edge_tl.adversarial.attacks.losses import LOSSES
from edge_tl.adversarial.attacks.norms import Norm


class GradientAscent:
    """Where photos under attack stand, between whole pixels, and how they go on.

    clean: the photos, float32 (N, H, W, 3). difference: where each stands, less the photo; inside the ball and 0..255. length:
    of each step.
    """

    def __init__(
        self, norm: Norm, epsilon: float, clean: torch.Tensor, difference: torch.Tensor, length: float
    ) -> None:
        self.norm, self.epsilon, self.length = norm, epsilon, length
        self.clean, self.difference = clean, difference

    def pixels(self) -> torch.Tensor:
        """The whole pixels that stand for it, inside the ball."""
        return self.norm.on_grid(self.clean, self.difference, self.epsilon)

    def keep(self, kept: torch.Tensor) -> None:
        """Go on with some of the photos. kept: int64, their places."""
        self.clean, self.difference = self.clean[kept], self.difference[kept]

    def step(self, losses: torch.Tensor, gradient: torch.Tensor) -> None:
        """Move on, given the loss of each photo, (N,), at the whole pixels, and its gradient, (N, H, W, 3)."""
        self.difference = self.inside(self.norm.steepest(gradient).mul_(self.length).add_(self.difference))

    def inside(self, difference: torch.Tensor) -> torch.Tensor:
        """The nearest differences in the ball that keep pixels within 0..255. In place."""
        return self.norm.project_(difference, self.epsilon).add_(self.clean).clamp_(0, 255).sub_(self.clean)


@dataclass(frozen=True, kw_only=True)
class GradientAttack(Attack):
    """Raises a loss along its gradient, from one or several starts.

    Each step's pixels are whole numbers: the search moves in between, what the file is asked about and where the gradient is
    taken does not. steps: of each start. loss: a name in `LOSSES`. random_start: begin anywhere in the ball, else at the photo;
    every restart is random.
    """

    steps: int = 20
    restarts: int = 1
    loss: str = "cross-entropy"
    random_start: bool = True

    @abstractmethod
    def _start(self, norm: Norm, epsilon: float, clean: torch.Tensor, difference: torch.Tensor) -> GradientAscent:
        """An ascent from clean + difference."""

    def _search(self, search: AttackState, keys: NDArray[np.int64], stop: Stop) -> None:
        for turn in range(self.restarts):
            self._ascend(search, keys, turn, stop, search.criterion)

    def _ascend(self, search: AttackState, keys: NDArray[np.int64], turn: int, stop: Stop, wish: Criterion) -> None:
        """One start of the photos that are left. wish: for all photos of the search, what the loss is of."""
        photos: NDArray[np.int64] = search.active
        model = search.model
        if not len(photos):
            return
        ascent = self._placed(search, keys, turn)
        for step in range(self.steps + 1):
            if stop():
                search.unfinished()
                return
            pixels = ascent.pixels()
            known = step == 0 and not (self.random_start or turn)
            scores = search.clean_scores[photos] if known else search.ask(photos, as_bytes(pixels))
            left = np.isin(photos, search.active)
            if not left.all():
                kept = torch.from_numpy(np.flatnonzero(left)).to(pixels.device)
                photos, scores, pixels = photos[left], scores[left], pixels[kept]
                ascent.keep(kept)
            if not len(photos) or step == self.steps:
                return

            def objective(logits: torch.Tensor, part: Criterion = wish.take(photos)) -> torch.Tensor:
                return LOSSES[self.loss](logits, part)

            ascent.step(*model.loss_and_gradient(pixels, scores, objective))

    def _placed(self, search: AttackState, keys: NDArray[np.int64], turn: int) -> GradientAscent:
        clean = search.tensor(search.active)
        difference = torch.zeros_like(clean)
        if self.random_start or turn:
            shape = search.clean.shape[1:]
            drawn = [search.norm.random(shape, search.epsilon, self.rng(keys[i], turn)) for i in search.active]
            difference = torch.from_numpy(np.stack(drawn)).to(clean.device)
        ascent = self._start(search.norm, search.epsilon, clean, difference)
        ascent.difference = ascent.inside(difference)
        return ascent


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """Steps along the steepest ascent of a loss, back into the ball after each (Madry et al. 2018).

    relative_step: length of a step over epsilon; the default, 2.5 / steps, can cross the ball and come back.
    """

    paper: ClassVar[str] = "Madry et al. 2018, arXiv 1706.06083"

    relative_step: float | None = None

    def _start(self, norm: Norm, epsilon: float, clean: torch.Tensor, difference: torch.Tensor) -> GradientAscent:
        relative = 2.5 / self.steps if self.relative_step is None else self.relative_step
        return GradientAscent(norm, epsilon, clean, difference, epsilon * relative)


@dataclass(frozen=True, kw_only=True)
class FGSM(PGD):
    """One step to the border of the ball (Goodfellow, Shlens and Szegedy 2015)."""

    paper: ClassVar[str] = "Goodfellow et al. 2015, arXiv 1412.6572"

    steps: int = 1
    relative_step: float | None = 1.0
    random_start: bool = False
