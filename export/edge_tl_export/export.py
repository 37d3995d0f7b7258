"""From a network to model files that were verified, measured and sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edge_tl_export.compare import Row, measure
from edge_tl_export.graph import OPSET, to_onnx
from edge_tl_export.quantize import DEFAULT_RECIPE, Recipe, quantize, to_fp16
from edge_tl_export.verify import Parity, make_self_test, parity
from edge_tl_runtime.classifier import INPUT_NAME, OUTPUT_NAME, Classifier, SessionSettings, open_session
from edge_tl_runtime.dataset import LabelledPhotos
from edge_tl_runtime.errors import DataError
from edge_tl_runtime.evaluate import Logits, PixelReader
from edge_tl_runtime.files import make_folder, sha256, write_together
from edge_tl_runtime.onnx_file import sealed
from edge_tl_runtime.photos import Unreadable
from edge_tl_runtime.spec import ModelSpec, spread

Stage = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a stage of so many steps; what it gives is called with the number just done."""

PARITY_PHOTOS = 16
CALIBRATION_BATCH = 8


@dataclass(frozen=True)
class ModelFile:
    """A file that was written, with its row of the table."""

    path: Path
    sha256: str
    row: Row

    def to_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "sha256": self.sha256, **self.row.to_dict()}


@dataclass(frozen=True)
class ExportReport:
    """files: FP32 first. drop (points of top-1) and speedup are those of the last file against FP32."""

    files: tuple[ModelFile, ...]
    parity: Parity
    calibration_photos: int
    skipped: tuple[Unreadable, ...]

    def to_dict(self) -> dict[str, Any]:
        """The document of `edge-tl export --json`."""
        last = self.files[-1].row
        return {
            "models": [file.to_dict() for file in self.files],
            "drop": None if last.drop is None else round(100 * last.drop, 4),
            "speedup": round(last.speedup, 4),
            "size_ratio": round(self.files[0].row.bytes / last.bytes, 4),
            "parity": {
                "max_difference": self.parity.max_difference,
                "tolerance": self.parity.tolerance,
                "top1_equal": self.parity.top1_equal,
                "n": self.parity.n,
            },
            "calibration_photos": self.calibration_photos,
            "skipped": [item.to_dict() for item in self.skipped],
        }


def export_model(
    network: nn.Module,
    spec: ModelSpec,
    folder: Path,
    *,
    quantization: str | None,
    calibration: LabelledPhotos | None,
    validation: LabelledPhotos | None,
    stage: Stage,
    calibration_size: int = 200,
    recipe: Recipe = DEFAULT_RECIPE,
    parent_sha256: str = "",
) -> ExportReport:
    """Write `model.onnx` and, for quantization "int8" or "fp16", `model-<precision>.onnx` into `folder`.

    Everything is verified before the first byte is written, and files replace their predecessors together.
    calibration: photos for INT8; validation: photos to judge on, never the same ones. network: on the CPU.
    Raises ExportError when the graph differs from PyTorch, DataError for INT8 without photos, OutputError.
    """
    if quantization == "int8" and calibration is None:
        raise DataError("INT8 needs photos to calibrate on; give them with --data FOLDER")
    make_folder(folder)
    with stage("exporting", 1) as done:
        models = {"fp32": to_onnx(network, spec)}
        done(1)
    photos = _Calibration(calibration, spec, calibration_size)
    samples = photos.samples(PARITY_PHOTOS)
    sessions = {"fp32": _logits(models["fp32"], "fp32")}
    compared = parity(network, spec, sessions["fp32"], samples)
    settings: dict[str, dict[str, Any]] = {"fp32": {"opset": OPSET, "parity": compared.max_difference}}
    if quantization == "int8":
        with stage("quantizing", photos.count) as done:
            models["int8"] = quantize(models["fp32"], photos.batches(done), recipe)
        settings["int8"] = {**recipe.to_dict(), "calibration_photos": photos.read, "calibration_sha256": photos.digest}
    elif quantization == "fp16":
        models["fp16"] = to_fp16(models["fp32"])
        settings["fp16"] = {}
    for precision in models.keys() - sessions.keys():
        sessions[precision] = _logits(models[precision], precision)
    with stage("judging", 0 if validation is None else len(validation)) as done:
        sizes = {precision: len(model) for precision, model in models.items()}
        rows, skipped = measure(sessions, sizes, validation, spec.resize, done)

    files: list[ModelFile] = []
    contents: dict[Path, bytes] = {}
    versions = {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
    for row in rows:
        precision = row.precision
        sealed_spec = replace(
            spec,
            precision=precision,
            validation=None if row.evaluation is None else row.evaluation.accuracy,
            export={**settings[precision], "versions": versions},
            parent_sha256=parent_sha256 if not files else files[0].sha256,
            self_test=make_self_test(sessions[precision], spec, list(samples), precision),
        )
        data = sealed(models[precision], sealed_spec)
        path = folder / ("model.onnx" if precision == "fp32" else f"model-{precision}.onnx")
        contents[path] = data
        files.append(ModelFile(path, sha256(data), replace(row, bytes=len(data))))
    write_together(contents)
    for path in contents:
        Classifier(path)  # what the device will do first: seal, signature, self-test
    return ExportReport(tuple(files), compared, photos.read, (*photos.skipped, *skipped))


class _Calibration:
    """Photos drawn evenly from the classes, read when they are needed. Without photos: patterns, for parity alone."""

    def __init__(self, photos: LabelledPhotos | None, spec: ModelSpec, size: int) -> None:
        self._spec = spec
        self._photos = None if photos is None else photos.subset(_evenly(photos, size), photos.split)
        self.count = 0 if self._photos is None else len(self._photos)
        self.read = 0
        self.skipped: tuple[Unreadable, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the names of the photos."""
        names = [] if self._photos is None else [self._photos.name(i) for i in range(self.count)]
        return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()

    def samples(self, count: int) -> NDArray[np.uint8]:
        if self._photos is None:
            generator = np.random.default_rng(0)
            coarse = generator.integers(0, 256, (count, 28, 28, 3), np.uint8)
            return np.concatenate([spread(pattern, self._spec.resize) for pattern in coarse])
        some = self._photos.subset(_evenly(self._photos, count), self._photos.split)
        return np.concatenate([batch.pixels for batch in PixelReader(some, self._spec.resize)])

    def batches(self, done: Callable[[int], None]) -> Iterator[NDArray[np.uint8]]:
        assert self._photos is not None
        reader = PixelReader(self._photos, self._spec.resize, CALIBRATION_BATCH, done)
        for batch in reader:
            self.read += len(batch.pixels)
            yield batch.pixels
        self.skipped = tuple(reader.skipped)


def _evenly(photos: LabelledPhotos, size: int) -> list[int]:
    """Indices of at most `size` photos: one of each class in turn, in the order of SHA-256 over the names."""
    classes: dict[int, list[int]] = {}
    for index, target in enumerate(photos.targets):
        classes.setdefault(target, []).append(index)

    def rank(index: int) -> bytes:
        return hashlib.sha256(photos.name(index).encode("utf-8", "surrogateescape")).digest()

    queues = [sorted(members, key=rank) for members in classes.values()]
    queues.sort(key=lambda members: rank(members[0]))  # with more classes than places, not always the first ones
    chosen: list[int] = []
    for turn in range(max(map(len, queues))):
        chosen += [queue[turn] for queue in queues if turn < len(queue)]
        if len(chosen) >= size:
            break
    return sorted(chosen[:size])


def _logits(model: bytes, name: str) -> Logits:
    # Threads that spin between turns would take the cores from the other session while the two are timed in turns.
    session = open_session(model, name, SessionSettings(spin=False))

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (scores,) = session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        return np.asarray(scores, np.float32)

    return logits
