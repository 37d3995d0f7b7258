"""Going on with a training: which options may differ from what was asked for then, and more epochs of a finished run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edge_tl.training import run_folder as run
from edge_tl.training.finetune.optimize import State
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl_runtime.core.errors import DataError, UsageError
from edge_tl_runtime.core.settings import typed
from edge_tl_runtime.core.text import shell_command
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits

MAY_CHANGE = ("epochs", "device", "patience", "compile")
"""Options that may differ when a training goes on. Any other would make it another training."""


@dataclass(frozen=True)
class Finished:
    """A run that gets more epochs. best: where its weights come from, in words. epochs: how many it has had."""

    state: State
    best: str
    epochs: int


@dataclass(frozen=True)
class Continued:
    """What goes on. photos: digest of the photos as they were, "" where none was noted."""

    data: str
    settings: TrainSettings
    photos: str = ""
    finished: Finished | None = None


def read(folder: Path, changes: Mapping[str, Any]) -> Continued:
    """What a resumed training works with. changes: options by field name, as they were given this time.

    Raises UsageError for options that cannot change, and where nothing is left to do.
    """
    if (folder / run.RESUME).is_file() or not (folder / run.WEIGHTS).is_file():
        noted = run.interrupted(folder)
        settings = changed(TrainSettings.from_dict(noted["settings"]), changes)
        past = noted.get("finished_epochs")
        finished = None if past is None else _finished(folder, past)
        return Continued(noted["data"], settings, noted.get("photos", ""), finished)
    epochs = max((r["epoch"] for r in run.read_metrics(folder) if r.get("stage") == "finetune"), default=0)
    if not epochs:
        raise UsageError(
            f"the training in {folder} is complete and fine-tuned nothing, so there is nothing to resume; "
            f"to train every weight, into a folder of its own: {_anew(folder)}"
        )
    wanted = changes.get("epochs", 0)
    if wanted <= epochs:
        asked = f", and --epochs {wanted} asks for no more" if wanted else ""
        raise UsageError(
            f"the training in {folder} is complete: epochs so far: {epochs}{asked}; "
            f"for more: {shell_command('train', '--resume', folder, '--epochs', epochs + 4)}"
        )
    kept = run.load_run(folder)
    known = {item.name for item in fields(TrainSettings)}
    stored = {key: value for key, value in kept.settings.items() if key in known}
    data = kept.settings.get("data", "")
    if not stored or not Path(data).exists():
        raise UsageError(f"the photos of the run in {folder} are no longer at {data or 'a known place'}; train it anew")
    settings = changed(TrainSettings.from_dict(stored), changes)
    return Continued(data, replace(settings, size=kept.spec.resize.height), "", _finished(folder, epochs))


def _anew(folder: Path) -> str:
    """A command that fine-tunes on the photos of a run and leaves the run as it is."""
    data = run.load_run(folder).settings.get("data") or "DATA"
    beside = next(
        path
        for path in (folder.with_name(f"{folder.name}-finetuned{number or ''}") for number in range(1000))
        if not path.exists()
    )
    return shell_command("train", Path(data), "-o", beside, "--recipe", "finetune")


def _finished(folder: Path, epochs: int) -> Finished:
    kept = run.load_run(folder)
    return Finished(kept.network.module.state_dict(), str(kept.spec.training.get("best", "the run")), epochs)


def changed(settings: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """`settings` with the options that may change. Raises UsageError that names each of the others, unless it is as it was."""
    nested = {item.name for item in fields(FinetuneSettings)}
    stored = {**asdict(settings), **asdict(settings.finetune)}
    differing = {name: value for name, value in changes.items() if value != stored[name]}
    refused = [name for name in differing if name not in MAY_CHANGE]
    if refused:
        named = ", ".join(f"{_option(name, changes[name])} (it was {_shown(stored[name])})" for name in refused)
        may = ", ".join(_option(name, None) for name in MAY_CHANGE)
        raise UsageError(
            f"--resume goes on with the settings of the run and cannot take {named}; only {may} may change. "
            "Leave it out, or start anew with: edge-tl train DATA -o RUN"
        )
    own = {name: value for name, value in differing.items() if name not in nested}
    tuning = {name: value for name, value in differing.items() if name in nested}
    return replace(settings, **own, finetune=replace(settings.finetune, **tuning))


def _option(name: str, value: Any) -> str:
    nested = {item.name: item for item in fields(FinetuneSettings)}
    if name in nested:
        return typed(nested[name], value, "finetune.")
    return typed(next(item for item in fields(TrainSettings) if item.name == name), value)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "not given"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def listing(splits: Splits) -> str:
    """Digest of which photo trains and validates as what, the same on every machine; the files' contents are not read."""
    digest = hashlib.sha256()
    for part in (splits.train, splits.val):
        lines = (f"{part.labels[target]}/{part.name(i)}" for i, target in enumerate(part.targets))
        digest.update("\n".join(sorted(lines)).encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def refuse_other_photos(photos: LabelledPhotos, now: str, then: str, folder: Path) -> None:
    """Raises DataError where photos came or went since the interruption: the stored state belongs to others."""
    if then and now != then:
        raise DataError(
            f"the photos in {photos.root} are others than when the training in {folder} was interrupted; put them back, or "
            f"start anew with: {shell_command('train', photos.root, '-o', folder)}"
        )
