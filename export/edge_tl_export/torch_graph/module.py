"""A quantized ONNX file as a PyTorch module with gradients: to train it further, and to attack what the device really runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from edge_tl_export.onnx_graph.cleanup import lift_constants
from edge_tl_export.onnx_graph.feature_output import without_features
from edge_tl_export.quantization.qdq import MAX_BIAS
from edge_tl_export.torch_graph.operators import rounded, run
from edge_tl_export.torch_graph.plan import (
    FileWriter,
    GraphPlan,
    as_array,
    fuse_integer_ops,
    liveness,
    refuse_unknown,
    split_shared_constants,
)
from edge_tl_export.torch_graph.shaping import in_current_form, spell_out_splits
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME

Watch = Callable[[str, torch.Tensor], None]
"""Called before a tensor is rounded, with the name of its scale among `DifferentiableGraph.scales` and the float tensor."""

Seen = Callable[[str, torch.Tensor], None]

BIAS_UNIT = 255
"""Steps of a bias in one unit of its latent: what one step of a weight does for the largest input."""


class DifferentiableGraph(nn.Module):
    """A QDQ file of `edge_tl_export.quantization.qdq.quantized`, operator by operator.

    forward: pixels, uint8 or float (N, H, W, 3) in 0..255, to logits, float32 (N, C). Integers are whole float32 numbers, and
    what the runtime sums in integers is summed as whole numbers here, exactly up to 2^24, and scaled by one factor as it does.
    That matters: where dequantized values are summed instead, one value in 10,000 rounds the other way, and through the 50
    layers of mobilenet_v2 that grows until every tenth photo gets another label.

    Gradients are straight-through (Bengio, Leonard and Courville 2013): rounding has slope 1, saturation slope 0. A tensor
    that is read with another scale and zero point than it was written with (a hard-sigmoid in integers) is so here too.

    trainable: whether there are parameters; without them everything is constant, for attacks. Weights and biases are latent
    floats that are rounded on the fly. They are kept in steps of their integers, not as real values, so that one learning rate
    fits layers and channels of any size: weights in steps of the weight, biases in `BIAS_UNIT` steps of the bias.
    scales: of the activations that may change, each as the logarithm of its ratio to the file's. Fixed are: the pixels' scale;
    gates, whose saturation is the function; and whatever enters or leaves an Add, whose scales the exporter chose such that no
    sum lies on a tie, which CPUs round differently. Tensors that an operator only moves (MaxPool, Reshape, ...) keep one scale
    together.

    Raises ExportError for an operator that is not in `OPERATORS`.
    """

    def __init__(self, model: bytes, *, trainable: bool = False) -> None:
        super().__init__()
        self._model = model
        self._proto = in_current_form(onnx.load_from_string(without_features(model)))
        self._trainable = trainable
        lift_constants(self._proto)
        spell_out_splits(self._proto)
        refuse_unknown(self._proto)
        split_shared_constants(self._proto)
        self._arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._proto.graph.initializer}
        self._plan = GraphPlan(self._proto, self._arrays, named_scales=trainable)
        self._buffers_of: dict[str, str] = {}
        self._shapes: dict[str, torch.Tensor] = {}
        for name, array in self._arrays.items():
            self._add_constant(name, array)
        if trainable:
            for group in self._plan.groups.values():
                self._add_constant(group.key, group.step)
        self.weights, self.biases, self.scales = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        self._limits: dict[str, float] = {}
        if trainable:
            self._make_parameters()
        self._spelled_out = liveness(self._plan.nodes)
        self._nodes = liveness(fuse_integer_ops(self._plan))
        self._constant: frozenset[str] = frozenset()

    def forward(self, pixels: torch.Tensor, watch: Watch | None = None, seen: Seen | None = None) -> torch.Tensor:
        """watch: called before a tensor is rounded, for training. seen: called with the name and value of each output."""
        values: dict[str, torch.Tensor | None] = {"": None, INPUT_NAME: pixels.float(), **self._shapes}
        values |= {name: getattr(self, buffer) for name, buffer in self._buffers_of.items()}
        if self._trainable:
            self._round_parameters(values)
        for node in self._nodes if watch is None else self._spelled_out:
            if watch is not None and node.kind == "QuantizeLinear" and node.inputs[1] in self.scales:
                tensor = values[node.inputs[0]]
                assert tensor is not None
                watch(node.inputs[1], tensor)
                values[node.inputs[1]] = self._scale(node.inputs[1])
            value = run(node, [values[name] for name in node.inputs])
            values[node.output] = value.detach() if node.output in self._constant else value
            if seen is not None:
                seen(node.output, value)
            for name in node.done_with:
                del values[name]
        logits = values[OUTPUT_NAME]
        assert logits is not None
        return logits

    def block_constants(self, batches: Sequence[torch.Tensor]) -> tuple[str, ...]:
        """Give no slope to values that are the same for every picture, whatever slopes lead through them; returns their names.

        batches: float pixels (N, H, W, 3), what an attack may try. A rounding that never leaves zero has the straight-through
        slope of any other, which points nowhere and can drown the slopes that count.
        """
        rows: dict[str, torch.Tensor] = {}

        def with_slopes(name: str, value: torch.Tensor) -> None:
            if value.requires_grad:
                rows[name] = value.detach()

        def compare(name: str, value: torch.Tensor) -> None:
            if name in rows and not bool((value == rows[name]).all()):
                del rows[name]

        self(batches[0][:1].clone().requires_grad_(), seen=with_slopes)
        with torch.no_grad():
            for batch in batches:
                self(batch, seen=compare)
        self._constant = frozenset(rows)
        return tuple(rows)

    def step(self, scale: str) -> float:
        """The step of a tensor's integers now. scale: a name among `scales`."""
        return float(self._scale(scale).detach())

    def levels(self, scale: str) -> tuple[float, float]:
        """Smallest and largest integer of a tensor, counted from its zero point. scale: a name among `scales`."""
        return self._plan.group_named(scale).levels

    def to_model(self) -> bytes:
        """The file with the integers and scales as they are now; the file itself, byte for byte, where none has changed.

        Nothing else changes, but that constants which several operators shared become separate where they differ now.
        """
        if not self._trainable:
            return self._model
        writer = FileWriter(self._proto, self._arrays)
        with torch.no_grad():
            values: dict[str, torch.Tensor | None] = {}
            self._round_parameters(values)
        for group in self._plan.groups.values():
            if group.key in self.scales:
                writer.put(group.places, as_array(values[group.key], np.float32))
        for layer in self._plan.layers:
            for name in (layer.weight, layer.bias):
                if name:
                    writer.put(((layer.nodes[name], 0),), as_array(values[name], self._arrays[name].dtype))
            if layer.bias_scale:
                writer.put(((layer.nodes[layer.bias], 1),), as_array(values[layer.bias_scale], np.float32))
        return writer.serialized() if writer.changed else self._model

    def _add_constant(self, name: str, array: NDArray[Any]) -> None:
        if array.dtype == np.int64:
            self._shapes[name] = torch.from_numpy(np.array(array))  # read on the host, wherever the module is
            return
        buffer = f"constant_{len(self._buffers_of)}"
        tensor = torch.from_numpy(np.array(array)).float()
        if tensor.ndim == 4:
            tensor = tensor.to(memory_format=torch.channels_last)
        self.register_buffer(buffer, tensor, persistent=False)
        self._buffers_of[name] = buffer

    def _make_parameters(self) -> None:
        largest = max((int(np.abs(self._arrays[layer.weight]).max()) for layer in self._plan.layers), default=0)
        limit = 63 if largest <= 63 else 127
        for i, layer in enumerate(self._plan.layers):
            latent = torch.from_numpy(self._arrays[layer.weight].astype(np.float32))
            if latent.ndim == 4:
                latent = latent.to(memory_format=torch.channels_last)
            self.weights[str(i)] = nn.Parameter(latent)
            self._limits[layer.weight] = limit
            if layer.bias:
                sums = self._arrays[layer.bias].astype(np.float64)
                # In float64: float32 has not the digits for an int32.
                self.biases[str(i)] = nn.Parameter(torch.from_numpy(sums / BIAS_UNIT))
                self._limits[layer.bias] = max(MAX_BIAS, float(np.abs(sums).max()))
        for group in self._plan.groups.values():
            if not group.fixed:
                self.scales[group.key] = nn.Parameter(torch.zeros(()))

    def _scale(self, key: str) -> torch.Tensor:
        stored: torch.Tensor = getattr(self, self._buffers_of[key])
        return stored * torch.exp(self.scales[key]) if key in self.scales else stored

    def _round_parameters(self, values: dict[str, torch.Tensor | None]) -> None:
        """Put the integers of weights and biases and the scales, as they are now, among the values."""
        for group in self._plan.groups.values():
            values[group.key] = self._scale(group.key)
        for i, layer in enumerate(self._plan.layers):
            limit = self._limits[layer.weight]
            values[layer.weight] = rounded(self.weights[str(i)], limit)
            if not layer.bias:
                continue
            latent, ratio = self.biases[str(i)] * BIAS_UNIT, None
            if layer.bias_scale:
                incoming = self._scale(layer.incoming)
                weight_scale = getattr(self, self._buffers_of[layer.weight_scale])
                values[layer.bias_scale] = incoming * weight_scale
                ratio = self.scales.get(layer.incoming)
            values[layer.bias] = rounded(
                latent if ratio is None else latent * torch.exp(-ratio.double()), self._limits[layer.bias]
            )
