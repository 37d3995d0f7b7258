"""A whole run: a stream, its sinks, its window, and a report of its health once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from edge_tl_runtime.pipeline.hot_reload import ModelReloader
from edge_tl_runtime.pipeline.stream import Result, Stream
from edge_tl_runtime.run.drift_feed import DriftFeed
from edge_tl_runtime.run.status import Health, StatusFile, Systemd
from edge_tl_runtime.sinks.base import QueuedSink, kept
from edge_tl_runtime.sinks.window import Window

PULSE_S = 1.0
CLOSE_S = 1.0
"""How long all sinks together may take to write what waits for them at the end."""
HUNG_S = 10.0
"""Silence of the loop itself after which the run is no longer reported to systemd as alive."""


class Runner:
    """Takes a stream to its end, or until it is stopped, and closes everything in good order.

    >>> with open_source("bee.jpg") as source:  # or "0", a camera
    ...     Runner(Stream(source, classifier), [QueuedSink(Log(FileTarget(Path("log.jsonl"))), lossless=False)]).run()
    """

    def __init__(
        self,
        stream: Stream,
        sinks: Sequence[QueuedSink],
        *,
        window: Window | None = None,
        status: StatusFile | None = None,
        watch: ModelReloader | None = None,
        drift: DriftFeed | None = None,
        max_frames: int | None = None,
    ) -> None:
        self.stream, self.sinks, self.window = stream, list(sinks), window
        self.health = Health(stream)
        self._status, self._watch, self._max_frames = status, watch, max_frames
        self._drift = drift
        self._systemd = Systemd()
        self._over = threading.Event()
        self._left = False
        """Whether a person ended the run at the window."""
        self.stuck: list[str] = []
        """Names of sinks that did not finish in time at the end."""

    def run(self) -> None:
        """Raises what the source or the classifier raises; sinks and window are closed all the same."""
        pulse = threading.Thread(target=self._pulse, name="pulse", daemon=True)
        pulse.start()
        source = self.stream.source
        if self.window is not None:
            source.on_idle = self._idle
        try:
            for result in self.stream:
                source.beat = time.monotonic()
                self.health.saw(result)
                if self._drift is not None:
                    self._drift.saw(result, self.stream.classifier)
                if (
                    not self._deliver(result)
                    or source.stopping
                    or (result.last and self.health.frames == self._max_frames)
                ):
                    break
        finally:
            hurried = source.stopping or self._left
            source.stop()
            source.ended = True
            self._close(hurried)
            self._over.set()
            self._systemd.stopping()
            pulse.join(1.0)
            if not pulse.is_alive():  # two writers of the status would be in each other's way
                self._report(force=True)

    def lost(self) -> dict[str, str]:
        """For each sink that missed results: how many and why, in words. A reader that went away missed nothing."""
        found = {}
        for queued in self.sinks:
            counts = queued.counts()
            if counts["failed"] or counts["dropped"]:
                why = f" ({counts['error']})" if "error" in counts else ""
                found[queued.sink.name] = f"{counts['dropped']} results dropped, {counts['failed']} not written{why}"
        return found

    def drift_lines(self) -> list[str]:
        """What is to be said of drift at the end: the changes that stand, how much is unlike the training photos, what failed."""
        document = self._drift.document() if self._drift is not None else None
        return (
            [] if document is None else list(filter(None, (document["notice"], document["level"], document["failed"])))
        )

    def _deliver(self, result: Result) -> bool:
        """False when nobody is left who looks."""
        for queued in self.sinks:
            if queued.wants(result):
                queued.offer(kept(result, queued.sink.wants_pixels(result)), self._stopping)
        if self.window is not None and result.last:
            if not self.window.wants():
                return True
            # The window draws on the frame: another copy than what sinks got.
            self._left = not self.window.show(kept(result, True))
            return not self._left
        return self.window is not None or not self.sinks or not all(queued.closed for queued in self.sinks)

    def _stopping(self) -> bool:
        return self.stream.source.stopping

    def _idle(self) -> None:
        if self.window is not None and not self.window.pulse():
            self._left = True
            self.stream.source.stop()

    def _close(self, hurried: bool) -> None:
        """hurried: a person waits for the end. Else what photos and whole videos gave is written, however long that takes."""
        if self._watch is not None:
            self._watch.close()
        if self._drift is not None:
            self._drift.close()
        for queued in self.sinks:
            queued.finish()
        whole = [] if hurried else [queued for queued in self.sinks if queued.lossless]
        while not self.stream.source.stopping_asked and not all(o.join(time.monotonic() + 0.1) for o in whole):
            continue
        deadline = time.monotonic() + CLOSE_S
        self.stuck = [queued.sink.name for queued in self.sinks if not queued.join(deadline)]
        if self.window is not None:
            self.window.close()

    def _pulse(self) -> None:
        told = ""
        while not self._over.wait(PULSE_S):
            try:
                self._report()
            except Exception as error:  # noqa: BLE001  # shown as a bug, once; without a pulse the manager would end the run
                if told != repr(error):
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
                told = repr(error)

    def _report(self, force: bool = False) -> None:
        health = self.health
        health.counts = {queued.sink.name: queued.counts() for queued in self.sinks}
        if self._watch is not None:
            health.reloads, health.model_notice = self._watch.reloads, self._watch.notice
        if self._drift is not None:
            health.drift = self._drift.document()
        document = health.document()
        now = time.monotonic()
        if self._status is not None:
            self._status.write(document, now, force)
        for queued in self.sinks:
            queued.status(dict(document))
        text = f"{document['state']}, {document['fps']:g} fps, {document['label'] or 'no label yet'}"
        self._systemd.notify(text, alive=now - self.stream.source.beat < HUNG_S)
