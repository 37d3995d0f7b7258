"""What was asked of an export, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.detection.background import BackgroundTrial
from edge_tl_export.detection.detector import Detection
from edge_tl_export.onnx_graph.other_runtimes import RuntimeCheck
from edge_tl_export.onnx_graph.verify import Parity
from edge_tl_export.search.compare import CandidateRow
from edge_tl_export.search.fitted_sets import FittedSets
from edge_tl_export.search.search import Candidate, Layer
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.machine.cpu import cpu_name

if TYPE_CHECKING:
    from edge_tl_export.documents import ExportDocument, ModelFileDocument

FORMAT: Final = 2
"""Of export.json. Format 1 had no number: it said `engines` for `runtime_checks`, and figures of candidates lay in them."""


@dataclass(frozen=True)
class ModelFile:
    """A file of the table, with its row and what other runtimes made of it. is_new: not one that was there and is unchanged.
    detection: what it notices of pictures that are like none of its training photos; None where it cannot tell. sets: of labels;
    None where too few photos evaluated it, and for a file that was there. background: what it notices of background photos."""

    path: Path
    sha256: str
    row: CandidateRow
    checks: tuple[RuntimeCheck, ...] = ()
    is_new: bool = True
    detection: Detection | None = None
    sets: FittedSets | None = None
    background: BackgroundTrial | None = None

    def to_dict(self) -> ModelFileDocument:
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            **self.row.to_dict(),
            "runtime_checks": [check.to_dict() for check in self.checks],
            "detection": None if self.detection is None else self.detection.to_dict(),
            "label_sets": None if self.sets is None else self.sets.to_dict(),
            "background": None if self.background is None else self.background.to_dict(),
        }


@dataclass(frozen=True)
class Changed:
    """An evaluated photo whose label the quantized file changes. pixels: uint8 (H, W, 3), in the network's colour order."""

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
    no_detection: in words, why files cannot tell unknown pictures; "" where they can.
    refused: in words, why the kind asked for was not written; "" when it was. changed: photos that the last file labels
    otherwise. stem: of the files' names.
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
    no_detection: str = ""
    skipped: tuple[Unreadable, ...] = ()
    stem: str = "model"

    @property
    def others(self) -> float:
        """Part of the processor that other programs took while files were timed: of the worst of those that are shown."""
        evaluated = [candidate.row for candidate in self.tried if candidate.row is not None]
        return max(row.time.others for row in (*(file.row for file in self.files), *evaluated))

    @property
    def photos_used(self) -> str:
        """`calibrated on 34, evaluated on 10 photos`: those that could be read; "" where there were none."""
        evaluation = self.files[0].row.evaluation
        counts = ("calibrated", self.calibration_photos), ("evaluated", 0 if evaluation is None else evaluation.n)
        said = ", ".join(f"{verb} on {count}" for verb, count in counts if count)
        return f"{said} photos that could be read" if said else ""

    @property
    def by_noise(self) -> list[Candidate]:
        """What was tried, the cleanest first."""
        return sorted(self.tried, key=lambda candidate: -candidate.sqnr)

    @property
    def nearest(self) -> list[Candidate]:
        """What was evaluated, the smallest loss of accuracy first."""
        evaluated = [candidate for candidate in self.tried if candidate.row is not None]
        return sorted(evaluated, key=lambda c: (c.row.drop or 0) if c.row else 0.0)

    def to_dict(self) -> ExportDocument:
        """The document of `edge-tl export --json`."""
        last = self.files[-1].row
        return {
            "format": FORMAT,
            "models": [file.to_dict() for file in self.files],
            "drop": None if last.drop is None else round(100 * last.drop, 4),
            "speedup": round(last.speedup, 4),
            "others": round(self.others, 3),
            "size_ratio": round(self.files[0].row.bytes / last.bytes, 4),
            "max_drop": round(100 * self.max_drop, 4),
            "target": self.target,
            "machine": cpu_name(),
            "refused": self.refused,
            "parity": {
                "reference": self.parity.reference,
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
