"""Of photos that are evaluated: how many would be called unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.text import percent

if TYPE_CHECKING:
    from edge_tl_runtime.evaluation.documents import UnknownDocument

Answers = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Pixels, uint8 (N, H, W, 3), to logits, float32 (N, C), and what is known of each is told by, float32 (N, D)."""


@dataclass(frozen=True, slots=True)
class UnknownCount:
    """keep: fraction of photos like the training photos that should stay known. count: photos that would be called unknown, of n;
    right: those of them whose likeliest class is the right one."""

    keep: float
    count: int
    n: int
    right: int

    def describe(self) -> str:
        if not self.count:
            return f"none of the {self.n} photos would be called unknown (--unknown {self.keep:g})"
        return (
            f"{self.count} of {self.n} photos ({percent(self.count / self.n)}) would be called unknown "
            f"(--unknown {self.keep:g}); the likeliest class of {self.right} of them is right"
        )

    def to_dict(self) -> UnknownDocument:
        return {"keep": self.keep, "count": self.count, "n": self.n, "right": self.right}


class KnownLogits:
    """The logits of a model, which remembers what it knew of the photos. Called with pixels, uint8 (N, H, W, 3)."""

    def __init__(self, answers: Answers, is_known: Callable[[NDArray[np.float32]], bool], keep: float) -> None:
        self._answers, self._is_known, self._keep = answers, is_known, keep
        self._known: list[bool] = []

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits, evidence = self._answers(pixels)
        self._known += [self._is_known(row) for row in evidence]
        return logits

    def counted(self, right: Sequence[bool]) -> UnknownCount:
        """Of the photos since the last count. right: of each, whether its likeliest class is the right one."""
        unknown = [ok for ok, known in zip(right, self._known, strict=True) if not known]
        self._known = []
        return UnknownCount(self._keep, len(unknown), len(right), sum(unknown))
