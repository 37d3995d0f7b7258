"""What a graph answers: which of its outputs are the scores, and how they become logits.

The activation at the end is looked for twice: in the graph, backwards through operators that only move values, and in the
answers, which are probabilities where every row lies in 0..1 and sums to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_tl_export.adoption.graph import attribute, constant, names_used, producers
from edge_tl_export.adoption.reading import ALTERING, TINY, Reading
from edge_tl_export.adoption.tail import ACTIVATIONS, ScoreOutput, find_tail
from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.text import one_line

MOVING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout", "Transpose")
"""Operators that leave values as they are."""
HARMLESS = (*ALTERING, "QuantizeLinear", "DequantizeLinear")
"""Operators that change values by little or not at all, where an activation is before them."""


def candidates(graph: onnx.GraphProto) -> list[ScoreOutput]:
    """Every output, followed back to the scores that it was made of."""
    made = producers(graph)
    found: dict[str, ScoreOutput] = {}
    for value in graph.output:
        candidate = _followed(graph, made, value.name)
        # Of several outputs of one value, as the label and the scores of scikit-learn, the plainest stands.
        if candidate.tensor not in found or not candidate.dropped:
            found[candidate.tensor] = candidate
    return list(found.values())


def _followed(graph: onnx.GraphProto, made: dict[str, onnx.NodeProto], output: str) -> ScoreOutput:
    tensor, dropped, labels = output, "", ()
    value = output
    for _ in range(32):
        node = made.get(value)
        if node is None:
            break
        if node.op_type in ("ArgMax", "TopK", "ZipMap") and attribute(node, "largest", 1):
            tensor = value = node.input[0]
            dropped = f"{dropped}, {node.op_type}" if dropped else node.op_type
            strings = attribute(node, "classlabels_strings")
            if isinstance(strings, list):
                labels = tuple(item.decode("utf-8", "replace") for item in strings)
        elif node.op_type in (*MOVING, *HARMLESS):
            value = node.input[0]
        else:
            break
    found = _activation(graph, made, tensor)
    return replace(found, output=output, dropped=dropped, labels=labels, tail=find_tail(graph, tensor))


def _activation(graph: onnx.GraphProto, made: dict[str, onnx.NodeProto], tensor: str) -> ScoreOutput:
    """The last activation, the value it is taken of, and what is behind it; none where that is not a chain of known operators."""
    through: list[onnx.NodeProto] = []
    value, logarithm, negative, factor = tensor, False, False, 1.0
    none = ScoreOutput("", tensor)
    for _ in range(32):
        node = made.get(value)
        if node is None:
            return none
        kind, before = ACTIVATIONS.get(node.op_type, ""), node.input[0]
        if node.op_type == "Div" and (written := _written_softmax(made, node)):
            kind, before = "softmax", written
        if kind:
            if logarithm:
                kind = "log-softmax" if kind == "softmax" else ""
            if kind not in ("softmax", "log-softmax", "sigmoid"):
                return none
            return ScoreOutput("", tensor, "", kind, before, tuple(reversed(through)), factor, negative)
        number = stored_number(graph, node)
        if node.op_type in (*MOVING, *HARMLESS):
            through.append(node)
        elif node.op_type == "Log" and not logarithm:
            logarithm = True
        elif node.op_type == "Neg":
            negative = not negative
        elif number:
            factor = factor * abs(number) if node.op_type == "Mul" else factor / abs(number)
            negative = negative != (number < 0)
        else:
            return none
        value = node.input[0]
    return none


def stored_number(graph: onnx.GraphProto, node: onnx.NodeProto) -> float:
    """The one number that a Mul or Div has beside its first input: percent, and temperature behind the activation; else 0."""
    if node.op_type not in ("Mul", "Div"):
        return 0.0
    number = constant(graph, node.input[1])
    return float(number.reshape(-1)[0]) if number is not None and number.size == 1 else 0.0


def _written_softmax(made: dict[str, onnx.NodeProto], node: onnx.NodeProto) -> str:
    """The value that exp(x) / sum(exp(x)) is taken of, "" where the division is another one."""
    above, below = made.get(node.input[0]), made.get(node.input[1])
    while below is not None and below.op_type in (*MOVING, "Expand", "Add", "Max"):
        below = made.get(below.input[0])
    if above is None or below is None or above.op_type != "Exp" or below.op_type != "ReduceSum":
        return ""
    return above.input[0] if below.input[0] == node.input[0] else ""


# The other end of the new graph


def cut(graph: onnx.GraphProto, candidate: ScoreOutput) -> str:
    """Lead the values before the activation around it, through the operators behind it. Returns the new value's name."""
    taken = {name for node in graph.node for name in (*node.output, *names_used(node))}
    value = candidate.before
    for number, node in enumerate(candidate.through):
        if node.op_type in (*HARMLESS, "CastLike", "Cast", "Dropout", "Identity"):
            continue
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        name = f"around_{number}"
        while name in taken:
            name += "_"
        copy.input[0] = value
        copy.output[0] = name
        copy.name = ""
        del copy.output[1:]
        graph.node.append(copy)
        value = name
    return value


def ending(value: str, reading: Reading, classes: int, out: str) -> tuple[list[onnx.NodeProto], list[TensorProto]]:
    """Nodes and numbers that turn a value of any float or whole type and C scores a picture into logits, float32 (N, C)."""
    width = 1 if reading.two_of_one else classes
    nodes = [
        helper.make_node("Cast", [value], ["scores_float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["scores_float", "scores_shape"], ["scores_flat"]),
    ]
    numbers = {"scores_shape": np.array([-1, width], np.int64)}
    last = "scores_flat"

    def add(operator: str, *inputs: str) -> str:
        name = f"scores_{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [name]))
        return name

    if not reading.cut and reading.meaning in ("probabilities", "independent", "chance"):
        numbers["tiny"] = np.array(TINY, np.float32)
        if reading.total != 1.0:
            numbers["total"] = np.array(1 / reading.total, np.float32)
            last = add("Mul", last, "total")
        logs = add("Log", add("Add", last, "tiny"))
        if reading.meaning != "probabilities":
            numbers["one"] = np.array(1, np.float32)
            # 1 - p in float32 is 0 or at least 6e-8.
            other = add("Log", add("Add", add("Sub", "one", last), "tiny"))
            last = add("Sub", logs, other)
        else:
            last = logs
    if not reading.cut and reading.meaning == "negative-log-probabilities":
        last = add("Neg", last)
    if reading.two_of_one:
        numbers["minus_plus"] = np.array([[0.0, 1.0]], np.float32)
        last = add("Mul", last, "minus_plus")
    nodes.append(helper.make_node("Identity", [last], [out]))
    return nodes, [numpy_helper.from_array(array, name) for name, array in numbers.items()]


def choose(
    found: Sequence[tuple[ScoreOutput, int]], wanted: str, count: int | None, same: Sequence[tuple[int, int]], name: str
) -> int:
    """Which of several candidates holds the scores. found: each with its number of scores a picture, 0 for what are none.

    wanted: the output a person names. count: of labels, where it is known. same: pairs (a, b) where b is the softmax of a.
    Raises UsageError where a person must say, BadModelError where none can be.
    """
    if wanted:
        for index, (candidate, width) in enumerate(found):
            if candidate.output == wanted:
                if not width:
                    raise BadModelError(
                        f"{name}: output {one_line(wanted, 40)!r} holds no scores of classes, one for each"
                    )
                return index
        raise UsageError(f"{name} has no output {one_line(wanted, 40)!r}; it has: {listed(found)}")
    able = [index for index, (_, width) in enumerate(found) if width]
    if not able:
        raise BadModelError(
            f"{name} gives {listed(found)} for a picture, no list of scores; a detector or a segmenter is no classifier"
        )
    fitting = [i for i in able if count is None or found[i][1] == count or (found[i][1] == 1 and count == 2)] or able
    fitting = [i for i in fitting if not any(b == i and a in fitting for a, b in same)]
    main = [i for i in fitting if "aux" not in found[i][0].output.lower()] or fitting
    if count is None and len(main) > 1:
        main = [i for i in main if found[i][1] > 1] or main
    if len(main) > 1:
        fit = "" if count is None or any(found[i][1] == count for i in main) else f" and there are {count} labels"
        raise UsageError(
            f"{name} has several outputs that may be the scores: {listed(found)}{fit}; say which with --output NAME"
        )
    return main[0]


def listed(found: Sequence[tuple[ScoreOutput, int]]) -> str:
    return ", ".join(
        f"{one_line(candidate.output, 40)} ({width} scores)" if width else one_line(candidate.output, 40)
        for candidate, width in found
    )
