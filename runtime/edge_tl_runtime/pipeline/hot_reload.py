"""Reload the model while a run goes on: its file is watched, and a new one is used once it has passed its self-test."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from edge_tl_runtime.core.progress import Say, say_if_heard, silent
from edge_tl_runtime.core.text import error_line
from edge_tl_runtime.inference.classifier import Classifier

Stamp = tuple[int, int, int]


class ModelReloader:
    """Looks every `every_s` seconds whether the file is another, by its inode, size and time; reads it once it stopped changing.

    The old model serves until the new one is open, and goes on when that is damaged, foreign or fails its self-test; it is not
    tried again until it changes. A file replaced in one step (mv, or `edge-tl export`) is never seen half-written.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[Path], Classifier],
        say: Say = silent,
        every_s: float = 1.0,
        seen: Stamp | None = None,
    ) -> None:
        """load: opens a model file as the run did the first; raises EdgeTLError. seen: `stamp` of the file from before that was
        opened; None: as it is now."""
        self.path, self._load, self._say, self._every = path, load, say, every_s
        self._changing = stamp(path)
        self._seen = self._changing if seen is None else seen
        self._fresh: deque[Classifier] = deque(maxlen=1)
        self._stopped = threading.Event()
        self.reloads = 0
        self.notice = ""
        """Why the newest file was not taken, or ""."""
        self._thread = threading.Thread(target=self._watch, name="model watch", daemon=True)
        self._thread.start()

    def fresh(self) -> Classifier | None:
        """A model to go on with, once; None in between. Called by the loop before each frame."""
        if not self._fresh:
            return None
        self.reloads += 1
        return self._fresh.pop()

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=0.2)  # it may be reading a large model

    def _watch(self) -> None:
        while not self._stopped.wait(self._every):
            self._look()

    def _look(self) -> None:
        found = stamp(self.path)
        settled = found == self._changing
        self._changing = found
        if found is None or found == self._seen or not settled:
            return
        self._seen = found
        try:
            classifier = self._load(self.path)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a file, the next one may be right
            self.notice = error_line(error)
            say_if_heard(self._say, f"the new model is not taken, the old one goes on: {self.notice}")
            return
        self.notice = ""
        self._fresh.append(classifier)
        say_if_heard(
            self._say, f"{self.path.name} was replaced: {classifier.spec.arch}, {len(classifier.spec.labels)} labels"
        )


def stamp(path: Path) -> Stamp | None:
    """What tells one file at `path` from the next: inode, size, time; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
