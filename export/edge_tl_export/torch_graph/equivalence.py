"""Proof that a graph rebuilt in PyTorch is the file: the same scores as onnxruntime's on real photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.inference.classifier import OUTPUT_NAME

if TYPE_CHECKING:
    from edge_tl_export.documents import FaithfulnessDocument

AT_ONCE = 16
FLOAT_SHARE = 1e-4
"""What float graphs may differ by, over the spread of the scores: sums in another order, with 7 digits."""
_WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class Faithfulness:
    """Rebuild against file on n photos. step: what was allowed between two scores; integer: whether it is a step of integers."""

    n: int
    top1_equal: int
    largest: float
    step: float
    integer: bool

    @property
    def holds(self) -> bool:
        """Whether every score is within a step and every label the same."""
        return self.n > 0 and self.top1_equal == self.n and self.largest <= self.step

    def __str__(self) -> str:
        unit = "one output step" if self.integer else "allowed for float"
        return (
            f"same label on {self.top1_equal} of {self.n} photos, largest score difference {self.largest:.2g} "
            f"({unit}: {self.step:.2g})"
        )

    def to_dict(self) -> FaithfulnessDocument:
        return {
            "n": self.n,
            "top1_equal": self.top1_equal,
            "largest": self.largest,
            "step": self.step,
            "integer": self.integer,
            "holds": self.holds,
        }


def faithfulness(graph: nn.Module, model: bytes, logits: Logits, pixels: NDArray[np.uint8]) -> Faithfulness:
    """Compare a rebuild with its file on the same pixels, uint8 (N, H, W, 3).

    graph: pixels to logits, in PyTorch. model: the file. logits: the file in onnxruntime.
    """
    groups = [pixels[start : start + AT_ONCE] for start in range(0, len(pixels), AT_ONCE)]
    with torch.no_grad():
        rebuilt = np.concatenate([graph(torch.from_numpy(np.array(group))).cpu().numpy() for group in groups])
    true = np.concatenate([logits(np.ascontiguousarray(group)) for group in groups])
    step = output_step(model)
    spread = float(np.abs(true).max()) if len(true) else 0.0
    return Faithfulness(
        len(pixels),
        int((rebuilt.argmax(1) == true.argmax(1)).sum()),
        float(np.abs(rebuilt.astype(np.float64) - true).max()),
        FLOAT_SHARE * max(1.0, spread) if step is None else step,
        step is not None,
    )


def output_step(model: bytes) -> float | None:
    """How far one step of the last integers moves a logit; None for a graph without integers.

    The scale of the logits themselves where these are quantized; else what one step of the last layer's input does through its
    largest weight.
    """
    graph = onnx.load_from_string(model).graph
    made = {output: node for node in graph.node for output in node.output}
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    node = made.get(OUTPUT_NAME)
    while node is not None and node.op_type not in (*_WEIGHTED, "DequantizeLinear"):
        node = next((made[name] for name in node.input if name in made), None)
    if node is None:
        return None
    if node.op_type == "DequantizeLinear":
        return float(arrays[node.input[1]].max())
    steps = []
    for name in node.input[:2]:
        source = made.get(name)
        if source is None or source.op_type != "DequantizeLinear":
            return None
        scale = arrays[source.input[1]]
        if source.input[0] in arrays:
            largest = np.abs(arrays[source.input[0]].astype(np.int64)).max()
            steps.append(float(scale.max()) * float(largest))
        else:
            steps.append(float(scale.max()))
    return float(np.prod(steps))
