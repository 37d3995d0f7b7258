"""The file that drift is kept in, so that a restart goes on where the run before ended."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import read_regular, replace_text
from edge_tl_runtime.core.strict_json import strict_json
from edge_tl_runtime.core.text import error_line
from edge_tl_runtime.scene.drift_changes import VALUES, Watched
from edge_tl_runtime.scene.events import DayCounts
from edge_tl_runtime.scene.martingale import bets

if TYPE_CHECKING:
    from edge_tl_runtime.scene.documents import DayCountsState, DriftState, WatchedState

FORMAT = 1
MOST_BYTES = 4 * 2**20


def block_state(block: DayCounts) -> DayCountsState:
    return cast("DayCountsState", asdict(block))


def block_of(state: DayCountsState) -> DayCounts:
    return DayCounts(**{item.name: state[item.name] for item in fields(DayCounts)})  # type: ignore[literal-required]


def watched_state(watched: Watched) -> WatchedState:
    detector = watched.detector
    return {
        "name": watched.name,
        "since": watched.since,
        "dependent": watched.dependent,
        "stakes": detector.stakes,
    }


def restore(watched: Watched, state: WatchedState) -> None:
    watched.since, watched.dependent = state["since"], state["dependent"]
    watched.detector.stakes = list(state["stakes"])


class DriftFile:
    """path: of the JSON. identity: what days are counted with, by name; a file of other values is kept as FILE.previous."""

    def __init__(self, path: Path, identity: Mapping[str, str]) -> None:
        self.path, self.identity = path, dict(identity)
        self.failed = ""
        """Why the newest state could not be written, or ""."""

    def read(self) -> tuple[DriftState | None, str]:
        """What was kept, or why it is not used; (None, "") where there is no file yet. Raises OutputError."""
        try:
            data = read_regular(self.path, MOST_BYTES)
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            raise OutputError(f"cannot read {self.path}: {error.strerror}; name another file") from None
        try:
            state = _checked(strict_json(data.decode("utf-8")))
        except (ValueError, UnicodeDecodeError) as error:
            return None, self._kept_aside(f"{self.path.name} is damaged ({error_line(error)})")
        other = [name for name, value in self.identity.items() if state["identity"].get(name) != value]
        if other:
            return None, self._kept_aside(f"{self.path.name} was counted with another {' and '.join(other)}")
        return state, ""

    def write(self, state: DriftState) -> None:
        """A full disk is told in the status and tried again."""
        try:
            replace_text(self.path, json.dumps(state, ensure_ascii=False, separators=(",", ":")) + "\n")
            self.failed = ""
        except OutputError as error:
            self.failed = str(error)

    def _kept_aside(self, why: str) -> str:
        previous = self.path.with_name(f"{self.path.name}.previous")
        try:
            os.replace(self.path, previous)
        except OSError as error:
            raise OutputError(f"cannot rename {self.path}: {error.strerror}; name another file") from None
        return f"{why}; it is kept as {previous.name}"


def _checked(document: Any) -> DriftState:
    """Raises ValueError for what this release did not write."""
    from edge_tl_runtime.core.documents import checked
    from edge_tl_runtime.scene.documents import DriftState as Kind

    state = checked(document, Kind)
    if state["format"] != FORMAT:
        raise ValueError(f"format {state['format']}, not {FORMAT}")
    blocks = [*state["blocks"], state["current"]]
    sizes = {len(block["labels"]) for block in blocks}, {len(block["means"]) for block in blocks if block["events"]}
    names = [watched["name"] for watched in state["watched"]]
    fits = len(sizes[0]) == 1 and len(sizes[1]) <= 1 and set(names) <= set(VALUES) and len(set(names)) == len(names)
    fits = fits and all(len(hour) == 3 for hour in state["hours"])
    if not fits or min(sizes[0]) < 1 or not all(map(_of_its_bets, state["watched"])):
        raise ValueError("its parts do not fit each other")
    return state


def _of_its_bets(state: WatchedState) -> bool:
    count = len(bets(0.5, Watched.of(state["name"], 1.0).detector.two_sided))
    return len(state["stakes"]) in (0, count)
