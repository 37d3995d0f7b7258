"""A classifier's graph as others write it, in the form that quantization knows: same function, fewer kinds of operators.

onnxruntime's own hardware-independent passes fold constants and batch normalisation; what they leave, and the quantizer has
integer kernels for under another name, is renamed here. The caller compares the answers, so a rewriting that errs is never used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter

from edge_tl_export.errors import ExportError
from edge_tl_export.onnx_graph.cleanup import add_initializer, constant, lift_constants, tidy
from edge_tl_export.onnx_graph.export_graph import OPSET
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.inference.classifier import INPUT_NAME

_DEFAULT = ("", "ai.onnx")


def plain_graph(model: bytes, name: str) -> bytes:
    """A pixels-to-logits graph in plain form, opset OPSET or newer, without metadata. name: of the file, for messages.

    Raises ExportError where that fails.
    """
    try:
        return _rewritten(model, name)
    except ExportError:
        raise
    except Exception as error:  # noqa: BLE001  # onnx, onnx-ir and onnxruntime each raise types of their own
        raise ExportError(
            f"{name} cannot be brought into the form that is quantized ({one_line(error, 160)}); use it as it is"
        ) from None


def _rewritten(model: bytes, name: str) -> bytes:
    proto = onnx.load_from_string(model)
    lift_constants(proto)
    proto = _at_least_opset(proto)
    proto = _simplified(proto, name)
    _fix_shapes(proto)
    del proto.metadata_props[:]
    proto = onnx.shape_inference.infer_shapes(proto)
    graph = ir.serde.deserialize_model(proto)
    _name_nodes(graph)
    tidy(graph)
    for node in list(graph.graph):
        _spell_out_batch_norm(node)
        _name_pooling(node)
        _name_hard_sigmoid(node)
        _name_matrix_product(node)
    for node in list(graph.graph):
        _name_hard_swish(node)
    _join_normalization(graph)
    _name_nodes(graph)
    tidy(graph)
    proto = ir.to_proto(graph)
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def opset_of(proto: onnx.ModelProto) -> int:
    return max((item.version for item in proto.opset_import if item.domain in _DEFAULT), default=0)


def _at_least_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Converted to OPSET where it is older; as it is where the converter knows no way."""
    if opset_of(proto) >= OPSET:
        return proto
    try:
        return version_converter.convert_version(proto, OPSET)
    except Exception:  # noqa: BLE001  # the converter raises types of its own; an older form is then quantized as it is
        return proto


def _simplified(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(target)
        try:
            onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  # onnxruntime raises a dozen unrelated types
            raise ExportError(f"onnxruntime cannot simplify {name}: {one_line(error)}; nothing was written") from None
        simplified = onnx.load(target)
    used = {node.domain for node in simplified.graph.node} | {""}
    kept = [item for item in simplified.opset_import if item.domain in used]
    kept = [onnx.OperatorSetIdProto.FromString(item.SerializeToString()) for item in kept]
    del simplified.opset_import[:]
    simplified.opset_import.extend(kept)
    return simplified


def _fix_shapes(proto: onnx.ModelProto) -> None:
    """Let shapes, places and axes that the graph computes from the batch be constant, where two batches show that they may.

    What stays the same for two photos and for three others is constant; the batch itself is a leading 0, "as it comes in".
    """
    arrays = {tensor.name for tensor in proto.graph.initializer} | {INPUT_NAME, ""}
    computed = [
        (node, place)
        for node in proto.graph.node
        if node.op_type in _SHAPED
        for place in range(1, len(node.input))
        if node.input[place] not in arrays
    ]
    if not computed:
        return
    names = [name for node, place in computed for name in (node.input[place], node.input[0]) if name != INPUT_NAME]
    seen = _run_twice(proto, list(dict.fromkeys(names)))
    for node, place in computed:
        first, second = (values[node.input[place]] for values in seen)
        if first.dtype != np.int64 or first.shape != second.shape:
            continue
        constant_now: NDArray[Any] | None = first
        if node.op_type == "Reshape" and first.ndim == 1:
            constant_now = _free_batch(first, second, [values[node.input[0]].shape[0] for values in seen])
        elif not np.array_equal(first, second):
            continue
        if constant_now is not None:
            fixed = f"{node.output[0]}_fixed_{place}"
            proto.graph.initializer.append(numpy_helper.from_array(constant_now, fixed))
            node.input[place] = fixed


_SHAPED = (
    "Reshape",
    "Slice",
    "Expand",
    "Tile",
    "Resize",
    "Pad",
    "Squeeze",
    "Unsqueeze",
    "Split",
    "ReduceMean",
    "Gather",
)


def _run_twice(proto: onnx.ModelProto, names: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    """Values of the graph by name, for two photos and for three others."""
    probe = onnx.ModelProto()
    probe.CopyFrom(proto)
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sides = [value if isinstance(value, int) else 1 for value in session.get_inputs()[0].shape][1:]
    seen = []
    for batch in (2, 3):
        pixels = np.random.default_rng(batch).integers(0, 256, (batch, *sides), np.uint8)
        seen.append({INPUT_NAME: pixels, **dict(zip(names, session.run(names, {INPUT_NAME: pixels}), strict=True))})
    return seen


def _free_batch(
    first: NDArray[np.int64], second: NDArray[np.int64], leading: Sequence[int]
) -> NDArray[np.int64] | None:
    """A shape that holds for any number of photos, from those for two numbers of them; None where there is none."""
    moving = np.flatnonzero(first != second).tolist()
    free: NDArray[np.int64] = first.copy()
    if moving == [0] and [first[0], second[0]] == list(leading):
        free[0] = 0
    elif len(moving) == 1 and -1 not in first:
        free[moving[0]] = -1
    elif moving:
        return None
    return free


def _name_nodes(model: ir.Model) -> None:
    """A name of its own for every node: the search names layers by it."""
    taken: set[str] = set()
    for place, node in enumerate(model.graph):
        name = str(node.name or "") or f"{node.op_type}_{place}"
        while name in taken:
            name = f"{name}_{place}"
        taken.add(name)
        node.name = name


def _put(old: ir.Node, nodes: Sequence[ir.Node]) -> None:
    """Let `nodes`, of which the last gives what `old` gave, stand in its place."""
    graph = old.graph
    assert graph is not None
    new, given = nodes[-1].outputs[0], old.outputs[0]
    for node in nodes[:-1]:
        node.outputs[0].name = f"{node.name}_output"
    new.name, new.shape, new.type = given.name, given.shape, given.type
    graph.insert_before(old, nodes)
    given.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(old, safe=True)


def _node(kind: str, name: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Node:
    return ir.node(kind, inputs, attributes, name=name)


def _initializer(node: ir.Node, what: str, array: NDArray[Any]) -> ir.Value:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    return add_initializer(graph, f"{node.name}_{what}", array)


def _spell_out_batch_norm(node: ir.Node) -> None:
    """A batch normalisation that follows no convolution: one product and one sum."""
    if node.op_type != "BatchNormalization" or node.inputs[0] is None or node.inputs[0].shape is None:
        return
    values = [constant(value) for value in node.inputs[1:5]]
    if any(value is None for value in values):
        return
    scale, bias, mean, variance = (np.asarray(value, np.float64) for value in values)
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    shape = (-1, *([1] * (len(node.inputs[0].shape) - 2)))
    constants = [x.reshape(shape).astype(np.float32) for x in (factor, bias - mean * factor)]
    scaled = _node("Mul", f"{node.name}_scaled", [node.inputs[0], _initializer(node, "factor", constants[0])])
    _put(
        node,
        [scaled, _node("Add", f"{node.name}_shifted", [scaled.outputs[0], _initializer(node, "offset", constants[1])])],
    )


def _name_pooling(node: ir.Node) -> None:
    """A mean over the whole picture, without its sides or over a window as large as it -> GlobalAveragePool."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x.shape is None or len(x.shape) != 4:
        return
    sides = [size if isinstance(size, int) else 0 for size in x.shape][2:]
    attributes = node.attributes
    if node.op_type == "AveragePool":
        whole = list(attributes.get_ints("kernel_shape", ())) == sides and not any(attributes.get_ints("pads", ()))
        if whole and attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
            _put(node, [_node("GlobalAveragePool", f"{node.name}_pooled", [x])])
    elif node.op_type == "ReduceMean" and len(node.inputs) > 1:
        over = constant(node.inputs[1])
        if over is None or sorted(int(axis) % 4 for axis in over) != [2, 3]:
            return
        pooled = _node("GlobalAveragePool", f"{node.name}_pooled", [x])
        if attributes.get_int("keepdims", 1):
            _put(node, [pooled])
        else:
            axes = _initializer(node, "axes", np.array([2, 3], np.int64))
            _put(node, [pooled, _node("Squeeze", f"{node.name}_squeezed", [pooled.outputs[0], axes])])


def _other(node: ir.Node | None, kind: str, value: float) -> ir.Value | None:
    """The input of an operator whose other input is this number."""
    if node is None or node.op_type != kind or len(node.inputs) < 2:
        return None
    for place in (1, 0) if kind in ("Add", "Mul") else (1,):
        number = constant(node.inputs[place])
        if number is not None and number.size == 1 and np.isclose(float(number.reshape(())), value, rtol=1e-5):
            return node.inputs[1 - place]
    return None


def _shifted_clip(value: ir.Value | None) -> ir.Value | None:
    """x of clip(x + 3, 0, 6)."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Clip" or len(node.inputs) < 3:
        return None
    low, high = (constant(bound) for bound in node.inputs[1:3])
    if low is None or high is None or float(low) != 0 or float(high) != 6:
        return None
    return _other(None if node.inputs[0] is None else node.inputs[0].producer(), "Add", 3)


def _name_hard_sigmoid(node: ir.Node) -> None:
    """clip(x + 3, 0, 6) / 6, as networks spell it -> HardSigmoid; x times that, before it is divided -> HardSwish."""
    scaled = _other(node, "Div", 6) or _other(node, "Mul", 1 / 6)
    if scaled is None:
        return
    x = _shifted_clip(scaled)
    if x is not None:
        _put(node, [_node("HardSigmoid", f"{node.name}_gate", [x], alpha=1 / 6, beta=0.5)])
        return
    product = scaled.producer()
    if product is None or product.op_type != "Mul":
        return
    for place in (0, 1):
        x = _shifted_clip(product.inputs[place])
        if x is not None and product.inputs[1 - place] is x:
            _put(node, [_node("HardSwish", f"{node.name}_hard_swish", [x])])
            return


def _name_hard_swish(node: ir.Node) -> None:
    """x * HardSigmoid(x) -> HardSwish."""
    if node.op_type != "Mul":
        return
    for place in (0, 1):
        value, x = node.inputs[place], node.inputs[1 - place]
        gate = None if value is None else value.producer()
        if gate is None or gate.op_type != "HardSigmoid" or gate.inputs[0] is not x:
            continue
        attributes = gate.attributes
        if np.isclose(attributes.get_float("alpha", 0.2), 1 / 6) and np.isclose(attributes.get_float("beta", 0.5), 0.5):
            _put(node, [_node("HardSwish", f"{node.name}_hard_swish", [x])])
            return


def _name_matrix_product(node: ir.Node) -> None:
    """MatMul of (N, K) with constant weights, and the sum with a constant row that follows -> Gemm."""
    if node.op_type != "MatMul" or constant(node.inputs[1]) is None:
        return
    x, weight = node.inputs[0], constant(node.inputs[1])
    if x is None or x.shape is None or len(x.shape) != 2 or weight is None or weight.ndim != 2:
        return
    readers = [reader for reader, _ in node.outputs[0].uses()]
    if len(readers) == 1 and readers[0].op_type == "Add" and not node.outputs[0].is_graph_output():
        row = next((value for value in readers[0].inputs if value is not node.outputs[0]), None)
        bias = constant(row)
        if bias is not None and bias.size == weight.shape[1] and bias.shape[-1] == bias.size:
            flat = _initializer(node, "bias", bias.reshape(-1))
            _put(readers[0], [_node("Gemm", f"{node.name}_gemm", [x, node.inputs[1], flat])])
            return
    _put(node, [_node("Gemm", f"{node.name}_gemm", [x, node.inputs[1]])])


def _join_normalization(model: ir.Model) -> None:
    """pixels -> Cast and Transpose, in either order, and any sums and products by channel -> Transpose, Cast, Mul, Add.

    In that form pixels enter the first convolution as the integers that they are (`edge_tl_export.quantization.prepare`).
    """
    factor, offset, planar = np.ones(3), np.zeros(3), False
    value = next(value for value in model.graph.inputs if value.name == INPUT_NAME)
    last: ir.Node | None = None
    cast = False
    while True:
        readers = [node for node, _ in value.uses()]
        if len(readers) != 1 or value.is_graph_output():
            break
        node = readers[0]
        if node.op_type == "Transpose" and not planar and list(node.attributes.get_ints("perm", ())) == [0, 3, 1, 2]:
            planar = True
        elif node.op_type == "Cast" and not cast and node.attributes.get_int("to", 0) == onnx.TensorProto.FLOAT:
            cast = True
        elif cast and (affine := _affine(node, value, planar)) is not None:
            factor, offset = factor * affine[0], offset * affine[0] + affine[1]
        else:
            break
        last, value = node, node.outputs[0]
    if last is None or not planar or not cast:
        return
    pixels = next(value for value in model.graph.inputs if value.name == INPUT_NAME)
    moved = _node("Transpose", "pixels_planes", [pixels], perm=[0, 3, 1, 2])
    real = _node("Cast", "pixels_real", moved.outputs, to=onnx.TensorProto.FLOAT)
    constants = [x.reshape(3, 1, 1).astype(np.float32) for x in (factor, offset)]
    factors = add_initializer(model.graph, "pixels_factor", constants[0])
    offsets = add_initializer(model.graph, "pixels_offset", constants[1])
    scaled = _node("Mul", "pixels_scaled", [real.outputs[0], factors])
    _put(last, [moved, real, scaled, _node("Add", "pixels_normalized", [scaled.outputs[0], offsets])])


def _affine(node: ir.Node, value: ir.Value, planar: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Factor and offset by channel, float64 (3,) each, of a product, quotient, sum or difference with a constant."""
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or len(node.inputs) != 2:
        return None
    place = 0 if node.inputs[0] is value else 1
    array = constant(node.inputs[1 - place])
    if array is None or array.size not in (1, 3) or (node.op_type == "Div" and place == 1):
        return None
    channel = array.ndim - (3 if planar else 1)
    if array.size == 3 and (channel < 0 or array.shape[channel] != 3):
        return None
    number = np.broadcast_to(array.reshape(-1).astype(np.float64), 3)
    ones, zeros = np.ones(3), np.zeros(3)
    if node.op_type == "Mul":
        return number, zeros
    if node.op_type == "Div":
        return 1 / number, zeros
    if node.op_type == "Add":
        return ones, number
    return (ones, -number) if place == 0 else (-ones, number)
