"""Graphs as other exporters write them, operator by operator: the rebuild answers as onnxruntime does, and has a slope."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import parser

from edge_tl_export import ExportError
from edge_tl_export.torch_graph.elementwise import ELEMENTWISE
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_export.torch_graph.shaping import SHAPING

START = """<ir_version: 8, opset_import: ["" : {opset}]>
g (uint8[n,7,6,3] pixels) => (float[n,k] logits) {{
  real = Cast<to = 1>(pixels)
  planes = Transpose<perm = [0, 3, 1, 2]>(real)
  unit = Constant<value_float = 0.01>()
  x = Mul(planes, unit)
  {body}
  logits = Flatten(y)
}}"""
KERNEL = "w = ConstantOfShape<value = float[1] {0.25}>(shape)"
SHAPE = "shape = Constant<value_ints = [4, 3, 3, 2]>()"

# Opset, then what stands between x, (N, 3, 7, 6), and y.
BODIES = {
    "convolution, padding by name": (13, f'{SHAPE} {KERNEL} y = Conv<auto_pad = "SAME_UPPER">(x, w)'),
    "convolution, lower": (13, f'{SHAPE} {KERNEL} y = Conv<auto_pad = "SAME_LOWER", strides = [2, 2]>(x, w)'),
    "convolution, valid, holes": (13, f'{SHAPE} {KERNEL} y = Conv<auto_pad = "VALID", dilations = [2, 1]>(x, w)'),
    "pooling, padding by name": (
        13,
        'y = MaxPool<auto_pad = "SAME_UPPER", kernel_shape = [3, 2], strides = [2, 2]>(x)',
    ),
    "average, padding by name": (
        13,
        'y = AveragePool<auto_pad = "SAME_UPPER", kernel_shape = [3, 2], strides = [2, 2]>(x)',
    ),
    "average, uneven padding": (13, "y = AveragePool<kernel_shape = [3, 3], pads = [0, 0, 1, 1]>(x)"),
    "average, uneven padding that counts": (
        13,
        "y = AveragePool<kernel_shape = [3, 3], pads = [0, 0, 1, 1], count_include_pad = 1>(x)",
    ),
    "clip with attributes": (9, "y = Clip<min = 0.2, max = 1.1>(x)"),
    "pad with attributes": (9, "y = Pad<pads = [0, 0, 1, 0, 0, 0, 0, 2], value = 0.5>(x)"),
    "softmax over all that follows": (11, "y = Softmax<axis = 1>(x)"),
    "log-softmax over all that follows": (9, "y = LogSoftmax<axis = 2>(x)"),
    "mean and squeeze with attributes": (
        11,
        "m = ReduceMean<axes = [2, 3], keepdims = 1>(x) y = Squeeze<axes = [2, 3]>(m)",
    ),
    "unsqueeze with attributes": (11, "u = Unsqueeze<axes = [2]>(x) y = ReduceMax<axes = [3], keepdims = 0>(u)"),
    "split, equal": (13, "a, b, c = Split<axis = 1>(x) s = Sub(a, b) y = Add(s, c)"),
    "split, sizes": (
        13,
        "parts = Constant<value_ints = [4, 3]>() a, b = Split<axis = 2>(x, parts) y = Concat<axis = 2>(b, a)",
    ),
    "split, from the end": (11, "a, b = Split<axis = -1>(x) y = Mul(a, b)"),
    "split, uneven": (18, "a, b = Split<axis = 2, num_outputs = 2>(x) y = Concat<axis = 2>(b, a)"),
    "transpose without an order": (13, "y0 = Transpose(x) y = Transpose(y0)"),
    "where": (13, "h = Constant<value_float = 0.8>() c = Less(x, h) y = Where(c, x, h)"),
    "and, or, not": (
        13,
        "h = Constant<value_float = 0.8>() l = Constant<value_float = 0.3>() a = Greater(x, l) b = Less(x, h) c = And(a, b) "
        "d = Equal(x, h) e = Or(c, d) f = Not(e) z = Neg(x) y = Where(f, z, x)",
    ),
    "at least, at most": (
        16,
        "h = Constant<value_float = 0.8>() a = GreaterOrEqual(x, h) b = LessOrEqual(x, h) c = And(a, b) z = Neg(x) "
        "y = Where(c, z, x)",
    ),
    "mask by numbers": (13, "h = Constant<value_float = 0.8>() a = Greater(x, h) m = Cast<to = 1>(a) y = Mul(m, x)"),
    "a shape computed and filled": (
        13,
        "s = Shape(x) o = ConstantOfShape<value = float[1] {0.5}>(s) y = Mul(x, o)",
    ),
    "a range": (
        13,
        "a = Constant<value_float = 0.0>() b = Constant<value_float = 6.0>() c = Constant<value_float = 1.0>() "
        "r = Range(a, b, c) y = Mul(x, r)",
    ),
    "the size": (13, "s = Size(x) f = Cast<to = 1>(s) y = Div(x, f)"),
    "groups of channels": (
        13,
        "s = Shape(x) i = Constant<value_ints = [1]>() c = Gather(s, i) t = Constant<value_ints = [2]>() h = Div(c, t) "
        "z = Constant<value_ints = [0]>() y = Slice(x, z, h, i)",
    ),
    "padding from half of a side, as numbers that are cut to whole ones": (
        13,
        # Half of 7 is 3.5: three columns on one side and four on the other, as frameworks that pad by the input's size write it.
        "s = Shape(x) i = Constant<value_ints = [2]>() h = Gather(s, i) f = Cast<to = 1>(h) t = Constant<value_float = 2.0>() "
        "a = Div(f, t) b = Cast<to = 7>(a) c = Sub(h, b) z = Constant<value_ints = [0, 0, 0]>() "
        "p = Concat<axis = 0>(z, b, z, c) y = Pad(x, p)",
    ),
    "tile": (13, "t = Constant<value_ints = [1, 2, 1, 3]>() y = Tile(x, t)"),
    "depth to space": (
        13,
        "t = Constant<value_ints = [1, 4, 1, 1]>() z = Tile(x, t) y = DepthToSpace<blocksize = 2>(z)",
    ),
    "depth to space by columns": (
        13,
        't = Constant<value_ints = [1, 4, 1, 1]>() z = Tile(x, t) y = DepthToSpace<blocksize = 2, mode = "CRD">(z)',
    ),
    "space to depth": (
        13,
        "a = Constant<value_ints = [0]>() b = Constant<value_ints = [6]>() i = Constant<value_ints = [2]>() "
        "z = Slice(x, a, b, i) y = SpaceToDepth<blocksize = 2>(z)",
    ),
    "einsum": (13, 'y = Einsum<equation = "nchw,ndhw->ncd">(x, x)'),
    "enlarged, linear": (
        13,
        's = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>() y = Resize<mode = "linear">(x, , s)',
    ),
    "enlarged, nearest": (
        13,
        's = Constant<value_floats = [1.0, 1.0, 2.0, 3.0]>() y = Resize<mode = "nearest", '
        'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">(x, , s)',
    ),
    "groups, normalized": (
        18,
        "s = Constant<value_floats = [2.0]>() b = Constant<value_floats = [0.5]>() "
        "y = GroupNormalization<num_groups = 1>(x, s, b)",
    ),
    "squeeze and excite of TensorFlow": (
        13,
        "m = GlobalAveragePool(x) g = HardSigmoid<alpha = 0.2, beta = 0.5>(m) y = Mul(x, g)",
    ),
}


def graph(name: str) -> bytes:
    opset, body = BODIES[name]
    return parser.parse_model(START.format(opset=opset, body=body)).SerializeToString()


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, (2, 7, 6, 3), np.uint8)


@pytest.mark.parametrize("name", BODIES)
def test_a_foreign_graph_answers_as_onnxruntime_does_and_has_a_slope(name):
    model = graph(name)
    (expected,) = onnxruntime.InferenceSession(model).run(["logits"], {"pixels": pixels()})
    inputs = torch.from_numpy(pixels()).float().requires_grad_()
    answered = DifferentiableGraph(model)(inputs)
    np.testing.assert_allclose(answered.detach().numpy(), expected, rtol=2e-5, atol=2e-6)
    (gradient,) = torch.autograd.grad((answered * torch.arange(answered.shape[1])).sum(), inputs)
    assert gradient.abs().sum() > 0


def test_every_operator_of_shapes_has_a_graph_here():
    used = {node.op_type for name in BODIES for node in onnx.load_from_string(graph(name)).graph.node}
    assert set(SHAPING) <= used
    assert "GroupNormalization" in used


def test_swish_of_the_newest_opset_is_x_times_its_sigmoid():
    node = onnx.helper.make_node("Swish", ["x"], ["y"], alpha=1.5)
    from edge_tl_export.torch_graph.node import Node

    x = torch.linspace(-3, 3, 7)
    ours = ELEMENTWISE["Swish"](Node("Swish", ("x",), "y", {"alpha": node.attribute[0].f}), [x])
    np.testing.assert_allclose(ours.numpy(), x.numpy() / (1 + np.exp(-1.5 * x.numpy())), rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ('y = Pad<mode = "bent">(x, p) p = Constant<value_ints = [0, 0, 1, 1, 0, 0, 1, 1]>()', "Pad, bent"),
        (
            's = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>() y = Resize<mode = "cubic">(x, , s)',
            "Resize, cubic",
        ),
    ],
)
def test_a_form_without_gradients_is_named(body, named):
    model = parser.parse_model(START.format(opset=13, body=body))
    order = sorted(model.graph.node, key=lambda node: node.op_type != "Constant")
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in order]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    with pytest.raises(ExportError, match=named):
        DifferentiableGraph(model.SerializeToString())(torch.from_numpy(pixels()))
