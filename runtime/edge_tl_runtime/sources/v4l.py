"""The cameras of this machine and the names that find them again."""

from __future__ import annotations

import glob
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_tl_runtime.sources.documents import CameraDocument, PiCameraDocument

from edge_tl_runtime.core.files import text_or_empty

DEVICES = Path("/dev")
DRIVERS = Path("/sys/class/video4linux")
PI_PROGRAMS = ("rpicam-vid", "libcamera-vid")
"""What gives frames of a Raspberry Pi's camera module: its name today, and on systems before 2023."""
_LIST_S = 10.0
_PI_CAMERA = re.compile(r"^\s*(\d+) : (\S+)(?: \[(\d+x\d+))?", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraInfo:
    """path: /dev/video0; name: what its driver calls it, or ""; stable: the name under /dev/v4l/by-id that survives a replug,
    or ""; readable: for this user."""

    path: str
    name: str
    stable: str
    readable: bool

    def to_dict(self) -> CameraDocument:
        return {"path": self.path, "name": self.name, "by_id": self.stable, "readable": self.readable}


@dataclass(frozen=True, slots=True, kw_only=True)
class PiCameraInfo:
    """A camera module of a Raspberry Pi. source: what `run --source` calls it; model: of its sensor; size: 4608x2592, or ""."""

    source: str
    model: str
    size: str

    def __str__(self) -> str:
        return f"{self.source} ({' '.join(text for text in (self.model, self.size) if text)})"

    def to_dict(self) -> PiCameraDocument:
        return {"source": self.source, "model": self.model, "size": self.size}


def is_raspberry_pi(model: Path = Path("/proc/device-tree/model")) -> bool:
    """Whether the board says that it is one."""
    return "Raspberry Pi" in text_or_empty(model)


def pi_program() -> str:
    """The path of the program that reads a camera module, or ""."""
    return next((path for name in PI_PROGRAMS if (path := shutil.which(name))), "")


def pi_cameras() -> tuple[PiCameraInfo, ...]:
    """The camera modules that the program lists; none where there is no such program, or it fails or hangs."""
    program = pi_program()
    if not program:
        return ()
    import subprocess  # commands that only read photos do without

    try:
        listed = subprocess.run(
            [program, "--list-cameras"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIST_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    # On standard output in releases of today, on standard error in earlier ones.
    text = (listed.stdout + b"\n" + listed.stderr).decode("utf-8", "replace")
    return tuple(
        PiCameraInfo(source=f"rpicam:{found[1]}", model=found[2], size=found[3] or "")
        for found in _PI_CAMERA.finditer(text)
    )


def cameras(devices: Path = DEVICES, drivers: Path = DRIVERS) -> tuple[CameraInfo, ...]:
    """The video devices of Linux. One camera often has two: the second carries its metadata and gives no frames.

    Small boards list codecs and image processors here as well; their names tell.
    """
    stable = {os.path.realpath(link): link.name for link in sorted((devices / "v4l" / "by-id").glob("*"), reverse=True)}
    nodes = (path for path in devices.glob("video*") if path.name.removeprefix("video").isdigit())
    return tuple(
        CameraInfo(
            path=str(path),
            name=text_or_empty(drivers / path.name / "name").strip(),
            stable=stable.get(os.path.realpath(path), ""),
            readable=os.access(path, os.R_OK | os.W_OK),
        )
        for path in sorted(nodes, key=lambda path: int(path.name.removeprefix("video")))
    )


def camera_path(name: str, devices: Path = DEVICES) -> str:
    """The path of a camera: "0" is /dev/video0 where the system has such files, else the index itself; a name under
    /dev/v4l/by-id or by-path becomes its full path."""
    if name.isascii() and name.isdecimal():
        node = devices / f"video{name}"
        return str(node) if node.exists() or devices.joinpath("v4l").exists() else name
    for folder in ("by-id", "by-path"):
        link = devices / "v4l" / folder / name
        if "/" not in name and link.exists():
            return str(link)
    return name


def stable_path(path: str, devices: Path = DEVICES) -> str:
    """The link under /dev/v4l that will still name the device at `path` after it was unplugged and got another number, or ""."""
    for folder in ("by-id", "by-path"):
        for link in sorted((devices / "v4l" / folder).glob("*")):
            if os.path.realpath(link) == os.path.realpath(path):
                return str(link)
    return ""


def found_cameras() -> str:
    """What cameras there are, for a message."""
    found = sorted(glob.glob("/dev/video*"))
    text = f"cameras here: {', '.join(found)}" if found else "there is no camera here (no /dev/video*)"
    # The video devices of a Pi are its codecs; they hide that its camera is read another way.
    return f"{text}; the camera module of a Pi is rpicam:0" if pi_program() else text
