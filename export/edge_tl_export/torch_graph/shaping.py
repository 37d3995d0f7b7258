"""Operators that choose, compare, rearrange and enlarge, and what is spelled out before a graph is read for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper, version_converter
from torch.nn import functional

from edge_tl_export.errors import ExportError

if TYPE_CHECKING:
    from edge_tl_export.torch_graph.node import Node

Values = Sequence[Any]  # tensors, None for an input left out
OPSET = 18
_OLDEST = 13
"""Softmax and its like mean another thing before."""


def _constant_of_shape(node: Node, values: Values) -> torch.Tensor:
    value = node.attributes.get("value")
    array = np.zeros(1, np.float32) if value is None else numpy_helper.to_array(value)
    return torch.full([int(size) for size in values[0]], array.item(), dtype=torch.from_numpy(array.copy()).dtype)


def _where(node: Node, values: Values) -> torch.Tensor:
    return torch.where(values[0].bool(), values[1], values[2])


def _range(node: Node, values: Values) -> torch.Tensor:
    start, limit, step = (value.reshape(()).item() for value in values)
    return torch.arange(start, limit, step, dtype=values[0].dtype)


def _tile(node: Node, values: Values) -> torch.Tensor:
    repeated: torch.Tensor = values[0].repeat([int(times) for times in values[1]])
    return repeated


def _depth_to_space(node: Node, values: Values) -> torch.Tensor:
    x, block = values[0], node.attributes["blocksize"]
    if node.attributes.get("mode", b"DCR") == b"CRD":
        return functional.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    spread = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    deep: torch.Tensor = spread.reshape(n, c // block**2, h * block, w * block)
    return deep


def _space_to_depth(node: Node, values: Values) -> torch.Tensor:
    x, block = values[0], node.attributes["blocksize"]
    n, c, h, w = x.shape
    split = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    flat: torch.Tensor = split.reshape(n, c * block**2, h // block, w // block)
    return flat


_RESIZES: Mapping[tuple[str, str, str], tuple[str, bool | None]] = {
    ("linear", "half_pixel", ""): ("bilinear", False),
    ("linear", "pytorch_half_pixel", ""): ("bilinear", False),
    ("linear", "align_corners", ""): ("bilinear", True),
    ("nearest", "asymmetric", "floor"): ("nearest", None),
    ("nearest", "half_pixel", "round_prefer_floor"): ("nearest-exact", None),
    ("nearest", "half_pixel", "round_prefer_ceil"): ("nearest-exact", None),
}
"""Mode, coordinates and, of the nearest, rounding of ONNX: mode and corners of PyTorch."""


def _resize(node: Node, values: Values) -> torch.Tensor:
    x, _, scales, sizes = [*values, None, None, None][:4]
    mode = node.attributes.get("mode", b"nearest").decode()
    where = node.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = node.attributes.get("nearest_mode", b"round_prefer_floor").decode() if mode == "nearest" else ""
    known = _RESIZES.get((mode, where, rounding))
    if known is None or x.ndim != 4 or node.attributes.get("antialias"):
        raise ExportError(f"no gradients through Resize, {mode}, {where}, {rounding} ({node.output})")
    if sizes is None or not len(sizes):
        side = [int(np.floor(size * float(scale))) for size, scale in zip(x.shape[2:], scales[2:], strict=True)]
    else:
        side = [int(size) for size in sizes[2:]]
    return functional.interpolate(x, side, mode=known[0], align_corners=known[1])


SHAPING: Mapping[str, Callable[[Node, Values], torch.Tensor]] = {
    "And": lambda node, values: values[0].bool() & values[1].bool(),
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Einsum": lambda node, values: torch.einsum(node.attributes["equation"].decode(), *values),
    "Equal": lambda node, values: values[0] == values[1],
    "Greater": lambda node, values: values[0] > values[1],
    "GreaterOrEqual": lambda node, values: values[0] >= values[1],
    "Less": lambda node, values: values[0] < values[1],
    "LessOrEqual": lambda node, values: values[0] <= values[1],
    "Not": lambda node, values: ~values[0].bool(),
    "Or": lambda node, values: values[0].bool() | values[1].bool(),
    "Range": _range,
    "Resize": _resize,
    "Size": lambda node, values: torch.tensor(values[0].numel()),
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
    "Where": _where,
}


def in_current_form(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Of opset 13 at least, since older operators mean other things by the same names. Raises ExportError where that fails."""
    opset = max((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), default=_OLDEST)
    if opset >= _OLDEST:
        return proto
    try:
        return version_converter.convert_version(proto, OPSET)
    except Exception:  # noqa: BLE001  # the converter raises types of its own
        raise ExportError(
            f"no gradients through a graph of opset {opset}, which cannot be converted to {OPSET}"
        ) from None


def spell_out_splits(proto: onnx.ModelProto) -> None:
    """Let every Split be a Slice for each part: what reads a graph here knows operators of one output. Raises ExportError."""
    if not any(node.op_type == "Split" for node in proto.graph.node):
        return
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input)
    }
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        if node.op_type != "Split":
            nodes.append(node)
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        sizes = _split_sizes(node, axis, arrays, shapes)
        start = 0
        for output, size in zip(node.output, sizes, strict=True):
            names = []
            for what, value in (("start", start), ("end", start + size), ("axis", axis)):
                names.append(f"{output}_{what}")
                proto.graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), names[-1]))
            nodes.append(onnx.helper.make_node("Slice", [node.input[0], *names], [output], name=f"{output}_slice"))
            start += size
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)


def _split_sizes(
    node: onnx.NodeProto, axis: int, arrays: Mapping[str, onnx.TensorProto], shapes: Mapping[str, list[int]]
) -> list[int]:
    if len(node.input) > 1 and node.input[1] in arrays:
        return [int(size) for size in numpy_helper.to_array(arrays[node.input[1]])]
    shape, parts = shapes.get(node.input[0], []), len(node.output)
    size = shape[axis] if -len(shape) <= axis < len(shape) else 0
    if not size or len(node.input) > 1:
        raise ExportError(f"no gradients through a Split of parts that the graph does not tell ({node.output[0]})")
    part = -(-size // parts)
    return [min(part, size - part * place) for place in range(parts)]
