"""Attacks that need nothing but scores, as the device runs them, and the control that every attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.base import Attack, AttackState, Stop
from edge_tl_runtime.robustness.random_noise import uniform_noise
from edge_tl_runtime.robustness.square_attack import Square


@dataclass(frozen=True, kw_only=True)
class SquareAttack(Attack):
    """Random search with squares (`edge_tl_runtime.robustness.square_attack`). queries: to the file per photo, at most."""

    paper: ClassVar[str] = "Andriushchenko et al. 2020, arXiv 1912.00049"
    needs_gradients: ClassVar[bool] = False

    queries: int = 5000
    p_init: float = Square.p_init

    def _search(self, search: AttackState, keys: NDArray[np.int64], stop: Stop) -> None:
        photos, wish = search.active, search.criterion.take(search.active)
        attack = Square(norm=self.norm, queries=self.queries, p_init=self.p_init, seed=self.seed)
        labels, targets = wish.classes, None
        if wish.targeted:
            labels, targets = search.clean_scores[photos].argmax(1), wish.classes
        found = attack.run(
            search.model.answer,
            search.clean[photos],
            labels,
            search.epsilon,
            targets=targets,
            keys=keys[photos].tolist(),
            stop=stop,
        )
        # It asks about the clean photo once more, which the search has counted.
        search.take_over(photos, found.adversarial, found.queries - 1)
        search.unfinished(np.intersect1d(photos[~found.complete], search.active))


@dataclass(frozen=True, kw_only=True)
class Noise(Attack):
    """Random perturbations on the border of the ball: no attack, but what one is measured by. tries: of each photo."""

    paper: ClassVar[str] = "none: a control"
    needs_gradients: ClassVar[bool] = False

    tries: int = 10

    def _search(self, search: AttackState, keys: NDArray[np.int64], stop: Stop) -> None:
        for turn in range(self.tries):
            photos = search.active
            if not len(photos):
                return
            if stop():
                search.unfinished()
                return
            seed = self.seed * self.tries + turn
            clean = search.clean[photos]
            search.ask(photos, uniform_noise(clean, search.epsilon, keys[photos].tolist(), norm=self.norm, seed=seed))
