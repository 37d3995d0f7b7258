"""The float graph rewritten in a form that integers can compute: the same function."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir

from edge_tl_export.onnx_graph.cleanup import add_initializer, constant, tidy
from edge_tl_export.quantization.recipe import Recipe
from edge_tl_runtime.inference.classifier import INPUT_NAME

REQUANTIZE = "LeakyRelu"
"""With a slope of 1 it is the identity; between two quantizations it is a table of 256 entries, in every runtime's kernels."""


def prepare(fp32: bytes, recipe: Recipe) -> ir.Model:
    """A pixels-to-logits graph, ready for `edge_tl_export.quantization.qdq.quantized`. Still float but for its entry.

    pixels: the normalisation moves into the first convolution, whose input becomes the dequantized pixels themselves.
    hard_swish: x * hard_sigmoid(x), spelled out.
    """
    model = ir.serde.deserialize_model(onnx.load_from_string(fp32))
    tidy(model)
    if recipe.pixels:
        _take_pixels(model)
    if recipe.hard_swish:
        for node in list(model.graph):
            if node.op_type == "HardSwish" and node.name not in recipe.float_nodes:
                _spell_out_hard_swish(node)
    tidy(model)
    return model


def _take_pixels(model: ir.Model) -> None:
    """pixels -> Transpose -> Cast -> Mul -> Add -> Conv becomes pixels -> Transpose -> DequantizeLinear -> Conv.

    With p the pixel, z a whole number and k one factor, a_c * p + b_c = (a_c / k) * k * (p - z) + (a_c * z + b_c): the first
    factor goes into the weights of channel c, the last term into the bias. Padding stays k * (z - z) = 0, where the float
    graph pads with the pixel -b_c / a_c; both are equal when that is a whole number, the same for each channel, and differ by
    under half a step of the mean colours otherwise, at the border alone. A graph of another shape is left as it is.
    """
    graph = model.graph
    pixels = next(value for value in graph.inputs if value.name == INPUT_NAME)
    chain = _chain(pixels, ("Transpose", "Cast", "Mul", "Add", "Conv"))
    if chain is None:
        return
    transpose, _, multiply, add, convolution = chain
    factor, offset = constant(multiply.inputs[1]), constant(add.inputs[1])
    weight = constant(convolution.inputs[1])
    if factor is None or offset is None or weight is None or len(convolution.outputs[0].uses()) == 0:
        return
    a, b = (np.broadcast_to(x.reshape(-1), 3).astype(np.float64) for x in (factor, offset))
    zero = int(np.clip(np.rint((-b / a).mean()), 0, 255))
    scale = np.float32(a.mean())
    bias = constant(convolution.inputs[2]) if len(convolution.inputs) > 2 else np.zeros(len(weight), np.float32)
    assert bias is not None
    moved = weight.astype(np.float64) * (a / float(scale))[None, :, None, None]
    shifted = bias + (weight.astype(np.float64).sum((2, 3)) * (a * zero + b)).sum(1)
    base = str(convolution.inputs[1].name)  # type: ignore[union-attr]
    dequantize = ir.Node(
        "",
        "DequantizeLinear",
        [
            transpose.outputs[0],
            add_initializer(graph, "pixels_scale", np.asarray(scale)),
            add_initializer(graph, "pixels_zero_point", np.asarray(zero, np.uint8)),
        ],
        name="pixels_dequantize",
    )
    dequantize.outputs[0].name = "pixels_float"
    graph.insert_before(convolution, dequantize)
    convolution.replace_input_with(0, dequantize.outputs[0])
    convolution.resize_inputs(3)
    convolution.replace_input_with(1, add_initializer(graph, f"{base}_of_pixels", moved.astype(np.float32)))
    convolution.replace_input_with(2, add_initializer(graph, f"{base}_bias_of_pixels", shifted.astype(np.float32)))


def _chain(start: ir.Value, kinds: tuple[str, ...]) -> list[ir.Node] | None:
    """The nodes of these kinds that follow each other from `start`, none with a second reader before the last."""
    nodes: list[ir.Node] = []
    value = start
    for kind in kinds:
        readers = [node for node, _ in value.uses()]
        if len(readers) != 1 or readers[0].op_type != kind:
            return None
        nodes.append(readers[0])
        value = readers[0].outputs[0]
    return nodes


def _spell_out_hard_swish(node: ir.Node) -> None:
    """HardSwish(x) -> x * HardSigmoid(x), with a requantization of its own for the gate.

    The gate saturates where hard-sigmoid does, so that its integers, read with another scale, are the hard-sigmoid.
    """
    graph, x = node.graph, node.inputs[0]
    assert graph is not None
    again = ir.Node("", REQUANTIZE, [x], {"alpha": ir.AttrFloat32("alpha", 1.0)}, name=f"{node.name}_requantize")
    gate = ir.Node(
        "",
        "HardSigmoid",
        [again.outputs[0]],
        {"alpha": ir.AttrFloat32("alpha", 1 / 6), "beta": ir.AttrFloat32("beta", 0.5)},
        name=f"{node.name}_gate",
    )
    product = ir.Node("", "Mul", [x, gate.outputs[0]], name=f"{node.name}_product")
    for made in (again, gate):
        made.outputs[0].name = f"{made.name}_output"
    product.outputs[0].name = node.outputs[0].name
    graph.insert_before(node, (again, gate, product))
    node.outputs[0].replace_all_uses_with(product.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)


def gate_steps(beta: float) -> int | None:
    """Steps of a hard-sigmoid's integers for which both its ends and its middle are whole: 254 for beta 0.5. None: there are
    none."""
    return next((n for n in range(255, 127, -1) if math.isclose(beta * n, round(beta * n), abs_tol=1e-6)), None)
