"""What cannot be trained is refused before time is spent on it."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
from torch import nn

from edge_tl.models import is_backbone
from edge_tl.training import run_folder as run
from edge_tl.training.finetune.adversarial_training import refuse_impossible
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl_runtime.core.errors import BadImage, DataError, OutputError, UsageError
from edge_tl_runtime.core.settings import check, typed
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits, load_unlabelled
from edge_tl_runtime.images.decode import read_photo

LOOKS = 20
"""Photos of a class looked at for one that can be decoded; the pass over all of them finds the rest."""


def refuse_settings(settings: TrainSettings) -> None:
    """Raises UsageError for settings that are out of bounds or contradict each other; no photo is looked at."""
    check(settings)
    refuse_impossible(settings)
    if settings.teacher and settings.recipe == "probe":
        raise UsageError("a teacher needs fine-tuning; use --recipe finetune or auto")
    if settings.unlabelled and not settings.teacher:
        raise UsageError("photos without labels need a teacher to label them; add --teacher")
    default, tuning = FinetuneSettings(), settings.finetune
    unused = [
        typed(item, prefix="finetune.")
        for item in fields(FinetuneSettings)
        if item.name != "balance" and getattr(tuning, item.name) != getattr(default, item.name)
    ]
    if settings.recipe == "probe" and unused:
        raise UsageError(
            f"--recipe probe trains the head alone and has no use for {', '.join(unused)}; leave it out, or use "
            "--recipe finetune or auto"
        )


def refuse_photos(splits: Splits, settings: TrainSettings) -> None:
    """Raises DataError or UsageError for photos, or a teacher, that cannot serve; a few photos of each class are decoded."""
    for part in splits:
        if part is not None:
            _require_readable(part)
    if settings.unlabelled:
        load_unlabelled(Path(settings.unlabelled))
    if settings.teacher and not (is_backbone(settings.teacher) and not Path(settings.teacher).exists()):
        refuse_teacher(settings.teacher, splits.train.labels)


def refuse_teacher(name: str, labels: tuple[str, ...]) -> None:
    """Raises UsageError when the run does not know these classes."""
    known = run.load_run(Path(name)).spec.labels
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise UsageError(f"the teacher {name} does not know the class {unknown[0]!r}; train it on the same classes")


def refuse_full_disk(folder: Path, module: nn.Module, settings: TrainSettings) -> None:
    """Raises OutputError where the run, and what an interruption needs of fine-tuning, would not fit beside `folder`'s files."""
    weights = sum(tensor.nbytes for tensor in module.state_dict().values())
    copies = 1
    if settings.recipe != "probe":
        # The state holds the weights, those before, and what the optimizer knows of each; it is written beside the one before.
        moments = 2 if settings.finetune.optimizer == "adamw" else 1
        copies += 2 * (2 + moments + (settings.finetune.ema > 0) + (settings.finetune.average == "swa"))
    free = shutil.disk_usage(folder).free
    if free < copies * weights:
        raise OutputError(
            f"the run needs up to {copies * weights / 1e6:.0f} MB below {folder}, where {free / 1e6:.0f} MB are free; free some "
            "space or choose another folder with -o"
        )


def _require_readable(photos: LabelledPhotos) -> None:
    targets = np.asarray(photos.targets)
    for target in np.unique(targets):
        problem = ""
        for index in np.flatnonzero(targets == target)[:LOOKS]:
            try:
                read_photo(photos.paths[index])
                break
            except BadImage as error:
                problem = problem or f"{photos.paths[index]}: {error}"
        else:
            count = int((targets == target).sum())
            if count <= LOOKS:
                raise DataError(
                    f"no photo of class {photos.labels[target]!r} in the {photos.split} part of {photos.root} could be read; "
                    f"the first of {count}: {problem}"
                )
