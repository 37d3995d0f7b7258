"""What this machine is: its processor, and which kind of INT8 file its arithmetic suits.

An INT8 file is made for a target. Integer kernels differ between CPUs in what they sum without saturating and in which
layouts are fast, so a file can lose accuracy or speed on a machine that it was not made for. `TARGETS` names the kinds,
`this_target` says which one this machine is, and `target_warning` what to expect of a file here.
"""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path

from edge_tl_runtime.core.files import text_or_empty
from edge_tl_runtime.modelfile.spec import ModelSpec

TARGETS = {
    "x86-vnni": "x86 with AVX512-VNNI or AVX-VNNI: 8-bit dot products with 32-bit sums",
    "x86-avx2": "x86 without VNNI: pairs of uint8 x int8 are summed in saturating 16 bits, so weights take 7 bits",
    "arm-dotprod": "ARMv8.2 and later with sdot/udot, such as Raspberry Pi 5 (Cortex-A76)",
    "arm": "64-bit ARM without dot products, such as Raspberry Pi 4 (Cortex-A72)",
    "generic": "any other processor",
}
"""Name of a target, then what it is."""

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_STAT = Path("/proc/stat")
_STAT_LINE = re.compile(r"cpu((?:\s+\d+){8})")
_BOARD = Path("/proc/device-tree/model")

_X86 = {"x86_64", "amd64", "i386", "i686"}
_ARM = {"aarch64", "arm64"}
_VNNI = {"avx512_vnni", "avx_vnni"}
_DOT_PRODUCT = "asimddp"

_FEATURES = {
    "sse4_1": "SSE4.1",
    "avx2": "AVX2",
    "avx512bw": "AVX512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "asimdhp": "FP16",
    "asimddp": "DotProd",
    "i8mm": "I8MM",
    "sve": "SVE",
}
"""Flags of the kernel that decide how fast a network runs, and the name that processor manuals give them."""

_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
}
"""(implementer, part) of the kernel's text, which on ARM does not name the core."""

_SATURATES = "without VNNI its 8-bit sums can saturate, which costs accuracy"
_UNTIMED = "its arithmetic is right here, but its speed was never measured"
_SLOW = "its arithmetic is right here, but without dot products it may be slower than FP32"
_UNKNOWN = "neither its accuracy nor its speed was measured here"

# Target that a file was made for, then this machine: what can differ. Pairs that are not here fit. A file made for x86-avx2
# has 7-bit weights, whose sums saturate nowhere: it is right everywhere.
_DIFFERENCES = {
    "x86-vnni": {"x86-avx2": _SATURATES, "arm-dotprod": _UNTIMED, "arm": _SLOW, "generic": _UNKNOWN},
    "arm-dotprod": {"x86-vnni": _UNTIMED, "x86-avx2": _SATURATES, "arm": _SLOW, "generic": _UNKNOWN},
    "arm": {"x86-vnni": _UNTIMED, "x86-avx2": _SATURATES, "generic": _UNKNOWN},
    "generic": {"x86-avx2": _SATURATES},
}


def this_target() -> str:
    """The name in TARGETS of this machine."""
    return target_of(platform.machine(), text_or_empty(_CPUINFO))


def target_of(machine: str, cpuinfo: str) -> str:
    """The name in TARGETS of a machine. machine: as `uname -m` says; cpuinfo: text of /proc/cpuinfo, or "" where there is none.

    Without that text an x86 counts as one without VNNI, whose files are right on every x86; `arm64`, the name that macOS
    and Windows use, counts as one with dot products, which every Apple processor of that name has.
    """
    machine, flags = machine.lower(), _flags(cpuinfo)
    if machine in _X86:
        if flags & _VNNI:
            return "x86-vnni"
        return "x86-avx2" if "avx2" in flags or not flags else "generic"
    if machine in _ARM:
        return "arm-dotprod" if _DOT_PRODUCT in flags or (machine == "arm64" and not flags) else "arm"
    return "generic"


def target_warning(spec: ModelSpec, target: str = "") -> str:
    """One line on what can differ when a file runs on a machine it was not made for; "" where it fits.

    target: a name in TARGETS; "" takes this machine's. Float files, and INT8 files that do not say what they were made for,
    give no warning.
    """
    made_for = made_for_target(spec)
    if not made_for:
        return ""
    here = target or this_target()
    # A name that this release does not know is a target of a later one.
    difference = _DIFFERENCES.get(made_for, {}).get(here, "") if made_for in TARGETS else _UNKNOWN
    if not difference:
        return ""
    return (
        f"this INT8 file was made for {made_for} and this machine is {here}: {difference}; "
        f"make one for it with: edge-tl export RUN --quantize --target {here}"
    )


def made_for_target(spec: ModelSpec) -> str:
    """The target an INT8 file says it was made for; "" when it says none, or when the file is no INT8 file."""
    return str(spec.export.get("target", "")) if spec.precision == "int8" else ""


def cpu_name() -> str:
    """The processor, and the board where one is named: "Cortex-A76, Raspberry Pi 5 Model B Rev 1.0"."""
    board = text_or_empty(_BOARD).strip("\x00 \n")
    return (
        cpu_name_of(text_or_empty(_CPUINFO), board) or platform.processor() or platform.machine() or "unknown processor"
    )


def cpu_name_of(cpuinfo: str, board: str = "") -> str:
    """The processor that the text of /proc/cpuinfo describes, then the board; "" when neither is known."""
    board = board or _field(cpuinfo, "Model")
    part = (_field(cpuinfo, "CPU implementer").lower(), _field(cpuinfo, "CPU part").lower())
    # Heterogeneous chips list their small cores first; the last one is the core that a busy thread is moved to.
    name = _field(cpuinfo, "model name") or _CORES.get(part, "") or (f"ARM part {part[0]}/{part[1]}" if part[1] else "")
    return ", ".join(text for text in (" ".join(name.split()), board) if text)


def cpu_features(cpuinfo: str | None = None) -> tuple[str, ...]:
    """Names of the instruction sets that matter to a network. cpuinfo: text of /proc/cpuinfo; None reads this machine's."""
    flags = _flags(text_or_empty(_CPUINFO) if cpuinfo is None else cpuinfo)
    return tuple(name for flag, name in _FEATURES.items() if flag in flags)


def memory() -> tuple[int, int]:
    """Bytes of memory this machine has, and those that are free or can be freed at once; zeros where that is not told."""
    text = text_or_empty(_MEMINFO)
    total, available = (re.match(r"\d+", _field(text, name)) for name in ("MemTotal", "MemAvailable"))
    return (1024 * int(total[0]), 1024 * int(available[0])) if total and available else (0, 0)


class OtherPrograms:
    """Watches how much of this machine's processor time goes to other programs, from when it is made."""

    def __init__(self) -> None:
        self._started, self._busy, self._own = time.monotonic(), _busy_seconds(), time.process_time()

    def share(self) -> float:
        """Part of the time of all cores, in [0, 1]; 0 where the kernel does not tell."""
        taken = (_busy_seconds() - self._busy) - (time.process_time() - self._own)
        available = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, taken / available)) if available else 0.0


def _busy_seconds() -> float:
    """Processor time that all programs together have taken since the machine started; 0 outside Linux."""
    found = _STAT_LINE.match(text_or_empty(_STAT))
    if found is None:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(ticks) for ticks in found[1].split())
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _flags(cpuinfo: str) -> set[str]:
    return set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).lower().split())


def _field(cpuinfo: str, name: str) -> str:
    """The last value of a `name : value` line, or ""."""
    found = re.findall(rf"^{re.escape(name)}[ \t]*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
    return str(found[-1]).strip() if found else ""
