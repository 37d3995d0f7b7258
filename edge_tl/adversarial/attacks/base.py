"""What every attack is: data and one method; and what it gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.criteria import Criterion
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.attacks.norms import NORMS, Norm

Stop = Callable[[], bool]
"""Asked now and then; True ends an attack early, with what it has."""


def never() -> bool:
    return False


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack found for N photos.

    adversarial: uint8 (N, H, W, 3): the first success, or of an attack that `finds_smallest` the smallest; else the attempt that
    came nearest. fooled: bool (N,), by the file itself, on these very bytes. queries: int64 (N,), times the file was asked until
    success, or in all; always in all where the smallest is looked for. margins: float32 (N,), of `adversarial` as
    `Criterion.margin` has it. complete: bool (N,); False where `stop` came first, so that not being fooled proves nothing.
    """

    adversarial: NDArray[np.uint8]
    fooled: NDArray[np.bool_]
    queries: NDArray[np.int64]
    margins: NDArray[np.float32]
    complete: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack as a value: printable, comparable, repeatable. norm: "linf" or "l2". seed: of all that is random."""

    paper: ClassVar[str]
    needs_gradients: ClassVar[bool] = True
    finds_smallest: ClassVar[bool] = False
    """Whether it looks for the smallest perturbation, so that one run within the largest epsilon serves every epsilon."""

    norm: str = "linf"
    seed: int = 0

    def run(
        self,
        model: AttackedModel,
        pixels: NDArray[np.uint8],
        criterion: Criterion,
        epsilon: float,
        *,
        keys: NDArray[np.int64] | None = None,
        stop: Stop = never,
    ) -> AttackOutcome:
        """Attack photos together, as many as the device takes at once.

        pixels: uint8 (N, H, W, 3), as the network gets them. epsilon: radius in pixel values (see `norms`);
        for Linf a whole number. keys: int64 (N,), which photo each is, for its random numbers: with the same key a photo is
        attacked alike in any company. Photos that fool already are left alone, with one query.
        """
        search = AttackState(model, pixels, criterion, NORMS[self.norm], epsilon)
        if keys is None:
            keys = np.arange(len(pixels))
        if epsilon > 0 and len(search.active):
            self._search(search, keys, stop)
        return search.result()

    @abstractmethod
    def _search(self, search: AttackState, keys: NDArray[np.int64], stop: Stop) -> None:
        """Try pixels on `search` until none of its photos is left or the attack's steps are spent."""

    def rng(self, key: int, turn: int = 0) -> np.random.Generator:
        """Random numbers of one photo. turn: of several restarts."""
        return np.random.default_rng((self.seed, int(key), turn))


class AttackState:
    """The state of an attack on N photos: what was tried, what fooled, who is left."""

    def __init__(
        self, model: AttackedModel, pixels: NDArray[np.uint8], criterion: Criterion, norm: Norm, epsilon: float
    ) -> None:
        self.model, self.criterion, self.norm, self.epsilon = model, criterion, norm, epsilon
        self.clean = pixels
        self._best = pixels.copy()
        self._queries = np.zeros(len(pixels), np.int64)
        self._fooled = np.zeros(len(pixels), np.bool_)
        self._margins = np.full(len(pixels), -np.inf, np.float32)
        self._complete = np.ones(len(pixels), np.bool_)
        self._sizes = np.full(len(pixels), np.inf)
        self.active = np.arange(len(pixels))
        """Photos that are not fooled yet, int64."""
        self.clean_scores = self.ask(self.active, pixels) if len(pixels) else np.empty((0, 0), np.float32)
        """What the file says of the photos as they are, float32 (N, C)."""

    def ask(self, photos: NDArray[np.int64], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Ask the file about pixels for some of the photos, one query each; returns its scores.

        Successes leave `active`. The first success of a photo is kept; until then, the attempt that came nearest.
        """
        self._queries[photos] += ~self._fooled[photos]
        scores, margins, fooled = self._evaluated(photos, pixels)
        better = ~self._fooled[photos] & (fooled | (margins > self._margins[photos]))
        self._note(photos, pixels, margins, fooled, better)
        return scores

    def ask_smaller(self, photos: NDArray[np.int64], pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Like `ask`, for attacks that find the smallest: a success replaces a larger one, and every query counts.

        The pixels may be outside the ball. Then they are no success, and only the scores come of it.
        """
        self._queries[photos] += 1
        scores, margins, fooled = self._evaluated(photos, pixels)
        sizes = self.norm.sizes(pixels.astype(np.int16) - self.clean[photos])
        inside = sizes <= self.epsilon
        smaller = fooled & (sizes < self._sizes[photos])
        nearer = ~self._fooled[photos] & ~fooled & (margins > self._margins[photos])
        self._sizes[photos] = np.where(inside & smaller, sizes, self._sizes[photos])
        self._note(photos, pixels, margins, inside & fooled, inside & (smaller | nearer))
        return scores

    def _evaluated(
        self, photos: NDArray[np.int64], pixels: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        scores = self.model.evaluated(pixels)
        wish = self.criterion.take(photos)
        return scores, wish.margin(torch.from_numpy(scores)).numpy(), wish.fooled(scores)

    def _note(
        self,
        photos: NDArray[np.int64],
        pixels: NDArray[np.uint8],
        margins: NDArray[np.float32],
        fooled: NDArray[np.bool_],
        better: NDArray[np.bool_],
    ) -> None:
        self._best[photos[better]] = pixels[better]
        self._margins[photos[better]] = margins[better]
        self._fooled[photos] |= fooled
        if fooled.any():
            self.active = self.active[~self._fooled[self.active]]

    def take_over(self, photos: NDArray[np.int64], adversarial: NDArray[np.uint8], queries: NDArray[np.int64]) -> None:
        """Ask the file about what another search found, counting that search's queries instead of one."""
        before = self._queries[photos]
        self.ask(photos, adversarial)
        self._queries[photos] = before + queries

    def unfinished(self, photos: NDArray[np.int64] | None = None) -> None:
        """Say that photos were given up early. photos: by default all that are left."""
        self._complete[self.active if photos is None else photos] = False

    def tensor(self, photos: NDArray[np.int64]) -> torch.Tensor:
        """The clean pixels of some photos, float32, on the model's device."""
        return torch.from_numpy(self.clean[photos]).to(self.model.device).float()

    def result(self) -> AttackOutcome:
        return AttackOutcome(self._best, self._fooled, self._queries, self._margins, self._complete)


def as_bytes(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """Whole pixel values as uint8 on the host."""
    array: NDArray[Any] = pixels.to(torch.uint8).cpu().numpy()
    return array
