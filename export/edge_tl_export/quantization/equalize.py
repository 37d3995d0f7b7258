"""Cross-layer equalization: channels rescaled so that each fills the range of its tensor, with the function unchanged
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"; here driven by what was observed).

A tensor has one scale for all channels, so a channel that stays within a tenth of its range has 25 levels left of 255. Where the
tensor lies between convolutions, channel c can be multiplied by f_c in the weights before it and divided by f_c in those after.
What the channel gains those weights lose, so both decide, as in equation 4 of Xiao et al. 2022, "SmoothQuant".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_tl_export.onnx_graph.cleanup import add_initializer, constant
from edge_tl_export.quantization.ranges import Observations

LINKING = ("Add", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "AveragePool")
MAX_FACTOR, MIN_FACTOR = 16.0, 2.0**-12
"""Growth that a channel which showed hardly anything may have over the others: other photos may show more. Outliers shrink as far
as they stand out; MIN_FACTOR is for channels that nothing reads."""
HEADROOM = 2.0
"""How far beyond its largest calibrated value a channel stays clear of a clip that it never met."""


@dataclass
class TensorGroup:
    """Tensors that must share their factors, with the convolutions that write them and those that read them."""

    tensors: set[str] = field(default_factory=set)
    writers: list[ir.Node] = field(default_factory=list)
    readers: list[ir.Node] = field(default_factory=list)
    ceiling: float = np.inf


def equalize(model: ir.Model, seen: Observations, strength: float = 0.5) -> int:
    """Rescale in place; returns how many streams were.

    strength: in [0, 1], weight of a channel's own range where a dense convolution reads it; the rest is that of the range of the
    weights it meets there, so that channels which differ by scale alone end much alike. Readers that are depthwise lose nothing,
    and there each channel fills its tensor.
    """
    changed = 0
    for stream in list(_streams(model)):
        factors = _factors(stream, seen, strength)
        if factors is None:
            continue
        for node in stream.writers:
            _scale_rows(node, factors)
        for node in stream.readers:
            _scale_columns(node, 1 / factors)
        changed += 1
    return changed


def _streams(model: ir.Model) -> Iterator[TensorGroup]:
    done: set[str] = set()
    for node in model.graph:
        if node.op_type == "Conv" and node.outputs[0].name not in done:
            stream = _grow(node.outputs[0])
            if stream is not None:
                done |= stream.tensors
                yield stream


def _grow(start: ir.Value) -> TensorGroup | None:
    """Everything tied to a tensor's channels, or None when something else than a convolution stands at an end."""
    stream, waiting = TensorGroup(), [start]
    while waiting:
        value = waiting.pop()
        if str(value.name) in stream.tensors:
            continue
        stream.tensors.add(str(value.name))
        node = value.producer()
        if node is None or value.is_graph_output():
            return None
        if node.op_type == "Conv" and constant(node.inputs[1]) is not None:
            stream.writers.append(node)
        elif node.op_type in LINKING:
            if node.op_type == "Add" and any(constant(x) is not None for x in node.inputs):
                return None
            if node.op_type == "Clip":
                low, high = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
                if low is None or low != 0:
                    return None
                stream.ceiling = min(stream.ceiling, np.inf if high is None else float(high))
            waiting += [x for x in node.inputs if x is not None and x.producer() is not None and constant(x) is None]
        else:
            return None
        for reader, place in value.uses():
            if reader.op_type == "Conv" and place == 0 and constant(reader.inputs[1]) is not None:
                if reader not in stream.readers:
                    stream.readers.append(reader)
            elif reader.op_type in LINKING:
                waiting += list(reader.outputs)
            else:
                return None
    return stream


def _factors(stream: TensorGroup, seen: Observations, strength: float) -> NDArray[np.float64] | None:
    observed = [seen.tensors[name] for name in stream.tensors if name in seen.tensors]
    if not observed or not stream.readers:
        return None
    # Before a ReLU the low side never leaves: only what integers will carry counts.
    carried = [x for x in observed if x.low.min() >= 0] or observed
    reach = np.max([np.maximum(np.abs(x.low), np.abs(x.high)) for x in carried], axis=0)
    largest = float(reach.max())
    if largest <= 0:
        return None
    factors: NDArray[np.float64] = largest / np.maximum(reach, 1e-12 * largest)
    factors[reach <= 0] = 1.0
    if whole := all(_depthwise(node) for node in stream.readers):
        strength = 1.0
    factors = factors**strength * np.maximum(_share(stream.readers), 1e-12) ** (1 - strength)
    if np.isfinite(stream.ceiling):
        # A clip must clip what it did before: no channel shrinks, none grows into it.
        factors = np.clip(factors, 1.0, MAX_FACTOR)
        room = np.maximum(stream.ceiling / np.maximum(reach * HEADROOM, 1e-12), 1.0)
        factors = np.where(reach * HEADROOM >= stream.ceiling, 1.0, np.minimum(factors, room))
    else:
        factors = np.clip(factors / (1.0 if whole else np.median(factors)), MIN_FACTOR, MAX_FACTOR)
    return factors


def _share(readers: list[ir.Node]) -> NDArray[np.float64]:
    """For each channel, in [0, 1], the largest weight that meets it over the largest of the same row, which shares its scale."""
    shares = []
    for node in readers:
        weight = constant(node.inputs[1])
        assert weight is not None
        largest = np.abs(weight.astype(np.float64)).reshape(*weight.shape[:2], -1).max(2)
        share = largest / np.maximum(largest.max(1, keepdims=True), 1e-30)
        groups = node.attributes.get_int("group", 1)
        shares.append(share.reshape(groups, -1, share.shape[1]).max(1).reshape(-1))
    found: NDArray[np.float64] = np.max(shares, axis=0)
    return found


def _depthwise(node: ir.Node) -> bool:
    weight = constant(node.inputs[1])
    assert weight is not None
    return weight.shape[1] == 1 and node.attributes.get_int("group", 1) == len(weight)


def _scale_rows(node: ir.Node, factors: NDArray[np.float64]) -> None:
    weight = constant(node.inputs[1])
    assert weight is not None
    _replace(node, 1, weight * factors.reshape(-1, 1, 1, 1))
    if len(node.inputs) > 2 and (bias := constant(node.inputs[2])) is not None:
        _replace(node, 2, bias * factors)


def _scale_columns(node: ir.Node, factors: NDArray[np.float64]) -> None:
    weight = constant(node.inputs[1])
    assert weight is not None
    groups = node.attributes.get_int("group", 1)
    per_row = factors.reshape(groups, -1)[np.arange(len(weight)) // (len(weight) // groups)]
    _replace(node, 1, weight * per_row[:, :, None, None])


def _replace(node: ir.Node, place: int, array: NDArray[np.float64]) -> None:
    old = node.inputs[place]
    assert old is not None
    assert node.graph is not None
    name = f"{node.name}_equalized_{place}"
    graph = node.graph
    if name in graph.initializers:  # rescaled before, from its other side
        graph.initializers[name].const_value = ir.tensor(array.astype(np.float32), name=name)
        return
    node.replace_input_with(place, add_initializer(graph, name, array.astype(np.float32)))
