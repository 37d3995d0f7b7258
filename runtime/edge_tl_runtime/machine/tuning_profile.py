"""The profile beside a model file: how this machine runs it fastest. `edge-tl tune` writes it, `run` and `predict` follow it.

Beside a camera, for photos in a row and in batches it holds a choice each: threads that sleep between frames wake slowly.

It counts only for the machine, the onnxruntime and the very bytes it was measured with; anything else is ignored, in words.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import onnxruntime

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import read_regular, sha256, write_text
from edge_tl_runtime.core.formats import format_problem
from edge_tl_runtime.core.strict_json import strict_json
from edge_tl_runtime.core.text import error_line, one_line
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.inference.classifier import SessionSettings
from edge_tl_runtime.inference.providers import computing_providers, find_provider, short_name
from edge_tl_runtime.machine.cpu import cpu_name, this_target
from edge_tl_runtime.modelfile.onnx import read_model

if TYPE_CHECKING:
    from edge_tl_runtime.machine.documents import (
        MachineDocument,
        MeasuredSettingsDocument,
        ProfileDocument,
        SessionSettingsDocument,
        TunedChoiceDocument,
    )

PROFILE_VERSION: Final = 2
MAX_PROFILE_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a measurement of speed stands on. cores: those the process may use; providers: short names, installed."""

    cpu: str
    cores: int
    target: str
    onnxruntime: str
    providers: tuple[str, ...]

    @classmethod
    def here(cls) -> Machine:
        return cls(
            cpu=cpu_name(),
            cores=usable_cores(),
            target=this_target(),
            onnxruntime=str(onnxruntime.__version__),
            providers=computing_providers(),
        )

    def to_dict(self) -> MachineDocument:
        return {
            "cpu": self.cpu,
            "cores": self.cores,
            "target": self.target,
            "onnxruntime": self.onnxruntime,
            "providers": list(self.providers),
        }

    def differences(self, other: Machine) -> str:
        """What differs, in words: "onnxruntime 1.24.1 is now 1.32.0"; "" when nothing does."""
        pairs = ((item.name, getattr(self, item.name), getattr(other, item.name)) for item in fields(self))
        return ", ".join(f"{name} {_words(old)} is now {_words(new)}" for name, old, new in pairs if old != new)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedChoice:
    """Settings and what they measured: milliseconds of a call, and of processor time that it cost."""

    settings: SessionSettings
    median_ms: float
    cpu_ms: float

    def to_dict(self) -> TunedChoiceDocument:
        return {
            **settings_document(self.settings),
            "median_ms": round(self.median_ms, 4),
            "cpu_ms": round(self.cpu_ms, 4),
        }


def settings_document(settings: SessionSettings) -> SessionSettingsDocument:
    return {"threads": settings.threads, "spin": settings.spin, "provider": settings.provider}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """frame: for single frames at a camera's pace; row: for single frames one after another; batch: for calls of batch_size
    photos. measured: every configuration.

    model: name of the file; sha256: of its bytes. seconds: how long the measuring took.
    """

    machine: Machine
    model: str
    sha256: str
    frame: TunedChoice
    row: TunedChoice
    batch: TunedChoice
    batch_size: int
    measured: tuple[MeasuredSettingsDocument, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> ProfileDocument:
        return {
            "version": PROFILE_VERSION,
            "model": self.model,
            "sha256": self.sha256,
            "machine": self.machine.to_dict(),
            "frame": self.frame.to_dict(),
            "row": self.row.to_dict(),
            "batch": {**self.batch.to_dict(), "photos": self.batch_size},
            "measured": list(self.measured),
            "seconds": round(self.seconds, 2),
        }


def profile_path(model: Path) -> Path:
    """`model-int8.tune.json` for `model-int8.onnx`, in the same folder."""
    return model.with_suffix(".tune.json")


def require_writable(model: Path) -> None:
    """Raises OutputError where a profile could not be written beside `model`: known before a minute is spent on measuring."""
    if not os.access(model.parent, os.W_OK):
        raise OutputError(f"cannot write a profile into {model.parent}; copy the model to a folder you may write to")


def write_profile(model: Path, profile: Profile) -> Path:
    """Write a profile beside its model in one step. Raises OutputError on a full disk or a read-only folder."""
    path = profile_path(model)
    write_text(path, json.dumps(profile.to_dict(), ensure_ascii=False, indent=1) + "\n")
    return path


def profiled_settings(model: Path, task: str = "frame") -> tuple[SessionSettings | None, str]:
    """The settings of the profile beside `model`, and why it does not count here ("" when it does).

    task: "frame", "row" or "batch", as in `Profile`. (None, "") when there is no profile.
    Raises BadModelError when there is one but the model cannot be read.
    """
    path = profile_path(model)
    try:
        data = read_regular(path, MAX_PROFILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"{path} is ignored: {error.strerror}; {_AGAIN}"
    try:
        document = strict_json(data.decode("utf-8"))
        if not isinstance(document, dict):
            raise TypeError("no object")
        if problem := format_problem(document.get("version"), (PROFILE_VERSION,), _AGAIN):
            return None, f"{path} is ignored: it {problem}"
        machine = Machine(**{**document["machine"], "providers": tuple(document["machine"]["providers"])})
        choice = document[task]
        settings = SessionSettings(threads=choice["threads"], spin=choice["spin"], provider=choice["provider"])
        _check(machine, settings)
        digest = document["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        return None, f"{path} is ignored: not a profile this edge-tl reads ({error_line(error)}); {_AGAIN}"
    differences = machine.differences(Machine.here())
    if differences:
        return None, f"{path} is ignored: it was measured on another machine ({one_line(differences)}); {_AGAIN}"
    if digest != sha256(read_model(model)):
        return None, f"{path} is ignored: {model.name} is another file now; {_AGAIN}"
    return settings, ""


def choose_settings(
    model: Path,
    threads: int | None = None,
    provider: str | None = None,
    profile: bool = True,
    task: str = "frame",
    untuned: SessionSettings = SessionSettings(),
) -> tuple[SessionSettings, str]:
    """How to run `model`, and why its profile does not count here ("" when it does or there is none).

    threads, provider: asked for, stronger than the profile; None leaves it to the profile, then to the defaults.
    profile: False ignores it without a word. task: as of `profiled_settings`. untuned: where neither the caller nor a profile
    says it.
    Raises as `profiled_settings`.
    """
    found, ignored = profiled_settings(model, task) if profile else (None, "")
    settings = found or untuned
    if provider is not None and short_name(find_provider(provider).name) != settings.provider:
        # The profile's threads and spin are another provider's.
        settings = replace(untuned, provider=provider)
    if threads is not None:
        settings = replace(settings, threads=threads)
    return settings, ignored


_AGAIN = "run edge-tl tune again"


MAX_THREADS = 1024


def _check(machine: Machine, settings: SessionSettings) -> None:
    texts = [machine.cpu, machine.target, machine.onnxruntime, *machine.providers]
    if not all(isinstance(text, str) for text in texts) or type(machine.cores) is not int:
        raise ValueError("what it says of the machine is of another kind")
    threads = settings.threads
    if not isinstance(settings.provider, str) or type(settings.spin) is not bool:
        raise ValueError("provider or spin is of another kind")
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MAX_THREADS):
        raise ValueError(f"{threads!r} threads")


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
