"""Quantization of a prepared graph, in QDQ form: each tensor that is an integer on the device is written as
QuantizeLinear -> DequantizeLinear, each weight as an integer behind a DequantizeLinear, and runtimes fuse them into integer
kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edge_tl_export.onnx_graph.cleanup import add_initializer, constant, tidy
from edge_tl_export.quantization.prepare import REQUANTIZE, gate_steps
from edge_tl_export.quantization.ranges import Observations, Range, choose_range
from edge_tl_export.quantization.recipe import Recipe
from edge_tl_export.quantization.rounding import round_weights

WEIGHTED = ("Conv", "Gemm")
SAME_SCALE = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")
COMPUTED = ("Add", "Mul", "GlobalAveragePool", "AveragePool", "Concat", REQUANTIZE)
SATURATING = ("Relu", "Clip")
FUSED = (*WEIGHTED, "Add", "Mul")
"""Operators whose integer kernels write straight into the range of the ReLU or clip that follows."""
GATES = ("HardSigmoid",)
QUANTIZABLE = (*WEIGHTED, *SAME_SCALE, *COMPUTED, *SATURATING, *GATES)
LATTICE = 1001
MAX_BIAS = 2**29
"""Largest magnitude of a bias in steps of its sum: leaves the 32-bit sum room for 2^29 / (255 * 127) products."""


@dataclass(frozen=True)
class Scale:
    """real = (integer - zero_point) * step."""

    step: np.float32
    zero_point: int
    kind: str

    @classmethod
    def covering(cls, span: Range, kind: str) -> Scale:
        step = np.float32((span.high - span.low) / 255)
        zero = int(np.clip(np.rint(-span.low / float(step)), 0, 255))
        return cls(step, zero if kind == "uint8" else zero - 128, kind)

    @property
    def range(self) -> Range:
        lowest = 0 if self.kind == "uint8" else -128
        low = (lowest - self.zero_point) * float(self.step)
        return Range(low, low + 255 * float(self.step))


def quantized(model: ir.Model, seen: Observations, recipe: Recipe) -> bytes:
    """The model in QDQ form as a checked ONNX file. model: of `prepare`, changed in place. seen: of `observe` on it."""
    _Writer(model, seen, recipe).write()
    tidy(model)
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def quantized_tensors(model: ir.Model) -> list[str]:
    """Names of the tensors to observe before `quantized`: what its operators give, and what they are given by others."""
    names: list[str] = []
    pixels = {str(value.name) for value in model.graph.inputs}
    for node in model.graph:
        if node.op_type not in QUANTIZABLE or not _is_real(node):
            continue
        if any(value is not None and value.name in pixels for value in node.inputs):
            pixels |= {str(value.name) for value in node.outputs}  # moved, but integers still
            continue
        given = [x for x in node.inputs if x is not None and x.producer() is not None and constant(x) is None]
        names += [str(value.name) for value in (*given, *node.outputs)]
    return list(dict.fromkeys(names))


def weighted_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes whose inputs need moments before `quantized`."""
    return [node for node in model.graph if node.op_type in WEIGHTED and constant(node.inputs[1]) is not None]


class _Writer:
    def __init__(self, model: ir.Model, seen: Observations, recipe: Recipe) -> None:
        self._graph, self._seen, self._recipe = model.graph, seen, recipe
        self._integer: set[str] = set()  # nodes that compute in integers
        self._scales: dict[str, Scale] = {}  # of tensors between them, as written
        self._read_as: dict[str, Scale] = {}  # of gates, whose integers are read with a scale of their own

    def write(self) -> None:
        nodes = list(self._graph)
        for node in nodes:
            if self._can_be_integer(node):
                self._integer.add(str(node.name))
        for node in nodes:
            for value in node.outputs:
                self._choose(value)
        for node in nodes:
            if node.name in self._integer and node.op_type in WEIGHTED:
                self._write_weights(node)
        for node in nodes:
            for value in node.outputs:
                if value.name in self._scales:
                    self._write_pair(value)
        for node in nodes:
            if node.name in self._integer and node.op_type in (*SATURATING, *GATES):
                self._drop_if_done_by_scale(node)

    def _can_be_integer(self, node: ir.Node) -> bool:
        if node.op_type not in QUANTIZABLE or node.name in self._recipe.float_nodes or not _is_real(node):
            return False
        source = node.inputs[0].producer() if node.inputs[0] is not None else None
        if node.op_type in WEIGHTED:
            plain = node.op_type == "Conv" or _plain_gemm(node)
            known = str(node.inputs[0].name) in self._seen.tensors  # type: ignore[union-attr]
            return plain and known and constant(node.inputs[1]) is not None
        if node.op_type in (*SAME_SCALE, *SATURATING):
            return source is not None and source.name in self._integer
        if node.op_type in GATES:
            return gate_steps(node.attributes.get_float("beta", 0.5)) is not None and source is not None
        return all(value is not None and constant(value) is None for value in node.inputs)

    def _choose(self, value: ir.Value) -> None:
        """Give a tensor the scale it is written with, unless it stays float or is fused into its only reader."""
        name, node = str(value.name), value.producer()
        assert node is not None
        readers = [reader for reader, _ in value.uses()]
        integer_readers = [reader for reader in readers if reader.name in self._integer]
        inside = node.name in self._integer
        if (
            name == "pixels_float"
            or value.is_graph_output()
            or not (inside or integer_readers)
            or name not in self._seen.tensors
        ):
            return
        if (
            inside
            and len(readers) == 1
            and integer_readers
            and readers[0].op_type in SATURATING
            and node.op_type in FUSED
        ):
            return
        if inside and node.op_type in SAME_SCALE and (scale := self._scale_of(node.inputs[0])) is not None:
            self._scales[name] = scale
            return
        kind = self._recipe.activations
        if inside and node.op_type in GATES:
            return
        gate = next((reader for reader in integer_readers if reader.op_type in GATES), None)
        if gate is not None and len(readers) == 1:
            self._choose_gate(name, gate, kind)
            return
        span = choose_range(self._seen.tensors[name], self._recipe.calibration)
        if integer_readers and all(_ends_at_gate(reader) for reader in readers):
            span = Range.around(max(span.low, -3.0), span.high)  # below, hard-swish is 0 whatever the value
        self._scales[name] = Scale.covering(span, kind)
        addition = _addition_before(value)
        if addition is not None and addition.name in self._integer:
            self._avoid_rounding_ties(addition, name)

    def _avoid_rounding_ties(self, addition: ir.Node, output: str) -> None:
        """Widen two scales of a sum, by 0.2 % at most, so that no sum of integers lies half-way between two results.

        x86 kernels round such a tie to even and ARM kernels away from zero (and compute with other digits near one), so that
        one photo in twenty had another label on a Raspberry Pi. With a's and b's scale p and k times 1/1001 of the result's,
        p and k whole, sums keep 1/2002 away from every tie, since 1001 is odd.
        """
        free = [x for x in addition.inputs if x is not None and x.name in self._scales and self._is_free(x, addition)]
        if not free:
            return
        grown = str(free[-1].name)
        kept = next(x for x in addition.inputs if x is not None and x.name != grown)
        fixed = self._scale_of(kept)
        if fixed is None:
            return
        whole = max(int(float(fixed.step) * LATTICE / float(self._scales[output].step)), 1)
        step = float(fixed.step) * LATTICE / whole
        self._scales[output] = replace(self._scales[output], step=np.float32(step))
        multiple = max(int(np.ceil(float(self._scales[grown].step) * LATTICE / step)), 1)
        self._scales[grown] = replace(self._scales[grown], step=np.float32(multiple * step / LATTICE))

    def _is_free(self, value: ir.Value, addition: ir.Node) -> bool:
        """Whether only this sum depends on the scale of a tensor."""
        node = value.producer()
        alone = all(reader is addition for reader, _ in value.uses())
        return alone and node is not None and node.op_type in WEIGHTED

    def _choose_gate(self, name: str, gate: ir.Node, kind: str) -> None:
        alpha, beta = gate.attributes.get_float("alpha", 0.2), gate.attributes.get_float("beta", 0.5)
        steps = gate_steps(beta)
        assert steps is not None
        lowest = 0 if kind == "uint8" else -128
        self._scales[name] = Scale(np.float32(1 / (alpha * steps)), round(beta * steps) + lowest, kind)
        self._read_as[name] = Scale(np.float32(1 / steps), lowest, kind)

    def _scale_of(self, value: ir.Value | None) -> Scale | None:
        if value is None:
            return None
        if value.name in self._scales:
            return self._scales[str(value.name)]
        source = value.producer()
        if source is not None and source.op_type == "DequantizeLinear":
            step, zero = constant(source.inputs[1]), constant(source.inputs[2])
            assert step is not None
            assert zero is not None
            return Scale(np.float32(step), int(zero), str(zero.dtype))
        if source is not None and source.op_type in GATES:
            return self._read_as.get(str(source.inputs[0].name))  # type: ignore[union-attr]
        return None

    def _write_weights(self, node: ir.Node) -> None:
        incoming = self._scale_of(node.inputs[0])
        weight = constant(node.inputs[1])
        assert weight is not None
        assert incoming is not None  # an integer node's input was observed, so it has a scale
        axis = 0 if node.op_type == "Conv" or int(node.attributes.get_int("transB", 0)) else 1
        rows = np.moveaxis(weight.astype(np.float64), axis, 0)
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        bias = np.zeros(len(rows)) if bias is None else bias.astype(np.float64).reshape(-1)
        steps = self._weight_steps(rows, bias, float(incoming.step))
        limit = 2 ** (self._recipe.weight_bits - 1) - 1
        flat = rows.reshape(len(rows), -1)
        moments = self._seen.moments.get(str(node.name))
        if moments is not None and self._recipe.rounding == "descent":
            integers = moments.round(flat, steps, limit)
        else:
            integers = round_weights(flat, steps, limit, None)
        if self._recipe.correct_bias and moments is not None:
            lost = (flat - integers * steps[:, None]).reshape(len(moments.mean), -1, flat.shape[1])
            bias = bias + (lost * moments.mean[:, None]).sum(2).reshape(-1)
        integers = integers.reshape(rows.shape)
        sums = np.rint(bias / (steps * float(incoming.step))).astype(np.int32)
        base = str(node.name)
        per_channel = self._recipe.per_channel
        self._dequantized(
            node, 1, f"{base}_weight", np.moveaxis(integers, 0, axis).astype(np.int8), steps, axis, per_channel
        )
        node.resize_inputs(3)
        self._dequantized(node, 2, f"{base}_bias", sums, steps * float(incoming.step), 0, per_channel)

    def _weight_steps(
        self, rows: NDArray[np.float64], bias: NDArray[np.float64], incoming: float
    ) -> NDArray[np.float64]:
        """One step for each row; wide enough that the bias, counted in steps of the sum, fits its 32 bits.

        A channel without weights would have none otherwise, and its bias would overflow, which CPUs answer differently.
        """
        limit = 2 ** (self._recipe.weight_bits - 1) - 1
        largest = np.abs(rows).reshape(len(rows), -1).max(1)
        steps = largest / limit
        if not self._recipe.per_channel:
            steps = np.full_like(steps, steps.max())
        steps = np.maximum(steps, np.abs(bias) / (incoming * MAX_BIAS))
        steps = np.where(steps > 0, steps, 1.0)
        # As stored: the float32 that the device multiplies with.
        return steps.astype(np.float32).astype(np.float64)

    def _dequantized(
        self,
        node: ir.Node,
        place: int,
        name: str,
        integers: NDArray[Any],
        steps: NDArray[np.float64],
        axis: int,
        per_channel: bool,
    ) -> None:
        stored = steps.astype(np.float32) if per_channel else np.asarray(steps[0], np.float32)
        inputs = [
            add_initializer(self._graph, f"{name}_quantized", integers),
            add_initializer(self._graph, f"{name}_scale", stored),
            add_initializer(self._graph, f"{name}_zero_point", np.zeros(stored.shape, integers.dtype)),
        ]
        attributes = {"axis": ir.AttrInt64("axis", axis)} if per_channel else {}
        made = ir.Node("", "DequantizeLinear", inputs, attributes, name=f"{name}_dequantize")
        made.outputs[0].name = f"{name}_dequantized"
        self._graph.insert_before(node, made)
        node.replace_input_with(place, made.outputs[0])

    def _write_pair(self, value: ir.Value) -> None:
        """value -> QuantizeLinear -> DequantizeLinear -> readers; a float reader of a float value keeps the value."""
        name, node = str(value.name), value.producer()
        assert node is not None
        scale = self._scales[name]
        read_as = self._read_as.get(name, scale)
        readers = [use for use in value.uses() if node.name in self._integer or use.node.name in self._integer]
        written = read = self._constants(name, "", scale)
        if read_as is not scale:
            read = self._constants(name, "_read_as", read_as)
        quantize = ir.Node("", "QuantizeLinear", [value, *written], name=f"{name}_quantize")
        quantize.outputs[0].name = f"{name}_quantized"
        dequantize = ir.Node("", "DequantizeLinear", [quantize.outputs[0], *read], name=f"{name}_dequantize")
        dequantize.outputs[0].name = f"{name}_dequantized"
        self._graph.insert_after(node, (quantize, dequantize))
        for use in readers:
            use.node.replace_input_with(use.idx, dequantize.outputs[0])

    def _constants(self, name: str, suffix: str, scale: Scale) -> tuple[ir.Value, ir.Value]:
        return (
            add_initializer(self._graph, f"{name}_scale{suffix}", np.asarray(scale.step)),
            add_initializer(self._graph, f"{name}_zero_point{suffix}", np.asarray(scale.zero_point, scale.kind)),
        )

    def _drop_if_done_by_scale(self, node: ir.Node) -> None:
        """Take out what the saturation of the integers already does: a gate, or a ReLU or clip whose bounds it holds."""
        if node.op_type in GATES:
            source = node.inputs[0].producer() if node.inputs[0] is not None else None
            if source is None or source.op_type != "DequantizeLinear":
                return
            node.outputs[0].replace_all_uses_with(node.inputs[0])  # type: ignore[arg-type]
            return
        scale = self._scales.get(str(node.outputs[0].name))
        if scale is None:
            return
        low, high = _bounds(node)
        if scale.range.low >= low - 1e-6 and scale.range.high <= high * (1 + 1e-6):
            node.outputs[0].replace_all_uses_with(node.inputs[0])  # type: ignore[arg-type]


def _is_real(node: ir.Node) -> bool:
    """Whether an operator gives real numbers, as far as the graph says: graphs from elsewhere compute shapes, too."""
    return all(value.dtype in (None, ir.DataType.FLOAT) for value in node.outputs)


def _addition_before(value: ir.Value) -> ir.Node | None:
    """The sum whose result a tensor is, with or without a ReLU between."""
    node = value.producer()
    if node is not None and node.op_type in SATURATING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node if node is not None and node.op_type == "Add" else None


def _plain_gemm(node: ir.Node) -> bool:
    attributes = node.attributes
    return (
        attributes.get_float("alpha", 1.0) == 1
        and attributes.get_float("beta", 1.0) == 1
        and not attributes.get_int("transA", 0)
    )


def _bounds(node: ir.Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, np.inf
    low, high = (constant(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 2))
    return (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))


def _ends_at_gate(reader: ir.Node) -> bool:
    """Whether a reader of x is part of x * hard_sigmoid(x)."""
    if reader.op_type == REQUANTIZE:
        return True
    sources = [value.producer() for value in reader.inputs if value is not None]
    return reader.op_type == "Mul" and any(node is not None and node.op_type in GATES for node in sources)
