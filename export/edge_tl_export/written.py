"""Model files on the disk: contract, self-test and checksum put in, written together, opened as the device opens them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_tl_export.detection.background import BackgroundTrial
from edge_tl_export.detection.detector import Detection
from edge_tl_export.export_report import ModelFile
from edge_tl_export.fp32_source import Fp32Source
from edge_tl_export.onnx_graph.other_runtimes import check_in_other_runtimes
from edge_tl_export.onnx_graph.plain_graph import opset_of
from edge_tl_export.onnx_graph.verify import make_self_test
from edge_tl_export.search.compare import CandidateRow, open_model
from edge_tl_export.search.fitted_sets import FittedSets
from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.files import sha256, write_together
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import read_spec, with_checksum
from edge_tl_runtime.modelfile.sections import OODScore
from edge_tl_runtime.modelfile.spec import SelfTest

QUANTIZED = ("int8", "fp16")


@dataclass(frozen=True)
class Made:
    """A file to be: its graph, its row of the table, what its contract says of how it was made, what tells unknown pictures,
    and its sets of labels."""

    model: bytes
    row: CandidateRow
    how: Mapping[str, Any]
    detection: Detection | None = None
    sets: FittedSets | None = None
    background: BackgroundTrial | None = None

    @property
    def graph(self) -> bytes:
        """The graph as it is written: with its features where it has a detector."""
        return self.model if self.detection is None else self.detection.model


def file_name(stem: str, precision: str) -> str:
    return f"{stem}.onnx" if precision == "fp32" else f"{stem}-{precision}.onnx"


def check_targets(source: Fp32Source, folder: Path) -> None:
    """Raises UsageError, before any work, where a file that somebody else made would be replaced."""
    if source.existing is None:
        return
    for precision in QUANTIZED:
        path = folder / file_name(source.stem, precision)
        if path.exists() and not _is_export(path):
            raise UsageError(
                f"{path} is there already and is no export of {source.existing.name}; give another folder with -o"
            )
    copy = folder / source.existing.name
    if copy.exists() and not _is_same(copy, source):
        raise UsageError(f"{copy} is there already and is another file; give another folder with -o")


def write_files(
    source: Fp32Source, made: Mapping[str, Made], folder: Path, samples: NDArray[np.uint8], asked: str | None
) -> tuple[tuple[ModelFile, ...], list[str]]:
    """Write what was made, FP32 first, and remove what an earlier export left that does not belong to it.

    made: by precision, FP32 first. samples: pixels to choose a self-test from. asked: the precision that was asked for.
    Returns the files, and lines for a person.
    """
    files: list[ModelFile] = []
    contents: dict[Path, bytes] = {}
    warnings: list[str] = []
    for precision, item in made.items():
        path = folder / file_name(source.stem, precision)
        logits = open_model(item.graph, precision)
        if precision == "fp32" and source.existing is not None:
            data = source.fp32
        else:
            test = make_self_test(logits, source.spec, list(samples), precision)
            data = _with_contract(source, precision, item, test, source.parent_sha256 if not files else files[0].sha256)
        is_new = not (path.exists() and _is_same(path, source))
        if is_new:
            contents[path] = data
        checks = check_in_other_runtimes(item.model, logits(samples), samples, precision)
        warnings += [check.describe() for check in checks if check.read and not check.agrees]
        row = replace(item.row, bytes=len(data))
        files.append(ModelFile(path, sha256(data), row, checks, is_new, item.detection, item.sets, item.background))
    write_together(contents)
    for precision in set(QUANTIZED) - made.keys():
        path = folder / file_name(source.stem, precision)
        if path.exists() and (precision == asked or not _is_made_from(path, files[0].sha256)):
            path.unlink()
    for path in contents:
        Classifier(path)  # what the device will do first: checksum, signature, self-test
    return tuple(files), warnings


def _with_contract(source: Fp32Source, precision: str, item: Made, test: SelfTest, parent_sha256: str) -> bytes:
    row = item.row
    proto = onnx.load_from_string(item.graph)
    versions = {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
    spec = replace(
        source.spec,
        precision=precision,
        validation=None if row.evaluation is None else row.evaluation.accuracy,
        export={**source.settings_kept(), "opset": opset_of(proto), **item.how, "versions": versions},
        parent_sha256=parent_sha256,
        self_test=test,
        features=None if item.detection is None else item.detection.features,
        ood_score=_ood_score(item),
        label_sets=None if item.sets is None else item.sets.section,
    )
    if not source.metadata:
        return with_checksum(item.graph, spec)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(source.metadata))
    return with_checksum(proto.SerializeToString(deterministic=True), spec)


def _ood_score(item: Made) -> OODScore | None:
    """What tells unknown pictures: the features where they do, else the logits of the photos that evaluated it."""
    if item.detection is not None:
        return item.detection.ood_score
    return None if item.row.ood_thresholds is None else item.row.ood_thresholds.section()


def _is_same(path: Path, source: Fp32Source) -> bool:
    """Whether a path is that of the FP32 file the export begins with, or of a copy of it."""
    return source.existing is not None and (path.samefile(source.existing) or path.read_bytes() == source.fp32)


def _is_export(path: Path) -> bool:
    """Whether `edge-tl export` made it, and may make it again."""
    try:
        return "versions" in read_spec(path).export
    except BadModelError:
        return False


def _is_made_from(path: Path, parent: str) -> bool:
    try:
        return read_spec(path).parent_sha256 == parent
    except BadModelError:
        return False
