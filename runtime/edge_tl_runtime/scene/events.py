"""From frames to events: a still scene repeats one frame thirty times a second, and that is one observation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LOOK_S = 1.0
"""At most one frame in so many seconds is looked at."""
STILL_S = 600.0
"""A scene in which nothing changes counts again after so many seconds."""
MOVED = 0.5
"""Squared distance of features of length one beyond which the picture is another one. Noise of 8 grey levels, shifts and light
keep one photo within 0.45 (99 %), two photos are 0.6 and more apart (the cats-dogs file, INT8)."""
MOST_LABELS = 32
"""Labels counted one by one; a model with more has them counted in so many groups."""


@dataclass(frozen=True, slots=True)
class Look:
    """One frame. seconds: on a clock of this run that only goes forward. label: place among the model's labels, -1 for unknown.

    place: float (D,), its features, of length one; empty where the file has none. score: how like the training photos it is,
    higher is more. averaged: float (K,), where it lies among them, of which the last numbers are averaged; None: of `place`.
    """

    seconds: float
    label: int
    place: NDArray[np.floating]
    score: float
    averaged: NDArray[np.floating] | None = None

    @property
    def known(self) -> bool:
        return self.label >= 0


class EventCounter:
    """Tells which looks are new events: another label, another picture, or the same one after STILL_S.

    A block shorter than a day is looked at more often, so that a still scene still counts twenty times in it.
    """

    def __init__(self, block_s: float) -> None:
        self.look_s, self.still_s = min(LOOK_S, block_s / 1000), min(STILL_S, block_s / 20)
        self._looked = -np.inf
        self._event: Look | None = None

    def due(self, seconds: float) -> bool:
        """Whether a frame of this time is to be looked at. Asked of every frame: it costs a comparison."""
        # A clock that went back, as that of a video that begins again, starts a new second.
        return not self._looked <= seconds < self._looked + self.look_s

    def is_new(self, look: Look) -> bool:
        self._looked, last = look.seconds, self._event
        if last is not None and last.label == look.label and 0 <= look.seconds - last.seconds < self.still_s:
            moved = np.asarray(look.place, np.float64) - last.place
            if float(moved @ moved) <= MOVED:
                return False
        self._event = look
        return True


MEANS = 15
"""Directions whose mean is kept for a day: those in which training photos vary most."""
_FARTHEST = 1e5


def means_of(look: Look) -> NDArray[np.float64]:
    """The few numbers of a frame that are averaged over a day, float64 (D,): its place, and how far it is from known photos."""
    score = min(_FARTHEST, max(-_FARTHEST, look.score))
    place = look.place if look.averaged is None else look.averaged
    return np.append(np.asarray(place[-MEANS:], np.float64), -np.sign(score) * np.log1p(abs(score)))


@dataclass(slots=True)
class DayCounts:
    """What happened in a day. begun: seconds of watching before it; wall: the wall clock then; seconds: its length.

    labels: events of each label or group of labels, known ones only. means: sums over all events of `means_of`. aside: what is
    watched for which this day is no example of the usual.
    """

    begun: float
    wall: float
    labels: list[int]
    means: list[float] = field(default_factory=list)
    seconds: float = 0.0
    events: int = 0
    unknown: int = 0
    aside: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of events that are unknown."""
        return self.unknown / self.events if self.events else 0.0

    def add(self, look: Look) -> None:
        self.events += 1
        if look.known:
            self.labels[look.label % len(self.labels)] += 1
        else:
            self.unknown += 1
        means = means_of(look)
        self.means = [float(x) for x in (means + self.means if self.means else means)]
