"""How the Square Attack paints: one search a norm. Each paints on the pixel grid and stays in the ball, counted in integers.

Adding one: a subclass of Search and its entry in SEARCHES.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import UsageError

Pixels = NDArray[np.uint8]

Window = tuple[slice, slice]


class SquareSearch(ABC):
    """One photo under attack. It paints in the photo's row of the batch and says which windows it changed.

    All randomness comes from rng, the photo's own. epsilon: at least 1, as `check_ball` allows it.
    """

    def __init__(self, photo: Pixels, epsilon: float, rng: np.random.Generator) -> None:
        self.photo, self.rng = photo, rng
        self.height, self.width = photo.shape[:2]

    @abstractmethod
    def start(self, row: Pixels) -> None:
        """Turn the photo in `row` into the first picture of the search."""

    @abstractmethod
    def propose(self, row: Pixels, best: Pixels, share: float) -> tuple[Window, ...]:
        """Repaint windows of `row`, which equals `best`, about `share` of its area. Returns the windows."""

    def accept(self) -> None:  # noqa: B027  # most searches keep no account
        """The picture painted last is the best one now."""

    def _side(self, share: float) -> int:
        side = max(1, round(math.sqrt(share * self.height * self.width)))
        return int(min(side, self.height, self.width))

    def _window(self, side: int) -> Window:
        top = int(self.rng.random() * (self.height - side + 1))
        left = int(self.rng.random() * (self.width - side + 1))
        return slice(top, top + side), slice(left, left + side)


class LinfSearch(SquareSearch):
    """Every value is at the end of its range: epsilon below or above the photo's, or 0 or 255."""

    def __init__(self, photo: Pixels, epsilon: float, rng: np.random.Generator) -> None:
        super().__init__(photo, epsilon, rng)
        steps = min(int(epsilon), 255)
        wide = photo.astype(np.int16)
        self.ends = (np.maximum(wide - steps, 0).astype(np.uint8), np.minimum(wide + steps, 255).astype(np.uint8))

    def start(self, row: Pixels) -> None:
        signs = self.rng.random((1, self.width, 3)) < 0.5
        np.copyto(row, self.ends[0])
        np.copyto(row, self.ends[1], where=signs)

    def propose(self, row: Pixels, best: Pixels, share: float) -> tuple[Window, ...]:
        window = self._window(self._side(share))
        pattern = int(self.rng.random() * 8)
        self._paint(row[window], window, pattern)
        if np.array_equal(row[window], best[window]):
            # One in eight small windows looks like this already; the classifier need not be asked about it again.
            self._paint(row[window], window, pattern ^ (1 + int(self.rng.random() * 7)))
        return (window,)

    def _paint(self, part: Pixels, window: Window, pattern: int) -> None:
        for channel in range(3):
            part[..., channel] = self.ends[pattern >> channel & 1][window][..., channel]


class L2Search(SquareSearch):
    """Mass of the perturbation moves from window to window; its squares are counted in integers.

    Unlike the paper's, the window that gives is placed around a changed value: on the pixel grid most of the photo is not
    changed at all, and an empty window has nothing to give.
    """

    def __init__(self, photo: Pixels, epsilon: float, rng: np.random.Generator) -> None:
        super().__init__(photo, epsilon, rng)
        self.limit = int(epsilon * epsilon)
        self.float = np.dtype(np.float32 if self.limit < 2**24 else np.float64)  # sums of whole squares stay exact
        # Channel by channel: numpy sums long rows fast, and threes slowly.
        self.delta = np.zeros((3, self.height, self.width), self.float)
        self.spent = 0
        self.changed: NDArray[np.intp] | None = None
        self.pending: tuple[Window, Window, NDArray[np.floating], int] | None = None

    def start(self, row: Pixels) -> None:
        side = max(1, min(self.height, self.width) // 5)
        direction = np.zeros_like(self.delta)
        for top in range(0, self.height - side + 1, side):
            for left in range(0, self.width - side + 1, side):
                direction[:, top : top + side, left : left + side] = self._bumps(side)
        direction *= math.sqrt(self.limit / _squares(direction).sum())
        whole = slice(0, self.height), slice(0, self.width)
        self._paint(row, whole, whole, direction, 0)

    def propose(self, row: Pixels, best: Pixels, share: float) -> tuple[Window, ...]:
        side = min(max(3, self._side(share) | 1), self.height, self.width)
        target, source = self._window(side), self._changed_window(side)
        old = self.delta[_planes(target)].copy()
        held = _squares(old)
        freed = held + self._squares_outside(source, target)
        left = self.spent - int(freed.sum())
        new = self._bumps(side)
        old /= np.sqrt(np.maximum(held, 1))[:, None, None]
        new += old
        wanted = freed + (self.limit - self.spent) / 3
        new *= np.sqrt(wanted / np.maximum(_squares(new), 1e-9)).astype(self.float)[:, None, None]
        row[source] = self.photo[source]
        self._paint(row, source, target, new, left)
        return source, target

    def accept(self) -> None:
        if self.pending is not None:
            source, target, whole, self.spent = self.pending
            self.delta[_planes(source)] = 0
            self.delta[_planes(target)] = whole
            self.changed = self.pending = None

    def _paint(self, row: Pixels, source: Window, target: Window, delta: NDArray[np.floating], left: int) -> None:
        """Set target to photo + delta, (3, H, W), on the pixel grid; `left` is the sum of squares outside the windows.

        delta is rounded to the nearest integers, and shrunk until the whole sum of squares is within the limit.
        """
        photo = self.photo[target].transpose(2, 0, 1).astype(self.float, order="C")
        limit = self.limit - left
        while True:
            picture = np.rint(delta)
            picture += photo
            np.minimum(picture, 255, out=picture)
            np.maximum(picture, 0, out=picture)
            whole = picture - photo
            total = int(_squares(whole).sum())
            if total <= limit:
                break
            delta *= min(0.97, limit / total)
        row[target].transpose(2, 0, 1)[...] = picture
        self.pending = source, target, whole, left + total

    def _changed_window(self, side: int) -> Window:
        if self.changed is None:
            self.changed = np.flatnonzero(self.delta) % (self.height * self.width)
        if not len(self.changed):
            return self._window(side)
        row, column = divmod(int(self.changed[int(self.rng.random() * len(self.changed))]), self.width)
        top = min(max(0, row - int(self.rng.random() * side)), self.height - side)
        left = min(max(0, column - int(self.rng.random() * side)), self.width - side)
        return slice(top, top + side), slice(left, left + side)

    def _bumps(self, side: int) -> NDArray[np.floating]:
        """Of each channel one bump and one dent of norm 1 together, (3, side, side)."""
        bumps = _bump_and_dent(side, self.float)
        if self.rng.random() < 0.5:
            bumps = bumps.T
        signed: NDArray[np.floating] = _SIGNS[int(self.rng.random() * 8)] * bumps
        return signed

    def _squares_outside(self, source: Window, target: Window) -> NDArray[np.floating]:
        """Sum of squares of each channel in `source` where it is not `target` too, (3,)."""
        delta = self.delta[_planes(source)].copy()
        rows, columns = (
            slice(max(0, t.start - s.start), max(0, t.stop - s.start)) for s, t in zip(source, target, strict=True)
        )
        delta[:, rows, columns] = 0
        return _squares(delta)


_SIGNS = np.array([[1 - 2 * (pattern >> channel & 1) for channel in range(3)] for pattern in range(8)], np.float32)[
    ..., None, None
]

SEARCHES: dict[str, type[SquareSearch]] = {"linf": LinfSearch, "l2": L2Search}
"""By name of the norm."""


def check_ball(norm: str, epsilon: float) -> None:
    """Raises UsageError for a norm that is not in SEARCHES, and for a radius that is none on the pixel grid."""
    if norm not in SEARCHES:
        raise UsageError(f"norm {norm!r} is not one of {', '.join(SEARCHES)}; choose one of them")
    if not 0 <= epsilon < math.inf:
        raise UsageError(f"epsilon {epsilon} is not a number of at least 0; give the radius in steps of a pixel value")
    if norm == "linf" and epsilon != int(epsilon):
        raise UsageError(f"epsilon {epsilon} is not a whole number; pixel values change by whole steps (4 is 4/255)")


def _planes(window: Window) -> tuple[slice, slice, slice]:
    return (slice(None), *window)


def _squares(planes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sum of squares of each channel of (3, H, W), (3,). By einsum: the threads of BLAS would go on spinning into the session."""
    rows = planes.reshape(3, -1)
    sums: NDArray[np.floating] = np.einsum("ci,ci->c", rows, rows)
    return sums


@lru_cache(maxsize=64)
def _bump_and_dent(side: int, dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """The paper's eta: two halves of opposite sign that fall off from their centres, (side, side), norm 1."""
    upper = side // 2
    both = np.concatenate([_bump(upper, side), -_bump(side - upper, side)])
    both = (both / math.sqrt((both**2).sum())).astype(dtype)
    both.flags.writeable = False
    return both


def _bump(height: int, width: int) -> NDArray[np.float64]:
    """Concentric squares of sides 1, 3, 5... laid on each other, square k adding 1 / k^2, scaled to norm 1."""
    rows, columns = np.abs(np.arange(height) - height // 2), np.abs(np.arange(width) - width // 2)
    squares = max(height, width) // 2 + 1
    sums = np.cumsum(1 / np.arange(squares, 0, -1.0) ** 2)[::-1]
    bump: NDArray[np.float64] = sums[np.maximum(rows[:, None], columns)]
    return bump / max(math.sqrt((bump**2).sum()), 1e-9)
