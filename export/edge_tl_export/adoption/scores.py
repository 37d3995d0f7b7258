"""What a graph answers: which of its outputs are the scores, and how they become logits.

The activation at the end is looked for twice: in the graph, backwards through operators that only move values, and in the
answers, which are probabilities where every row lies in 0..1 and sums to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_tl_export.adoption.graph import attribute, constant, names_used, producers
from edge_tl_runtime.errors import BadModelError, UsageError, one_line

Array = NDArray[np.float64]

MOVING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout", "Transpose", "Clip")
"""Operators behind an activation that leave its values as they are. Clip, because a clip to 0..1 does nothing to them."""
TOTALS = (1.0, 100.0, 255.0, 256.0)
"""What rows of probabilities sum to: percent, and whole numbers of a byte."""
TINY = 1e-37
"""Added before a logarithm: a probability of 0 gets a finite logit, and no other changes."""
READINGS = ("auto", "logits", "probabilities", "log-probabilities", "sigmoid")


@dataclass(frozen=True)
class Candidate:
    """An output that may hold the scores.

    output: its name. tensor: the value that holds scores, before the operators that only rank them. dropped: what was passed
    over to get there. activation: softmax, log-softmax, sigmoid or "", found in the graph; before: the value it is taken of;
    through: the operators between it and the tensor, the first behind the activation first. labels: of a ZipMap.
    """

    output: str
    tensor: str
    dropped: str = ""
    activation: str = ""
    before: str = ""
    through: tuple[onnx.NodeProto, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def watched(self) -> tuple[str, ...]:
        return (self.tensor, self.before) if self.before else (self.tensor,)


def candidates(graph: onnx.GraphProto) -> list[Candidate]:
    """Every output, followed back to the scores that it was made of."""
    made = producers(graph)
    found: dict[str, Candidate] = {}
    for value in graph.output:
        candidate = _followed(graph, made, value.name)
        # Of several outputs of one value, as the label and the scores of scikit-learn, the plainest stands.
        if candidate.tensor not in found or not candidate.dropped:
            found[candidate.tensor] = candidate
    return list(found.values())


def _followed(graph: onnx.GraphProto, made: dict[str, onnx.NodeProto], output: str) -> Candidate:
    tensor, dropped, labels = output, "", ()
    value = output
    for _ in range(32):
        node = made.get(value)
        if node is None:
            break
        if node.op_type in ("ArgMax", "TopK", "ZipMap"):
            tensor = value = node.input[0]
            dropped = f"{dropped}, {node.op_type}" if dropped else node.op_type
            strings = attribute(node, "classlabels_strings")
            if isinstance(strings, list):
                labels = tuple(item.decode("utf-8", "replace") for item in strings)
        elif node.op_type in MOVING:
            value = node.input[0]
        else:
            break
    activation, before, through = _activation(graph, made, tensor)
    return Candidate(output, tensor, dropped, activation, before, tuple(reversed(through)), labels)


def _activation(
    graph: onnx.GraphProto, made: dict[str, onnx.NodeProto], tensor: str
) -> tuple[str, str, list[onnx.NodeProto]]:
    """Name of the last activation, the value it is taken of, and the operators behind it, last first."""
    through: list[onnx.NodeProto] = []
    value, logarithm = tensor, False
    for _ in range(32):
        node = made.get(value)
        if node is None:
            return "", "", []
        if node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
            kind = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}[node.op_type]
            if logarithm:
                kind = "log-softmax" if kind == "softmax" else ""
            return (kind, node.input[0], through) if kind else ("", "", [])
        if node.op_type == "Div":
            written = _written_softmax(made, node)
            if written:
                return ("log-softmax" if logarithm else "softmax"), written, through
        if node.op_type in MOVING:
            through.append(node)
        elif node.op_type == "Log" and not logarithm:
            logarithm = True
        elif not _scales(graph, node):
            return "", "", []
        value = node.input[0]
    return "", "", []


def _scales(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether a node multiplies or divides by one stored number: percent, and temperature behind the activation."""
    if node.op_type not in ("Mul", "Div"):
        return False
    number = constant(graph, node.input[1])
    return number is not None and number.size == 1


def _written_softmax(made: dict[str, onnx.NodeProto], node: onnx.NodeProto) -> str:
    """The value that exp(x) / sum(exp(x)) is taken of, "" where the division is another one."""
    above, below = made.get(node.input[0]), made.get(node.input[1])
    while below is not None and below.op_type in (*MOVING, "Expand", "Add", "Max"):
        below = made.get(below.input[0])
    if above is None or below is None or above.op_type != "Exp" or below.op_type != "ReduceSum":
        return ""
    return above.input[0] if below.input[0] == node.input[0] else ""


# What the answers say


@dataclass(frozen=True)
class Reading:
    """How the scores of a file are to be understood.

    meaning: logits, probabilities, log-probabilities, independent (a sigmoid for each class), odds (one logit for two classes)
    or chance (one probability for two classes). total: what rows of probabilities sum to. cut: whether the activation that the
    graph has is left out; else probabilities get a logarithm.
    """

    meaning: str
    total: float = 1.0
    cut: bool = False

    @property
    def two_of_one(self) -> bool:
        return self.meaning in ("odds", "chance")

    def logits(self, scores: Array) -> Array:
        """What the adopted file shall answer for the original's `scores`, (N, C), in float64."""
        logs: Array
        with np.errstate(divide="ignore"):
            if self.meaning == "probabilities":
                logs = np.log(scores / self.total + TINY)
                return logs
            if self.meaning == "independent":
                logs = np.log(scores + TINY) - np.log1p(-np.minimum(scores, 1 - 1e-7))
                return logs
            if self.meaning == "chance":
                return np.concatenate([np.log(1 - np.minimum(scores, 1) + TINY), np.log(scores + TINY)], 1)
            if self.meaning == "odds":
                return np.concatenate([np.zeros_like(scores), scores], 1)
        return scores

    def as_original(self, logits: Array) -> Array:
        """The other way: what logits (N, C) of the adopted file mean in the original's terms, (N, C) or (N, 1)."""
        if self.meaning == "logits":
            return logits
        if self.meaning == "independent":
            return _sigmoid(logits)
        if self.meaning == "odds":
            return logits[:, 1:] - logits[:, :1]
        shifted = logits - logits.max(1, keepdims=True)
        logs: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        if self.meaning == "log-probabilities":
            return logs
        meant: Array = np.exp(logs[:, 1:] if self.meaning == "chance" else logs) * self.total
        return meant


def read(candidate: Candidate, answers: Array, before: Array | None, wanted: str) -> Reading:
    """How scores are to be understood. answers: (N, C) of several pictures; before: what goes into the activation, alike.

    wanted: one of READINGS. Raises BadModelError for scores that are not numbers.
    """
    if not np.isfinite(answers).all() and not (np.isneginf(answers).any() and not np.isnan(answers).any()):
        raise BadModelError(
            f"output {one_line(candidate.output, 40)!r} gave scores that are no numbers (NaN or infinite)"
        )
    single = answers.shape[1] == 1
    if wanted != "auto":
        return _wanted(wanted, single, answers)
    kind = candidate.activation
    total = _total(answers)
    if kind == "sigmoid" and before is not None and _close(answers, _sigmoid(before)):
        return Reading("chance" if single else "independent", cut=True)
    if single:
        return Reading("odds")
    if kind == "softmax" and before is not None and total:
        return Reading("probabilities", total, cut=_close(answers / total, _softmax(before)))
    if kind == "log-softmax" and before is not None:
        return Reading("log-probabilities", cut=_close(np.exp(answers), _softmax(before)))
    if total and any(abs(total - usual) <= 0.02 * usual for usual in TOTALS):
        return Reading("probabilities", total)
    if (answers <= 1e-6).all() and np.allclose(np.exp(answers).sum(1), 1, atol=2e-3):
        return Reading("log-probabilities")
    return Reading("logits")


def _wanted(wanted: str, single: bool, answers: Array) -> Reading:
    if wanted == "logits":
        return Reading("odds" if single else "logits")
    if wanted == "log-probabilities":
        return Reading("log-probabilities")
    outside = answers.min() < -1e-3 or (wanted == "sigmoid" and answers.max() > 1 + 1e-3)
    if outside:
        raise UsageError(
            f"the scores go from {answers.min():.3g} to {answers.max():.3g}, so they are no probabilities; "
            "leave --scores out, or say --scores logits"
        )
    if wanted == "sigmoid" or single:
        return Reading("chance" if single else "independent")
    return Reading("probabilities", float(np.median(answers.sum(1))))


def follows(first: Array, second: Array, earlier: bool) -> bool:
    """Whether scores, (N, C) both, are the softmax of others, or the same where these come earlier."""
    if np.allclose(first, second, atol=1e-6):
        return earlier
    return bool(np.allclose(_softmax(first), second, atol=1e-4))


def _total(answers: Array) -> float:
    """What every row sums to, where no value is negative and all rows agree; 0 otherwise."""
    sums = answers.sum(1)
    if answers.min() < -1e-4 * max(1.0, answers.max()) or not sums.min() > 0 or len(answers) < 2:
        return 0.0
    middle = float(np.median(sums))
    if np.abs(sums - middle).max() > 0.01 * middle:
        return 0.0
    # Half precision leaves a thousandth; a row of logits that sums to the same for every picture is none.
    nearest = min(TOTALS, key=lambda usual: abs(middle - usual) / usual)
    return nearest if abs(middle - nearest) <= 0.004 * nearest and nearest < 255 else middle


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))


def _softmax(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def _close(first: Array, second: Array) -> bool:
    return first.shape == second.shape and bool(np.allclose(first, second, atol=5e-3))


# The other end of the new graph


def cut(graph: onnx.GraphProto, candidate: Candidate) -> str:
    """Lead the values before the activation around it, through the operators behind it. Returns the new value's name."""
    taken = {name for node in graph.node for name in (*node.output, *names_used(node))}
    value = candidate.before
    for number, node in enumerate(candidate.through):
        if node.op_type in ("Clip", "CastLike", "Cast", "Dropout", "Identity"):
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
    if reading.two_of_one:
        numbers["minus_plus"] = np.array([[0.0, 1.0]], np.float32)
        last = add("Mul", last, "minus_plus")
    nodes.append(helper.make_node("Identity", [last], [out]))
    return nodes, [numpy_helper.from_array(array, name) for name, array in numbers.items()]


def choose(
    found: Sequence[tuple[Candidate, int]], wanted: str, count: int | None, same: Sequence[tuple[int, int]], name: str
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


def listed(found: Sequence[tuple[Candidate, int]]) -> str:
    return ", ".join(
        f"{one_line(candidate.output, 40)} ({width} scores)" if width else one_line(candidate.output, 40)
        for candidate, width in found
    )
