"""From a network to model files that were verified, measured and sealed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edge_tl_export.calibration import CalibrationPhotos
from edge_tl_export.compare import MAX_DROP, Comparison, Judge, Row, open_model
from edge_tl_export.engines import Opinion, second_opinions
from edge_tl_export.graph import OPSET, to_onnx
from edge_tl_export.qat import quantization_aware
from edge_tl_export.quantize import Quantizer, to_fp16
from edge_tl_export.recipe import CALIBRATIONS
from edge_tl_export.search import EQUALIZE, Candidate, Layer, Search
from edge_tl_export.verify import (
    FIXED_BATCHES,
    Parity,
    check_repeatable,
    check_structure,
    make_self_test,
    parity,
    with_batch,
)
from edge_tl_runtime.classifier import Classifier
from edge_tl_runtime.dataset import LabelledPhotos
from edge_tl_runtime.errors import BadModelError, DataError
from edge_tl_runtime.familiarity import EXPORT_KEY
from edge_tl_runtime.files import make_folder, sha256, write_together
from edge_tl_runtime.machine import cpu_name, this_target
from edge_tl_runtime.onnx_file import read_spec, sealed
from edge_tl_runtime.photos import Unreadable
from edge_tl_runtime.spec import ModelSpec

Stage = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a stage of so many steps; what it gives is called with the number just done."""

PARITY_PHOTOS = 16


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """quantization: "int8", "fp16" or None. target: one of `edge_tl_runtime.machine.TARGETS`; "auto" is this machine.

    max_drop: loss of top-1 against FP32, as a fraction, up to which a quantized file is handed over.
    search: "first" stops at the first file that passes, "full" judges every candidate. calibration_size: photos.
    qat_epochs: epochs of quantization-aware training, where no candidate passes without.
    layers: whether to measure what each layer alone costs, for the page.
    """

    quantization: str | None = None
    target: str = "auto"
    max_drop: float = MAX_DROP
    search: str = "first"
    calibration_size: int = 200
    qat_epochs: int = 0
    layers: bool = False
    seed: int = 0

    @property
    def for_target(self) -> str:
        return this_target() if self.target == "auto" else self.target


@dataclass(frozen=True)
class ModelFile:
    """A file that was written, with its row of the table and what other engines made of it."""

    path: Path
    sha256: str
    row: Row
    opinions: tuple[Opinion, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        opinions = [opinion.to_dict() for opinion in self.opinions]
        return {"path": str(self.path), "sha256": self.sha256, **self.row.to_dict(), "engines": opinions}


@dataclass(frozen=True)
class Changed:
    """A judged photo whose label the quantized file changes. pixels: uint8 (H, W, 3), in the network's colour order."""

    name: str
    truth: str
    fp32: str
    quantized: str
    pixels: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class ExportReport:
    """files: what was written, FP32 first. drop (points of top-1) and speedup are those of the last file against FP32.

    tried: candidates of the search. layers: what each layer alone costs, where that was measured. warnings: lines for a person.
    chosen: name of the candidate that was written.
    refused: in words, why the kind asked for was not written; "" when it was. changed: photos that the last file labels
    otherwise.
    """

    files: tuple[ModelFile, ...]
    parity: Parity
    target: str
    max_drop: float
    calibration_photos: int = 0
    tried: tuple[Candidate, ...] = ()
    front: tuple[Candidate, ...] = ()
    layers: tuple[Layer, ...] = ()
    changed: tuple[Changed, ...] = ()
    chosen: str = ""
    warnings: tuple[str, ...] = ()
    refused: str = ""
    skipped: tuple[Unreadable, ...] = ()

    @property
    def by_noise(self) -> list[Candidate]:
        """What was tried, the cleanest first."""
        return sorted(self.tried, key=lambda candidate: -candidate.sqnr)

    @property
    def nearest(self) -> list[Candidate]:
        """What was judged, the smallest loss of accuracy first."""
        judged = [candidate for candidate in self.tried if candidate.row is not None]
        return sorted(judged, key=lambda c: (c.row.drop or 0) if c.row else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The document of `edge-tl export --json`."""
        last = self.files[-1].row
        return {
            "models": [file.to_dict() for file in self.files],
            "drop": None if last.drop is None else round(100 * last.drop, 4),
            "speedup": round(last.speedup, 4),
            "size_ratio": round(self.files[0].row.bytes / last.bytes, 4),
            "max_drop": round(100 * self.max_drop, 4),
            "target": self.target,
            "machine": cpu_name(),
            "refused": self.refused,
            "parity": {
                "max_difference": self.parity.max_difference,
                "tolerance": self.parity.tolerance,
                "top1_equal": self.parity.top1_equal,
                "n": self.parity.n,
            },
            "calibration_photos": self.calibration_photos,
            "candidates": [candidate.to_dict() for candidate in self.tried],
            "front": [candidate.name for candidate in self.front],
            "layers": [layer.to_dict() for layer in self.layers],
            "changed": [
                {"photo": x.name, "truth": x.truth, "fp32": x.fp32, "quantized": x.quantized} for x in self.changed
            ],
            "warnings": list(self.warnings),
            "skipped": [item.to_dict() for item in self.skipped],
        }


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
) -> ExportReport:
    """Write `model.onnx` and, where one passes, `model-<precision>.onnx` into `folder`.

    Everything is verified and judged before the first byte is written, and files replace their predecessors together; a
    quantized file of an earlier export that was made from other weights, or was asked for again and refused, is removed with
    them.

    calibration: photos for INT8; validation: photos to judge on, never the same ones. network: on the CPU.
    Raises ExportError when a file fails a check, DataError for INT8 without photos or with photos that show nothing, OutputError.
    """
    if settings.quantization == "int8" and calibration is None:
        raise DataError("INT8 needs photos to calibrate on; give them with --data FOLDER")
    make_folder(folder)
    with stage("exporting", 1) as done:
        fp32 = to_onnx(network, spec)
        done(1)
    photos = CalibrationPhotos(
        calibration, spec.resize, settings.calibration_size, mirror=spec.training.get("mirror", True)
    )
    samples = photos.samples(PARITY_PHOTOS)
    compared = _verify_fp32(network, spec, fp32, samples)
    with stage("judging", 0 if validation is None else len(validation)) as done:
        judge = None if validation is None else Judge(validation, spec.resize)
        comparison = Comparison(fp32, spec.resize, judge, open_model, settings.max_drop, done)
    found = _Found({"fp32": (fp32, comparison.reference, {})})
    if settings.quantization == "int8":
        _find_int8(found, photos, comparison, settings, stage)
    if settings.quantization == "fp16" or (settings.quantization == "int8" and "int8" not in found.models):
        _find_fp16(found, comparison, asked=settings.quantization == "fp16")
    files = _write(found, spec, folder, samples, parent_sha256, settings.quantization)
    return ExportReport(
        files=files,
        parity=compared,
        target=settings.for_target,
        max_drop=settings.max_drop,
        calibration_photos=photos.read,
        tried=tuple(found.tried),
        front=tuple(found.front),
        layers=tuple(found.layers),
        chosen=found.chosen,
        changed=_changed(comparison, files[-1].row, found.models[files[-1].row.precision][0], spec),
        warnings=(*photos.warnings, *found.warnings),
        refused=found.refused,
        skipped=(*photos.skipped, *(() if judge is None else judge.skipped)),
    )


@dataclass
class _Found:
    """models: by precision, the bytes, the row, and what the contract says of how it was made."""

    models: dict[str, tuple[bytes, Row, dict[str, Any]]]
    tried: list[Candidate] = field(default_factory=list)
    front: list[Candidate] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    chosen: str = ""
    refused: str = ""


def _verify_fp32(network: nn.Module, spec: ModelSpec, fp32: bytes, samples: NDArray[np.uint8]) -> Parity:
    check_structure(fp32)
    fixed = {batch: open_model(with_batch(fp32, batch), "fp32") for batch in FIXED_BATCHES}
    return parity(network, spec, open_model(fp32, "fp32"), samples, fixed)


def _find_int8(
    found: _Found, photos: CalibrationPhotos, comparison: Comparison, settings: ExportSettings, stage: Stage
) -> None:
    fp32 = found.models["fp32"][0]
    with stage("reading calibration photos", photos.count) as done:
        batches, ranking = photos.batches(done), photos.ranking()
    with stage("searching", len(CALIBRATIONS) * len(EQUALIZE)) as done:
        quantizer = Quantizer(fp32, batches)
        search = Search(quantizer, ranking, comparison, settings.for_target, done)
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
        found.refused = f"INT8 was not written: {_why_none(search, settings.max_drop)}"
        return
    assert chosen.row is not None
    found.chosen = chosen.name
    check_structure(chosen.model)
    check_repeatable(chosen.model, open_model, ranking[:1])
    made = {**chosen.recipe.to_dict(), "trained": chosen.trained, "target": settings.for_target, "machine": cpu_name()}
    made |= {"calibration_photos": photos.read, "calibration_sha256": photos.digest}
    found.models["int8"] = chosen.model, chosen.row, made


def _train(
    search: Search, photos: CalibrationPhotos, comparison: Comparison, settings: ExportSettings, stage: Stage
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
    judged = search.judged(search.add(start.recipe, trained, trained=True))
    return judged if judged.passes else None


def _why_none(search: Search, max_drop: float) -> str:
    nearest = search.nearest
    accurate = [c for c in search.candidates if c.row is not None and c.row.is_accurate]
    if accurate:
        fastest = max(c.row.speedup for c in accurate if c.row is not None)
        return f"the {len(accurate)} that keep the accuracy are slower than FP32 here ({fastest:.2f}x at best)"
    assert nearest is not None
    assert nearest.row is not None
    lost = 100 * (nearest.row.drop or 0)
    judged = sum(candidate.row is not None for candidate in search.candidates)
    advice = "" if any(candidate.trained for candidate in search.candidates) else "train in INT8 (--qat 5), or "
    return (
        f"the best of {judged} judged loses {lost:.1f} points ({nearest.name}), allowed {100 * max_drop:g}; "
        f"{advice}allow more (--max-drop {np.ceil(10 * lost) / 10:g})"
    )


def _find_fp16(found: _Found, comparison: Comparison, asked: bool) -> None:
    """Half precision: written when it was asked for, or, in place of INT8, when it is faster here and as accurate."""
    model = to_fp16(found.models["fp32"][0])
    row = comparison.row("fp16", model, "fp16")
    if asked or (row.is_accurate and row.is_faster):
        found.models["fp16"] = model, row, {}


def _write(
    found: _Found, spec: ModelSpec, folder: Path, samples: NDArray[np.uint8], parent_sha256: str, asked: str | None
) -> tuple[ModelFile, ...]:
    files: list[ModelFile] = []
    contents: dict[Path, bytes] = {}
    versions = {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
    for precision, (model, row, made) in found.models.items():
        logits = open_model(model, precision)
        if row.familiarity is not None:
            made = {**made, EXPORT_KEY: row.familiarity.to_dict()}
        sealed_spec = replace(
            spec,
            precision=precision,
            validation=None if row.evaluation is None else row.evaluation.accuracy,
            export={"opset": OPSET, **made, "versions": versions},
            parent_sha256=parent_sha256 if not files else files[0].sha256,
            self_test=make_self_test(logits, spec, list(samples), precision),
        )
        data = sealed(model, sealed_spec)
        path = folder / file_name(precision)
        contents[path] = data
        opinions = second_opinions(model, logits(samples), samples, precision)
        found.warnings += [opinion.describe() for opinion in opinions if opinion.read and not opinion.agrees]
        files.append(ModelFile(path, sha256(data), replace(row, bytes=len(data)), opinions))
    write_together(contents)
    for precision in {"int8", "fp16"} - found.models.keys():
        path = folder / file_name(precision)
        if path.exists() and (precision == asked or not _is_made_from(path, files[0].sha256)):
            path.unlink()
    for path in contents:
        Classifier(path)  # what the device will do first: seal, signature, self-test
    return tuple(files)


def _is_made_from(path: Path, parent: str) -> bool:
    try:
        return read_spec(path).parent_sha256 == parent
    except BadModelError:
        return False


def file_name(precision: str) -> str:
    return "model.onnx" if precision == "fp32" else f"model-{precision}.onnx"


def _changed(comparison: Comparison, row: Row, model: bytes, spec: ModelSpec) -> tuple[Changed, ...]:
    judge = comparison.judge
    if judge is None or judge.reference is None or row.against is None:
        return ()
    changed = []
    logits = open_model(model, row.precision)
    for place in row.against.changed:
        pixels = judge.pixels(place)
        truth, before = judge.target(place), int(judge.reference[place].argmax())
        after = int(logits(pixels[None])[0].argmax())
        name = judge.name(place)
        changed.append(Changed(name, spec.labels[truth], spec.labels[before], spec.labels[after], pixels))
    return tuple(changed)
