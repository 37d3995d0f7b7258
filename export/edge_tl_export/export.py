"""From a network, or an FP32 file, to model files that were verified, measured and written with a checksum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edge_tl_export.detection.background import BackgroundPhotos
from edge_tl_export.detection.detector import FIT_PHOTOS, Fitting, features_are_frozen
from edge_tl_export.export_report import Changed, ExportReport
from edge_tl_export.fp32_source import Fp32Source, from_file, from_network
from edge_tl_export.onnx_graph.verify import check_repeatable, check_structure
from edge_tl_export.quantization.calibration import CalibrationPhotos
from edge_tl_export.quantization.quantize import Quantizer, to_fp16
from edge_tl_export.quantization.recipe import CALIBRATIONS
from edge_tl_export.search.compare import CandidateRow, Comparison, FileEvaluator, in_batches, open_model, sqnr
from edge_tl_export.search.qat import quantization_aware
from edge_tl_export.search.search import EQUALIZE, HOPELESS, Candidate, Layer, QuantizationSearch
from edge_tl_export.settings import ExportSettings
from edge_tl_export.written import Made, check_targets, write_files
from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.files import make_folder
from edge_tl_runtime.core.progress import Stage
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.machine.cpu import cpu_name, this_target
from edge_tl_runtime.machine.tune import BUSY
from edge_tl_runtime.modelfile.spec import ModelSpec

PARITY_PHOTOS = 16
LEAST_PHOTOS = 8
"""To calibrate and to evaluate on, together; so few only keep the search from failing, they tell nothing."""


def export_model(
    network: nn.Module,
    spec: ModelSpec,
    folder: Path,
    settings: ExportSettings,
    *,
    calibration: LabelledPhotos | None,
    validation: LabelledPhotos | None,
    stage: Stage,
    parent_sha256: str = "",
    foreign: Sequence[Frame] = (),
    background: LabelledPhotos | None = None,
) -> ExportReport:
    """Write `model.onnx` and, where one passes, `model-<precision>.onnx` into `folder`.

    Everything is verified and evaluated before the first byte is written, and files replace their predecessors together; a
    quantized file of an earlier export that was made from other weights, or was asked for again and refused, is removed with
    them.

    calibration: photos for INT8; validation: evaluation photos, never the same ones. network: on the CPU. foreign: frames of none
    of the classes, which the files should call unknown. background: photos of nothing, which choose how much they call unknown.
    Raises ExportError when a file fails a check, DataError for INT8 without photos or with photos that show nothing, OutputError.
    """
    _check_photos(settings, calibration, validation)
    make_folder(folder)
    with stage("exporting", 1) as done:
        source = from_network(network, spec, parent_sha256)
        done(1)
    return _export(source, folder, settings, calibration, validation, stage, foreign, background)


def export_file(
    path: Path,
    folder: Path,
    settings: ExportSettings,
    *,
    calibration: LabelledPhotos | None,
    validation: LabelledPhotos | None,
    stage: Stage,
    foreign: Sequence[Frame] = (),
    background: LabelledPhotos | None = None,
) -> ExportReport:
    """Write `NAME-<precision>.onnx` for an FP32 file NAME.onnx, exported or adopted, where one passes; as `export_model`.

    The file itself is never changed; a copy of it goes along into another folder. The contract of what is made from it is its
    own but for precision, accuracy, self-test and parent. What cannot be quantized is refused before photos are read.
    Raises as `export_model`, and UsageError, BadModelError.
    """
    source = from_file(path, settings.quantization, bool(settings.qat_epochs))
    _check_photos(settings, calibration, validation)
    check_targets(source, folder)
    make_folder(folder)
    return _export(source, folder, settings, calibration, validation, stage, foreign, background)


def _check_photos(
    settings: ExportSettings, calibration: LabelledPhotos | None, validation: LabelledPhotos | None
) -> None:
    if settings.quantization != "int8":
        return
    if calibration is None:
        raise DataError("INT8 needs photos to calibrate on; give them with --photos FOLDER")
    count = len(calibration) + (0 if validation is None else len(validation))
    if count < LEAST_PHOTOS:
        raise DataError(
            f"{count} photos in {calibration.root} are too few: INT8 is calibrated on some and evaluated on others, which takes "
            f"{LEAST_PHOTOS} at the very least and some hundreds to tell half a point; add photos"
        )


def _export(
    source: Fp32Source,
    folder: Path,
    settings: ExportSettings,
    calibration: LabelledPhotos | None,
    validation: LabelledPhotos | None,
    stage: Stage,
    foreign: Sequence[Frame],
    background: LabelledPhotos | None,
) -> ExportReport:
    spec = source.spec
    photos = CalibrationPhotos(
        calibration, spec.resize, settings.calibration_size, mirror=spec.training.get("mirror", True)
    )
    samples = photos.samples(PARITY_PHOTOS)
    compared = source.verified(samples)
    with stage("judging", 0 if validation is None else len(validation)) as done:
        evaluator = None if validation is None else FileEvaluator(validation, spec.resize)
        comparison = Comparison(source.fp32, spec.resize, evaluator, open_model, settings.allowed_drop, done)
    found = _Found({"fp32": Made(source.fp32, comparison.reference, {})})
    if settings.quantization == "int8":
        _find_int8(found, source, photos, comparison, settings, stage)
    if settings.quantization == "fp16" or (settings.quantization == "int8" and "int8" not in found.made):
        _find_fp16(found, source, photos, comparison, asked=settings.quantization == "fp16")
    made = found.beside_each_other()
    frozen = not settings.qat_epochs and features_are_frozen(spec)
    made, no_detection = _with_detectors(made, source, calibration, evaluator, foreign, stage, frozen)
    made = _with_sets(made, source, evaluator)
    left_out: tuple[Unreadable, ...] = ()
    if background is not None:
        with stage("background", len(background)) as done:
            nothing = BackgroundPhotos(background, spec.resize, done)
            kept = [] if evaluator is None else list(evaluator.batches())
            made, left_out = _with_background(made, nothing, kept, foreign), nothing.skipped
        if not any(item.background for item in made.values()):
            found.warnings.append(f"the background photos choose nothing: {no_detection or 'the file is not changed'}")
    files, doubts = write_files(source, made, folder, samples, settings.quantization)
    last = files[-1].row
    report = ExportReport(
        files=files,
        parity=compared,
        target=settings.for_target,
        max_drop=settings.allowed_drop,
        calibration_photos=photos.read,
        tried=tuple(found.tried),
        front=tuple(found.front),
        layers=tuple(found.layers),
        chosen=found.chosen,
        changed=_changed(comparison, last, found.made[last.precision].model, spec),
        warnings=(*photos.warnings, *found.warnings, *doubts),
        refused=found.refused,
        no_detection=no_detection,
        skipped=(*photos.skipped, *(() if evaluator is None else evaluator.skipped), *left_out),
        stem=source.stem,
    )
    return replace(report, warnings=(*report.warnings, *_busy(report.others)))


def _with_detectors(
    made: dict[str, Made],
    source: Fp32Source,
    training: LabelledPhotos | None,
    evaluator: FileEvaluator | None,
    foreign: Sequence[Frame],
    stage: Stage,
    frozen: bool,
) -> tuple[dict[str, Made], str]:
    """What was made, with what tells unknown pictures; and, in words, why there is none. A file that exists is not changed."""
    if training is None or evaluator is None:
        return made, "there were no photos to tell from what is like them; export with --photos FOLDER"
    fitted = {name: item.model for name, item in made.items() if name != "fp32" or source.existing is None}
    fitting = Fitting(fitted, source.spec.resize)
    with stage("learning what is known", min(FIT_PHOTOS, len(training))) as done:
        found = fitting.fit(training, evaluator, foreign, done, frozen=frozen)
    return {name: replace(item, detection=found.get(name)) for name, item in made.items()}, fitting.why_none


def _with_sets(made: dict[str, Made], source: Fp32Source, evaluator: FileEvaluator | None) -> dict[str, Made]:
    """What was made, with its sets of labels, placed by its own answers. A file that exists is not changed."""
    if evaluator is None:
        return made
    return {
        name: item
        if name == "fp32" and source.existing is not None
        else replace(item, sets=evaluator.label_sets(item.row.answers, source.spec))
        for name, item in made.items()
    }


def _with_background(
    made: dict[str, Made], nothing: BackgroundPhotos, kept: list[NDArray[np.uint8]], foreign: Sequence[Frame]
) -> dict[str, Made]:
    """What was made, with what background photos choose; a file that cannot tell unknown pictures stays as it is."""
    found = {}
    for name, item in made.items():
        if item.detection is not None:
            detection, trial = nothing.tried(item.detection, name, kept, foreign)
            item = replace(item, detection=detection, background=trial)
        found[name] = item
    return found


def _busy(others: float) -> tuple[str, ...]:
    if others <= BUSY:
        return ()
    return (
        f"other programs took {100 * others:.0f} % of the processor while files were timed: the milliseconds are too high and "
        "the speeds, of files timed in turns, less certain; export again when the machine is idle",
    )


@dataclass
class _Found:
    """made: by precision, FP32 first. ranking: pixels that SQNR is measured on, once they were read."""

    made: dict[str, Made]
    tried: list[Candidate] = field(default_factory=list)
    front: list[Candidate] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ranking: NDArray[np.uint8] | None = None
    chosen: str = ""
    refused: str = ""

    def beside_each_other(self) -> dict[str, Made]:
        """With the time of FP32 from the run that the quantized file was timed in, so that a table agrees with itself."""
        (_, fp32), *others = self.made.items()
        if not others:
            return self.made
        time = others[-1][1].row.time
        row = replace(fp32.row, time=replace(time, this_ms=time.fp32_ms))
        return {**self.made, "fp32": replace(fp32, row=row)}


def _find_int8(
    found: _Found,
    source: Fp32Source,
    photos: CalibrationPhotos,
    comparison: Comparison,
    settings: ExportSettings,
    stage: Stage,
) -> None:
    with stage("reading calibration photos", photos.count) as done:
        batches, ranking = photos.batches(done), photos.ranking()
    found.ranking = ranking
    quantizer = Quantizer(source.quantizable, batches)
    with stage("searching", len(CALIBRATIONS) * len(EQUALIZE)) as done:
        search = QuantizationSearch(quantizer, ranking, comparison, settings.for_target, done)
        speed = search.plain_speed() if settings.search == "first" else 1.0
        if speed < HOPELESS:
            found.refused = (
                f"INT8 was not written: it is slower than FP32 here ({speed:.2f}x), as a first look before the search showed; "
                "--search full measures every candidate all the same"
            )
            return
        chosen = search.full() if settings.search == "full" else search.first()
    if chosen is None and settings.qat_epochs:
        chosen = _train(search, photos, comparison, settings, stage)
    elif settings.qat_epochs:
        found.warnings.append("a file passes without training, so none was done (--qat)")
    if settings.layers:
        with stage("layer by layer", len(quantizer.layers(search.candidates[0].recipe))) as done:
            search.sensitivity((chosen or max(search.candidates, key=lambda c: c.sqnr)).recipe, done)
    found.tried, found.front, found.layers = search.candidates, search.front, search.layers
    recipe = (chosen or search.candidates[0]).recipe
    if settings.for_target != this_target():
        found.warnings.append(
            f"made for {settings.for_target}, timed on {this_target()}: see what it gains there with edge-tl tune"
        )
    if left := quantizer.left_in_float(recipe):
        found.warnings.append(f"no integer kernels for {', '.join(left)}: they stay float")
    if chosen is None:
        found.refused = f"INT8 was not written: {_why_none(search, settings.allowed_drop)}"
        return
    assert chosen.row is not None
    found.chosen = chosen.name
    check_structure(chosen.model)
    check_repeatable(chosen.model, open_model, ranking[:1])
    how = {**chosen.recipe.to_dict(), "trained": chosen.trained, "target": settings.for_target, "machine": cpu_name()}
    how |= {"calibration_photos": photos.read, "calibration_sha256": photos.digest}
    found.made["int8"] = Made(chosen.model, chosen.row, how)


def _find_fp16(
    found: _Found, source: Fp32Source, photos: CalibrationPhotos, comparison: Comparison, asked: bool
) -> None:
    """Half precision: written when it was asked for, or in place of INT8 when it is faster here and was not seen to lose more."""
    model = to_fp16(source.quantizable)
    ranking = photos.ranking() if found.ranking is None and photos.count else found.ranking
    noise = None
    if ranking is not None:
        answers = in_batches(comparison.open(model, "fp16"), ranking)
        noise = sqnr(in_batches(comparison.fp32, ranking), answers)
    row = comparison.row("fp16", model, "fp16", noise)
    if asked or (row.is_accurate and row.is_faster):
        found.made["fp16"] = Made(model, row, {})


def _train(
    search: QuantizationSearch,
    photos: CalibrationPhotos,
    comparison: Comparison,
    settings: ExportSettings,
    stage: Stage,
) -> Candidate | None:
    """Quantization-aware training of the quietest candidate without float layers; None when it does not pass either."""
    whole = [candidate for candidate in search.candidates if not candidate.recipe.float_nodes]
    start = max(whole, key=lambda candidate: candidate.sqnr)
    with stage("training", settings.qat_epochs + 1) as done:
        trained = quantization_aware(
            start.model,
            comparison.fp32,
            photos.training_batches,
            settings.qat_epochs,
            seed=settings.seed,
            progress=lambda epoch: done(1),
        )
    evaluated = search.evaluated(search.add(start.recipe, trained, trained=True))
    return evaluated if evaluated.passes else None


def _why_none(search: QuantizationSearch, max_drop: float) -> str:
    accurate = [c for c in search.candidates if c.row is not None and c.row.is_accurate]
    if accurate:
        fastest = max(c.row.speedup for c in accurate if c.row is not None)
        return f"the {len(accurate)} that lose no more than allowed are slower than FP32 here ({fastest:.2f}x at best)"
    nearest = search.nearest
    assert nearest is not None
    assert nearest.row is not None
    claim = nearest.row.claim
    assert claim is not None
    lost = 100 * claim.drop
    evaluated = sum(candidate.row is not None for candidate in search.candidates)
    advice = "" if any(candidate.trained for candidate in search.candidates) else "train in INT8 (--qat 5), or "
    more = f"{claim.n} photos cannot tell that from chance: evaluate on more, " if claim.interval[0] <= 0 else ""
    return (
        f"the best of {evaluated} evaluated loses {lost:.1f} points ({nearest.name}), allowed {100 * max_drop:g}; "
        f"{more}{advice}allow more (--max-drop {np.ceil(10 * lost) / 10:g})"
    )


def _changed(comparison: Comparison, row: CandidateRow, model: bytes, spec: ModelSpec) -> tuple[Changed, ...]:
    evaluator = comparison.evaluator
    if evaluator is None or evaluator.reference is None or row.paired is None:
        return ()
    changed = []
    logits = open_model(model, row.precision)
    for place in row.paired.changed:
        pixels = evaluator.pixels(place)
        truth, before = evaluator.target(place), int(evaluator.reference[place].argmax())
        after = int(logits(pixels[None])[0].argmax())
        name = evaluator.name(place)
        changed.append(Changed(name, spec.labels[truth], spec.labels[before], spec.labels[after], pixels))
    return tuple(changed)
