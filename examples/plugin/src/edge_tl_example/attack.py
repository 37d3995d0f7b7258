"""`random-sign`: every value of a photo changed by plus or minus epsilon, at random, a few times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_tl.plugins import Attack, AttackState, UsageError


@dataclass(frozen=True, kw_only=True)
class RandomSign(Attack):
    paper: ClassVar[str] = "none: corners of the Linf ball at random"
    needs_gradients: ClassVar[bool] = False

    tries: int = 4

    def _search(self, search: AttackState, keys: NDArray[np.int64], stop: Callable[[], bool]) -> None:
        if self.norm != "linf":
            raise UsageError(f"random-sign attacks within linf alone, not {self.norm}; leave it out or use --norm linf")
        for turn in range(self.tries):
            photos = search.active
            if not len(photos):
                return
            if stop():
                search.unfinished()
                return
            shape = search.clean.shape[1:]
            signs = np.stack([self.rng(keys[photo], turn).choice((-1, 1), shape) for photo in photos])
            changed = search.clean[photos] + np.int16(search.epsilon) * signs
            search.ask(photos, np.clip(changed, 0, 255).astype(np.uint8))
