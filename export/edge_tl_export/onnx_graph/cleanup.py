"""An exported graph in its plainest form: what the exporter left over is taken out, what it spelled out is named again."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)


def tidy(model: ir.Model) -> None:
    """Rewrite in place. The same function, without doc strings, duplicated or unused tensors, and with global pooling as one
    operator, for which runtimes have integer kernels, instead of a mean, a reshape and a gather over a range made at run time.
    """
    for node in list(model.graph):
        _name_global_pooling(node)
    Sequential(
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        IdentityEliminationPass(),
        CommonSubexpressionEliminationPass(),
        DeduplicateInitializersPass(size_limit=2**31),
        RemoveUnusedNodesPass(),
        ClearMetadataAndDocStringPass(),
    )(model)


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array behind a value that is an initializer or a Constant node's output."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def _name_global_pooling(node: ir.Node) -> None:
    """ReduceMean over both sides of the picture -> GlobalAveragePool, with the reshape and gather that may follow it.

    The exporter spells adaptive pooling to 1 x 1 as a strided view: the mean flattened, then gathered by `range(N * C)`.
    """
    if node.op_type != "ReduceMean" or not node.attributes.get_int("keepdims", 1):
        return
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or sorted(int(a) % 4 for a in axes) != [2, 3]:
        return
    pooled = ir.Node("", "GlobalAveragePool", [node.inputs[0]], name=node.name)
    pooled.outputs[0].name = node.outputs[0].name
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, pooled)
    node.outputs[0].replace_all_uses_with(pooled.outputs[0])
    for reshape, _ in tuple(pooled.outputs[0].uses()):
        for view, _ in tuple(reshape.outputs[0].uses()):
            if (
                reshape.op_type == "Reshape"
                and view.op_type == "Gather"
                and str(view.name).startswith("node_as_strided")
            ):
                view.outputs[0].replace_all_uses_with(pooled.outputs[0])


_PLAIN = ("value", "value_float", "value_floats", "value_int", "value_ints")
"""Kinds of constants that an initializer can be; sparse ones and texts stay nodes."""


def lift_constants(proto: onnx.ModelProto) -> None:
    """Let constants that are nodes be initializers, as everything that reads a graph here expects."""
    kept = []
    for node in proto.graph.node:
        plain = node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name in _PLAIN
        if not plain:
            kept.append(node)
            continue
        (attribute,) = node.attribute
        value = onnx.helper.get_attribute_value(attribute)
        kind = np.float32 if attribute.name.startswith("value_float") else np.int64
        tensor = value if attribute.name == "value" else onnx.numpy_helper.from_array(np.array(value, kind))
        made = proto.graph.initializer.add()
        made.CopyFrom(tensor)
        made.name = node.output[0]
    if len(kept) != len(proto.graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
        del proto.graph.node[:]
        proto.graph.node.extend(copies)


def add_initializer(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """Register a new constant under a name that must be free."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value
