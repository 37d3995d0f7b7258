"""Where the answers to a job can come from: this machine, an emulated core, a board over ssh.

A job is a folder: `models/` with model files, `photos/` with photos, both in the order of their names. `answers.py` reads it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from answers import FRAMES, MACHINE
from numpy.typing import NDArray
from sysroot import build_sysroot, program

from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.core.text import one_line

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
SOURCES = (ROOT, ROOT / "export", ROOT / "runtime")
ANSWERS = SCRIPTS / "answers.py"

Progress = Callable[[int], None]


class BoardFailed(EdgeTLError):
    """Mend the board: it could not be reached, or its Python could not do the work."""


@dataclass(frozen=True)
class Answers:
    """What one machine made of a job with one model.

    logits: float32 (N, C). pixels: uint8 (N, H, W, 3), what it fed the network. frames: a digest of each decoded photo.
    refused: what the file's self-test said there, "" where it passed. machine: processor, target and versions.
    """

    logits: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    frames: Sequence[str]
    refused: str
    machine: Mapping[str, str]


class Board(Protocol):
    """A machine that answers jobs."""

    @property
    def name(self) -> str:
        """For tables."""

    def answers(self, job: Path, progress: Progress) -> list[Answers]:
        """Of each model of the job, in their order; progress is called with 1 for each photo. Raises BoardFailed."""


@dataclass(frozen=True)
class Here:
    """This machine, in a process like the others' so that nothing but the machine differs."""

    name: str = "here"

    def answers(self, job: Path, progress: Progress) -> list[Answers]:
        return _answers(sys.executable, self.name, job, progress)


@dataclass(frozen=True)
class Emulated:
    """A core in QEMU. sysroot: what `build_sysroot` returned."""

    core: str
    sysroot: Path

    @property
    def name(self) -> str:
        return self.core

    @property
    def python(self) -> str:
        return str(self.sysroot.resolve() / self.core / "python")

    def answers(self, job: Path, progress: Progress) -> list[Answers]:
        return _answers(self.python, self.name, job, progress)

    def run(self, arguments: Sequence[str]) -> int:
        """`edge-tl ARGUMENTS` on the core, on this terminal. Returns its exit code."""
        return subprocess.run([self.python, "-m", "edge_tl", *arguments], env=_environment(SOURCES)).returncode


@dataclass(frozen=True)
class Remote:
    """A board that ssh reaches without a password, with tar and a Python that has numpy, onnxruntime and OpenCV.

    target: as ssh takes it, user@board. python: the name or path of that Python there. What is sent is gone afterwards.
    """

    target: str
    python: str

    @property
    def name(self) -> str:
        return self.target

    def answers(self, job: Path, progress: Progress) -> list[Answers]:
        folder = shlex.quote(self._ssh("mktemp -d").decode().strip())
        try:
            self._send(folder, job)
            run = f"PYTHONPATH={folder}/source {shlex.quote(self.python)} {folder}/{ANSWERS.name} {folder} {folder}/out"
            _photo_by_photo([*self._command, run], os.environ, self.name, progress)
            with tempfile.TemporaryDirectory() as out:
                packed = self._ssh(f"tar -c -C {folder}/out .")
                subprocess.run([program("tar", "tar"), "-x", "-C", out], input=packed, check=True)
                return _load(Path(out))
        finally:
            # What went wrong before says more than that the board is gone.
            with contextlib.suppress(BoardFailed):
                self._ssh(f"rm -rf {folder}")

    @property
    def _command(self) -> list[str]:
        # Never asks for a password, so a board without a key fails at once and says so.
        return [program("ssh", "openssh-client"), "-o", "BatchMode=yes", self.target]

    def _ssh(self, command: str, data: bytes | None = None) -> bytes:
        done = subprocess.run([*self._command, command], input=data, capture_output=True)
        if done.returncode:
            raise BoardFailed(_failure(self.name, done.stderr, done.returncode))
        return done.stdout

    def _send(self, folder: str, job: Path) -> None:
        """The job with the photos that its links point to, and the device's part of the program."""
        for source, names, target in (
            (job, ("models", "photos"), folder),
            (SCRIPTS, (ANSWERS.name,), folder),
            (ROOT / "runtime", ("edge_tl_runtime",), f"{folder}/source"),
        ):
            tar = [program("tar", "tar"), "-ch", "--exclude=__pycache__", "-C", str(source), *names]
            packed = subprocess.run(tar, check=True, capture_output=True).stdout
            self._ssh(f"mkdir -p {target} && tar -x -C {target}", packed)


def emulated(cores: Sequence[str], folder: Path) -> list[Emulated]:
    """Boards of these keys of `sysroot.CORES`; what they need is kept in `folder`. Raises as `build_sysroot`."""
    sysroot = build_sysroot(folder)
    return [Emulated(core, sysroot) for core in cores]


def _environment(sources: Sequence[Path]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))}


def _answers(python: str, name: str, job: Path, progress: Progress) -> list[Answers]:
    with tempfile.TemporaryDirectory() as out:
        command = [python, str(ANSWERS), str(job.resolve()), out]
        _photo_by_photo(command, _environment(SOURCES[-1:]), name, progress)
        return _load(Path(out))


def _photo_by_photo(command: Sequence[str], environment: Mapping[str, str], name: str, progress: Progress) -> None:
    """Run `answers.py`, which prints a line for each photo."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        for _ in process.stdout:
            progress(1)
        code = process.wait()
        errors.seek(0)
        said = errors.read()
    if code:
        raise BoardFailed(_failure(name, said, code))


def _failure(name: str, said: bytes, code: int) -> str:
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    reason = one_line(lines[-1].strip(), 500) if lines else f"exit code {code}"
    return f"{name} did not answer: {reason}; see docs/arm64.md for what it needs"


def _load(out: Path) -> list[Answers]:
    machine, frames = (json.loads((out / name).read_text("utf-8")) for name in (MACHINE, FRAMES))
    found = []
    for path in sorted(out.glob("*.npz")):
        with np.load(path) as stored:
            found.append(Answers(stored["logits"], stored["pixels"], frames, str(stored["refused"]), machine))
    return found
