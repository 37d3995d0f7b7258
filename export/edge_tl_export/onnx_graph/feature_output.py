"""A second output of a graph: what its head sees."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import NodeProto, TensorProto, helper

FEATURES = "features"
"""Name of the output."""
_HEADS = ("Gemm", "MatMul", "Conv")
_PASSED = ("QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten", "Squeeze", "Identity", "Add", "Cast")
"""What may lie between the head and the logits, and changes no more than shape, type or bias."""


def with_features(model: bytes) -> tuple[bytes, int] | None:
    """The same graph with an output `features`, float32 (N, D), and D; None where no head is found.

    The features are what the last layer with weights reads, flattened; logits are as they were.
    """
    proto = onnx.load_from_string(model)
    head = _head(proto)
    if head is None:
        return None
    width = _width(proto, head)
    if width is None:
        return None
    graph = proto.graph
    real, shape = f"{FEATURES}_real", f"{FEATURES}_shape"
    graph.initializer.append(helper.make_tensor(shape, TensorProto.INT64, [2], [0, width]))
    graph.node.append(helper.make_node("Cast", [head.input[0]], [real], name=real, to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Reshape", [real, shape], [FEATURES], name=FEATURES))
    batch = graph.output[0].type.tensor_type.shape.dim[0]
    output = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [batch.dim_param or batch.dim_value, width])
    graph.output.append(output)
    return proto.SerializeToString(deterministic=True), width


def without_features(model: bytes) -> bytes:
    """The graph as it was before `with_features`; the same bytes where it has no such output."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    if all(value.name != FEATURES for value in graph.output):
        return model
    for values in (graph.output, graph.node, graph.initializer):
        kept = [value for value in values if value.name not in (FEATURES, f"{FEATURES}_real", f"{FEATURES}_shape")]
        del values[:]
        values.extend(kept)
    return bytes(proto.SerializeToString(deterministic=True))


def _head(proto: onnx.ModelProto) -> NodeProto | None:
    """The layer with weights that gives the logits."""
    made: Mapping[str, NodeProto] = {name: node for node in proto.graph.node for name in node.output}
    name = proto.graph.output[0].name
    while (node := made.get(name)) is not None:
        if node.op_type in _HEADS:
            return node
        if node.op_type not in _PASSED:
            return None
        name = next((read for read in node.input if read in made), "")
    return None


def _width(proto: onnx.ModelProto, head: NodeProto) -> int | None:
    """Features a picture, from the weights of the head."""
    shapes = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    made = {name: node for node in proto.graph.node for name in node.output}
    weight = head.input[1]
    while weight not in shapes:
        if weight not in made:
            return None
        weight = made[weight].input[0]
    dims = shapes[weight]
    if head.op_type == "Conv":
        return int(dims[1]) if dims[2:] == [1, 1] else None
    transposed = any(item.name == "transB" and item.i for item in head.attribute)
    return int(dims[1] if transposed else dims[0])
