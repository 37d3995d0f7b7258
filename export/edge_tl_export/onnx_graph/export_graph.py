"""A network from pixels to logits as an ONNX graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import onnx_ir as ir
import torch
from torch import nn

from edge_tl_export.onnx_graph.cleanup import tidy
from edge_tl_export.onnx_graph.pixel_model import PixelModel
from edge_tl_export.onnx_graph.trace import trace
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME
from edge_tl_runtime.modelfile.spec import ModelSpec

OPSET = 18
"""The exporter's native opset: no version conversion takes part, and onnxruntime 1.20 and OpenVINO 2024 read it."""


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
                trace(model, example),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
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
