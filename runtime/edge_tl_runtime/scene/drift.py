"""Whether what a camera sees drifts: away from the training photos, and away from what was usual where it hangs.

Two references. The model file says how much of photos like the training photos is called unknown: how far the camera is from that
is a level, said from the first events on, and no drift. The first days on site say what is usual here: a change since then is
told by the test of `martingale`, with a stated rate of false alarms. One observation is one day of watching, whatever the hour
at which it begins, so that day and night, and any dependence within a day, are part of every day alike.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.progress import Say, say_if_heard, silent
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.scene.drift_changes import BACK, LEARN, VALUES, Watched, rate
from edge_tl_runtime.scene.drift_pictures import DriftPictures, Picture
from edge_tl_runtime.scene.drift_state import FORMAT, DriftFile, block_of, block_state, restore, watched_state
from edge_tl_runtime.scene.events import MOST_LABELS, DayCounts, EventCounter, Look
from edge_tl_runtime.scene.martingale import parse_false_alarms

if TYPE_CHECKING:
    from edge_tl_runtime.scene.documents import (
        CameraDriftDocument,
        DriftDayDocument,
        DriftState,
        EventsDocument,
        WatchedDocument,
    )

MOST_DAYS = 180
LEAST_EVENTS = 20
"""Of a day: one with fewer goes on until it has them."""
SAVE_S = 600.0
PARTS = 24
SHOWN_DAYS = 28
ENOUGH_EVENTS = 20
"""For a statement of the level."""
SET_CLOCK = 1.6e9
"""A clock that shows less, September 2020, was never set: many small boards have none that runs without power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """false_alarms: such as 1/year. block_s: seconds of a "day". labels: of the model. promised: share of photos like the
    training photos that are called unknown; None where the file does not tell. watched: names of VALUES that this file gives."""

    false_alarms: str = "1/year"
    block_s: float = 86400.0
    labels: Sequence[str]
    promised: float | None = None
    watched: Sequence[str] = tuple(VALUES)

    @property
    def limit(self) -> float:
        """Evidence, in days, at which one of the things watched has changed: each has its share of the false alarms."""
        return max(1.0, parse_false_alarms(self.false_alarms) / self.block_s) * len(self.watched)


class Drift:
    """Takes looks in order; `document` may be called by any thread.

    file: where it is kept; None: nowhere. pictures: what keeps the most unlike frames. wall: seconds since 1970, for words alone;
    None for a video, whose times are positions. say: takes a line when something changes.
    """

    def __init__(
        self,
        settings: DriftSettings,
        file: DriftFile | None = None,
        pictures: DriftPictures | None = None,
        *,
        wall: Callable[[], float] | None = time.time,
        say: Say = silent,
    ) -> None:
        """Raises OutputError for a file that cannot be read or written, UsageError for a rate that is none."""
        self.settings, self.pictures = settings, pictures
        self._file, self._wall, self._say = file, wall, say
        self._lock = threading.Lock()
        self._counter = EventCounter(settings.block_s)
        self._watched = [Watched.of(name, settings.limit) for name in settings.watched]
        self._blocks: list[DayCounts] = []
        self._hours: deque[list[int]] = deque(maxlen=PARTS)
        self._seconds, self._closed = 0.0, 0
        self._last: float | None = None
        self._seed = secrets.randbits(53)
        self.restarted = ""
        """Why what is usual is learned anew, or ""."""
        state, self.restarted = file.read() if file else (None, "")
        if self.restarted:
            self._tell(f"{self.restarted}; learning anew what is usual")
        self._current = self._new_block()
        if state is not None:
            self._restore(state)
        elif pictures is not None:
            pictures.clear()
        self._began = self._seconds
        """Seconds of watching before this run: the wall clock is right about those since, once it is set."""
        self.save()
        if file is not None and file.failed:
            raise OutputError(file.failed)

    def due(self, seconds: float) -> bool:
        """Whether a frame of this time is to be looked at."""
        return self._counter.due(seconds)

    def look(self, look: Look, picture: Picture | None = None) -> None:
        """picture: the frame, for `pictures`; made only where it is kept."""
        with self._lock:
            self._count(look, picture)
            lines = self._close_block() if self._block_is_over() else []
        for line in lines:
            self._tell(line)
        if self._seconds - self._saved >= min(SAVE_S, self.settings.block_s) or lines:
            self.save()

    def save(self) -> None:
        if self._file is not None:
            with self._lock:
                state = self._state(self._file.identity)
            self._file.write(state)
        self._saved = self._seconds

    def _count(self, look: Look, picture: Picture | None) -> None:
        if self._last is not None:
            self._seconds += max(0.0, look.seconds - self._last)
        self._last = look.seconds
        self._set_clocks()
        block = self._current
        block.seconds = self._seconds - block.begun
        if not self._counter.is_new(look):
            return
        block.add(look)
        hour = int(self._seconds * PARTS / self.settings.block_s)
        if not self._hours or self._hours[-1][0] != hour:
            self._hours.append([hour, 0, 0])
        self._hours[-1][1] += 1
        self._hours[-1][2] += not look.known
        if self.pictures is not None and picture is not None and not look.known:
            self.pictures.offer(self._closed, look, picture)

    def _block_is_over(self) -> bool:
        return self._current.seconds >= self.settings.block_s and self._current.events >= LEAST_EVENTS

    def _close_block(self) -> list[str]:
        newest = self._current
        newest.means = [round(value, 6) for value in newest.means]
        ties = np.random.default_rng([self._seed, self._closed]).random(len(VALUES))
        news = []
        for watched, tie in zip(self._watched, ties, strict=False):
            if watched.close(self._blocks, newest, float(tie)):
                news.append(watched)
        self._blocks.append(newest)
        if len(self._blocks) > MOST_DAYS:
            self._forget_day()
        self._closed += 1
        self._current = self._new_block()
        return [self._sentence(watched) or f"{_TITLES[watched.name]} as before again" for watched in news]

    def _forget_day(self) -> None:
        """The oldest of those after a change goes first: a change may stand for months, what was usual is still needed."""
        begun = {watched.since for watched in self._watched}
        spare = (i for i, block in enumerate(self._blocks[:-BACK]) if block.aside and block.begun not in begun)
        del self._blocks[next(spare, 0)]

    def _new_block(self) -> DayCounts:
        labels = [0] * min(MOST_LABELS, len(self.settings.labels))
        return DayCounts(self._seconds, self._wall() if self._wall else 0.0, labels)

    def _set_clocks(self) -> None:
        """The wall clock at the beginning of each day of this run, by what it shows now: it may have been set meanwhile."""
        if self._wall is None:
            return
        now = self._wall()
        for block in (*self._blocks, self._current):
            if block.begun >= self._began:
                block.wall = now - (self._seconds - block.begun)

    # What is said.

    def document(self) -> CameraDriftDocument:
        with self._lock:
            recent = [*self._blocks[-BACK:], self._current]
            hours = {hour: (events, unknown) for hour, events, unknown in self._hours}
            newest = int(self._seconds * PARTS / self.settings.block_s)
            document: CameraDriftDocument = {
                "notice": "; ".join(filter(None, map(self._sentence, self._watched))),
                "level": self._level(recent),
                "promised": self.settings.promised,
                "learned": min(LEARN, len(self._blocks)),
                "learn": LEARN,
                "false_alarms": self.settings.false_alarms,
                "block_s": self.settings.block_s,
                "week": _events(recent),
                "hours": [
                    {"events": events, "unknown": unknown}
                    for events, unknown in (hours.get(hour, (0, 0)) for hour in range(newest - PARTS + 1, newest + 1))
                ],
                "days": [self._day(block) for block in self._blocks[-SHOWN_DAYS:]],
                "watched": [self._watched_document(watched) for watched in self._watched],
                "pictures": self._pictures(),
                "restarted": self.restarted,
                "failed": "; ".join(filter(None, (part.failed for part in (self._file, self.pictures) if part))),
            }
        return document

    def _sentence(self, watched: Watched) -> str:
        text = watched.words(self._blocks, self._current, self.settings.labels)
        return f"since {self._when(watched.since)} {text}" if watched.since is not None else ""

    def _when(self, begun: float) -> str:
        """A day in words, by the wall clock where it is set."""
        if self._wall is None:
            return f"{int(begun // 60)}:{int(begun % 60):02d} of watching"
        wall = next((block.wall for block in (*self._blocks, self._current) if block.begun >= begun), 0.0)
        if wall < SET_CLOCK:
            return f"{_watched_for(self._seconds - begun)} of watching ago"
        moment = datetime.fromtimestamp(wall)
        return moment.strftime("%A %d %B" if self.settings.block_s >= 43200 else "%A %d %B %H:%M")

    def _level(self, recent: Sequence[DayCounts]) -> str:
        if "unknown" not in self.settings.watched:
            return "nothing is called unknown here, so nothing tells how like the training photos the events are"
        unknown, events = (sum(getattr(block, name) for block in recent) for name in ("unknown", "events"))
        if events < ENOUGH_EVENTS:
            return ""
        text = f"{rate(unknown, events)} of the last {events:,} events are unlike the training photos"
        promised = self.settings.promised
        if promised is None:
            return text
        more = wilson(unknown, events)[0] > promised
        return f"{text}, {'more than' if more else 'about'} the {rate(promised, 1)} of photos like them"

    def _day(self, block: DayCounts) -> DriftDayDocument:
        known = self._wall is not None and block.wall >= SET_CLOCK
        moment = datetime.fromtimestamp(block.wall).astimezone().isoformat(timespec="minutes") if known else None
        return {"time": moment, "seconds": round(block.seconds, 1), "events": block.events, "unknown": block.unknown}

    def _watched_document(self, watched: Watched) -> WatchedDocument:
        return {
            "name": watched.name,
            "evidence": round(watched.detector.evidence, 3),
            "limit": watched.detector.limit,
            "dependence": round(watched.dependent, 3),
            "since": None if watched.since is None else self._when(watched.since),
            "text": watched.words(self._blocks, self._current, self.settings.labels),
        }

    def _pictures(self) -> list[str]:
        """Of the time since a change; without one, of the last week."""
        if self.pictures is None:
            return []
        begun = [watched.since for watched in self._watched if watched.since is not None]
        first = min(begun) if begun else 0.0
        days = sum(block.begun >= first for block in self._blocks) if begun else min(BACK, len(self._blocks))
        return [str(path) for path in self.pictures.best(self._closed - days)]

    def _tell(self, line: str) -> None:
        say_if_heard(self._say, f"drift: {line}")

    # Kept across restarts.

    def _state(self, identity: Mapping[str, str]) -> DriftState:
        return {
            "format": FORMAT,
            "identity": dict(identity),
            "seed": self._seed,
            "seconds": self._seconds,
            "closed": self._closed,
            "blocks": [block_state(block) for block in self._blocks],
            "current": block_state(self._current),
            "watched": [watched_state(watched) for watched in self._watched],
            "hours": [list(hour) for hour in self._hours],
        }

    def _restore(self, state: DriftState) -> None:
        self._seed, self._seconds, self._closed = state["seed"], float(state["seconds"]), state["closed"]
        self._blocks.extend(block_of(block) for block in state["blocks"])
        self._current = block_of(state["current"])
        kept = {watched["name"]: watched for watched in state["watched"]}
        for watched in self._watched:
            if watched.name in kept:
                restore(watched, kept[watched.name])
        self._hours.extend([hour, events, unknown] for hour, events, unknown in state["hours"])


_TITLES = {"unknown": "the share of unknown events is", "labels": "the labels are", "picture": "the picture is"}


def _watched_for(seconds: float) -> str:
    """`3.2 days`, `5.0 hours`, `40 s`."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _events(blocks: Sequence[DayCounts]) -> EventsDocument:
    return {"events": sum(block.events for block in blocks), "unknown": sum(block.unknown for block in blocks)}
