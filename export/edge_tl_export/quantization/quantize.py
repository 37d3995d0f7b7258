"""Post-training quantization: one float graph and calibration photos give any number of candidate files."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_float_to_float16

from edge_tl_export.quantization.equalize import equalize
from edge_tl_export.quantization.prepare import prepare
from edge_tl_export.quantization.qdq import (
    QUANTIZABLE,
    SATURATING,
    WEIGHTED,
    quantized,
    quantized_tensors,
    weighted_nodes,
)
from edge_tl_export.quantization.ranges import Observations, observe
from edge_tl_export.quantization.recipe import Recipe


class Quantizer:
    """One float graph and its calibration photos, from which `make` gives a file for any recipe.

    What the photos showed is kept, so that recipes which differ in later choices cost one writing each.
    """

    def __init__(self, fp32: bytes, batches: Sequence[NDArray[np.uint8]]) -> None:
        """fp32: a pixels-to-logits graph. batches: uint8 (N, H, W, 3) each, N free; all are read for each form of the graph."""
        self._fp32, self._batches = fp32, batches
        self._observed: dict[tuple[bool, bool, float], tuple[bytes, Observations]] = {}

    def has(self, kind: str) -> bool:
        """Whether the float graph holds an operator of this kind."""
        return any(node.op_type == kind for node in onnx.load_from_string(self._fp32).graph.node)

    def make(self, recipe: Recipe) -> bytes:
        """A checked QDQ file; the same photos and the same recipe give the same bytes."""
        form, seen = self._form(recipe)
        return quantized(ir.serde.deserialize_model(onnx.load_from_string(form)), seen, recipe)

    def layers(self, recipe: Recipe) -> list[str]:
        """Names of the convolutions and matrix products of the float graph, in order."""
        form, _ = self._form(recipe)
        return [node.name for node in onnx.load_from_string(form).graph.node if node.op_type in WEIGHTED]

    def chained(self, recipe: Recipe, names: Collection[str]) -> tuple[str, ...]:
        """Those of some layers that hand floats to each other, or to the scores; the others would gain nothing from being float.

        A lone one reads integers and writes integers, and onnxruntime takes such a layer for a quantized one whose weights
        somebody forgot: it rounds them itself, with one scale for all channels.
        """
        form, _ = self._form(recipe)
        model = ir.serde.deserialize_model(onnx.load_from_string(form))
        kept: set[str] = set()
        for node in model.graph:
            if node.name in names:
                after, ends = _next_layers(node)
                together = after & set(names)
                kept |= {str(node.name), *together} if together or ends else set()
        return tuple(sorted(kept))

    def left_in_float(self, recipe: Recipe) -> list[str]:
        """Kinds of operators of the graph that no integer kernel is known for."""
        form, _ = self._form(recipe)
        entry = ("Cast", "DequantizeLinear", *QUANTIZABLE)
        return sorted({node.op_type for node in onnx.load_from_string(form).graph.node if node.op_type not in entry})

    def _form(self, recipe: Recipe) -> tuple[bytes, Observations]:
        key = recipe.pixels, recipe.hard_swish, recipe.equalize
        if key not in self._observed:
            model = prepare(self._fp32, recipe)
            if recipe.equalize:
                seen = observe(model, quantized_tensors(model), self._batches)
                equalize(model, seen, recipe.equalize)
            seen = observe(model, quantized_tensors(model), self._batches, weighted_nodes(model))
            self._observed[key] = ir.to_proto(model).SerializeToString(), seen
        return self._observed[key]


def _next_layers(node: ir.Node) -> tuple[set[str], bool]:
    """Names of the convolutions and matrix products that read what a layer gives, and whether it ends in the scores."""
    found: set[str] = set()
    ends = False
    waiting = list(node.outputs)
    while waiting:
        value = waiting.pop()
        ends |= value.is_graph_output()
        for reader, _ in value.uses():
            if reader.op_type in WEIGHTED:
                found.add(str(reader.name))
            elif reader.op_type in (*SATURATING, "HardSwish"):
                waiting += reader.outputs
    return found, ends


def quantize(fp32: bytes, batches: Sequence[NDArray[np.uint8]], recipe: Recipe = Recipe()) -> bytes:
    """Quantize a pixels-to-logits graph by one recipe, without looking at what it costs; `search` looks."""
    return Quantizer(fp32, batches).make(recipe)


def to_fp16(fp32: bytes) -> bytes:
    """Half-precision weights and arithmetic; pixels stay uint8 and logits float32."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # the converter warns of every constant that half precision rounds to zero
    try:
        proto = convert_float_to_float16(onnx.load_from_string(fp32), keep_io_types=True)
    finally:
        logging.root.setLevel(level)
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized
