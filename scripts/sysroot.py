"""An aarch64 Python with onnxruntime on an x86 workstation: made of Debian's arm64 packages and the wheels of a Raspberry Pi.

A folder, no root file system: neither the machine's packages nor its lists of packages change, and root is not needed.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tl_runtime.core.errors import EdgeTLError, UsageError
from edge_tl_runtime.core.files import make_folder, sha256
from edge_tl_runtime.core.text import one_line

QEMU = "qemu-aarch64-static"
PYTHON = "python3.11"
DEBIAN_PACKAGES = (
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", "libc6", "libgcc-s1", "libstdc++6", "zlib1g"),
    *("libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libncursesw6"),
    *("libtinfo6", "libreadline8", "libcrypt1"),
)
WHEEL_PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
DISTRIBUTION = "edge-tl"
SAME_AS_HERE = ("onnxruntime", "opencv-python")
"""They decode, resize and compute, so both sides take the same version."""
WITHOUT_WINDOWS = {"opencv-python": "opencv-python-headless"}
"""The same library without the display libraries, which the folder does not hold."""


class CannotBuild(EdgeTLError):
    """Give it the network, or the place, that the folder could not be made without."""


@dataclass(frozen=True)
class Core:
    """What /proc/cpuinfo says of a core. onnxruntime chooses its kernels by these lines and crashes on import without them;
    claiming dot products (asimddp) for a core that has none ends in an illegal instruction."""

    board: str
    part: str
    features: str

    def cpuinfo(self) -> str:
        """The text of /proc/cpuinfo, with four of them as these boards have."""
        lines = f"BogoMIPS\t: 108.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        lines += f"CPU variant\t: 0x0\nCPU part\t: {self.part}\nCPU revision\t: 3\n\n"
        return "".join(f"processor\t: {index}\n{lines}" for index in range(4))


CORES = {
    "cortex-a72": Core("Raspberry Pi 4", "0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": Core("Raspberry Pi 5", "0xd0b", "fp asimd evtstrm crc32 cpuid asimddp atomics fphp asimdhp"),
}
"""The name by which QEMU knows a core, then the core."""


def build_sysroot(folder: Path) -> Path:
    """The folder that holds every core's Python, made below `folder` unless it is there: about 100 MB from the network.

    `all/` is what the cores share; each has a folder of links to it, a /proc/cpuinfo of its own, and `python`, a program
    that runs Python on it. Raises UsageError for a program that is missing here, CannotBuild where the network fails.
    """
    qemu = program(QEMU, "qemu-user-static")
    made_of = repr(
        (DEBIAN_PACKAGES, requirements(), [(_launcher(core, qemu), CORES[core].cpuinfo()) for core in CORES])
    )
    root = folder / f"{PYTHON}-{sha256(made_of.encode())[:12]}"
    if root.exists():
        return root
    make_folder(folder)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        unfinished = Path(name) / "root"
        _unpack_packages(Path(name) / "apt", unfinished / "all")
        _unpack_wheels(unfinished / "all" / "wheels")
        for core in CORES:
            _describe_core(unfinished, core, qemu)
        try:
            unfinished.rename(root)
        except OSError:
            # Another run may have made it meanwhile, which is as good.
            if not root.exists():
                raise
    return root


def program(name: str, package: str) -> str:
    """The path of a program. Raises UsageError, which names Debian's package, where it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is not installed here; on Debian install it with: apt-get install {package}")
    return found


def _unpack_packages(work: Path, target: Path) -> None:
    """Through apt with lists of its own and another architecture: neither the machine's packages nor its lists change."""
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "Dir::State::lists": str(work / "lists"),
        "Dir::Cache": str(work / "cache"),
        # apt's own user cannot write below a temporary folder.
        "APT::Sandbox::User": "root",
    }
    settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    apt, dpkg = [program("apt-get", "apt"), "-qq", *settings], program("dpkg-deb", "dpkg")
    for part in ("lists/partial", "cache/archives/partial"):
        (work / part).mkdir(parents=True)
    # Not checked: a third party's source without arm64 fails the update though Debian's lists have come.
    subprocess.run([*apt, "update"], capture_output=True)
    _fetch([*apt, "download", *DEBIAN_PACKAGES], f"Debian's arm64 packages of {PYTHON}", work)
    target.mkdir(parents=True)
    for package in sorted(work.glob("*.deb")):
        _fetch([dpkg, "-x", str(package), str(target)], package.name, work)


def _unpack_wheels(target: Path) -> None:
    """What the base install of edge-tl needs, and what that needs."""
    platforms = [part for platform in WHEEL_PLATFORMS for part in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-compile"]
    version = PYTHON.removeprefix("python")
    pip += ["--implementation", "cp", "--python-version", version, *platforms, "--target", str(target)]
    _fetch([*pip, *requirements()], "wheels for aarch64", target.parent)


def requirements() -> list[str]:
    """What pip installs on the emulated board: the dependencies of the base install."""
    found = [line for line in importlib.metadata.requires(DISTRIBUTION) or () if "extra ==" not in line]
    wanted = []
    for line in found:
        name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        pinned = f"=={importlib.metadata.version(name)}" if name in SAME_AS_HERE else line[len(name) :]
        wanted.append(WITHOUT_WINDOWS.get(name, name) + pinned)
    return wanted


def _fetch(command: Sequence[str], what: str, folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = one_line(lines[-1].strip()) if lines else f"exit code {done.returncode}"
        raise CannotBuild(
            f"cannot get {what}: {reason}; it needs the network, apt's lists of Debian 12 and a pip that is set up"
        )


def _describe_core(root: Path, core: str, qemu: str) -> None:
    (root / core / "proc").mkdir(parents=True)
    (root / core / "proc" / "cpuinfo").write_text(CORES[core].cpuinfo())
    for shared in (root / "all").iterdir():
        (root / core / shared.name).symlink_to(Path("..") / "all" / shared.name)
    launcher = root / core / "python"
    launcher.write_text(_launcher(core, qemu))
    launcher.chmod(0o755)


def _launcher(core: str, qemu: str) -> str:
    """Named as the interpreter (-0), so that a program that starts Python again by its own name starts it there too."""
    return f"""#!/bin/sh
root=$(cd "$(dirname "$0")" && pwd)
export QEMU_CPU={core} PYTHONHOME="$root/usr" PYTHONNOUSERSITE=1
export PYTHONPATH="$root/wheels${{PYTHONPATH:+:$PYTHONPATH}}"
exec {shlex.quote(qemu)} -0 "$0" -L "$root" "$root/usr/bin/{PYTHON}" "$@"
"""
