"""What every sink is, and the thread and queue that keep a slow one from holding up the loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edge_tl_runtime.core.progress import Say, say_if_heard, silent
from edge_tl_runtime.core.text import error_line
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sources.base import NO_FRAME

if TYPE_CHECKING:
    from edge_tl_runtime.core.documents import PluginDocument
    from edge_tl_runtime.sinks.documents import SinkCounts

IDLE_S = 0.5
RETRY_S = 5.0
"""How long a sink that failed is left alone before it is tried again."""
MAX_WAITING_BYTES = 128 * 2**20
"""Pixels that may wait for one sink, whatever its depth; a single larger frame may still wait alone."""


class Sink:
    """Takes results one at a time, in order, and is closed at the end; all from one thread.

    name: for messages and the status. pixels: whether results are to come with their frame; those of others have NO_FRAME.
    depth: how many results may wait for it. lost: results that `write` took and that could not be written after all. notice: what
    is wrong, for the status. A write that fails raises OutputError for a place that may mend itself (a full disk) and SinkClosed
    when nobody will ever read again; any other exception counts as a failure too.
    """

    name = "sink"
    pixels = False
    depth = 256
    notice = ""
    plugin: PluginDocument | None = None
    """Name, package and version of a sink that another package adds."""

    @property
    def lost(self) -> int:
        return 0

    @property
    def viewers(self) -> int:
        """How many people look at its pictures now."""
        return 0

    def wants(self, result: Result) -> bool:
        """Whether this result is of use; asked in the loop's own thread, so it must not wait. May save the copy of a frame."""
        return True

    def wants_pixels(self, result: Result) -> bool:
        """Whether this one is to come with its frame; asked like `wants`."""
        return self.pixels

    def write(self, result: Result) -> None:
        raise NotImplementedError

    def idle(self) -> None:
        """Called when nothing has come for a while: time to flush."""

    def status(self, document: dict[str, Any]) -> None:
        """Told once a second how the run is, from another thread than `write`; see `StatusDocument`."""

    def close(self) -> None:
        """Write what is held back and let go."""


class SinkClosed(Exception):
    """The reader of a sink went away for good, as `head` does."""


class QueuedSink:
    """A sink behind a queue and a thread of its own.

    lossless: offer waits while the queue is full (photos and whole videos); else the oldest waiting result is dropped (a camera).
    """

    def __init__(self, sink: Sink, lossless: bool, say: Say = silent) -> None:
        self.sink, self.lossless = sink, lossless
        self.written = self.dropped = self.failed = 0
        self.closed = False
        """Whether the sink's reader went away."""
        self._say = say
        self._error = ""
        self._told_lost = 0
        self._status_failed = False
        self._retry_at = 0.0
        self._waiting: deque[Result] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name=f"sink {sink.name}", daemon=True)
        self._thread.start()

    def wants(self, result: Result) -> bool:
        return not self.closed and self.sink.wants(result)

    def offer(self, result: Result, stopping: Callable[[], bool] = lambda: False) -> None:
        """Hand a result over; its pixels must be a copy or NO_FRAME. stopping: ends a wait."""
        size = result.record.frame.nbytes
        with self._changed:
            while not self.closed and not self._ending:
                if self._has_room(size):
                    self._waiting.append(result)
                    self._bytes += size
                    self._changed.notify_all()
                    return
                if self.lossless and not stopping():
                    self._changed.wait(0.1)
                else:
                    self._take()
                    self.dropped += 1

    def counts(self) -> SinkCounts:
        lost = self.sink.lost
        found: SinkCounts = {"written": self.written - lost, "dropped": self.dropped, "failed": self.failed + lost}
        if self.sink.plugin is not None:
            found["plugin"] = self.sink.plugin
        problem = self._error or self.sink.notice
        return {**found, "error": problem} if problem else found

    def status(self, document: dict[str, Any]) -> None:
        """Pass on how the run is. The first failure is told and changes nothing else."""
        try:
            self.sink.status(document)
        except Exception as error:  # noqa: BLE001  # the caller's thread tells the service manager that all is well
            if not self._status_failed:
                say_if_heard(self._say, f"{self.sink.name}: cannot take the status: {error_line(error)}")
            self._status_failed = True

    def finish(self) -> None:
        """Take no more; let the sink write what waits and close. Does not wait for that: see `join`."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def join(self, deadline: float) -> bool:
        """Wait for the end until `deadline` (time.monotonic()); False when the sink is stuck and left behind."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _has_room(self, size: int) -> bool:
        waiting = len(self._waiting)
        return not waiting or (waiting < self.sink.depth and self._bytes + size <= MAX_WAITING_BYTES)

    def _take(self) -> Result:
        result = self._waiting.popleft()
        self._bytes -= result.record.frame.nbytes
        self._changed.notify_all()
        return result

    def _next(self) -> Result | None:
        """The oldest result; None when nothing has come for a while, or at the end."""
        with self._changed:
            if not self._waiting and not self._ending:
                self._changed.wait(IDLE_S)
            return self._take() if self._waiting else None

    def _work(self) -> None:
        try:
            while True:
                result = self._next()
                if result is not None:
                    self._write(result)
                elif self._ending:
                    return
                elif not self.closed:
                    self._attempt(self.sink.idle)
        finally:
            self._attempt(self.sink.close)
            self.closed = True

    def _write(self, result: Result) -> None:
        if self.closed:
            return
        if self._error and time.monotonic() < self._retry_at and not self._ending:
            self.failed += 1
            return
        if self._attempt(lambda: self.sink.write(result)):
            self.written += 1
            if self._error:
                lost = self.failed + self.sink.lost
                say_if_heard(
                    self._say, f"{self.sink.name}: works again; {lost - self._told_lost} results were not written"
                )
                self._told_lost, self._error = lost, ""
        elif not self.closed:
            self.failed += 1

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Whether it went well. The first failure of a row is told, the run goes on."""
        try:
            action()
        except SinkClosed:
            self.closed = True
            return False
        except Exception as error:  # noqa: BLE001  # a thread that ends by one would end the delivery without a word
            self._retry_at = time.monotonic() + RETRY_S
            text = error_line(error)
            if not self._error:
                say_if_heard(self._say, f"{self.sink.name}: {text}; the run goes on, and so do the tries")
            self._error = text
            return False
        return True


def kept(result: Result, pixels: bool) -> Result:
    """The result as it may be kept: with a copy of its frame, or without one."""
    return result.with_frame(result.record.frame.copy() if pixels else NO_FRAME)
