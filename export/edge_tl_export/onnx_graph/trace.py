"""A network as a program of ATen operators, made plain before it is lowered to ONNX.

PyTorch lowers a program by tracing it once more with symbolic shapes, where each batch normalisation falls apart into a dozen
operators and each activation in place into its definition: half of the time that an export takes. Here a normalisation goes into
the convolution before it, and activations in place become those that ONNX has an operator for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram

aten = torch.ops.aten

OUT_OF_PLACE = {
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
    node.target = OUT_OF_PLACE[node.target]  # type: ignore[index]


def _fold(program: ExportedProgram, norm: fx.Node) -> None:
    """Multiply a normalisation into the weights of the convolution that it alone reads; leave any other as it is."""
    conv = norm.args[0]
    if not isinstance(conv, fx.Node) or conv.target is not aten.conv2d.default or len(conv.users) > 1:
        return
    # Of batch_norm: input, weight, bias, running mean, running variance, training, momentum, epsilon, whether cuDNN.
    _, scale, shift, mean, variance, training, _, epsilon, *_ = norm.args
    weight, bias = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
    tensors = {
        node: _stored(program, node) for node in (weight, bias, scale, shift, mean, variance) if node is not None
    }
    if training or None in (scale, shift, mean, variance) or any(tensor is None for tensor in tensors.values()):
        return
    # The folded tensors are stored in place of the weight and of the shift, which nothing else may read.
    if len(weight.users) > 1 or len(shift.users) > 1:
        return
    exact = {node: tensor.detach().double() for node, tensor in tensors.items() if tensor is not None}
    factor = exact[scale] / torch.sqrt(exact[variance] + epsilon)
    before = exact[bias] if bias is not None else torch.zeros_like(factor)
    _store(program, weight, exact[weight] * factor.view(-1, *[1] * (exact[weight].ndim - 1)))
    _store(program, shift, (before - exact[mean]) * factor + exact[shift])
    conv.args = (conv.args[0], weight, shift, *conv.args[3:])
    norm.replace_all_uses_with(conv)
    program.graph.erase_node(norm)


def _stored(program: ExportedProgram, node: Any) -> torch.Tensor | None:
    """The parameter or buffer behind a placeholder."""
    name = _name(program, node)
    return None if name is None else program.state_dict.get(name)


def _store(program: ExportedProgram, node: fx.Node, tensor: torch.Tensor) -> None:
    name = _name(program, node)
    assert name is not None
    before = program.state_dict[name]
    made = tensor.to(before.dtype)
    program.state_dict[name] = nn.Parameter(made, requires_grad=False) if isinstance(before, nn.Parameter) else made


def _name(program: ExportedProgram, node: Any) -> str | None:
    signature = program.graph_signature
    if not isinstance(node, fx.Node):
        return None
    return signature.inputs_to_parameters.get(node.name) or signature.inputs_to_buffers.get(node.name)
