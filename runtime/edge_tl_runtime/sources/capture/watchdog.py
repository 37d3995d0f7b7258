"""When a silent camera is given up and when it is tried again. Pure: times go in, a verdict comes out; no clock, no process."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.sources.base import State

STILL_POLLS = 30
"""A still picture is looked at so often before it is told that it does not change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds. first_frame: a camera may take long to deliver its first (exposure, a key frame); stale: silence after which a
    person is told; lost: silence after which the capture is ended and started anew; frozen: how long one frame may repeat byte
    for byte before the camera counts as frozen, 0 for ever; backoff: first wait before a new try, doubled up to backoff_max;
    steady: how long frames must flow before the wait starts small again; stop: how long a capture may take to end in good order.
    """

    first_frame: float = 15.0
    stale: float = 2.0
    lost: float = 10.0
    frozen: float = 10.0
    backoff: float = 1.0
    backoff_max: float = 30.0
    steady: float = 10.0
    stop: float = 0.5
    restart_frozen: bool = True
    """Whether a new connection may help when one frame repeats."""

    def __post_init__(self) -> None:
        for name in ("first_frame", "stale", "lost", "backoff", "backoff_max"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be more than 0 s, not {getattr(self, name)}")
        if self.frozen < 0:
            raise UsageError(f"frozen must be 0 (never) or more seconds, not {self.frozen}")

    def at_pace(self, every: float) -> Patience:
        """For a picture that is asked for every so many seconds: silence is more than one answer that did not come, a picture
        that stays the same is news only after STILL_POLLS of them, and asking is all that can be done about it."""
        return replace(
            self,
            stale=max(self.stale, 2 * every),
            lost=self.lost + every,
            frozen=max(self.frozen, STILL_POLLS * every),
            restart_frozen=False,
        )


class Verdict(enum.Enum):
    """What to do with a connection."""

    WAIT = enum.auto()
    """Nothing to do."""
    START = enum.auto()
    """Connect now."""
    END = enum.auto()
    """The capture process hangs: end it, by force where it does not end by itself."""


class Watchdog:
    """Told of what happens to a connection, says what to do next. All times are `time.monotonic()`."""

    def __init__(self, patience: Patience, draw: random.Random | None = None) -> None:
        """draw: where the jitter comes from."""
        self.patience = patience
        self._draw = draw or random.Random()
        self._due = 0.0
        self._connected_at: float | None = None
        self._first: float | None = None
        self._last: float | None = None
        self._last_read = 0.0
        self._tries = 0

    def connecting(self, now: float) -> None:
        """A connection is being made."""
        self._connected_at, self._first, self._last, self._last_read = now, None, None, 0.0

    def frame(self, now: float) -> None:
        """A new frame arrived."""
        self._first = now if self._first is None else self._first
        self._last = now
        if now - self._first >= self.patience.steady:
            self._tries = 0

    def read(self, at: float) -> None:
        """When the device last gave anything, be it the same frame again."""
        self._last_read = at

    def rest(self, now: float) -> None:
        """The reader wants nothing at the moment: this is not the device's silence."""
        if self._last is not None:
            self._last = now

    def gone(self, now: float) -> float:
        """The connection ended or was ended. Returns how many seconds to wait before the next try.

        Exponential with a ceiling; up to half of it is left to chance, so that many runners do not come back at once.
        """
        self._connected_at = None
        longest = min(self.patience.backoff_max, self.patience.backoff * 2.0 ** min(self._tries, 32))
        self._tries += 1
        wait = longest * (1.0 - 0.5 * self._draw.random())
        self._due = now + wait
        return wait

    def verdict(self, now: float) -> Verdict:
        if self._connected_at is None:
            return Verdict.START if now >= self._due else Verdict.WAIT
        if self._last is None:
            return Verdict.END if now - self._connected_at > self.patience.first_frame else Verdict.WAIT
        repeating = self.repeating(now)
        if repeating and not self.patience.restart_frozen:
            return Verdict.WAIT
        limit = self.patience.frozen + self.patience.lost if repeating else self.patience.lost
        return Verdict.END if now - self._last > limit else Verdict.WAIT

    def state(self, now: float) -> State:
        if self._connected_at is None:
            return State.LOST
        if self._last is None:
            return State.CONNECTING
        limit = max(self.patience.stale, self.patience.frozen) if self.repeating(now) else self.patience.stale
        return State.STALE if now - self._last > limit else State.LIVE

    def repeating(self, now: float) -> bool:
        """Whether the device is alive and gives one and the same frame."""
        return self._last is not None and self._last_read > self._last and now - self._last_read < self.patience.stale

    def retry_in(self, now: float) -> float:
        """Seconds until the next try; 0 when connected or due."""
        return max(0.0, self._due - now) if self._connected_at is None else 0.0

    def silent_for(self, now: float) -> float:
        """Seconds since the last new frame of this connection, or since it was begun."""
        since = self._last if self._last is not None else self._connected_at
        return now - since if since is not None else 0.0
