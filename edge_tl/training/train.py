"""From photos to a run: who trains, in which folder, from where on, with the records of it all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from edge_tl.data.named import resolve
from edge_tl.training import run_folder as run
from edge_tl.training.background import check_background
from edge_tl.training.devices import pick_device
from edge_tl.training.distributed import process_group
from edge_tl.training.finetune import early, further
from edge_tl.training.finetune.further import Continued
from edge_tl.training.result import TrainResult
from edge_tl.training.settings import TrainSettings
from edge_tl.training.splits import asked_geometry, in_fractions, load_photos
from edge_tl.training.trainer import Say, Trainer
from edge_tl_export import Stage
from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.core.malloc import keep_heap
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.images.datasets.dataset import Splits


def train(data: Path | str, folder: Path, settings: TrainSettings, stage: Stage, say: Say) -> TrainResult | None:
    """Train on `data`, leave the run in `folder`. `say` takes lines for the person.

    data: a folder, a manifest, or the name of a data set. Several processes (torchrun) train together; those after the
    first write and say nothing and get None.
    Raises DataError for photos that cannot make a classifier, WeightsError, UsageError, OutputError.
    """
    fresh = not folder.exists()
    if settings.background:  # an export finds it from any folder
        settings = replace(settings, background=str(Path(settings.background).resolve()))
    try:
        return _train(str(data), folder, settings, stage, say)
    except EdgeTLError:
        if fresh:
            with suppress(OSError):  # something was written, and that tells how far it got
                folder.rmdir()
        raise


def resume(folder: Path, stage: Stage, say: Say, changes: Mapping[str, Any] | None = None) -> TrainResult | None:
    """Go on with an interrupted training from its last complete epoch, or give a finished one more epochs.

    changes: settings by field name that differ from the stored ones; `further.MAY_CHANGE` lists those that may.
    Raises UsageError for others, and where there is nothing to go on with.
    """
    going_on = further.read(folder, changes or {})
    return _train(going_on.data, folder, going_on.settings, stage, say, going_on)


def _train(
    data: str, folder: Path, settings: TrainSettings, stage: Stage, say: Say, going_on: Continued | None = None
) -> TrainResult | None:
    early.refuse_settings(settings)
    asked_geometry(settings)
    first = int(os.environ.get("RANK", "0")) == 0
    if going_on is None and first:
        run.check_output(folder)  # before photos are downloaded
    keep_heap()
    device = pick_device(settings.device)
    with process_group(device.type == "cuda") as group:
        if device.type == "cuda" and group.size > 1:
            device = torch.device("cuda", group.local)
        found = group.share(_photos(data, settings, device, stage, say) if group.first else None)
        assert found is not None
        root, splits, settings = found
        finished = None if going_on is None else going_on.finished
        interrupted = going_on is not None and (folder / run.RESUME).is_file()
        state = group.share(run.read_checkpoint(folder) if interrupted and group.first else None)
        if not group.first:
            return Trainer(
                root, folder, splits, settings, device, group, None, _no_progress, lambda line: None, finished
            ).run(state)
        run.check_output(folder)
        listing = further.listing(splits)
        if going_on is not None:
            further.refuse_other_photos(splits.train, listing, going_on.photos, folder)
        past = finished.epochs if finished else None
        run.begin(folder, str(root.resolve()), settings.to_dict(), listing, past, keep=interrupted)
        done = state["epoch"] if state else past or 0
        journal = run.Journal(folder, None if going_on is None else done)
        try:
            result = Trainer(root, folder, splits, settings, device, group, journal, stage, say, finished).run(state)
            journal.finish()
            run.finish(folder)
        except EdgeTLError:
            if not (folder / run.CHECKPOINT).is_file():
                run.finish(folder)  # there is nothing to go on with, and it would fail again
            raise
        finally:
            journal.close()
        return result


def _photos(
    data: str, settings: TrainSettings, device: torch.device, stage: Stage, say: Say
) -> tuple[Path, Splits, TrainSettings]:
    """Where the photos are, which does what, and the settings for them.

    Those that cannot serve are refused here, once for all processes.
    """
    root = resolve(data, stage, say)
    splits = load_photos(root, settings, device, stage)
    early.refuse_photos(splits, settings)
    for line in check_background(splits, settings, stage):
        say(line)
    return root, splits, in_fractions(settings, splits, say)


@contextmanager
def _no_progress(what: str, total: int) -> Iterator[Progress]:
    yield lambda done: None
