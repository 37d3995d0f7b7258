"""The operators of a quantized graph in PyTorch: a table from names in a file to functions, and those of integer kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from edge_tl_export.errors import ExportError
from edge_tl_export.torch_graph.elementwise import ELEMENTWISE, Values, axes
from edge_tl_export.torch_graph.node import Node
from edge_tl_export.torch_graph.shaping import SHAPING


class _Rounding(torch.autograd.Function):
    """Whole numbers within a limit; slope 1, or 0 beyond it."""

    @staticmethod
    def forward(context: Any, latent: torch.Tensor, limit: float) -> torch.Tensor:
        rounded = latent.round()
        context.save_for_backward(rounded.abs() <= limit)
        return rounded.clamp_(-limit, limit)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (inside,) = context.saved_tensors
        return gradients[0] * inside, None


def rounded(latent: torch.Tensor, limit: float) -> torch.Tensor:
    apply: Callable[..., torch.Tensor] = _Rounding.apply
    return apply(latent, limit)


class _Quantization(torch.autograd.Function):
    """round(x / scale) + zero, ties to even, saturated.

    Its slope towards x is 1 / scale and towards the scale -x / scale^2 where it does not saturate, 0 where it does. With the
    multiplication by the scale that follows, the latter becomes the gradient of a learned step size (Esser et al. 2020, eq. 3).
    One function instead of a chain of operators: two tensors are kept for the way back instead of five.
    """

    @staticmethod
    def forward(
        context: Any, x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, levels: tuple[float, float]
    ) -> torch.Tensor:
        context.save_for_backward(x, scale, zero)
        context.levels = levels
        return (x / scale).round_().add_(zero).clamp_(*levels)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, zero = context.saved_tensors
        low, high = context.levels
        unsaturated = (x / scale).round_().add_(zero)
        inward = gradients[0] * ((unsaturated >= low) & (unsaturated <= high)) / scale
        outward = -(inward * x).sum() / scale if context.needs_input_grad[1] else None
        return inward, outward, None, None


def _onto_grid(x: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, node: Node) -> torch.Tensor:
    apply: Callable[..., torch.Tensor] = _Quantization.apply
    return apply(x, scale, zero, node.levels)


def _quantize(node: Node, values: Values) -> torch.Tensor:
    x, scale, *zero = values
    return _onto_grid(x, scale, zero[0] if zero else torch.zeros_like(scale), node)


def _dequantize(node: Node, values: Values) -> torch.Tensor:
    integers, scale, *rest = values
    zero = rest[0] if rest else torch.zeros_like(scale)
    if scale.numel() == 1:
        scale, zero = scale.view(()), zero.view(())
    if scale.ndim:
        shape = [1] * integers.ndim
        shape[node.attributes.get("axis", 1)] = -1
        scale, zero = scale.view(shape), zero.view(shape)
    real: torch.Tensor = ((integers - zero) * scale).float()
    return real


def _pads(node: Node, fill: float, x: torch.Tensor, sides: Sequence[int]) -> tuple[torch.Tensor, tuple[int, int]]:
    """The picture with what padding PyTorch's operators cannot do, and the rest of it. sides: of the window."""
    if x.ndim != 4:
        raise ExportError(f"no gradients through {node.kind} of {x.ndim - 2} dimensions ({node.output})")
    top, left, bottom, right = _padding(node, x, sides)
    if top == bottom and left == right and top <= sides[0] // 2 and left <= sides[1] // 2:
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def _padding(node: Node, x: torch.Tensor, sides: Sequence[int]) -> tuple[int, ...]:
    """Top, left, bottom, right; by name as TensorFlow has it, such that the result is as large as the strides leave it."""
    named = node.attributes.get("auto_pad", b"NOTSET")
    if named in (b"NOTSET", b""):
        return tuple(node.attributes.get("pads", (0, 0, 0, 0)))
    strides, dilations = node.attributes.get("strides", (1, 1)), node.attributes.get("dilations", (1, 1))
    first, last = [], []
    for size, side, stride, dilation in zip(x.shape[2:], sides, strides, dilations, strict=True):
        missing = (-(-size // stride) - 1) * stride + (side - 1) * dilation + 1 - size
        total = 0 if named == b"VALID" else max(0, missing)
        small, large = total // 2, total - total // 2
        first.append(large if named == b"SAME_LOWER" else small)
        last.append(small if named == b"SAME_LOWER" else large)
    return (*first, *last)


def _convolution(node: Node, values: Values) -> torch.Tensor:
    x, weight, *bias = values
    attributes = node.attributes
    x, padding = _pads(node, 0.0, x, weight.shape[2:])
    strides, dilations = tuple(attributes.get("strides", (1, 1))), tuple(attributes.get("dilations", (1, 1)))
    return functional.conv2d(
        x, weight, bias[0] if bias else None, strides, padding, dilations, attributes.get("group", 1)
    )


def _matrix_product(node: Node, values: Values) -> torch.Tensor:
    a, b, *c = values
    attributes = node.attributes
    a, b = (a.T if attributes.get("transA") else a), (b.T if attributes.get("transB") else b)
    product: torch.Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product + attributes.get("beta", 1.0) * c[0] if c and c[0] is not None else product


def _max_pool(node: Node, values: Values) -> torch.Tensor:
    attributes = node.attributes
    x, padding = _pads(node, -torch.inf, values[0], node.attributes["kernel_shape"])
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    kernel, ceil = attributes["kernel_shape"], bool(attributes.get("ceil_mode"))
    return functional.max_pool2d(x, tuple(kernel), tuple(strides), padding, tuple(dilations), ceil)


def _average_pool(node: Node, values: Values) -> torch.Tensor:
    attributes = node.attributes
    strides, kernel = tuple(attributes.get("strides", (1, 1))), tuple(attributes["kernel_shape"])
    if tuple(attributes.get("dilations", (1, 1))) != (1, 1):
        raise ExportError(f"no gradients through AveragePool with holes in its window ({node.output})")
    ceil, count_padding = bool(attributes.get("ceil_mode")), bool(attributes.get("count_include_pad"))
    x, padding = _pads(node, 0.0, values[0], kernel)
    pooled = functional.avg_pool2d(x, kernel, strides, padding, ceil, count_padding)
    if x is values[0] or count_padding:
        return pooled
    inside = _pads(node, 0.0, torch.ones_like(values[0][:1, :1]), kernel)[0]
    return pooled / functional.avg_pool2d(inside, kernel, strides, padding, ceil, count_padding)


def _reshape(node: Node, values: Values) -> torch.Tensor:
    x, wanted = values[0], [int(size) for size in values[1]]
    if not node.attributes.get("allowzero"):
        wanted = [size or x.shape[place] for place, size in enumerate(wanted)]
    reshaped: torch.Tensor = x.reshape(tuple(wanted))
    return reshaped


def _flatten(node: Node, values: Values) -> torch.Tensor:
    x = values[0]
    axis = node.attributes.get("axis", 1) % (x.ndim + 1)
    flat: torch.Tensor = x.reshape(int(np.prod(x.shape[:axis])), -1)
    return flat


def _squeeze(node: Node, values: Values) -> torch.Tensor:
    over = axes(node, values)
    squeezed: torch.Tensor = values[0].squeeze(tuple(over)) if over else values[0].squeeze()
    return squeezed


def _unsqueeze(node: Node, values: Values) -> torch.Tensor:
    x, over = values[0], axes(node, values)
    for axis in sorted(axis % (x.ndim + len(over)) for axis in over):
        x = x.unsqueeze(axis)
    return x  # type: ignore[no-any-return]


def _clip(node: Node, values: Values) -> torch.Tensor:
    bounds = [*values[1:], None, None][:2]
    low, high = (
        node.attributes.get(name) if bound is None else bound
        for name, bound in zip(("min", "max"), bounds, strict=True)
    )
    return values[0] if low is None and high is None else values[0].clamp(low, high)  # type: ignore[no-any-return]


def _hard_sigmoid(node: Node, values: Values) -> torch.Tensor:
    gate: torch.Tensor = values[0] * node.attributes.get("alpha", 0.2) + node.attributes.get("beta", 0.5)
    return gate.clamp(0, 1)


OPERATORS: Mapping[str, Callable[[Node, Values], torch.Tensor]] = {
    **ELEMENTWISE,
    **SHAPING,
    "Add": lambda node, values: values[0] + values[1],
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Concat": lambda node, values: torch.cat(list(values), node.attributes["axis"]),
    "Conv": _convolution,
    "DequantizeLinear": _dequantize,
    "Flatten": _flatten,
    "Gemm": _matrix_product,
    "GlobalAveragePool": lambda node, values: values[0].mean((2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node, values: functional.hardswish(values[0]),
    "Identity": lambda node, values: values[0],
    "LeakyRelu": lambda node, values: functional.leaky_relu(values[0], node.attributes.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Mul": lambda node, values: values[0] * values[1],
    "QuantizeLinear": _quantize,
    "Relu": lambda node, values: functional.relu(values[0]),
    "Reshape": _reshape,
    "Sigmoid": lambda node, values: torch.sigmoid(values[0]),
    "Squeeze": _squeeze,
    "Transpose": lambda node, values: values[0].permute(
        node.attributes.get("perm", tuple(reversed(range(values[0].ndim))))
    ),
    "Unsqueeze": _unsqueeze,
}
"""What each operator does with its inputs; a new one is added here, or to ELEMENTWISE or SHAPING."""


def run(node: Node, values: Values) -> torch.Tensor:
    kind = node.kind.removeprefix("integer ")
    return (
        OPERATORS[kind](node, values)
        if kind == node.kind
        else _integers(node, INTEGER_OPERATORS[kind](node, values), values)
    )


Sums = tuple[torch.Tensor, torch.Tensor, int]
"""Whole numbers, what each is worth, and how many (integers, scale, zero point) of the inputs these took."""


def _integers(node: Node, computed: Sums, values: Values) -> torch.Tensor:
    """The integers of the result; the real values where nothing quantizes them."""
    sums, worth, taken = computed
    if len(values) == taken:
        return (sums * worth).float()
    scale, zero = values[taken:]
    return _onto_grid(sums * (worth / scale), torch.ones_like(scale), zero, node)


def _integer_convolution(node: Node, values: Values) -> Sums:
    x, x_scale, x_zero, weight, weight_scale, _, bias = values[:7]
    worth = x_scale * weight_scale
    return _convolution(node, (x - x_zero, weight, bias.float())), worth.view(-1, 1, 1) if worth.ndim else worth, 9


def _integer_matrix_product(node: Node, values: Values) -> Sums:
    x, x_scale, x_zero, weight, weight_scale, _, bias = values[:7]
    return _matrix_product(node, (x - x_zero, weight, bias.float())), x_scale * weight_scale, 9


def _integer_mean(node: Node, values: Values) -> Sums:
    x, scale, zero = values[:3]
    return (x - zero).sum((2, 3), keepdim=True), scale / (x.shape[2] * x.shape[3]), 3


def _integer_product(node: Node, values: Values) -> Sums:
    a, a_scale, a_zero, b, b_scale, b_zero = values[:6]
    return (a - a_zero) * (b - b_zero), a_scale * b_scale, 6


INTEGER_OPERATORS: Mapping[str, Callable[[Node, Values], Sums]] = {
    "Conv": _integer_convolution,
    "Gemm": _integer_matrix_product,
    "GlobalAveragePool": _integer_mean,
    "Mul": _integer_product,
}
"""Operators that runtimes compute in integers, where dequantized tensors come in."""
