"""Steadier labels over the frames of a video or camera. The model's own answer of each frame is kept beside them.

A kind is an entry in SMOOTHERS. `parse_smoothing("ema:0.5")` makes one from the text of an option.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import UsageError

GAP_S = 5.0
"""Silence after which what was seen before counts for nothing: the scene may be another."""

Probabilities = NDArray[np.floating[Any]]


class Smoother(Protocol):
    """Steadies the probabilities of one source, frame after frame."""

    def update(self, probabilities: Probabilities, now: float) -> tuple[Probabilities, int]:
        """Take in the probabilities, (C,), of a frame captured at `now` seconds; give the steadied ones and the index of the
        label to show. The label is the best of the steadied ones unless hysteresis holds on to another."""
        ...

    def reset(self) -> None:
        """Forget: the model or the scene is another."""
        ...


class Ema:
    """Exponential moving average of the probabilities, by time and not by frame, so that a camera's rate does not matter.

    half_life_s: after which an old frame counts half. margin: by how much a new label's average must exceed the shown one's, in
    two frames in a row: labels that alternate from frame to frame take the lead in turn, by more than it when frames are few.
    """

    def __init__(self, half_life_s: float = 0.5, margin: float = 0.05) -> None:
        if not 0 < half_life_s <= 3600:
            raise UsageError(f"a half-life of {half_life_s:g} s; give seconds, such as ema:0.5")
        self.half_life_s, self.margin = half_life_s, margin
        self.reset()

    def reset(self) -> None:
        self._mean: NDArray[np.float64] | None = None
        self._last, self._label, self._challenger = 0.0, -1, -1

    def update(self, probabilities: Probabilities, now: float) -> tuple[Probabilities, int]:
        current = np.asarray(probabilities, np.float64)
        if self._mean is None or now - self._last > GAP_S or self._mean.shape != current.shape:
            self._mean, self._label, self._challenger = current.copy(), int(current.argmax()), -1
        else:
            weight = 1.0 - 0.5 ** (max(0.0, now - self._last) / self.half_life_s)
            self._mean += weight * (current - self._mean)
        self._last = now
        best = int(self._mean.argmax())
        leads = bool(self._mean[best] > self._mean[self._label] + self.margin)
        if leads and best == self._challenger:
            self._label = best
        self._challenger = best if leads else -1
        return self._mean.copy(), self._label


class Vote:
    """k of n: a label is shown once k of the last n frames chose it, and stays until another one reaches k.

    k must be more than labels that alternate from frame to frame can have, half of n rounded up.
    """

    def __init__(self, k: int = 4, n: int = 6) -> None:
        if not (n + 1) // 2 < k <= n <= 1000:
            raise UsageError(f"a vote of {k} of {n}; k must be from {(n + 1) // 2 + 1} to {n}, or vote:4/6")
        self.k, self.n = k, n
        self.reset()

    def reset(self) -> None:
        self._recent: deque[Probabilities] = deque(maxlen=self.n)
        self._votes: deque[int] = deque(maxlen=self.n)
        self._last, self._label = 0.0, -1

    def update(self, probabilities: Probabilities, now: float) -> tuple[Probabilities, int]:
        if now - self._last > GAP_S or (self._recent and self._recent[-1].shape != probabilities.shape):
            self.reset()
        self._last = now
        self._recent.append(np.array(probabilities))
        self._votes.append(int(probabilities.argmax()))
        winner, votes = Counter(self._votes).most_common(1)[0]
        if votes >= self.k or self._label < 0:
            self._label = winner
        return np.mean(self._recent, axis=0), self._label


def _ema(text: str) -> Smoother:
    return Ema(float(text)) if text else Ema()


def _vote(text: str) -> Smoother:
    if not text:
        return Vote()
    k, n = text.split("/")
    return Vote(int(k), int(n))


SMOOTHERS: dict[str, Callable[[str], Smoother]] = {"ema": _ema, "vote": _vote}


def parse_smoothing(text: str) -> Smoother | None:
    """ "none", "ema", "ema:HALF_LIFE_SECONDS", "vote" or "vote:K/N". Raises UsageError for anything else."""
    kind, _, value = text.partition(":")
    if kind == "none" and not value:
        return None
    try:
        return SMOOTHERS[kind](value)
    except (KeyError, ValueError):
        raise UsageError(f"{text!r} is no smoothing; give none, ema:SECONDS (ema:0.5) or vote:K/N (vote:4/6)") from None
