"""Bounds in seconds that hold on a busy machine too: time in which somebody waited for a core is not the program's fault."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

PRESSURE = Path("/proc/pressure/cpu")
HANGING = 60.0
"""Seconds after which what should have ended long ago hangs, whatever else the machine does."""


class Stopwatch:
    """Runs from when it is made. Without pressure figures (not Linux, or an old kernel) the load tells how much to forgive."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._waited = _waited()

    def passed(self) -> float:
        """Seconds by the clock."""
        return time.monotonic() - self._started

    def waited(self) -> float:
        """Seconds in which at least one process of the machine was ready to compute and had no core."""
        before, now = self._waited, _waited()
        if before is not None and now is not None:
            return min(now - before, self.passed())
        busy = os.getloadavg()[0] / (os.cpu_count() or 1)
        return self.passed() * max(0.0, 1 - 1 / max(busy, 1.0))

    def quiet(self) -> float:
        """Seconds that passed while every process had a core if it wanted one: what an upper bound is for."""
        assert self.passed() < HANGING, "it hangs"
        return self.passed() - self.waited()


def _waited() -> float | None:
    """Seconds since the machine started; None where the system does not count them."""
    try:
        found = re.search(r"^some .*total=(\d+)", PRESSURE.read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) / 1e6 if found else None
