"""One graph from pixels to logits, and its ONNX form."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import nn

from edge_tl_export.onnx_graph.cleanup import tidy
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization

OPSET = 18
"""The exporter's native opset: no version conversion takes part, and onnxruntime 1.20 and OpenVINO 2024 read it."""


class PixelModel(nn.Module):
    """Pixels, uint8 (N, H, W, 3), to logits, float32 (N, C): layout, cast and normalisation around a network.

    The same module gives features in training, scores in evaluation, and the exported graph.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, network: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.network = network
        mean = torch.tensor(normalization.mean, dtype=torch.float64).view(1, 3, 1, 1)
        std = torch.tensor(normalization.std, dtype=torch.float64).view(1, 3, 1, 1)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("offset", (-mean / std).float(), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        planes = pixels.permute(0, 3, 1, 2).float()
        output: torch.Tensor = self.network(planes * self.scale + self.offset)
        return output

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`forward` for arrays, on whatever device the module is: what `edge_tl_runtime.evaluation.evaluate` calls Logits."""
        with torch.inference_mode():
            output: torch.Tensor = self(torch.from_numpy(pixels).to(self.scale.device))
            return output.float().cpu().numpy()


def to_onnx(network: nn.Module, spec: ModelSpec) -> bytes:
    """The graph of `network` as a checked, self-contained ONNX model with a free batch dimension.

    The bytes depend on weights and structure only: names of files and stack traces that the exporter adds are removed.
    Raises onnx.checker.ValidationError when the exporter made an invalid graph.
    """
    parameter = next(network.parameters())
    was_training, device = network.training, parameter.device
    model = PixelModel(network, spec.normalization).eval().cpu()
    rule = spec.resize
    example = torch.zeros(2, rule.height, rule.width, 3, dtype=torch.uint8)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    finally:
        network.train(was_training).to(device)
    assert program is not None
    graph = program.model
    tidy(graph)
    proto = ir.to_proto(graph)
    _strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def _strip(proto: onnx.ModelProto) -> None:
    proto.doc_string = ""
    proto.graph.doc_string = ""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress lines off the person's terminal; failures are raised, not printed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
