"""Under what conditions something was measured: heat, clock, throttling, and what other programs took meanwhile."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from edge_tl_runtime.bench.energy import SYS
from edge_tl_runtime.machine.cpu import OtherPrograms
from edge_tl_runtime.machine.temperature import temperature_c, throttled

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import ConditionsDocument, PartRunDocument

_THERMAL = "class/thermal"
_RASPBERRY = "devices/platform/soc/soc:firmware/get_throttled"
_CORES = "devices/system/cpu"


def conditions(root: Path | None = None) -> ConditionsDocument:
    """What the kernel tells now; None for what this machine does not tell. root: where /sys is.

    mhz: the fastest core's clock. governor: who sets it. throttled: of a Raspberry Pi, for heat or a weak supply.
    throttle_events: of x86 cores, since the machine started.
    """
    root = SYS if root is None else root
    clocks = _integers(root, "cpu[0-9]*/cpufreq/scaling_cur_freq")
    events = _integers(root, "cpu[0-9]*/thermal_throttle/core_throttle_count")
    governors = {_word(path) for path in (root / _CORES).glob("cpu[0-9]*/cpufreq/scaling_governor")} - {""}
    return {
        "temperature_c": temperature_c(root / _THERMAL),
        "mhz": round(max(clocks) / 1e3) if clocks else None,
        "governor": ", ".join(sorted(governors)) or None,
        "throttled": throttled(root / _RASPBERRY),
        "throttle_events": sum(events) if events else None,
    }


class Watch:
    """Conditions from when it is made until they are asked for."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._started, self._at = utc_now(), monotonic()
        self._before, self._others, self._children = conditions(root), OtherPrograms(), _children_seconds()

    def to_dict(self) -> PartRunDocument:
        """others: part of the time of all cores, in [0, 1], that other programs took."""
        seconds = monotonic() - self._at
        # Processes that a part started and waited for are no other programs.
        own = (_children_seconds() - self._children) / (seconds * (os.cpu_count() or 1))
        return {
            "started": self._started,
            "seconds": round(seconds, 2),
            "others": round(max(0.0, self._others.share() - own), 3),
            "before": self._before,
            "after": conditions(self._root),
        }


def utc_now() -> str:
    """ "2025-01-31T12:00:00Z"."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _children_seconds() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _integers(root: Path, pattern: str) -> list[int]:
    words = (_word(path) for path in (root / _CORES).glob(pattern))
    return [int(word) for word in words if word.isdigit()]


def _word(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
