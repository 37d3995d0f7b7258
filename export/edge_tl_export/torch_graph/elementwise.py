"""Operators that work on values one by one, on axes or on shapes: what classifiers from elsewhere have beside convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import onnx
import torch
from torch.nn import functional

from edge_tl_export.errors import ExportError

if TYPE_CHECKING:
    from edge_tl_export.torch_graph.node import Node

Values = Sequence[Any]  # tensors, None for an input left out


def axes(node: Node, values: Values) -> list[int]:
    """The axes that a node names, as an attribute or, in newer opsets, as its second input."""
    given = values[1] if len(values) > 1 else None
    return list(node.attributes.get("axes", ())) if given is None else [int(axis) for axis in given]


def _reduced(function: Callable[..., torch.Tensor]) -> Callable[[Node, Values], torch.Tensor]:
    def run(node: Node, values: Values) -> torch.Tensor:
        over = axes(node, values) or list(range(values[0].ndim))
        return function(values[0], over, bool(node.attributes.get("keepdims", 1)))

    return run


def _normalized(node: Node, values: Values) -> torch.Tensor:
    x, scale, bias, mean, variance = values
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.attributes.get("epsilon", 1e-5))


def _layer_normalized(node: Node, values: Values) -> torch.Tensor:
    x, scale, *bias = values
    axis = node.attributes.get("axis", -1) % x.ndim
    shape = tuple(x.shape[axis:])
    return functional.layer_norm(x, shape, scale, bias[0] if bias else None, node.attributes.get("epsilon", 1e-5))


def _pad(node: Node, values: Values) -> torch.Tensor:
    x = values[0]
    pads = node.attributes.get("pads") or [int(size) for size in values[1]]
    mode = node.attributes.get("mode", b"constant").decode()
    fill = float(values[2]) if len(values) > 2 and values[2] is not None else node.attributes.get("value", 0.0)
    named = [int(axis) for axis in values[3]] if len(values) > 3 and values[3] is not None else list(range(x.ndim))
    around = {axis % x.ndim: (pads[place], pads[place + len(named)]) for place, axis in enumerate(named)}
    sides = [around.get(axis, (0, 0)) for axis in range(x.ndim)]
    while sides and sides[0] == (0, 0):
        sides = sides[1:]
    flat = [size for pair in reversed(sides) for size in pair]
    if mode == "constant" or not flat:
        padded: torch.Tensor = functional.pad(x, flat, value=fill) if flat else x
        return padded
    if mode not in _PAD_MODES:
        raise ExportError(f"no gradients through Pad, {mode} ({node.output})")
    return functional.pad(x, flat, mode=_PAD_MODES[mode])


_PAD_MODES = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


def _slice(node: Node, values: Values) -> torch.Tensor:
    x = values[0]
    if len(values) > 1:
        parts = [None if part is None else [int(item) for item in part] for part in values[1:]]
    else:
        parts = [node.attributes["starts"], node.attributes["ends"], node.attributes.get("axes")]
    starts, ends, over, steps = [*parts, None, None, None][:4]
    assert starts is not None
    assert ends is not None
    over = over or list(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, over, steps or [1] * len(starts), strict=True):
        places = range(x.shape[axis])[slice(start, max(end, -(2**62)), step)]
        x = x.index_select(axis, torch.tensor(list(places), device=x.device))
    return x  # type: ignore[no-any-return]


def _expand(node: Node, values: Values) -> torch.Tensor:
    shape = [int(size) for size in values[1]]
    own = [1] * (len(shape) - values[0].ndim) + list(values[0].shape)
    wanted = [1] * (len(own) - len(shape)) + shape
    expanded: torch.Tensor = values[0].expand([max(a, b) for a, b in zip(own, wanted, strict=True)])
    return expanded


def _gather(node: Node, values: Values) -> torch.Tensor:
    x, index = values
    axis = node.attributes.get("axis", 0) % x.ndim
    index = index.long() % x.shape[axis]
    taken = x.index_select(axis, index.reshape(-1).to(x.device))
    gathered: torch.Tensor = taken.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))
    return gathered


def _cast(node: Node, values: Values) -> torch.Tensor:
    """Shapes, which have one axis at most, become whole; everything else is float here, also where the file has integers or
    half precision."""
    x = values[0]
    if node.attributes["to"] in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
        if not x.is_floating_point():
            return x.long()  # type: ignore[no-any-return]
        if x.ndim <= 1:
            return x.trunc().long()  # type: ignore[no-any-return]
    return x.float()  # type: ignore[no-any-return]


def _power(node: Node, values: Values) -> torch.Tensor:
    raised: torch.Tensor = values[0] ** values[1].to(values[0].dtype)
    return raised


def _parametric_relu(node: Node, values: Values) -> torch.Tensor:
    x, slope = values
    return torch.where(x >= 0, x, slope * x)


def _random(node: Node, values: Values) -> torch.Tensor:
    mean, spread = node.attributes.get("mean", 0.0), node.attributes.get("scale", 1.0)
    drawn: torch.Tensor = torch.randn_like(values[0]) * spread + mean
    return drawn


def _divided(node: Node, values: Values) -> torch.Tensor:
    a, b = values
    whole = not (a.is_floating_point() or b.is_floating_point())  # sizes, which ONNX divides without a rest
    divided: torch.Tensor = torch.div(a, b, rounding_mode="trunc") if whole else a / b
    return divided


def _reduced_norm(order: float) -> Callable[[Node, Values], torch.Tensor]:
    return _reduced(lambda x, over, keep: torch.linalg.vector_norm(x, order, over, keep))


def _product_of(x: torch.Tensor, over: Sequence[int], keep: bool) -> torch.Tensor:
    for axis in sorted((axis % x.ndim for axis in over), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _instance_normalized(node: Node, values: Values) -> torch.Tensor:
    x, scale, bias = values
    return functional.instance_norm(x, weight=scale, bias=bias, eps=node.attributes.get("epsilon", 1e-5))


def _group_normalized(node: Node, values: Values) -> torch.Tensor:
    x, scale, bias = values
    groups = node.attributes["num_groups"]
    if len(scale) != x.shape[1]:  # before opset 21 there is one for each group
        scale, bias = (value.repeat_interleave(x.shape[1] // groups) for value in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, node.attributes.get("epsilon", 1e-5))


def _lp_normalized(node: Node, values: Values) -> torch.Tensor:
    attributes = node.attributes
    return functional.normalize(values[0], attributes.get("p", 2), attributes.get("axis", -1), eps=0.0)


def _local_response_normalized(node: Node, values: Values) -> torch.Tensor:
    attributes = node.attributes
    rest = attributes.get("alpha", 1e-4), attributes.get("beta", 0.75), attributes.get("bias", 1.0)
    return functional.local_response_norm(values[0], attributes["size"], *rest)


ELEMENTWISE: Mapping[str, Callable[[Node, Values], torch.Tensor]] = {
    "Abs": lambda node, values: values[0].abs(),
    "BatchNormalization": _normalized,
    "Cast": _cast,
    # Rounding that is no quantization has its true slope here, none: so does the attacker's, and the evaluation says so.
    "Ceil": lambda node, values: values[0].ceil(),
    "Celu": lambda node, values: functional.celu(values[0], node.attributes.get("alpha", 1.0)),
    "Cos": lambda node, values: torch.cos(values[0]),
    "Div": _divided,
    "Dropout": lambda node, values: values[0],
    "Elu": lambda node, values: functional.elu(values[0], node.attributes.get("alpha", 1.0)),
    "Erf": lambda node, values: torch.erf(values[0]),
    "Expand": _expand,
    "Exp": lambda node, values: torch.exp(values[0]),
    "Floor": lambda node, values: values[0].floor(),
    "Gather": _gather,
    "Gelu": lambda node, values: functional.gelu(
        values[0], approximate=node.attributes.get("approximate", b"none").decode()
    ),
    "GlobalMaxPool": lambda node, values: values[0].amax((2, 3), keepdim=True),
    "GroupNormalization": _group_normalized,
    "InstanceNormalization": _instance_normalized,
    "LRN": _local_response_normalized,
    "LayerNormalization": _layer_normalized,
    "Log": lambda node, values: torch.log(values[0]),
    "LogSoftmax": lambda node, values: torch.log_softmax(values[0], node.attributes.get("axis", -1)),
    "LpNormalization": _lp_normalized,
    "MatMul": lambda node, values: values[0] @ values[1],
    "Max": lambda node, values: reduce(torch.maximum, values),
    "Mean": lambda node, values: reduce(torch.add, values) / len(values),
    "Min": lambda node, values: reduce(torch.minimum, values),
    "Mish": lambda node, values: functional.mish(values[0]),
    "Neg": lambda node, values: -values[0],
    "PRelu": _parametric_relu,
    "Pad": _pad,
    "Pow": _power,
    "RandomNormalLike": _random,
    "Reciprocal": lambda node, values: 1 / values[0],
    "ReduceL1": _reduced_norm(1),
    "ReduceL2": _reduced_norm(2),
    "ReduceLogSumExp": _reduced(torch.logsumexp),
    "ReduceMax": _reduced(torch.amax),
    "ReduceMean": _reduced(torch.mean),
    "ReduceMin": _reduced(torch.amin),
    "ReduceProd": _reduced(_product_of),
    "ReduceSum": _reduced(torch.sum),
    "ReduceSumSquare": _reduced(lambda x, over, keep: x.square().sum(over, keep)),
    "Round": lambda node, values: values[0].round(),
    "Selu": lambda node, values: functional.selu(values[0]),
    "Shape": lambda node, values: torch.tensor(
        values[0].shape[node.attributes.get("start", 0) : node.attributes.get("end", 2**31)]
    ),
    "Sign": lambda node, values: values[0].sign(),
    "Sin": lambda node, values: torch.sin(values[0]),
    "Slice": _slice,
    "Softmax": lambda node, values: torch.softmax(values[0], node.attributes.get("axis", -1)),
    "Softplus": lambda node, values: functional.softplus(values[0]),
    "Softsign": lambda node, values: functional.softsign(values[0]),
    "Sqrt": lambda node, values: values[0].sqrt(),
    "Sub": lambda node, values: values[0] - values[1],
    "Sum": lambda node, values: reduce(torch.add, values),
    "Swish": lambda node, values: values[0] * torch.sigmoid(node.attributes.get("alpha", 1.0) * values[0]),
    "Tanh": lambda node, values: torch.tanh(values[0]),
    "ThresholdedRelu": lambda node, values: functional.threshold(values[0], node.attributes.get("alpha", 1.0), 0.0),
}
