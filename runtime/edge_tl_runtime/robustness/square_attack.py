"""Square Attack (Andriushchenko, Croce, Flammarion and Hein, ECCV 2020) on the pixels that a device classifies.

A random search that sees nothing but scores: it repaints square windows of a photo, within a ball around it, and keeps what the
classifier is less sure of. Since it needs no gradients it attacks the very file and session that are deployed. Everything that
it shows the classifier is uint8, so what it finds survives being saved as a picture.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.progress import Progress, silent
from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.robustness.square_proposals import SEARCHES, Pixels, SquareSearch, Window, check_ball

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Proposals of 10,000 after which the share of repainted pixels is halved (the paper's schedule)."""


@dataclass(frozen=True, slots=True)
class SquareResult:
    """What an attack on N photos found.

    adversarial: uint8 (N, H, W, 3), of each photo the picture with the least margin, inside the ball; the photo itself where
        nothing lowered it.
    fooled: bool (N,), by the rule of accuracy: the first largest score is not the label's, or is the target's.
    queries: int64 (N,), pictures of this photo that the classifier saw, the clean one too: until success, or in all.
    margins: float32 (N,), of `adversarial`; NaN for a photo that was not looked at before the end.
    complete: bool (N,), False where `stop` ended the search of a photo that was not fooled yet; `fooled` is then a lower bound.
    """

    adversarial: Pixels
    fooled: NDArray[np.bool_]
    queries: NDArray[np.int64]
    margins: NDArray[np.float32]
    complete: NDArray[np.bool_]


@dataclass(frozen=True)
class Square:
    """Square Attack with one budget for every photo.

    norm: "linf" or "l2", the shape of the ball.
    queries: pictures of one photo that the classifier may see, everything counted: the clean photo, the first perturbed one and
        the proposals.
    p_init: share of the area that the first windows repaint; halved nine times along the budget. The paper takes 0.05 for
        ImageNet and 10,000 queries of a network that falls within dozens of them; on the small radii and budgets where
        figures still differ, 0.8 (AutoAttack's) leaves smaller margins than 0.3 and 0.05.
    batch: photos evaluated together. seed: of all choices, together with a photo's key.
    """

    norm: str = "linf"
    queries: int = 5000
    p_init: float = 0.8
    batch: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        check_ball(self.norm, 0)
        if self.queries < 1 or self.batch < 1 or self.seed < 0 or not 0 < self.p_init <= 1:
            raise UsageError(
                f"square attack: queries {self.queries} and batch {self.batch} must be at least 1, seed {self.seed} at least 0, "
                f"p_init {self.p_init} above 0 and at most 1"
            )

    def run(
        self,
        logits: Logits,
        pixels: Pixels,
        labels: NDArray[np.int64],
        epsilon: float,
        *,
        targets: NDArray[np.int64] | None = None,
        keys: Sequence[int] | None = None,
        stop: Callable[[], bool] = lambda: False,
        progress: Progress = silent,
    ) -> SquareResult:
        """Attack photos, uint8 (N, H, W, 3), whose classes are labels, int64 (N,).

        logits: gets up to `batch` pictures in a buffer that is painted over after it answered.
        epsilon: radius of the ball in steps of a pixel value, as whole steps (Linf) or any number (L2: 255 times the radius of
            pictures in 0..1). Below 1 nothing can change, and only the clean photos are looked at.
        targets: classes to be mistaken for, int64 (N,), each another than the label; None for any mistake.
        keys: a number of at least 0 for each photo, by default its place. A photo's result follows from the seed, its key and
            itself; the other photos and the batch play no part, as far as `logits` answers a picture alike in any batch.
        stop: asked before each batch; a true answer ends the search with what has been found.
        progress: called after each batch with the queries made and those no longer needed; `queries` for each photo in all.

        The loss is the margin: the label's score less the best other one, or the best other score less the target's (the paper
        takes the cross-entropy there).

        Raises UsageError for arguments that do not fit together, BadModelError for scores that are not numbers.
        """
        _check(pixels, labels, epsilon, self.norm, targets, keys)
        attack = _Attack(self, pixels, labels if targets is None else targets, epsilon, targets is not None, keys)
        while attack.slots and not stop():
            progress(attack.settle(logits(attack.pictures)))
        return attack.result()


@dataclass
class _Slot:
    """A photo in the batch. windows: where its row differs from the best picture so far."""

    index: int
    search: SquareSearch
    clean: float = math.nan
    windows: tuple[Window, ...] = ()


class _Attack:
    """The photos under way, one in each row of the batch; one that is done gives its row to the next."""

    def __init__(
        self,
        settings: Square,
        pixels: Pixels,
        classes: NDArray[np.int64],
        epsilon: float,
        targeted: bool,
        keys: Sequence[int] | None,
    ) -> None:
        """classes: of each photo the label, or the target when targeted."""
        self.settings, self.pixels, self.classes, self.targeted = settings, pixels, classes, targeted
        self.epsilon, self.keys = epsilon, range(len(pixels)) if keys is None else keys
        # Below one step no pixel can change.
        self.limit = settings.queries if epsilon >= 1 else 1
        # The best picture of each photo so far. The batch differs from it in the windows of the proposals alone.
        self.best = pixels.copy()
        self.queries = np.zeros(len(pixels), np.int64)
        self.margins = np.full(len(pixels), np.nan, np.float32)
        self.fooled, self.complete = np.zeros((2, len(pixels)), bool)
        self.batch = pixels[: settings.batch].copy()
        self.slots = [self._slot(index) for index in range(len(self.batch))]
        self.following = len(self.slots)

    @property
    def pictures(self) -> Pixels:
        shown: Pixels = self.batch[: len(self.slots)]
        return shown

    def result(self) -> SquareResult:
        for slot in self.slots:
            self._keep_clean(slot)
        return SquareResult(self.best, self.fooled, self.queries, self.margins, self.complete)

    def settle(self, scores: NDArray[np.float32]) -> int:
        """Take in the scores of the pictures, float32 (batch, C); paint the next ones. Returns the queries that are settled."""
        indices = [slot.index for slot in self.slots]
        margins, fooled = _margins(scores, self.classes[indices], self.targeted)
        self.queries[indices] += 1
        settled = len(indices)
        # From the last row on, because a row that falls free with no photo left to take it gets the last one.
        for place in reversed(range(len(indices))):
            index = indices[place]
            self._learn(place, float(margins[place]), bool(fooled[place]))
            if fooled[place] or self.queries[index] >= self.limit:
                settled += self.settings.queries - int(self.queries[index])
                self._finish(place)
            else:
                self._advance(place)
        return settled

    def _learn(self, place: int, margin: float, fooled: bool) -> None:
        slot, row = self.slots[place], self.batch[place]
        index = slot.index
        best, made = self.best[index], self.queries[index]
        if made == 1:
            slot.clean = margin
        if made <= 2 or fooled or margin < self.margins[index]:
            self.margins[index] = margin
            self.fooled[index] = fooled
            slot.search.accept()
            for window in slot.windows:
                best[window] = row[window]
        else:
            for window in slot.windows:
                row[window] = best[window]

    def _advance(self, place: int) -> None:
        slot, row = self.slots[place], self.batch[place]
        made = int(self.queries[slot.index])
        if made == 1:
            slot.search.start(row)
            slot.windows = ((slice(None), slice(None)),)
        else:
            share = self.settings.p_init / 2 ** bisect.bisect_left(_HALVINGS, 10_000 * (made - 2) / self.limit)
            slot.windows = slot.search.propose(row, self.best[slot.index], share)

    def _finish(self, place: int) -> None:
        slot = self.slots[place]
        self.complete[slot.index] = True
        self._keep_clean(slot)
        if self.following < len(self.pixels):
            self.batch[place] = self.pixels[self.following]
            self.slots[place] = self._slot(self.following)
            self.following += 1
            return
        last = self.slots.pop()
        if place < len(self.slots):
            self.batch[place] = self.batch[len(self.slots)]
            self.slots[place] = last

    def _keep_clean(self, slot: _Slot) -> None:
        """Where no perturbed picture is worse for the classifier than the photo itself, the photo is the best found."""
        if not self.fooled[slot.index] and slot.clean < self.margins[slot.index]:
            self.best[slot.index] = self.pixels[slot.index]
            self.margins[slot.index] = slot.clean

    def _slot(self, index: int) -> _Slot:
        rng = np.random.default_rng((self.settings.seed, self.keys[index]))
        return _Slot(index, SEARCHES[self.settings.norm](self.pixels[index], self.epsilon, rng))


def _margins(
    scores: NDArray[np.float32], classes: NDArray[np.int64], targeted: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Margins, float32 (B,), and whether each picture fools: scores, float32 (B, C), against labels or targets, int64 (B,)."""
    if not np.isfinite(scores).all():
        raise BadModelError("the model gave a perturbed photo a score that is not a number; export the model again")
    if classes.max() >= scores.shape[1]:
        raise UsageError(f"a photo of class {classes.max()} for a model with {scores.shape[1]} classes")
    rows = np.arange(len(scores))
    fooled = (scores.argmax(1) == classes) == targeted
    own, others = scores[rows, classes], scores.copy()
    others[rows, classes] = -np.inf
    margins = own - others.max(1)
    return -margins if targeted else margins, fooled


def _check(
    pixels: Pixels,
    labels: NDArray[np.int64],
    epsilon: float,
    norm: str,
    targets: NDArray[np.int64] | None,
    keys: Sequence[int] | None,
) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise UsageError(f"square attack: photos are {pixels.dtype} {pixels.shape}, not uint8 (N, H, W, 3)")
    counts = [len(pixels), *(len(given) for given in (labels, targets, keys) if given is not None)]
    if len(set(counts)) > 1:
        raise UsageError(f"square attack: photos, labels, targets and keys differ in number: {counts}")
    check_ball(norm, epsilon)
    if len(pixels) and (labels.min() < 0 or (targets is not None and targets.min() < 0)):
        raise UsageError("square attack: a label or target is below 0; classes count from 0")
    if keys is not None and min(keys, default=0) < 0:
        raise UsageError("square attack: a key is below 0; give each photo a whole number of at least 0")
    if targets is not None and (targets == labels).any():
        raise UsageError("square attack: a photo's target is its own class; choose another")
