"""Our ends on somebody's graph: pixels and normalisation in front, logits behind, any number of pictures, a wide opset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from edge_tl_export.adoption.graph import attribute, graphs, rename
from edge_tl_export.adoption.loading import opset
from edge_tl_export.adoption.picture import LUMA, ImageInput
from edge_tl_export.adoption.reading import Reading
from edge_tl_export.adoption.scores import ending
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME
from edge_tl_runtime.modelfile.spec import ModelSpec

PREFIX = "original_"
TARGETS = {"older": (18, 17, 13), "newer": (21, 22, 23)}
"""Opsets to convert to. 18 is what `edge-tl export` writes; 21 is the newest that onnxruntime 1.20 reads. Between 13 and 21
nothing needs converting."""
IR_VERSIONS = (8, 10)
"""What files are given at least and at most: 10 is the newest that onnxruntime 1.20 reads."""


def converted(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """The graph in an opset that every supported onnxruntime reads, None where the converter cannot or need not."""
    version = opset(proto)
    if 13 <= version <= 21 or not version:
        return None
    for target in TARGETS["older" if version < 13 else "newer"]:
        if version > 21 and target >= version:
            break
        try:
            made = version_converter.convert_version(proto, target)
            onnx.checker.check_model(made)
        except Exception:  # noqa: BLE001  # the converter raises types of its own for operators it does not know
            continue
        return made
    return None


def assembled(
    proto: onnx.ModelProto, picture: ImageInput, scores: str, reading: Reading, spec: ModelSpec
) -> onnx.ModelProto:
    """A model of pixels, uint8 (N, H, W, 3), and logits, float32 (N, C), around the graph in `proto`, which is not changed.

    scores: the value of the graph to go on from.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    rename(graph, lambda name: PREFIX + name)
    front, numbers = _front(picture, spec)
    back, more = ending(PREFIX + scores, reading, len(spec.labels), OUTPUT_NAME)
    middle = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend([*front, *middle, *back])
    graph.initializer.extend([*numbers, *more])
    rule = spec.resize
    graph.input.append(
        helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", rule.height, rule.width, 3])
    )
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", len(spec.labels)]))
    made.ir_version = min(max(made.ir_version, IR_VERSIONS[0]), max(IR_VERSIONS[1], _least_ir(made)))
    del made.metadata_props[:]
    return made


def _least_ir(proto: onnx.ModelProto) -> int:
    """The IR version that came with the model's opset; older ones may not hold it."""
    for row in helper.VERSION_TABLE:
        if row[2] >= opset(proto):
            return int(row[1])
    return onnx.IR_VERSION


def _front(picture: ImageInput, spec: ModelSpec) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """From pixels to what the original takes. The same operators in every opset from 7 on."""
    nodes: list[onnx.NodeProto] = []
    numbers: dict[str, NDArray[np.generic]] = {}
    value = INPUT_NAME

    def add(operator: str, result: str, *more: str, **attributes: Any) -> None:
        nonlocal value
        nodes.append(helper.make_node(operator, [value, *more], [result], **attributes))
        value = result

    def number(name: str, array: NDArray[np.generic]) -> str:
        numbers[name] = array
        return name

    grey = picture.channels == 1
    if picture.planar and not grey:
        add("Transpose", "planes", perm=[0, 3, 1, 2])
    if grey or picture.kind != "uint8":
        add("Cast", "real", to=TensorProto.FLOAT)
    if grey:
        weights = np.array(LUMA if spec.resize.color_order == "RGB" else LUMA[::-1], np.float64) / 65536
        add("MatMul", "luma", number("luma_weights", weights.reshape(3, 1).astype(np.float32)))
        if picture.whole:
            add("Add", "luma_and_half", number("half", np.array(0.5, np.float32)))
            add("Floor", "luma_rounded")
    if picture.kind == "int8":
        add("Sub", "signed", number("half_of_256", np.array(128, np.float32)))
    if not picture.whole:
        mean, std = (np.array(item, np.float64) for item in (spec.normalization.mean, spec.normalization.std))
        shape = (1,) if grey else (3, 1, 1) if picture.planar else (3,)
        scale, offset = (
            item[: picture.channels].reshape(shape).astype(np.float32) for item in (1 / (255 * std), -mean / std)
        )
        if (scale != 1).any():
            add("Mul", "scaled", number("pixel_scale", scale))
        if offset.any():
            add("Add", "normalized", number("pixel_offset", offset))
    if picture.planar and grey:
        add("Transpose", "planes", perm=[0, 3, 1, 2])
    if picture.kind not in ("float32", "uint8") or (grey and picture.kind == "uint8"):
        add("Cast", "typed", to=helper.np_dtype_to_tensor_dtype(np.dtype(picture.kind)))
    nodes.append(helper.make_node("Identity", [value], [PREFIX + picture.name]))
    return nodes, [numpy_helper.from_array(array, name) for name, array in numbers.items()]


# One number of pictures to any


def batch_variants(proto: onnx.ModelProto, batch: int) -> Iterator[str]:
    """Change the graph in place, from one way to let it take any number of pictures to the next; a line for each.

    batch: what the input was fixed to, 0 where it said that it is free.
    """
    if not batch:
        yield ""
    fixed = max(1, batch)
    undo = free_reshapes(proto, fixed, 0)
    yield _freed(batch)
    if batch:
        _restore(undo)
        yield _freed(batch)
    _restore(undo)
    free_reshapes(proto, fixed, -1)
    yield _freed(batch)


def _freed(batch: int) -> str:
    if not batch:
        return "reshapes inside were for one picture and are for any number now"
    return f"the batch was fixed at {batch} and is free now"


Undo = list[tuple[onnx.NodeProto, str, list[onnx.AttributeProto]]]


def free_reshapes(proto: onnx.ModelProto, batch: int, leading: int) -> Undo:
    """Let reshapes to `batch` pictures keep as many as come in. leading: 0 copies the input's size, -1 takes what is left.

    Returns what `_restore` needs.
    """
    undo: Undo = []
    for graph in graphs(proto.graph):
        arrays = {tensor.name: tensor for tensor in graph.initializer}
        for node in list(graph.node):
            if node.op_type != "Reshape" or len(node.input) < 2 or node.input[1] not in arrays:
                continue
            shape = numpy_helper.to_array(arrays[node.input[1]]).copy()
            if len(shape) < 2 or shape[0] != batch or 0 in shape or (leading == -1 and -1 in shape):
                continue
            shape[0] = leading
            name = f"{node.output[0]}_free_shape_{-leading}"
            graph.initializer.append(numpy_helper.from_array(shape, name))
            undo.append((node, node.input[1], list(node.attribute)))
            node.input[1] = name
            if attribute(node, "allowzero"):
                del node.attribute[:]
    return undo


def _restore(undo: Undo) -> None:
    for node, name, attributes in undo:
        node.input[1] = name
        if not node.attribute:
            node.attribute.extend(attributes)


def one_by_one(
    proto: onnx.ModelProto, picture: ImageInput, scores: str, reading: Reading, spec: ModelSpec
) -> onnx.ModelProto:
    """As `assembled`, for a graph that takes a fixed number of pictures only: they go through one after the other, by Scan.

    The original is a graph inside; a number other than 1 is filled with copies of the picture.
    """
    made = assembled(proto, picture, scores, reading, spec)
    graph = made.graph
    taken = PREFIX + picture.name
    place = next(i for i, node in enumerate(graph.node) if node.output[:1] == [taken])
    behind = next(i for i, node in enumerate(graph.node) if node.output[:1] == ["scores_float"])
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    front, inner, back = nodes[:place], nodes[place + 1 : behind], nodes[behind:]
    batched = nodes[place].input[0]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(picture.kind))
    planes = [picture.channels, picture.height, picture.width]
    shape = planes if picture.planar else planes[1:] + planes[:1]
    numbers = {
        "one_picture": np.array([1, *shape], np.int64),
        "copies": np.array([max(1, picture.batch), 1, 1, 1], np.int64),
        "one_row": np.array([max(1, picture.batch), -1], np.int64),
        "first_row": np.array(0, np.int64),
    }
    body = helper.make_graph(
        [
            helper.make_node("Reshape", ["one", "one_picture"], ["one_alone"]),
            helper.make_node("Expand", ["one_alone", "filled_shape"], [taken]),
            *inner,
            helper.make_node("Cast", [back[0].input[0]], ["one_float"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["one_float", "one_row"], ["one_flat"]),
            helper.make_node("Gather", ["one_flat", "first_row"], ["one_scores"], axis=0),
        ],
        "one_picture_alone",
        [helper.make_tensor_value_info("one", kind, shape)],
        [helper.make_tensor_value_info("one_scores", TensorProto.FLOAT, None)],
    )
    numbers["filled_shape"] = np.array([max(1, picture.batch), *shape], np.int64)
    del numbers["copies"]
    scan = helper.make_node("Scan", [batched], ["all_scores"], num_scan_inputs=1, body=body)
    back[0].input[0] = "all_scores"
    del graph.node[:]
    graph.node.extend([*front, scan, *back])
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in numbers.items())
    return made
