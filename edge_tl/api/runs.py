"""Training as one call, and what it leaves: a run that shows its page and becomes a model file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tl.api.model import Model, export
from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.settings import PathLike, settings_of
from edge_tl.api.show import show_page
from edge_tl.api.train_extra import train_extra
from edge_tl.training.settings import TrainSettings
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.evaluation.evaluate import Evaluation
from edge_tl_runtime.images.asked_geometry import AskedCrop

if TYPE_CHECKING:
    from edge_tl.training.result import TrainResult


class Run:
    """A run folder. val, test: accuracy on the photos that chose the weights, and on those that chose nothing (None without).

    run = Run("runs/mine")
    print(run.labels, run.val)
    """

    def __init__(self, path: PathLike) -> None:
        """Raises UsageError for what is no run, BadModelError for a damaged one, MissingPackage."""
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"Run takes the path of a run's folder, not a {type(path).__name__}")
        with train_extra("opening a run"):
            from edge_tl.training.run_folder import load_run, read_evaluated
        opened = load_run(Path(path))
        self.path, self.spec = opened.folder, opened.spec
        self.settings: dict[str, Any] = opened.settings
        """What was asked for, versions and photos: the content of settings.json."""
        self.result: TrainResult | None = None
        """What the training told, when it was made in this process."""
        from edge_tl_runtime.evaluation.evaluate import score

        figures = {
            part: score(
                found.logits, found.targets, self.labels, f"{part} photos", scores=self.spec.scores, groups=found.groups
            )
            for part, found in read_evaluated(self.path).items()
        }
        self._val, self.test = figures.get("val"), figures.get("test")

    @property
    def labels(self) -> tuple[str, ...]:
        return self.spec.labels

    @property
    def val(self) -> Evaluation:
        """Raises UsageError for a run that stored no answers."""
        if self._val is None:
            raise UsageError(f"{self.path} has no stored answers; train it again with this release")
        return self._val

    def export(self, quantize: str | None = None, folder: PathLike | None = None, **settings: Any) -> Model:
        """The verified file that travels; as `edge_tl.export`, which says what `settings` may be."""
        return export(self.path, folder, quantize=quantize, **settings)

    def show(self) -> Path:
        """Show the page of the run, in a notebook or in the browser."""
        from edge_tl.report.run.page import write_page
        from edge_tl.training.run_folder import REPORT

        page = self.path / REPORT
        return show_page(page if page.is_file() else write_page(self.path))

    def to_dict(self) -> dict[str, Any]:
        """JSON values: folder, labels, accuracy, settings."""
        return {
            "run": str(self.path),
            "labels": list(self.labels),
            "val": None if self._val is None else self._val.to_dict(),
            "test": None if self.test is None else self.test.to_dict(),
            "settings": self.settings,
        }

    def __repr__(self) -> str:
        figures = "" if self._val is None else f", val {self._val.describe()}"
        return f"<Run {self.path}: {self.spec.arch}, {len(self.labels)} classes{figures}>"

    def _repr_html_(self) -> str:
        from edge_tl_runtime.core.html import html_table

        shown = html_table(repr(self).strip("<>"), [], [])
        return shown + ("" if self._val is None else self._val._repr_html_())


def train(
    photos: PathLike,
    run_folder: PathLike,
    recipe: str = "auto",
    progress: bool | Reporter = False,
    **settings: Any,
) -> Run:
    """Train on labelled photos, write the run and its page; as `edge-tl train`.

    photos: a folder with a folder for each class, a list, or the name of a data set. recipe: "auto", "probe" or "finetune".
    settings: fields of `TrainSettings` and `FinetuneSettings` of `edge_tl.training.settings`, such as arch, epochs, seed;
    crop may be four numbers.
    Raises UsageError, DataError, WeightsError, OutputError, MissingPackage.
    """
    if not isinstance(settings.get("crop", ""), str):
        settings["crop"] = str(AskedCrop.parse(settings["crop"]))
    made = settings_of(TrainSettings, {**settings, "recipe": recipe}, "train")
    for value, what in ((photos, "photos"), (run_folder, "run_folder")):
        if not isinstance(value, (str, os.PathLike)):
            raise UsageError(f"{what} is a {type(value).__name__}; give a path")
    return _run(train_and_show(os.fspath(photos), Path(run_folder), made, reporter(progress)))


def resume(run_folder: PathLike, progress: bool | Reporter = False, **settings: Any) -> Run:
    """Go on with an interrupted training, or give a finished one more epochs; as `edge-tl train --resume`.

    settings: those that may change, such as epochs. Raises UsageError for others and where there is nothing to go on with.
    """
    settings_of(TrainSettings, settings, "train")
    return _run(resume_and_show(Path(run_folder), settings, reporter(progress)))


def _run(result: TrainResult | None) -> Run:
    if result is None:
        raise UsageError("training in a program is for one process; several take: torchrun ... -m edge_tl train")
    run = Run(result.folder)
    run.result = result
    return run


def train_and_show(photos: str, folder: Path, settings: TrainSettings, report: Reporter) -> TrainResult | None:
    """Train, and write the page of the run. None in the further processes of torchrun."""
    with train_extra("train"):
        from edge_tl.training.train import train as run_training
    return _shown(run_training(photos, folder, settings, report.stage, report.say))


def resume_and_show(folder: Path, changes: Mapping[str, Any], report: Reporter) -> TrainResult | None:
    """Go on with a training, and write the page of the run anew. None in the further processes of torchrun."""
    with train_extra("train"):
        from edge_tl.training.train import resume as resume_training
    return _shown(resume_training(folder, report.stage, report.say, changes))


def _shown(result: TrainResult | None) -> TrainResult | None:
    if result is not None:
        from edge_tl.report.run.page import write_page

        write_page(result.folder)
    return result
