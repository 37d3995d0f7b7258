"""Whether something moves in what the model sees, so that a quiet scene costs little.

A small grey copy of the view is compared with an earlier one. What the lighting does is taken out first: each row has a gain of
its own (lamps at 50 or 60 Hz draw bands along the rows, an exposure changes all rows), and slow changes across the view are taken
out by a high pass. What is left is divided by the noise that each place was seen to have, and by as much as the noise grew
everywhere at once. The largest value of the view is compared with a threshold from its own distribution in quiet looks: the
maximum of many noises follows Gumbel's law (Gumbel 1958), whose two parameters come from quantiles, so that looks with motion
hardly count.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.images.crop import three_channels
from edge_tl_runtime.images.decode import Frame

Small = NDArray[np.float32]

SIDE = 64
"""Rows and columns of the small copy."""
LOOK_S = 0.4
"""Between two looks at a quiet scene."""
LINGER_S = 3.0
"""After the last motion every frame is still classified for so long."""
EVERY_S = 10.0
"""A quiet scene is classified once in so many seconds all the same."""
WATCHED_S = 1.0
LEARNING_LOOKS = 16
"""Looks at the start, LOOK_S apart, while the noise is measured and every frame is classified."""
FALSE_ALARM = 1e-5
"""Chance that a quiet look counts as motion: at LOOK_S, once in eleven hours."""
_ANCHOR_S = 1.0
"""While things move, what is compared with is at least so old: what creeps differs little from the frame before."""
_HISTORY = 480
_SOFT = 8.0
"""Added to grey values before they are divided: gains of black rows are noise."""
_LEAST_NOISE = 0.4
_LEAST_SCORE = 4.0
"""Times _LEAST_NOISE: changes below 1.6 of 255, averaged over 3 by 3 places, are never told from none."""
_MOST_GROWTH = 3.0
_BLACK, _WHITE = 3.0, 235.0
"""Beyond these, pixels are cut off and follow no gain."""
_ADAPT = 0.002
"""Step of the noise of a place, in logarithms: a tree in the wind counts as quiet after ten minutes or so."""
_QUARTILE = 1.15 / 0.6745
"""Third quartile of the absolute value of normal noise, over its median."""


@dataclass(frozen=True, slots=True)
class MotionLook:
    """One comparison. moved: whether something moved. score: the largest change over what counts as motion; 0 while learning."""

    moved: bool
    score: float


class MotionDetector:
    """Compares views of one camera. Times are seconds on a clock that only goes forward.

    >>> import numpy as np
    >>> MotionDetector().look(np.zeros((48, 64, 3), np.uint8), 0.0).moved
    True
    """

    def __init__(self) -> None:
        self._start(())

    def _start(self, shape: tuple[int, ...]) -> None:
        """Forget everything: views of another size are another scene."""
        self._shape = shape
        self.learned = False
        self._anchor: Small | None = None
        self._anchor_at = 0.0
        self._noise = np.full((SIDE, SIDE), _LEAST_NOISE, np.float32)
        self._first: list[Small] = []
        self._scores: deque[float] = deque(maxlen=_HISTORY)
        self._threshold = _LEAST_SCORE
        self._learned_at = -math.inf

    def look(self, view: Frame, now: float) -> MotionLook:
        """view: uint8 (H, W, 3), (H, W) or (H, W, 4), what the model sees of a frame. Raises BadFrame for no frame."""
        small = small_grey(view, SIDE, SIDE)
        if self._anchor is None or view.shape != self._shape:
            self._start(view.shape)
            self._keep(small, now)
            return MotionLook(True, 0.0)
        change = changed(small, self._anchor)
        due = now - self._learned_at >= 0.9 * LOOK_S  # a camera is never quite on time
        if due:
            self._learned_at = now
        if not self.learned:
            if due:
                self._first.append(change)
                self._keep(small, now)
            if len(self._first) == LEARNING_LOOKS:
                self._begin()
            return MotionLook(True, 0.0)
        score = self._score(change)
        moved = score > self._threshold
        if due:
            self._learn(change, score, moved)
        if now - self._anchor_at >= (_ANCHOR_S if moved else EVERY_S):
            self._keep(small, now)
        return MotionLook(moved, score / self._threshold)

    def _keep(self, small: Small, now: float) -> None:
        self._anchor, self._anchor_at = small, now

    def _begin(self) -> None:
        """Take the noise from the first looks: by medians, since something may have moved in them."""
        size = np.abs(np.stack(self._first))
        self._noise = np.maximum(np.median(size, axis=0) * _QUARTILE, _LEAST_NOISE).astype(np.float32)
        self._scores.extend(self._score(change) for change in self._first)
        self._first.clear()
        self._threshold = largest_quiet(self._scores)
        self.learned = True

    def _score(self, change: Small) -> float:
        relative = change / self._noise
        growth = float(np.median(np.abs(relative))) * _QUARTILE
        mean = cv2.blur(relative, (3, 3))
        return float(np.abs(mean).max()) / min(max(growth, 1.0), _MOST_GROWTH)

    def _learn(self, change: Small, score: float, moved: bool) -> None:
        above = np.abs(change) > self._noise
        self._noise *= np.where(above, math.exp(0.75 * _ADAPT), math.exp(-0.25 * _ADAPT)).astype(np.float32)
        np.maximum(self._noise, _LEAST_NOISE, out=self._noise)
        if not moved:
            self._scores.append(score)
            self._threshold = largest_quiet(self._scores)


def small_grey(frame: Frame, height: int, width: int) -> Small:
    """A frame as float32 (height, width), grey, 0 to 255. Two samples each way are averaged for a value. Raises BadFrame."""
    coarse = cv2.resize(three_channels(frame), (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    small = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.float32)


def changed(small: Small, before: Small) -> Small:
    """The difference of two grey pictures, float32 (H, W), without what the lighting makes of it; 0 where either is cut off."""
    height, width = small.shape
    usable = (np.minimum(small, before) > _BLACK) & (np.maximum(small, before) < _WHITE)
    gains = row_gains((small + _SOFT) / (before + _SOFT), usable)
    difference = np.where(usable, (small + _SOFT) - gains[:, None] * (before + _SOFT), 0.0).astype(np.float32)
    window = (width // 3 | 1, height // 3 | 1)
    return np.asarray(difference - cv2.blur(difference, window), np.float32)


def row_gains(ratios: Small, usable: NDArray[np.bool_]) -> Small:
    """The median ratio of each row, float32 (H,), of the places that are usable; rows with few of them take their neighbours'."""
    counts = usable.sum(axis=1)
    rows = np.arange(len(ratios))
    ordered = np.sort(np.where(usable, ratios, np.inf), axis=1)
    gains = ordered[rows, np.minimum(counts // 2, ratios.shape[1] - 1)]
    enough = counts >= ratios.shape[1] // 8
    if not enough.any():
        return np.ones(len(ratios), np.float32)
    return np.asarray(np.interp(rows, rows[enough], gains[enough]), np.float32)


def largest_quiet(scores: deque[float]) -> float:
    """What a quiet look exceeds with a chance of FALSE_ALARM, by Gumbel's law through the tenth and the fiftieth percentile."""
    low, middle = np.quantile(scores, (0.1, 0.5))
    scale = (middle - low) / (math.log(-math.log(0.1)) - math.log(-math.log(0.5)))
    location = middle + scale * math.log(-math.log(0.5))
    return max(_LEAST_SCORE, float(location - scale * math.log(-math.log1p(-FALSE_ALARM))))


class MotionGate:
    """Says which frames to classify: the first ones, all while something moves and LINGER_S after it, and one in `every_s`.

    looked: frames that were compared; still: those of them that need not be classified. moving: whether frames are classified
    because something moves. moved_at: when something moved last, on the caller's clock; None before that. watched: whether a
    person looks at the pictures, who then gets one in WATCHED_S.
    """

    def __init__(self, every_s: float = EVERY_S) -> None:
        self.detector = MotionDetector()
        self.every_s = every_s
        self.looked = self.still = 0
        self.moving = False
        self.watched: Callable[[], bool] = lambda: False
        self.moved_at: float | None = None
        self._classified_at = -math.inf
        self._looked_at = -math.inf

    def wants(self, view: Frame, now: float) -> bool:
        """Whether the frame is to be classified. view: as for `MotionDetector.look`; now: seconds, only forward."""
        resting = self.detector.learned and not self.moving
        every_s = min(self.every_s, WATCHED_S) if self.watched() else self.every_s
        if resting and LOOK_S > now - self._looked_at >= 0 and now - self._classified_at < every_s:
            self.still += 1  # of a file, whose frames come as fast as they are decoded
            return False
        self._looked_at = now
        self.looked += 1
        if self.detector.look(view, now).moved:
            self.moved_at = now
        self.moving = self.moved_at is not None and now - self.moved_at <= LINGER_S
        if self.moving or now - self._classified_at >= every_s:
            self._classified_at = now
            return True
        self.still += 1
        return False

    @property
    def rest_s(self) -> float:
        """How long no frame is needed: there is time to decode fewer of them while nothing moves."""
        return 0.0 if self.moving or not self.detector.learned else LOOK_S
