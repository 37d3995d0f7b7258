"""The health of a run in one document: counters, percentiles, memory, temperature. It goes to a file, to sinks and to systemd."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import replace_text
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.machine.temperature import temperature_c, throttled
from edge_tl_runtime.pipeline.stream import Result, Stream

if TYPE_CHECKING:
    from edge_tl_runtime.run.documents import StatusDocument
    from edge_tl_runtime.scene.documents import CameraDriftDocument
    from edge_tl_runtime.sinks.documents import SinkCounts

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
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._ages: deque[float] = deque(maxlen=WINDOW)
        self._last: Result | None = None
        self._last_at = 0.0
        self._started = time.monotonic()
        self._cpu = (self._started, time.process_time())
        self._cpu_percent = 0.0

    def saw(self, result: Result) -> None:
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
            "sinks": dict(self.counts),
            "rss_mb": rss_mb(),
            "cpu_percent": self._cpu_share(now),
            "temperature_c": temperature_c(),
            "throttled": throttled(),
            "model_reloads": self.reloads,
            "model_notice": self.model_notice,
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

    def __init__(self, path: Path, every_s: float = 5.0) -> None:
        """Raises OutputError when the file cannot be written."""
        self.path, self._every = path, every_s
        self._due = 0.0
        self.failed = 0
        replace_text(path, "{}\n")

    def write(self, document: Mapping[str, Any], now: float, force: bool = False) -> None:
        """A full disk is counted and forgiven: the next one may go well."""
        if now < self._due and not force:
            return
        self._due = now + self._every
        try:
            replace_text(self.path, json.dumps(document, ensure_ascii=False) + "\n")
        except OutputError:
            self.failed += 1


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
