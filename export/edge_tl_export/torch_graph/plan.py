"""A quantized file read for training: which scales belong together, which must stay, and how it is written back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_tl_export.errors import ExportError
from edge_tl_export.quantization.qdq import SAME_SCALE, SATURATING, WEIGHTED
from edge_tl_export.torch_graph.node import Node
from edge_tl_export.torch_graph.operators import INTEGER_OPERATORS, OPERATORS
from edge_tl_runtime.inference.classifier import OUTPUT_NAME


@dataclass
class ScaleGroup:
    """Places of the file, (node, input), that hold one scale. levels: counted from the zero point."""

    key: str
    places: list[tuple[int, int]]
    step: NDArray[np.float32]
    levels: tuple[float, float]
    fixed: bool


@dataclass(frozen=True)
class WeightedLayer:
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


class GraphPlan:
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
        self.layers: list[WeightedLayer] = []
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

    def group_named(self, key: str) -> ScaleGroup:
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

    def _grouped(self) -> dict[int, ScaleGroup]:
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
        groups: dict[int, ScaleGroup] = {}
        for i in activations:
            first = find(i)
            if first not in groups:
                step, zero, kind = self._coding(i)
                lowest, highest = _LEVELS[kind]
                levels = (lowest - zero, highest - zero)
                groups[first] = ScaleGroup(
                    f"scale_{len(groups)}", [], np.asarray(step, np.float32), levels, first in held
                )
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
        layer = WeightedLayer(names[0], names[1], "", "", "", {names[0]: weight})
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

    def _compiled(self, i: int, renamed: Mapping[tuple[int, int], str]) -> Node:
        node = self._proto_nodes[i]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        inputs = tuple(renamed.get((i, place), name) for place, name in enumerate(node.input))
        levels = _LEVELS[self._coding(i)[2]] if node.op_type == "QuantizeLinear" else (0.0, 0.0)
        return Node(node.op_type, inputs, node.output[0], attributes, levels)


_LEVELS = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}


class FileWriter:
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


def as_array(tensor: torch.Tensor | None, kind: Any) -> NDArray[Any]:
    assert tensor is not None
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(kind))


def unknown_operators(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Operators of a graph that there are no gradients for; of another domain with its name before them."""
    found = dict.fromkeys(
        f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for node in proto.graph.node
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx")
    )
    return tuple(found)


def refuse_unknown(proto: onnx.ModelProto) -> None:
    unknown = unknown_operators(proto)
    if unknown:
        raise ExportError(
            f"no gradients through {', '.join(unknown[:5])}{' and others' if len(unknown) > 5 else ''}, which the rebuild in "
            "PyTorch does not know"
        )


def split_shared_constants(proto: onnx.ModelProto) -> None:
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


def fuse_integer_ops(plan: GraphPlan) -> list[Node]:
    """The operators with what stands between integers and integers put into one: dequantize, compute, quantize.

    The runtime does the same, and then rounds once instead of at each operator.
    """
    made = {node.output: node for node in plan.nodes}
    readers: dict[str, list[Node]] = defaultdict(list)
    for node in plan.nodes:
        for name in node.inputs:
            readers[name].append(node)
    fused: dict[str, Node] = {}  # by the output of the node that they stand for
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


def liveness(nodes: Sequence[Node]) -> list[Node]:
    """Let each node name the values that nothing reads after it, so that a pass holds no more than it must."""
    made = {node.output for node in nodes} - {OUTPUT_NAME}
    planned: list[Node] = []
    for node in reversed(nodes):
        last = tuple(dict.fromkeys(name for name in node.inputs if name in made))
        made -= set(last)
        planned.append(replace(node, done_with=last))
    return planned[::-1]
