"""A classifier exported elsewhere becomes a file of ours: pixels in, logits out, contract and self-test inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_tl_export.elementwise import lift_constants
from edge_tl_export.verify import ExportError, make_self_test
from edge_tl_runtime.classifier import INPUT_NAME, OUTPUT_NAME, SessionSettings, open_session
from edge_tl_runtime.errors import BadModelError, UsageError
from edge_tl_runtime.evaluate import Logits
from edge_tl_runtime.files import sha256
from edge_tl_runtime.onnx_file import sealed
from edge_tl_runtime.spec import ModelSpec

TOLERANCE = 1e-3
TRIED = 3
"""Pictures at once in the comparison with the original: more than one, so that a batch that is fixed shows."""
_PREFIX = "original_"
_OPSETS = (13, 23)
"""Of the default domain, that the operators put in front are the same in."""


@dataclass(frozen=True)
class Adopted:
    """model: the file. recognised: what was found out about the original, for the person."""

    model: bytes
    recognised: tuple[str, ...]


def adopt(data: bytes, spec: ModelSpec, name: str = "the file") -> Adopted:
    """An ONNX classifier of one picture, with pixels in front, logits at its end and the contract inside.

    data: the original; input float32 or uint8, N x 3 x H x W or N x H x W x 3; output N x C. A softmax at the end is cut off.
    spec: labels, crop, normalisation and colour order that the original was trained with; size and self-test are filled in here.
    Raises BadModelError for what is no such graph, UsageError when the labels do not fit, ExportError when the result differs
    from the original.
    """
    try:
        proto = onnx.load_from_string(data)
        onnx.checker.check_model(proto)
        lift_constants(proto)
    except Exception as error:  # noqa: BLE001  # protobuf and the checker raise types of their own
        raise BadModelError(f"{name} is no valid ONNX model: {str(error).splitlines()[0][:200]}") from None
    opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)
    if not _OPSETS[0] <= opset <= _OPSETS[1]:
        raise BadModelError(f"{name} is of opset {opset}; export it again with one from {_OPSETS[0]} to {_OPSETS[1]}")
    arrays = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in arrays]
    if len(inputs) != 1 or len(proto.graph.output) != 1:
        raise BadModelError(f"{name} has {len(inputs)} inputs and {len(proto.graph.output)} outputs, not one of each")
    planar, size, kind, fixed = _picture(inputs[0], name)
    notes = [f"{'N x 3 x H x W' if planar else 'N x H x W x 3'}, {size[1]}x{size[0]} px, {kind}"]
    if fixed:
        _free_reshapes(proto)
        notes.append("the batch was fixed at 1 and is free now")
    spec = replace(spec, resize=replace(spec.resize, height=size[0], width=size[1]), parent_sha256=sha256(data))
    if _cut_softmax(proto):
        notes.append("the softmax at its end was cut off: attacks and calibration need logits")
    quantized = any(node.op_type in ("QuantizeLinear", "QLinearConv", "ConvInteger") for node in proto.graph.node)
    spec = replace(spec, precision="int8" if quantized else "fp32")
    original = proto.SerializeToString()
    _put_in_front(proto, inputs[0].name, planar, kind, spec)
    model = proto.SerializeToString(deterministic=True)
    pixels = np.random.default_rng(0).integers(0, 256, (TRIED, *size, 3), np.uint8)
    logits = _logits(model, name, fixed)
    scores = logits(pixels)
    if scores.shape != (TRIED, len(spec.labels)):
        raise UsageError(
            f"{name} gives scores of shape {scores.shape[1:]} and there are {len(spec.labels)} labels; give those it has"
        )
    _compare(original, inputs[0].name, scores, _as_original(pixels, spec, planar, kind), name, quantized)
    spec = replace(spec, self_test=make_self_test(logits, spec, list(pixels), spec.precision))
    return Adopted(sealed(model, spec), tuple(notes))


def _picture(value: onnx.ValueInfoProto, name: str) -> tuple[bool, tuple[int, int], str, bool]:
    """Whether planes come first, height and width, the type, and whether the batch is fixed."""
    kinds: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.UINT8: "uint8"}
    kind = kinds.get(value.type.tensor_type.elem_type)
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    layouts = [planar for planar, place in ((True, 1), (False, 3)) if len(shape) == 4 and shape[place] == 3]
    if kind is None or not layouts:
        raise BadModelError(
            f"{name}: input {value.name} of shape {shape} is no picture of 3 channels, float32 or uint8"
        )
    planar = layouts[0]
    rows, columns = (shape[2], shape[3]) if planar else (shape[1], shape[2])
    if not rows or not columns:
        raise BadModelError(f"{name}: the height and width of its input are free; export it with fixed ones")
    if shape[0] not in (0, 1):
        raise BadModelError(f"{name} takes {shape[0]} pictures at once; export it with a free batch or with 1")
    return planar, (rows, columns), kind, shape[0] == 1


def _free_reshapes(proto: onnx.ModelProto) -> None:
    """Let reshapes to one picture keep as many as come in: a leading 0 copies the size of the input."""
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in arrays:
            continue
        shape = numpy_helper.to_array(arrays[node.input[1]]).copy()
        if len(shape) < 2 or shape[0] != 1 or 0 in shape:
            continue
        shape[0] = 0
        name = f"{node.output[0]}_free_shape"
        proto.graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
        del node.attribute[:]


def _cut_softmax(proto: onnx.ModelProto) -> bool:
    output = proto.graph.output[0]
    last = next((node for node in proto.graph.node if output.name in node.output), None)
    if last is None or last.op_type not in ("Softmax", "LogSoftmax"):
        return False
    output.name = last.input[0]
    proto.graph.node.remove(last)
    return True


def _put_in_front(proto: onnx.ModelProto, taken: str, planar: bool, kind: str, spec: ModelSpec) -> None:
    """uint8 pixels, layout and normalisation before the graph; our names for its ends; a free batch."""
    graph = proto.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for place, item in enumerate(names):
                if item:
                    names[place] = _PREFIX + item
    for tensor in graph.initializer:
        tensor.name = _PREFIX + tensor.name
    mean, std = (np.array(x, np.float64).reshape(3, 1, 1) for x in (spec.normalization.mean, spec.normalization.std))
    nodes, value = [], INPUT_NAME
    if planar:
        nodes.append(helper.make_node("Transpose", [value], ["planes"], perm=[0, 3, 1, 2]))
        value = "planes"
    if kind == "float32":
        scale, offset = 1 / (255 * std), -mean / std
        if not planar:
            scale, offset = scale.reshape(3), offset.reshape(3)
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), "pixel_scale"))
        graph.initializer.append(numpy_helper.from_array(offset.astype(np.float32), "pixel_offset"))
        nodes.append(helper.make_node("Cast", [value], ["real"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", ["real", "pixel_scale"], ["scaled"]))
        nodes.append(helper.make_node("Add", ["scaled", "pixel_offset"], ["normalized"]))
        value = "normalized"
    nodes.append(helper.make_node("Identity", [value], [_PREFIX + taken]))
    nodes += [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    nodes.append(helper.make_node("Identity", [_PREFIX + graph.output[0].name], [OUTPUT_NAME]))
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    rule = spec.resize
    graph.input.append(
        helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", rule.height, rule.width, 3])
    )
    graph.output.append(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", len(spec.labels)]))


def _logits(model: bytes, name: str, fixed: bool) -> Logits:
    session = open_session(model, name, SessionSettings())

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: pixels})[0], np.float32)
        except Exception as error:  # noqa: BLE001  # onnxruntime raises unrelated types
            why = "its batch is fixed at 1 inside; export it with a free batch" if fixed else "export it again"
            raise BadModelError(
                f"{name} does not run on {len(pixels)} pictures: {str(error).splitlines()[0][:160]}; {why}"
            ) from None

    return logits


def _as_original(pixels: NDArray[np.uint8], spec: ModelSpec, planar: bool, kind: str) -> NDArray[np.generic]:
    values: NDArray[np.generic] = pixels
    if kind == "float32":
        mean, std = np.array(spec.normalization.mean), np.array(spec.normalization.std)
        values = ((pixels / 255.0 - mean) / std).astype(np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if planar else values)


def _compare(
    original: bytes, taken: str, scores: NDArray[np.float32], values: NDArray[np.generic], name: str, quantized: bool
) -> None:
    """Scores with pixels in front against those of the original. quantized: a value that rounds the other way is a step apart,
    and what follows from it is not bounded; then the answers must be the same."""
    session = onnxruntime.InferenceSession(original, providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {taken: value[None]})[0] for value in values])
    allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    worst = float(np.abs(scores - expected).max())
    same = np.array_equal(scores.argmax(1), expected.argmax(1))
    if not worst <= allowed and not (quantized and same):
        raise ExportError(
            f"{name} answers otherwise with pixels in front: scores differ by {worst:.3g}, allowed {allowed:.3g}"
        )


def checked_labels(labels: Sequence[str], name: str) -> tuple[str, ...]:
    """Labels that a classifier can have. Raises UsageError for fewer than two or repeated ones; name: where they are from."""
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise UsageError(f"{name} needs two or more labels that differ, one in a line")
    return tuple(labels)
