"""A network as a program of ATen operators, made plain before it is lowered to ONNX.

PyTorch lowers a program by tracing it once more with symbolic shapes, where each batch normalisation falls apart into a dozen
operators and each activation in place into its definition: half of the time that an export takes. Here a normalisation goes into
the convolution before it, and activations in place become those that ONNX has an operator for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram

aten = torch.ops.aten

OUT_OF_PLACE: Mapping[Any, Any] = {
    aten.hardtanh_.default: aten.hardtanh.default,
    aten.relu_.default: aten.relu.default,
    aten.relu6_.default: aten.hardtanh.default,
    aten.relu6.default: aten.hardtanh.default,
    aten.hardswish_.default: aten.hardswish.default,
    aten.hardsigmoid_.default: aten.hardsigmoid.default,
    aten.silu_.default: aten.silu.default,
}
"""The same function, and no decomposition of PyTorch's in between; ReLU6 is the hardtanh from 0 to 6."""
RELU6 = (aten.relu6_.default, aten.relu6.default)


def trace(model: nn.Module, example: torch.Tensor) -> ExportedProgram:
    """The program of a model in evaluation mode, with a free first dimension of its input.

    The model is not changed: weights that a normalisation went into are new tensors. Raises what `torch.export.export` raises.
    """
    program = torch.export.export(model, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False)
    for node in list(program.graph.nodes):
        if node.target in OUT_OF_PLACE:
            _out_of_place(node)
        elif node.target is aten.batch_norm.default:
            _fold(program, node)
    program.graph_module.recompile()
    return program


def _out_of_place(node: fx.Node) -> None:
    """Nothing else may read the tensor that the activation wrote into."""
    source = node.args[0]
    if not isinstance(source, fx.Node) or len(source.users) > 1:
        return
    if node.target in RELU6:
        node.args = (source, 0.0, 6.0)
    node.target = OUT_OF_PLACE[node.target]


def _fold(program: ExportedProgram, norm: fx.Node) -> None:
    """Multiply a normalisation into the weights of the convolution that it alone reads; leave any other as it is."""
    # Of batch_norm: input, weight, bias, running mean, running variance, training, momentum, epsilon, whether cuDNN.
    conv, *inputs, training, _, epsilon, _ = norm.args
    if not isinstance(conv, fx.Node) or conv.target is not aten.conv2d.default or len(conv.users) > 1 or training:
        return
    weight, bias = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
    stored = [_Stored.behind(program, node) for node in (weight, *inputs)]
    kept = [item for item in stored if item is not None]
    before = None if bias is None else _Stored.behind(program, bias)
    if len(kept) < len(stored) or (bias is not None and before is None):
        return
    kernel, scale, shift, mean, variance = kept
    # The folded tensors take the places of the weight and of the shift, which nothing else may read.
    if len(kernel.node.users) > 1 or len(shift.node.users) > 1:
        return
    factor = scale.exact / torch.sqrt(variance.exact + _number(epsilon))
    offset = shift.exact + ((0.0 if before is None else before.exact) - mean.exact) * factor
    kernel.replace(program, kernel.exact * factor.view(-1, 1, 1, 1))
    shift.replace(program, offset)
    conv.args = (conv.args[0], kernel.node, shift.node, *conv.args[3:])
    norm.replace_all_uses_with(conv)
    program.graph.erase_node(norm)


def _number(value: object) -> float:
    assert isinstance(value, float)
    return value


@dataclass(frozen=True)
class _Stored:
    """A parameter or buffer of a program: the placeholder for it, its name, and its value in double precision."""

    node: fx.Node
    name: str
    exact: torch.Tensor

    @classmethod
    def behind(cls, program: ExportedProgram, node: object) -> _Stored | None:
        if not isinstance(node, fx.Node):
            return None
        signature = program.graph_signature
        names: Mapping[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        name = names.get(node.name)
        tensor = None if name is None else program.state_dict.get(name)
        return None if name is None or tensor is None else cls(node, name, tensor.detach().double())

    def replace(self, program: ExportedProgram, tensor: torch.Tensor) -> None:
        before = program.state_dict[self.name]
        made = tensor.to(before.dtype)
        program.state_dict[self.name] = (
            nn.Parameter(made, requires_grad=False) if isinstance(before, nn.Parameter) else made
        )
