"""The processor's temperature, and whether the board slows itself down."""

from __future__ import annotations

from pathlib import Path

_THERMAL = Path("/sys/class/thermal")
_THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")


def temperature_c(root: Path = _THERMAL) -> float | None:
    """The hottest sensor of the machine in degrees Celsius; None where there is none, as in most virtual machines."""
    found = []
    for path in root.glob("thermal_zone*/temp"):
        try:
            found.append(int(path.read_text()) / 1e3)
        except (OSError, ValueError):
            continue
    plausible = [degrees for degrees in found if -50 < degrees < 200]
    return round(max(plausible), 1) if plausible else None


def throttled(path: Path = _THROTTLED) -> bool | None:
    """Whether a Raspberry Pi slows down now, for heat or a weak supply; None on other machines."""
    try:
        return bool(int(path.read_text().strip(), 16) & 0xF)
    except (OSError, ValueError):
        return None
