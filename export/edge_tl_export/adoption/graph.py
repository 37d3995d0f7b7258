"""Small edits of ONNX graphs that also hold where graphs are nested in If, Loop and Scan."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside it, outermost first."""
    waiting = [graph]
    while waiting:
        current = waiting.pop()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor of a model, in graphs, functions and attributes, however deep."""
    every = [inner for graph in (proto.graph, *_training_graphs(proto)) for inner in graphs(graph)]
    nodes = [node for graph in every for node in graph.node]
    for function in proto.functions:
        nodes += function.node
        for inner in _graphs_below(function.node):
            every.append(inner)
            nodes += inner.node
    for graph in every:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparses = ([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []) + list(
                attribute.sparse_tensors
            )
            for sparse in sparses:
                yield from (sparse.values, sparse.indices)


def _training_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    for info in proto.training_info:
        yield info.initialization
        yield info.algorithm


def _graphs_below(nodes: object) -> Iterator[onnx.GraphProto]:
    for node in nodes:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)
            for inner in attribute.graphs:
                yield from graphs(inner)


def names_used(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, also from inside its own graphs."""
    used = {name for name in node.input if name}
    for inner in _graphs_below([node]):
        for item in inner.node:
            used.update(name for name in item.input if name)
        used.update(value.name for value in inner.output)
    return used


def prune(graph: onnx.GraphProto) -> None:
    """Remove nodes, stored tensors and inputs that no output needs."""
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            continue
        needed |= names_used(node)
        kept.append(node)
    if len(kept) != len(graph.node):
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
        del graph.node[:]
        graph.node.extend(copies)
    for stored in (graph.initializer, graph.input):
        for index in reversed(range(len(stored))):
            if stored[index].name not in needed:
                del stored[index]
    for index in reversed(range(len(graph.sparse_initializer))):
        if graph.sparse_initializer[index].values.name not in needed:
            del graph.sparse_initializer[index]


def sort(graph: onnx.GraphProto) -> bool:
    """Put nodes behind those whose values they read, as ONNX demands and some converters forget; onnxruntime sorts by itself.

    Returns whether the order was another. A graph that has a circle stays as it is.
    """
    made = {output: index for index, node in enumerate(graph.node) for output in node.output if output}
    needs = [{made[name] for name in names_used(node) if name in made} for node in graph.node]
    if all(max(before, default=-1) < index for index, before in enumerate(needs)):
        return False
    users: dict[int, list[int]] = {}
    for index, before in enumerate(needs):
        for other in before:
            users.setdefault(other, []).append(index)
    left = [len(before) for before in needs]
    ready = [index for index, count in enumerate(left) if not count]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users.get(index, ()):
            left[user] -= 1
            if not left[user]:
                heapq.heappush(ready, user)
    if len(order) < len(left):
        return False
    copies = [onnx.NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(copies)
    return True


def rename(graph: onnx.GraphProto, new: Callable[[str], str]) -> None:
    """Give every value another name, in nested graphs too, and forget the shapes that were noted for them."""
    for inner in graphs(graph):
        for node in inner.node:
            for names in (node.input, node.output):
                for place, item in enumerate(names):
                    if item:
                        names[place] = new(item)
        for tensor in inner.initializer:
            tensor.name = new(tensor.name)
        for sparse in inner.sparse_initializer:
            sparse.values.name = new(sparse.values.name)
        for value in (*inner.input, *inner.output):
            value.name = new(value.name)
        del inner.value_info[:]
        del inner.quantization_annotation[:]


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that gives each value."""
    return {output: node for node in graph.node for output in node.output if output}


def constant(graph: onnx.GraphProto, name: str) -> NDArray[np.generic] | None:
    """The stored value of a name, or None where it is computed or in no file."""
    for tensor in graph.initializer:
        if tensor.name == name:
            return np.asarray(numpy_helper.to_array(tensor))
    return None


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """An attribute's value, or `default`."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default
