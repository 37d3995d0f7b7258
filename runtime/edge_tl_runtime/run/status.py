"""The health of a run in one document: counters, percentiles, memory, temperature. It goes to a file, to sinks and to systemd."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import read_regular, replace_text
from edge_tl_runtime.core.strict_json import strict_json
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.machine.temperature import temperature_c, throttled
from edge_tl_runtime.pipeline.stream import Result, Stream
from edge_tl_runtime.run.scene_watch import SceneWatch
from edge_tl_runtime.scene.learned_view import LearnedView

if TYPE_CHECKING:
    from edge_tl_runtime.run.documents import RegionDocument, StatusDocument
    from edge_tl_runtime.scene.documents import CameraDriftDocument, ViewDocument
    from edge_tl_runtime.sinks.documents import SinkCounts

MAX_STATUS_BYTES = 2**20
WINDOW = 1000
"""Frames that percentiles are taken over."""
_STATM = Path("/proc/self/statm")


class Health:
    """Collects what happened. `saw` is called by the loop for each result, `document` by anybody."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.frames = 0
        self.reloads, self.model_notice = 0, ""
        self.drift: CameraDriftDocument | None = None
        """Kept up to date by the runner, as the counts."""
        self.counts: dict[str, SinkCounts] = {}
        """Per sink; kept up to date by the runner."""
        self.regions: dict[str, RegionDocument] = {}
        """What is shown of each, where there are several."""
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._ages: deque[float] = deque(maxlen=WINDOW)
        self._last: Result | None = None
        self._last_at = 0.0
        self._started = time.monotonic()
        self._cpu = (self._started, time.process_time())
        self._cpu_percent = 0.0

    def saw(self, result: Result) -> None:
        """Of several regions of a frame, the last one counts the frame."""
        if result.region:
            self.regions[result.region] = {"label": result.label, "confidence": round(result.confidence, 6)}
        if not result.last:
            return
        self.frames += 1
        self._latencies.append(result.prediction.latency_ms)
        self._ages.append(result.age_ms)
        self._last, self._last_at = result, time.monotonic()

    def latency_ms(self) -> dict[str, float]:
        return percentiles(self._latencies, (50, 95, 99))

    def document(self) -> StatusDocument:
        """JSON values only. frame_age_s: since the last result was there, null before the first. age_ms: of frames when their
        result came. latency_ms: crop, resize and inference. rss_mb, cpu_percent: of this process, without the capture process."""
        source, last = self.stream.source, self._last
        now = time.monotonic()
        spec = self.stream.classifier.spec
        watch = self.stream.gate if isinstance(self.stream.gate, SceneWatch) else None
        recent = last is not None and now - self._last_at < 2.5
        return {
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "state": source.state.value,
            "notice": source.notice,
            "model": self.stream.classifier.path.name,
            "arch": spec.arch,
            "precision": spec.precision,
            "source": source.name,
            "source_plugin": source.plugin,
            "uptime_s": round(now - self._started, 1),
            "frames": self.frames,
            "fps": round(last.fps, 2) if last is not None and recent else 0.0,
            "latency_ms": self.latency_ms(),
            "age_ms": percentiles(self._ages, (50, 95)),
            "frame_age_s": None if last is None else round(now - self._last_at, 2),
            "dropped": source.counts.dropped,
            "rejected": source.counts.rejected + self.stream.bad,
            "repeated": source.counts.repeated,
            "torn": self.stream.torn,
            "reconnects": source.counts.reconnects,
            "skipped": source.skipped_count,
            "label": None if last is None else last.label,
            "confidence": None if last is None else round(last.confidence, 6),
            "regions": dict(self.regions),
            "sinks": dict(self.counts),
            "rss_mb": rss_mb(),
            "cpu_percent": self._cpu_share(now),
            "temperature_c": temperature_c(),
            "throttled": throttled(),
            "model_reloads": self.reloads,
            "model_notice": self.model_notice,
            "motion": watch.motion_document(source.counts) if watch else None,
            "camera": watch.camera_document() if watch else None,
            "drift": self.drift,
        }

    def _cpu_share(self, now: float) -> float:
        """Percent of one core since the last look that is at least half a second old."""
        spent = time.process_time()
        if now - self._cpu[0] >= 0.5:
            self._cpu_percent = round(100 * (spent - self._cpu[1]) / (now - self._cpu[0]), 1)
            self._cpu = now, spent
        return self._cpu_percent


def percentiles(values: deque[float], wanted: tuple[int, ...]) -> dict[str, float]:
    """{"p50": ...} of the values, {} of none."""
    # The loop may append while this thread copies; a deque raises then, and the next second does as well.
    try:
        numbers = list(values)
    except RuntimeError:
        return {}
    if not numbers:
        return {}
    return {f"p{p}": round(float(x), 3) for p, x in zip(wanted, np.percentile(numbers, wanted), strict=True)}


def rss_mb() -> float:
    """Resident memory of this process in MB; 0 outside Linux."""
    try:
        return round(int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    except (OSError, ValueError, IndexError):
        return 0.0


class StatusFile:
    """The document in a file, replaced in one step every `every_s` seconds. Its age is the heartbeat."""

    def __init__(
        self, path: Path, every_s: float = 5.0, view: Callable[[], ViewDocument | None] = lambda: None
    ) -> None:
        """view: what the camera saw when all was well, kept in the file for the next start. Raises OutputError when the file
        cannot be written."""
        self.path, self._every, self._view = path, every_s, view
        self._due = 0.0
        self.failed = 0
        replace_text(path, self._text({}))

    def write(self, document: Mapping[str, Any], now: float, force: bool = False) -> None:
        """A full disk is counted and forgiven: the next one may go well."""
        if now < self._due and not force:
            return
        self._due = now + self._every
        try:
            replace_text(self.path, self._text(document))
        except OutputError:
            self.failed += 1

    def _text(self, document: Mapping[str, Any]) -> str:
        view = self._view()
        return json.dumps({**document, "view": view} if view else document, ensure_ascii=False) + "\n"


def stored_view(path: Path) -> LearnedView | None:
    """The view that an earlier run learned and left in its status file; None where there is none that can be read."""
    try:
        document = strict_json(read_regular(path, MAX_STATUS_BYTES).decode("utf-8"))
    except (OSError, ValueError):
        return None
    return LearnedView.from_dict(document.get("view")) if isinstance(document, dict) else None


class Systemd:
    """The service manager's protocol (sd_notify(3)): ready, status line, watchdog. Does nothing where there is no manager."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._ready = self._stopping = False
        microseconds = os.environ.get("WATCHDOG_USEC", "0")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() and mine else 0.0
        """The manager restarts a service that is silent for longer; 0 when it does not watch."""

    def notify(self, status: str, alive: bool) -> None:
        """status: a line for `systemctl status`. alive: whether the loop is at work; if not, the manager restarts the service."""
        if self._stopping:
            return
        lines = [f"STATUS={one_line(status)}"]
        if not self._ready:
            lines.append("READY=1")
        if alive and self.watchdog_s:
            lines.append("WATCHDOG=1")
        self._ready = self._send("\n".join(lines)) or self._ready

    def stopping(self) -> None:
        self._stopping = True
        self._send("STOPPING=1")

    def _send(self, text: str) -> bool:
        """Whether it arrived."""
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode("utf-8", "backslashreplace"), address)
        except OSError:
            return False  # the manager is gone or busy; the next second tells it again
        return True
