"""A quantized ONNX file as a PyTorch module with gradients: to train it further, and to attack what the device really runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

from edge_tl_export.qdq import MAX_BIAS, SAME_SCALE, SATURATING, WEIGHTED
from edge_tl_export.verify import ExportError
from edge_tl_runtime.classifier import INPUT_NAME, OUTPUT_NAME

Watch = Callable[[str, torch.Tensor], None]
"""Called before a tensor is rounded, with the name of its scale among `QuantizedGraph.scales` and the float tensor."""

BIAS_UNIT = 255
"""Steps of a bias in one unit of its latent: what one step of a weight does for the largest input."""


@dataclass(frozen=True)
class _Node:
    """One operator. inputs: keys of values ("" where one is left out). levels: smallest and largest integer of a quantization."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    levels: tuple[float, float] = (0.0, 255.0)
    done_with: tuple[str, ...] = ()


class QuantizedGraph(nn.Module):
    """A QDQ file of `edge_tl_export.qdq.quantized`, operator by operator.

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
        self._proto = onnx.load_from_string(model)
        self._trainable = trainable
        _refuse_unknown(self._proto)
        _split_shared_constants(self._proto)
        self._arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._proto.graph.initializer}
        self._plan = _Plan(self._proto, self._arrays, named_scales=trainable)
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
        self._spelled_out = _with_last_uses(self._plan.nodes)
        self._nodes = _with_last_uses(_in_integers(self._plan))

    def forward(self, pixels: torch.Tensor, watch: Watch | None = None) -> torch.Tensor:
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
            values[node.output] = _run(node, [values[name] for name in node.inputs])
            for name in node.done_with:
                del values[name]
        logits = values[OUTPUT_NAME]
        assert logits is not None
        return logits

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
        writer = _Writer(self._proto, self._arrays)
        with torch.no_grad():
            values: dict[str, torch.Tensor | None] = {}
            self._round_parameters(values)
        for group in self._plan.groups.values():
            if group.key in self.scales:
                writer.put(group.places, _array(values[group.key], np.float32))
        for layer in self._plan.layers:
            for name in (layer.weight, layer.bias):
                if name:
                    writer.put(((layer.nodes[name], 0),), _array(values[name], self._arrays[name].dtype))
            if layer.bias_scale:
                writer.put(((layer.nodes[layer.bias], 1),), _array(values[layer.bias_scale], np.float32))
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
            values[layer.weight] = _rounded(self.weights[str(i)], limit)
            if not layer.bias:
                continue
            latent, ratio = self.biases[str(i)] * BIAS_UNIT, None
            if layer.bias_scale:
                incoming = self._scale(layer.incoming)
                weight_scale = getattr(self, self._buffers_of[layer.weight_scale])
                values[layer.bias_scale] = incoming * weight_scale
                ratio = self.scales.get(layer.incoming)
            values[layer.bias] = _rounded(
                latent if ratio is None else latent * torch.exp(-ratio.double()), self._limits[layer.bias]
            )


@dataclass
class _Group:
    """Places of the file, (node, input), that hold one scale. levels: counted from the zero point."""

    key: str
    places: list[tuple[int, int]]
    step: NDArray[np.float32]
    levels: tuple[float, float]
    fixed: bool


@dataclass(frozen=True)
class _Layer:
    """A convolution or matrix product with integer weights. Names of initializers, "" where there is none.

    incoming: key of the input's scale. bias_scale: key of incoming * weight_scale, where the file's is that (runtimes take it for
    granted, so it must follow the input's scale). nodes: index of the node that dequantizes weight or bias, by its name.
    """

    weight: str
    weight_scale: str
    bias: str
    bias_scale: str
    incoming: str
    nodes: Mapping[str, int]


class _Plan:
    """What a file says: its operators, which scales belong together, and which may change."""

    def __init__(self, proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]], *, named_scales: bool) -> None:
        self._proto_nodes = list(proto.graph.node)
        self._arrays = arrays
        self._producer = {node.output[0]: i for i, node in enumerate(self._proto_nodes)}
        self._readers: dict[str, list[int]] = defaultdict(list)
        for i, node in enumerate(self._proto_nodes):
            for name in node.input:
                self._readers[name].append(i)
        self.groups = self._grouped()
        self.layers: list[_Layer] = []
        self.with_bias_in_step: set[str] = (
            set()
        )  # outputs of layers whose bias counts in steps of the sum, whose weights have no offset
        self._renamed: dict[tuple[int, int], str] = {
            place: group.key for group in self.groups.values() for place in group.places
        }
        for i, node in enumerate(self._proto_nodes):
            if node.op_type in WEIGHTED:
                self._add_layer(i)
        self.nodes = [self._compiled(i, self._renamed if named_scales else {}) for i in range(len(self._proto_nodes))]

    def group_named(self, key: str) -> _Group:
        return next(group for group in self.groups.values() if group.key == key)

    def _kind(self, i: int | None) -> str:
        return "" if i is None else str(self._proto_nodes[i].op_type)

    def _is_activation(self, i: int | None) -> bool:
        if i is None or self._kind(i) not in ("QuantizeLinear", "DequantizeLinear"):
            return False
        return self._proto_nodes[i].input[0] not in self._arrays

    def _coding(self, i: int) -> tuple[float, float, str]:
        """Scale, zero point and type that a quantization or its inverse names."""
        names = self._proto_nodes[i].input
        zero = self._arrays[names[2]] if len(names) > 2 else np.zeros((), np.uint8)
        return float(self._arrays[names[1]]), float(zero), str(zero.dtype)

    def _coding_zero(self, i: int) -> NDArray[Any]:
        names = self._proto_nodes[i].input
        return self._arrays[names[2]] if len(names) > 2 else np.zeros(1)

    def _grouped(self) -> dict[int, _Group]:
        """Groups by their first node. Two nodes are of one group where one tensor goes through both unchanged."""
        activations = [i for i in range(len(self._proto_nodes)) if self._is_activation(i)]
        leader = {i: i for i in activations}

        def find(i: int) -> int:
            while leader[i] != i:
                i = leader[i]
            return i

        fixed = set()
        for i in activations:
            node = self._proto_nodes[i]
            source = self._producer.get(node.input[0])
            if self._kind(i) == "DequantizeLinear" and self._kind(source) != "QuantizeLinear":
                fixed.add(i)  # pixels
            tied = source if self._kind(i) == "DequantizeLinear" else self._before_same_scale(source)
            if tied is None or not self._is_activation(tied):
                continue
            if self._coding(tied) == self._coding(i):
                leader[max(find(i), find(tied))] = min(find(i), find(tied))
            elif self._kind(i) == "DequantizeLinear":
                fixed |= {i, tied}  # a gate
        fixed |= {i for node in range(len(self._proto_nodes)) if self._kind(node) == "Add" for i in self._around(node)}
        held = {find(i) for i in fixed if i in leader}
        groups: dict[int, _Group] = {}
        for i in activations:
            first = find(i)
            if first not in groups:
                step, zero, kind = self._coding(i)
                lowest, highest = _LEVELS[kind]
                levels = (lowest - zero, highest - zero)
                groups[first] = _Group(f"scale_{len(groups)}", [], np.asarray(step, np.float32), levels, first in held)
            groups[first].places.append((i, 1))
        return groups

    def _before_same_scale(self, i: int | None) -> int | None:
        """The node that dequantizes what an operator only moves."""
        if self._kind(i) not in (*SAME_SCALE, "Identity"):
            return None
        return self._producer.get(self._proto_nodes[i].input[0])  # type: ignore[index]

    def _around(self, add: int) -> list[int]:
        """The quantizations next to an Add, on both sides, also behind the ReLU that a runtime takes into it."""
        found = [self._producer.get(name) for name in self._proto_nodes[add].input]
        waiting = [add]
        while waiting:
            for reader in self._readers[self._proto_nodes[waiting.pop()].output[0]]:
                (waiting if self._kind(reader) in (*SATURATING, "Identity") else found).append(reader)
        return [i for i in found if i is not None and self._is_activation(i)]

    def _add_layer(self, i: int) -> None:
        node = self._proto_nodes[i]
        incoming, weight, bias = [*(self._producer.get(name) for name in node.input), None, None][:3]
        if not self._is_constant(weight):
            return
        assert weight is not None
        names = list(self._proto_nodes[weight].input)
        layer = _Layer(names[0], names[1], "", "", "", {names[0]: weight})
        if self._is_constant(bias):
            assert bias is not None
            sums, scale = self._proto_nodes[bias].input[:2]
            layer = replace(layer, bias=sums, nodes={**layer.nodes, sums: bias})
            key = self._renamed.get((incoming, 1)) if incoming is not None else None
            if incoming is not None and key is not None:
                product = np.float32(self._coding(incoming)[0]) * self._arrays[names[1]]
                if np.array_equal(product, self._arrays[scale]):
                    layer = replace(layer, bias_scale=f"{key}*{names[1]}", incoming=key)
                    self._renamed[bias, 1] = layer.bias_scale
                    if all(not self._coding_zero(constant).any() for constant in (weight, bias)):
                        self.with_bias_in_step.add(node.output[0])
                else:
                    for (
                        group
                    ) in self.groups.values():  # a scale that does not follow the input's must not be left behind
                        group.fixed |= group.key == key
        self.layers.append(layer)

    def _is_constant(self, i: int | None) -> bool:
        return self._kind(i) == "DequantizeLinear" and not self._is_activation(i)

    def _compiled(self, i: int, renamed: Mapping[tuple[int, int], str]) -> _Node:
        node = self._proto_nodes[i]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = tuple(renamed.get((i, place), name) for place, name in enumerate(node.input))
        levels = _LEVELS[self._coding(i)[2]] if node.op_type == "QuantizeLinear" else (0.0, 0.0)
        return _Node(node.op_type, inputs, node.output[0], attributes, levels)


_LEVELS = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}


class _Writer:
    """New arrays for places of a file; an array that others share is left to them."""

    def __init__(self, proto: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(proto)
        self._arrays = arrays
        self._tensors = {tensor.name: tensor for tensor in self._proto.graph.initializer}
        self._uses: dict[str, int] = defaultdict(int)
        for node in self._proto.graph.node:
            for name in node.input:
                self._uses[name] += 1
        self.changed = False

    def put(self, places: Sequence[tuple[int, int]], array: NDArray[Any]) -> None:
        """Let these places, (node, input), hold one array."""
        nodes = self._proto.graph.node
        name = nodes[places[0][0]].input[places[0][1]]
        array = array.reshape(self._arrays[name].shape)
        if np.array_equal(array, self._arrays[name]) or not array.size:
            return
        self.changed = True
        if self._uses[name] == len(places) and all(nodes[i].input[place] == name for i, place in places):
            self._tensors[name].CopyFrom(numpy_helper.from_array(array, name))
            return
        # Named by the tensor or weight that it is for: the name of the shared one stays with the others.
        fresh = f"{nodes[places[0][0]].output[0]}_{('integers', 'scale')[places[0][1]]}"
        assert fresh not in self._tensors
        self._proto.graph.initializer.append(numpy_helper.from_array(array, fresh))
        for i, place in places:
            self._uses[nodes[i].input[place]] -= 1
            nodes[i].input[place] = fresh

    def serialized(self) -> bytes:
        kept = [tensor for tensor in self._proto.graph.initializer if self._uses.get(tensor.name, 1) > 0]
        if len(kept) < len(self._proto.graph.initializer):
            kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
            del self._proto.graph.initializer[:]
            self._proto.graph.initializer.extend(kept)
        onnx.checker.check_model(self._proto)
        data: bytes = self._proto.SerializeToString(deterministic=True)
        return data


def _array(tensor: torch.Tensor | None, kind: Any) -> NDArray[Any]:
    assert tensor is not None
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(kind))


def _refuse_unknown(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        if node.op_type not in OPERATORS:
            raise ExportError(
                f"no gradients for the operator {node.op_type} ({node.name or node.output[0]}) of this file; "
                "known are: " + ", ".join(sorted(OPERATORS))
            )


def _split_shared_constants(proto: onnx.ModelProto) -> None:
    """Give each reader of a dequantized weight or bias a node and integers of its own.

    Equal constants were merged when the file was written; trained, they part. Rare: integers and scales must all be equal.
    """
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    uses: dict[str, int] = defaultdict(int)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, onnx.NodeProto] = {}
    split = False
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            constants[node.output[0]] = node
            uses[node.input[0]] += 1
            if uses[node.input[0]] > 1:
                split = True
                node.input[0] = _copied(proto, arrays[node.input[0]], f"{node.output[0]}_integers")
        readers_before = len(nodes)
        for place, name in enumerate(node.input):
            if name not in constants:
                continue
            uses[name] += 1
            if uses[name] > 1:
                split = True
                own = onnx.NodeProto()
                own.CopyFrom(constants[name])
                own.name, own.output[0] = f"{own.name}_{uses[name]}", f"{name}_{uses[name]}"
                own.input[0] = _copied(proto, arrays[own.input[0]], f"{own.output[0]}_integers")
                arrays[own.input[0]] = proto.graph.initializer[-1]
                nodes.insert(readers_before, own)
                node.input[place] = own.output[0]
        nodes.append(node)
    if split:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del proto.graph.node[:]
        proto.graph.node.extend(copies)


def _copied(proto: onnx.ModelProto, tensor: onnx.TensorProto, name: str) -> str:
    made = proto.graph.initializer.add()
    made.CopyFrom(tensor)
    made.name = name
    return name


def _in_integers(plan: _Plan) -> list[_Node]:
    """The operators with what stands between integers and integers put into one: dequantize, compute, quantize.

    The runtime does the same, and then rounds once instead of at each operator.
    """
    made = {node.output: node for node in plan.nodes}
    readers: dict[str, list[_Node]] = defaultdict(list)
    for node in plan.nodes:
        for name in node.inputs:
            readers[name].append(node)
    fused: dict[str, _Node] = {}  # by the output of the node that they stand for
    taken: set[str] = set()
    for node in plan.nodes:
        sources = [made.get(name) for name in node.inputs]
        if node.kind not in INTEGER_OPERATORS or any(
            source is None or source.kind != "DequantizeLinear" for source in sources
        ):
            continue
        if node.kind in WEIGHTED and node.output not in plan.with_bias_in_step:
            continue
        inputs = tuple(name for source in sources if source is not None for name in source.inputs)
        if len(inputs) != 3 * len(sources):
            continue
        after = readers[node.output]
        if len(after) == 1 and after[0].kind == "QuantizeLinear" and len(after[0].inputs) == 3:
            taken.add(node.output)
            replaced = after[0]
            fused[replaced.output] = replace(
                node, inputs=(*inputs, *replaced.inputs[1:]), output=replaced.output, levels=replaced.levels
            )
        elif node.output == OUTPUT_NAME:
            fused[node.output] = replace(node, inputs=inputs)
    nodes = [
        replace(fused[node.output], kind=f"integer {fused[node.output].kind}") if node.output in fused else node
        for node in plan.nodes
        if node.output not in taken
    ]
    read = {OUTPUT_NAME}
    kept = []
    for node in reversed(nodes):
        if node.output in read:
            kept.append(node)
            read |= set(node.inputs)
    return kept[::-1]


def _with_last_uses(nodes: Sequence[_Node]) -> list[_Node]:
    """Let each node name the values that nothing reads after it, so that a pass holds no more than it must."""
    made = {node.output for node in nodes} - {OUTPUT_NAME}
    planned: list[_Node] = []
    for node in reversed(nodes):
        last = tuple(dict.fromkeys(name for name in node.inputs if name in made))
        made -= set(last)
        planned.append(replace(node, done_with=last))
    return planned[::-1]


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


def _rounded(latent: torch.Tensor, limit: float) -> torch.Tensor:
    integers: torch.Tensor = _Rounding.apply(latent, limit)  # type: ignore[no-untyped-call]
    return integers


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


Values = Sequence[Any]  # tensors, None for an input left out


def _quantize(node: _Node, values: Values) -> torch.Tensor:
    x, scale, *zero = values
    integers: torch.Tensor = _Quantization.apply(  # type: ignore[no-untyped-call]
        x, scale, zero[0] if zero else torch.zeros_like(scale), node.levels
    )
    return integers


def _dequantize(node: _Node, values: Values) -> torch.Tensor:
    integers, scale, *rest = values
    zero = rest[0] if rest else torch.zeros_like(scale)
    if scale.ndim:
        shape = [1] * integers.ndim
        shape[node.attributes.get("axis", 1)] = -1
        scale, zero = scale.view(shape), zero.view(shape)
    real: torch.Tensor = ((integers - zero) * scale).float()
    return real


def _pads(node: _Node, fill: float, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """The picture with what padding PyTorch's operators cannot do, and the rest of it."""
    top, left, bottom, right = node.attributes.get("pads", (0, 0, 0, 0))
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
        raise ExportError(f"no gradients for {node.kind} with padding by name ({node.output})")
    kernel = node.attributes.get("kernel_shape", (2**31, 2**31))
    if top == bottom and left == right and top <= kernel[0] // 2 and left <= kernel[1] // 2:
        return x, (top, left)
    return functional.pad(x, (left, right, top, bottom), value=fill), (0, 0)


def _convolution(node: _Node, values: Values) -> torch.Tensor:
    x, weight, *bias = values
    attributes = node.attributes
    x, padding = _pads(node, 0.0, x)
    strides, dilations = tuple(attributes.get("strides", (1, 1))), tuple(attributes.get("dilations", (1, 1)))
    return functional.conv2d(
        x, weight, bias[0] if bias else None, strides, padding, dilations, attributes.get("group", 1)
    )


def _matrix_product(node: _Node, values: Values) -> torch.Tensor:
    a, b, *c = values
    attributes = node.attributes
    a, b = (a.T if attributes.get("transA") else a), (b.T if attributes.get("transB") else b)
    product: torch.Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product + attributes.get("beta", 1.0) * c[0] if c and c[0] is not None else product


def _max_pool(node: _Node, values: Values) -> torch.Tensor:
    attributes = node.attributes
    x, padding = _pads(node, -torch.inf, values[0])
    strides, dilations = attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1))
    kernel, ceil = attributes["kernel_shape"], bool(attributes.get("ceil_mode"))
    return functional.max_pool2d(x, tuple(kernel), tuple(strides), padding, tuple(dilations), ceil)


def _average_pool(node: _Node, values: Values) -> torch.Tensor:
    attributes = node.attributes
    count_padding = bool(attributes.get("count_include_pad"))
    x, padding = _pads(node, 0.0, values[0])
    if x is not values[0] and not count_padding:
        raise ExportError(f"no gradients for AveragePool with uneven padding ({node.output})")
    strides, kernel = tuple(attributes.get("strides", (1, 1))), tuple(attributes["kernel_shape"])
    return functional.avg_pool2d(x, kernel, strides, padding, bool(attributes.get("ceil_mode")), count_padding)


def _axes(node: _Node, values: Values) -> list[int]:
    given = values[1] if len(values) > 1 else None
    return list(node.attributes.get("axes", ())) if given is None else [int(axis) for axis in given]


def _reduce_mean(node: _Node, values: Values) -> torch.Tensor:
    mean: torch.Tensor = values[0].mean(_axes(node, values) or None, bool(node.attributes.get("keepdims", 1)))
    return mean


def _reshape(node: _Node, values: Values) -> torch.Tensor:
    x, wanted = values[0], [int(size) for size in values[1]]
    if not node.attributes.get("allowzero"):
        wanted = [size or x.shape[place] for place, size in enumerate(wanted)]
    reshaped: torch.Tensor = x.reshape(wanted)
    return reshaped


def _flatten(node: _Node, values: Values) -> torch.Tensor:
    x = values[0]
    axis = node.attributes.get("axis", 1) % (x.ndim + 1)
    flat: torch.Tensor = x.reshape(int(np.prod(x.shape[:axis])), -1)
    return flat


def _squeeze(node: _Node, values: Values) -> torch.Tensor:
    axes = _axes(node, values)
    squeezed: torch.Tensor = values[0].squeeze(tuple(axes)) if axes else values[0].squeeze()
    return squeezed


def _unsqueeze(node: _Node, values: Values) -> torch.Tensor:
    x, axes = values[0], _axes(node, values)
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x  # type: ignore[no-any-return]


def _cast(node: _Node, values: Values) -> torch.Tensor:
    if node.attributes["to"] != onnx.TensorProto.FLOAT:
        raise ExportError(f"no gradients for a Cast to anything but float32 ({node.output})")
    return values[0].float()  # type: ignore[no-any-return]


def _clip(node: _Node, values: Values) -> torch.Tensor:
    bounds = [*values[1:], None, None][:2]
    low, high = (
        node.attributes.get(name) if bound is None else bound
        for name, bound in zip(("min", "max"), bounds, strict=True)
    )
    return values[0] if low is None and high is None else values[0].clamp(low, high)  # type: ignore[no-any-return]


def _hard_sigmoid(node: _Node, values: Values) -> torch.Tensor:
    gate: torch.Tensor = values[0] * node.attributes.get("alpha", 0.2) + node.attributes.get("beta", 0.5)
    return gate.clamp(0, 1)


OPERATORS: Mapping[str, Callable[[_Node, Values], torch.Tensor]] = {
    "Add": lambda node, values: values[0] + values[1],
    "AveragePool": _average_pool,
    "Cast": _cast,
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
    "ReduceMean": _reduce_mean,
    "Relu": lambda node, values: functional.relu(values[0]),
    "Reshape": _reshape,
    "Sigmoid": lambda node, values: torch.sigmoid(values[0]),
    "Squeeze": _squeeze,
    "Transpose": lambda node, values: values[0].permute(node.attributes["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""What each operator does with its inputs; a new one is added here."""


def _run(node: _Node, values: Values) -> torch.Tensor:
    kind = node.kind.removeprefix("integer ")
    return (
        OPERATORS[kind](node, values)
        if kind == node.kind
        else _integers(node, INTEGER_OPERATORS[kind](node, values), values)
    )


Sums = tuple[torch.Tensor, torch.Tensor, int]
"""Whole numbers, what each is worth, and how many (integers, scale, zero point) of the inputs these took."""


def _integers(node: _Node, computed: Sums, values: Values) -> torch.Tensor:
    """The integers of the result; the real values where nothing quantizes them."""
    sums, worth, taken = computed
    if len(values) == taken:
        return (sums * worth).float()
    scale, zero = values[taken:]
    integers: torch.Tensor = _Quantization.apply(  # type: ignore[no-untyped-call]
        sums * (worth / scale), torch.ones_like(scale), zero, node.levels
    )
    return integers


def _integer_convolution(node: _Node, values: Values) -> Sums:
    x, x_scale, x_zero, weight, weight_scale, _, bias = values[:7]
    worth = x_scale * weight_scale
    return _convolution(node, (x - x_zero, weight, bias.float())), worth.view(-1, 1, 1) if worth.ndim else worth, 9


def _integer_matrix_product(node: _Node, values: Values) -> Sums:
    x, x_scale, x_zero, weight, weight_scale, _, bias = values[:7]
    return _matrix_product(node, (x - x_zero, weight, bias.float())), x_scale * weight_scale, 9


def _integer_mean(node: _Node, values: Values) -> Sums:
    x, scale, zero = values[:3]
    return (x - zero).sum((2, 3), keepdim=True), scale / (x.shape[2] * x.shape[3]), 3


def _integer_product(node: _Node, values: Values) -> Sums:
    a, a_scale, a_zero, b, b_scale, b_zero = values[:6]
    return (a - a_zero) * (b - b_zero), a_scale * b_scale, 6


INTEGER_OPERATORS: Mapping[str, Callable[[_Node, Values], Sums]] = {
    "Conv": _integer_convolution,
    "Gemm": _integer_matrix_product,
    "GlobalAveragePool": _integer_mean,
    "Mul": _integer_product,
}
"""Operators that runtimes compute in integers, where dequantized tensors come in."""
