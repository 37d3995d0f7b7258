"""From a run, a backbone or an FP32 file to verified ONNX files: finds it and its photos, then hands over to `edge_tl_export`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from edge_tl.data.foreign import foreign_photographs
from edge_tl.report.export.page import write_export_page
from edge_tl.training.background import load_background
from edge_tl.training.run_folder import WEIGHTS, StoredRun, open_run
from edge_tl.training.settings import TrainSettings
from edge_tl_export import ExportReport, ExportSettings, Stage, export_file, export_model
from edge_tl_export.quantization.calibration import FEW, shares
from edge_tl_runtime.core.errors import DataError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.core.settings import typed
from edge_tl_runtime.evaluation.training_overlap import unseen
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, split_photos
from edge_tl_runtime.images.datasets.grouping import Grouping
from edge_tl_runtime.modelfile.onnx import read_spec
from edge_tl_runtime.modelfile.spec import ModelSpec

VAL_FRACTION = 0.8
"""Of photos that no training split: the larger part evaluates, for ranges need fewer than an accuracy does."""


def deploy(
    model: str,
    folder: Path | None,
    settings: ExportSettings,
    photos: Path | None,
    weights: str,
    stage: Stage,
    say: Callable[[str], None],
    background: Path | None = None,
) -> ExportReport:
    """Export a run folder, a backbone by name or an FP32 file to `folder`, with its page.

    folder: None is the run's own, one named after the backbone, or that of the file. photos: labelled, to calibrate and
    evaluate on; None takes those the run was trained on. background: photos of nothing; None takes those of the run. Raises
    UsageError, DataError, and whatever `edge_tl_export` raises.
    """
    if folder is not None and folder.suffix == ".onnx":
        raise UsageError(
            f"-o takes a folder, and {folder} is the name of a file; the files in it are named by what they are"
        )
    for option in _unused(settings):
        say(f"note: {option} is for INT8 and changes nothing here")
    path = Path(model)
    if path.suffix == ".onnx" or (path.is_file() and path.suffix != Path(WEIGHTS).suffix):
        if weights != TrainSettings.weights:
            raise UsageError(f"--weights is for the name of a backbone; {path} has its own, leave it out")
        return _deploy_file(path, folder, settings, photos, stage, say, background)
    source = open_run(model, weights)
    photos = photos or _training_data(source, needed=settings.quantization == "int8")
    calibration, validation = _parts(photos, source.spec, settings, say)
    weights_file = source.folder / WEIGHTS
    parent = sha256(weights_file.read_bytes()) if weights_file.is_file() else source.network.weights_sha256
    report = export_model(
        source.network.module,
        source.spec,
        folder or source.folder,
        settings,
        calibration=calibration,
        validation=validation,
        parent_sha256=parent,
        stage=stage,
        foreign=[] if validation is None else foreign_photographs(source.spec.labels),
        background=_background(background, source, say),
    )
    write_export_page(report, source.spec)
    return report


def _unused(settings: ExportSettings) -> list[str]:
    """Options of INT8 that were given without it."""
    if settings.quantization == "int8":
        return []
    for_int8 = ("target", "search", "qat_epochs", "calibration_size")
    table = {item.name: item for item in fields(settings)}
    return [typed(table[name]) for name in for_int8 if getattr(settings, name) != table[name].default]


def _deploy_file(
    path: Path,
    folder: Path | None,
    settings: ExportSettings,
    photos: Path | None,
    stage: Stage,
    say: Callable[[str], None],
    background: Path | None,
) -> ExportReport:
    spec = read_spec(path)
    if settings.quantization == "int8" and spec.precision == "fp32" and photos is None:
        raise DataError(
            "INT8 needs photos to calibrate on, and a file has none of its own; give them with --photos FOLDER"
        )
    calibration, validation = (
        _parts(photos, spec, settings, say) if spec.precision == "fp32" and settings.quantization else (None, None)
    )
    report = export_file(
        path,
        folder or path.parent,
        settings,
        calibration=calibration,
        validation=validation,
        stage=stage,
        foreign=[] if validation is None else foreign_photographs(spec.labels),
        background=None if background is None else load_background(background),
    )
    write_export_page(report, spec)
    return report


def _background(asked: Path | None, run: StoredRun, say: Callable[[str], None]) -> LabelledPhotos | None:
    """Photos of nothing: those asked for, or those of the run, which says so where they are gone."""
    recorded = run.settings.get("background", "")
    if asked is None and recorded and not Path(recorded).is_dir():
        say(
            f"the run's background photos are no longer at {recorded}, so they choose nothing; give them with --background FOLDER"
        )
        return None
    folder = asked or (Path(recorded) if recorded else None)
    return None if folder is None else load_background(folder)


def _parts(
    photos: Path | None, spec: ModelSpec, settings: ExportSettings, say: Callable[[str], None]
) -> tuple[LabelledPhotos | None, LabelledPhotos | None]:
    if photos is None:
        return None, None
    calibration, validation = _split(photos, spec, settings.seed)
    say(validation.describe())
    validation, overlap = unseen(validation, spec, "val", otherwise="")
    for line in filter(None, (overlap.left_out_line(""), *overlap.lines())):
        say(line)
    count, others = shares(len(calibration), settings.calibration_size)
    ranking = f"ranking on up to {others}, " if settings.quantization == "int8" and others else ""
    say(
        f"{photos}: calibrating on up to {count}, {ranking}evaluating on up to {len(validation)} photos, none of them the same; "
        "those that cannot be read are left out and counted below"
    )
    return calibration, validation


def _training_data(run: StoredRun, needed: bool) -> Path | None:
    recorded = run.settings.get("data")
    path = Path(recorded) if recorded else None
    if path is not None and path.exists():
        return path
    if needed:
        where = f"the run's photos are no longer at {path}" if path else "a backbone has no photos of its own"
        raise DataError(f"INT8 needs photos to calibrate on and {where}; give them with --photos FOLDER")
    return None


def _split(data: Path, spec: ModelSpec, seed: int) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Photos to calibrate on and photos to evaluate on, never the same ones: parted as for the training, if there was one."""
    settings = spec.training
    fraction = settings.get("val_fraction")
    seed = settings.get("seed", seed)
    if fraction is None:
        few = (1 - VAL_FRACTION) * len(load_labelled(data, spec.labels, "all")) < FEW
        fraction = 0.5 if few else VAL_FRACTION
    grouping = Grouping.of(settings) if settings.get("data") == data.resolve().name else Grouping()
    calibration, validation = (
        load_labelled(data, spec.labels, split, val_fraction=fraction, seed=seed, grouping=grouping)
        for split in ("train", "val")
    )
    if set(calibration.paths) & set(validation.paths):
        return split_photos(validation, fraction, seed)
    return calibration, validation
