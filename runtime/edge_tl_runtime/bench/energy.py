"""Energy that the machine's own sensors measure, while something runs.

RAPL counters of x86 processors count the joules of a package; INA chips, which some boards have, tell the power of a rail,
which is summed up over time. What a figure is of stands beside it: a package is not the whole board.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import EnergyDocument

SYS = Path("/sys")
_EVERY_S = 0.2
"""Between looks: a look costs some 50 us, and counters overflow within minutes at the least."""


class Sensor(Protocol):
    name: str
    joules: float

    def look(self) -> None:
        """Add what was spent since the last look to `joules`. Raises OSError or ValueError where that cannot be read."""


class Rapl:
    """A counter in /sys/class/powercap, in microjoules, that starts again at its range."""

    def __init__(self, folder: Path) -> None:
        self.name = f"RAPL {_text(folder / 'name')}"
        self.joules = 0.0
        self._counter, self._range = folder / "energy_uj", int(_text(folder / "max_energy_range_uj"))
        self._last = int(_text(self._counter))

    def look(self) -> None:
        now = int(_text(self._counter))
        self.joules += ((now - self._last) % (self._range + 1)) / 1e6
        self._last = now


class Ina:
    """A power meter in /sys/class/hwmon: power in microwatts, or millivolts and milliamperes; by the trapezoidal rule."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{_text(folder / 'name').upper()} {folder.name}"
        self.joules = 0.0
        self._folder = folder
        self._at, self._watts = time.monotonic(), self._power()

    def look(self) -> None:
        at, watts = time.monotonic(), self._power()
        self.joules += (at - self._at) * (watts + self._watts) / 2
        self._at, self._watts = at, watts

    def _power(self) -> float:
        power = self._folder / "power1_input"
        if power.exists():
            return int(_text(power)) / 1e6
        return int(_text(self._folder / "in1_input")) * int(_text(self._folder / "curr1_input")) / 1e6


def sensors(root: Path | None = None) -> tuple[list[Sensor], str]:
    """What can be read below /sys, or why nothing can.

    Of RAPL the packages alone: their cores are counted in them, and they in the platform (psys) where that is told.
    """
    root = SYS if root is None else root
    found: list[Sensor] = []
    why = "this machine has no sensor of energy that the kernel shows"
    packages = [path for path in sorted(root.glob("class/powercap/intel-rapl:*")) if _is(path, "package")]
    meters = [path for path in sorted(root.glob("class/hwmon/hwmon*")) if _is(path, "ina")]
    for make, folders in ((Rapl, packages), (Ina, meters)):
        for folder in folders:
            try:
                found.append(make(folder))
            except PermissionError as error:
                why = f"{error.filename} may be read by the administrator alone"
            except (OSError, ValueError) as error:
                why = f"{folder} cannot be read: {error}"
    return found, "" if found else why


class EnergyMeter:
    """Measures from entering to leaving.

    >>> with EnergyMeter() as meter:
    ...     work()
    >>> joules = meter.to_dict(queries)["joules_per_query"]
    """

    def __init__(self, root: Path | None = None) -> None:
        self._sensors, self._why = sensors(root)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="energy", daemon=True)

    def __enter__(self) -> EnergyMeter:
        if self._sensors:
            self._look()
            for sensor in self._sensors:
                sensor.joules = 0.0
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sensors:
            self._over.set()
            self._thread.join()
            self._look()

    def to_dict(self, queries: int) -> EnergyDocument:
        """Joules by sensor, in all and for each query; None with `why` where nothing could be read."""
        if not self._sensors or self._why:
            return {"joules": None, "joules_per_query": None, "sensors": {}, "why": self._why}
        by = {sensor.name: round(sensor.joules, 4) for sensor in self._sensors}
        joules = sum(sensor.joules for sensor in self._sensors)
        return {
            "joules": round(joules, 4),
            "joules_per_query": round(joules / queries, 6),
            "sensors": by,
            "why": "",
        }

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        try:
            for sensor in self._sensors:
                sensor.look()
        except (OSError, ValueError) as error:
            self._why = f"a sensor of energy failed meanwhile: {error}"


def _is(folder: Path, kind: str) -> bool:
    try:
        return _text(folder / "name").startswith(kind)
    except OSError:
        return False


def _text(path: Path) -> str:
    return path.read_text("ascii", "replace").strip()
