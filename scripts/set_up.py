"""Installs this project with one of its extras into the environment of the Python that runs this file.

    .venv/bin/python scripts/set_up.py train
    .venv/bin/python scripts/set_up.py dev --torch-index URL

On Linux the usual PyTorch brings CUDA, gigabytes that a machine without an NVIDIA GPU never uses. pip is asked first which
PyTorch it would take. Without a GPU one line then names the way out, before anything is downloaded; with --torch-index, an index
of CPU wheels that has none for this Python is refused. Only the standard library and pip are used: nothing else is there yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
SIGNS_OF_NVIDIA = (Path("/dev/nvidiactl"), Path("/proc/driver/nvidia/version"), Path("/usr/lib/wsl/lib/nvidia-smi"))
WITH_TORCH = ("train", "dev")
CPU_INDEX = "the address of PyTorch's index of CPU wheels, which its installation page names"


@dataclass(frozen=True)
class Torch:
    """The PyTorch that pip would install. cuda: it brings NVIDIA's libraries."""

    version: str
    cuda: bool


def has_nvidia() -> bool:
    """Whether this machine shows an NVIDIA driver."""
    return shutil.which("nvidia-smi") is not None or any(sign.exists() for sign in SIGNS_OF_NVIDIA)


def chosen_torch(index: list[str]) -> Torch | None:
    """Ask pip which PyTorch it would install; None where it does not say (no network, a pip before 22.2)."""
    asked = [*pip(), "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", *index, "torch"]
    answer = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        found = json.loads(answer.stdout)["install"][0]["metadata"]
    except (ValueError, LookupError):
        return None
    needs = [need.lower() for need in found.get("requires_dist", ())]
    return Torch(found["version"], any(need.startswith(("nvidia-", "cuda-")) for need in needs))


def pip() -> list[str]:
    """`pip install` of this Python, in the versions that were checked; it asks nothing, since nobody answers below make."""
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    return [sys.executable, "-m", "pip", "install", *quiet, "--constraint", str(CONSTRAINTS)]


def advice(torch: Torch | None, index: str, gpu: bool) -> str:
    """A line for the person about the PyTorch that would come, or ""; with an index, why that index is refused."""
    if torch is None or not torch.cuda:
        return ""
    if index:
        return (
            f"{index} has no CPU build of PyTorch for Python {platform.python_version()} that {CONSTRAINTS.name} takes, so that "
            f"PyTorch {torch.version} with CUDA would come. TORCH_INDEX is {CPU_INDEX}; correct it or leave it out."
        )
    if gpu:
        return ""
    return (
        f"No NVIDIA GPU was found, and PyTorch {torch.version} brings CUDA, gigabytes that stay unused here. To leave them out, "
        f"stop this and run make again with TORCH_INDEX=URL, {CPU_INDEX}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Install this project with one of its extras.")
    parser.add_argument("extra", help="an extra of pyproject.toml: train, dev, ...")
    parser.add_argument("--torch-index", default="", metavar="URL", help="a further index, with CPU wheels of PyTorch")
    arguments = parser.parse_args()
    address = arguments.torch_index
    index = ["--extra-index-url", address] if address else []
    gpu = has_nvidia()
    if arguments.extra in WITH_TORCH and platform.system() == "Linux" and (address or not gpu):
        line = advice(chosen_torch(index), address, gpu)
        if line:
            print(line, file=sys.stderr, flush=True)
        if line and address:
            return 2
    install = [*pip(), *index, "--editable", f".[{arguments.extra}]"]
    return subprocess.run(install, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
