"""From a run to verified ONNX files: finds the run and its photos, then hands over to `edge_tl_export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_tl.report.export_page import write_export_page
from edge_tl.training.run import WEIGHTS, Run, open_run
from edge_tl_export import ExportReport, ExportSettings, Stage, export_model
from edge_tl_runtime.dataset import LabelledPhotos, load_labelled, split_photos
from edge_tl_runtime.errors import DataError
from edge_tl_runtime.files import sha256
from edge_tl_runtime.overlap import unseen


def deploy(
    run: str,
    folder: Path | None,
    settings: ExportSettings,
    data: Path | None,
    weights: str,
    seed: int,
    stage: Stage,
    say: Callable[[str], None],
) -> ExportReport:
    """Export a run folder, or a backbone by name, to `folder` (the run's own, or one named after the backbone), with its page.

    data: labelled photos to calibrate and judge on; None takes those the run was trained on.
    Raises UsageError, DataError, and whatever `edge_tl_export.export_model` raises.
    """
    source = open_run(run, weights)
    photos = data or _training_data(source, needed=settings.quantization == "int8")
    calibration, validation = (None, None) if photos is None else _split(photos, source, seed)
    if photos is not None and validation is not None and calibration is not None:
        validation, overlap = unseen(validation, source.spec, "val", otherwise="")
        for line in filter(None, (overlap.left_out_line(""), *overlap.lines())):
            say(line)
        count = min(settings.calibration_size, len(calibration))
        say(f"{photos}: calibrating on {count}, judging on {len(validation)} photos")
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
    )
    write_export_page(report, source.spec)
    return report


def _training_data(run: Run, needed: bool) -> Path | None:
    recorded = run.settings.get("data")
    path = Path(recorded) if recorded else None
    if path is not None and path.exists():
        return path
    if needed:
        where = f"the run's photos are no longer at {path}" if path else "a backbone has no photos of its own"
        raise DataError(f"INT8 needs photos to calibrate on and {where}; give them with --data FOLDER")
    return None


def _split(data: Path, run: Run, seed: int) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Photos to calibrate on and photos to judge on, never the same ones."""
    settings = run.spec.training
    fraction = settings.get("val_fraction", 0.8)
    seed = settings.get("seed", seed)
    calibration, validation = (
        load_labelled(data, run.spec.labels, split, val_fraction=fraction, seed=seed) for split in ("train", "val")
    )
    if set(calibration.paths) & set(validation.paths):
        return split_photos(validation, fraction, seed)
    return calibration, validation
