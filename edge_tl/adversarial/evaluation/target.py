"""A deployed file under evaluation, and the ways there are into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl_export import ExportError
from edge_tl_export.adoption.deciding import KEY as ADOPTED_KEY
from edge_tl_export.torch_graph.equivalence import AT_ONCE, Faithfulness, faithfulness
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.modelfile.onnx import read_model

if TYPE_CHECKING:
    from edge_tl.adversarial.documents import AttackedModelDocument

WITHIN = 16
"""Noise, of 255, that a value inside a graph must not change with to count as constant."""
WHITE_BOX, TRANSFER, BLACK_BOX, CONTROL_KIND = "white-box", "transfer", "black-box", "control"


@dataclass(frozen=True)
class Route:
    """One way into a file. kind: one of the words above. model: what attacks get. knows: what the attacker must have."""

    name: str
    kind: str
    model: AttackedModel
    knows: str


@dataclass(frozen=True)
class Absent:
    """A way that there is not, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class ModelUnderTest:
    """name: "INT8" or "FP32", for tables. routes: those of the file's own gradients first.

    faithfulness: of the differentiable rebuild, None where the graph cannot be rebuilt. constant: values inside the graph that
    are the same for every photo, and get no slope.
    """

    name: str
    path: Path
    classifier: Classifier
    sha256: str
    routes: tuple[Route, ...]
    absent: tuple[Absent, ...]
    faithfulness: Faithfulness | None
    constant: tuple[str, ...] = ()

    @property
    def without_gradients(self) -> AttackedModel:
        """The file without gradients: what black-box attacks get."""
        return AttackedModel(self.classifier.logits)

    def summary(self) -> AttackedModelDocument:
        spec = self.classifier.spec
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "precision": spec.precision,
            "arch": spec.arch,
            "classes": len(spec.labels),
        }


class LoadedModel:
    """A file, its session, and its graph in PyTorch once it was rebuilt. why: there is none, proof: that it is the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.classifier = Classifier(path, SessionSettings(spin=True))
        self._data = read_model(path)
        self.sha256 = sha256(self._data)
        self.graph: DifferentiableGraph | None = None
        self.why = ""
        self.proof: Faithfulness | None = None
        self.constant: tuple[str, ...] = ()

    def rebuild(self, device: str, sample: NDArray[np.uint8]) -> None:
        """Take the graph into PyTorch where it is known and proven on `sample`, uint8 (N, H, W, 3)."""
        try:
            graph = DifferentiableGraph(self._data)
        except ExportError as error:
            self.why = str(error)
            return
        self.proof = faithfulness(graph, self._data, self.classifier.logits, sample)
        if self.proof.holds:
            self.constant = graph.block_constants(_tried(sample))
            self.graph = graph.to(device)
        else:
            self.why = f"the rebuild in PyTorch is not the file: {self.proof}"

    @property
    def name(self) -> str:
        return self.classifier.spec.precision.upper()

    def under_test(self, counterpart: LoadedModel | None, device: str) -> ModelUnderTest:
        """With every way in that there is. counterpart: the FP32 file that this one was quantized from."""
        answer = self.classifier.logits
        routes: list[Route] = []
        absent: list[Absent] = []
        own = "straight-through" if self.classifier.spec.precision == "int8" else "gradients"
        if self.graph is None:
            absent.append(Absent(own, self.why))
        else:
            routes.append(Route(own, WHITE_BOX, AttackedModel(answer, self.graph, device=device), "the file"))
        if counterpart is not None and counterpart.graph is not None:
            way_back = AttackedModel(answer, counterpart.graph, backward_only=True, device=device)
            routes.append(Route("BPDA", WHITE_BOX, way_back, "the file and the FP32 file that it was made from"))
            other = AttackedModel(answer, counterpart.graph, device=device)
            routes.append(Route("transfer", TRANSFER, other, "the FP32 file that it was made from"))
        elif self.classifier.spec.precision != "fp32" and set(self.classifier.spec.export) != {ADOPTED_KEY}:
            # A file as it was adopted has no FP32 counterpart; one that was quantized after that has.
            why = counterpart.why if counterpart else "the FP32 file that it was made from is not in its folder"
            absent += [Absent(name, why) for name in ("BPDA", "transfer")]
        return ModelUnderTest(
            self.name, self.path, self.classifier, self.sha256, tuple(routes), tuple(absent), self.proof, self.constant
        )


def _tried(sample: NDArray[np.uint8]) -> list[torch.Tensor]:
    """Photos, uint8 (N, H, W, 3), as they are and with noise of up to WITHIN: float batches for `block_constants`."""
    noise = np.random.default_rng(0).integers(-WITHIN, WITHIN + 1, sample.shape)
    noisy = np.clip(sample + noise, 0, 255)
    batches = [pixels[i : i + AT_ONCE] for pixels in (sample, noisy) for i in range(0, len(sample), AT_ONCE)]
    return [torch.from_numpy(np.array(batch)).float() for batch in batches]
