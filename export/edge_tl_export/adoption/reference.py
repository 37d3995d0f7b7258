"""The original as onnxruntime runs it, asked picture by picture: what every change is held to."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_tl_export.adoption.graph import graphs
from edge_tl_export.adoption.picture import ImageInput
from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.inference.classifier import SessionSettings, open_session

Array = NDArray[np.float64]

RANDOM = (
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
)


class Reference:
    """The original, with the values that are asked for as its outputs.

    proto: the original; its outputs are replaced by `watched`, names of values in its outermost graph.
    Raises BadModelError for a graph that onnxruntime cannot load.
    """

    def __init__(self, proto: onnx.ModelProto, picture: ImageInput, watched: Sequence[str], name: str) -> None:
        outputs = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in proto.graph.output]
        stored = {value.name: value for value in outputs}
        del proto.graph.output[:]
        names = list(dict.fromkeys(watched))
        proto.graph.output.extend(stored.get(value, helper.make_empty_tensor_value_info(value)) for value in names)
        try:
            # One thread: several pictures are asked at once, which needs no waiting between layers.
            self._session = open_session(proto.SerializeToString(), name, SessionSettings(threads=1))
        except BadModelError as error:
            raise _not_computed(str(error), proto, name) or error from None
        finally:
            del proto.graph.output[:]
            proto.graph.output.extend(outputs)
        self._picture, self._name, self.watched = picture, name, tuple(names)

    def one(self, values: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        """Answers for one picture, (1, ...) as the original takes it, with whatever axes they have."""
        fed = np.repeat(values, max(1, self._picture.batch), axis=0)
        try:
            answers = self._session.run(list(self.watched), {self._picture.name: fed})
        except Exception as error:  # noqa: BLE001  # onnxruntime raises unrelated types
            reason = one_line((str(error).strip() or type(error).__name__).splitlines()[0], 200)
            raise BadModelError(f"onnxruntime cannot run {self._name}: {reason}; export it again") from None
        return {
            name: answer for name, answer in zip(self.watched, answers, strict=True) if isinstance(answer, np.ndarray)
        }

    def scores(self, values: NDArray[np.generic], watched: str) -> Array:
        """A value for each picture, asked one by one and flattened: float64 (N, C). values: (N, ...) as the original takes."""
        return np.stack([self.flat(self.one(values[i : i + 1])[watched]) for i in range(len(values))])

    def many(self, values: NDArray[np.generic], watched: str) -> Array:
        """The same in few calls where the batch is free, which is faster; for a graph that was found to answer alike."""
        if self._picture.batch:
            return self.scores(values, watched)
        try:
            (answer,) = self._session.run([watched], {self._picture.name: values})
        except Exception:  # noqa: BLE001  # a batch that is fixed inside
            return self.scores(values, watched)
        if answer.shape[:1] != (len(values),):
            return self.scores(values, watched)
        return np.asarray(answer, np.float64).reshape(len(values), -1)

    def flat(self, answer: NDArray[np.generic]) -> Array:
        """The first picture's share of an answer."""
        copies = max(1, self._picture.batch)
        if copies > 1 and answer.ndim and answer.shape[0] == copies:
            answer = answer[:1]
        return np.asarray(answer, np.float64).reshape(-1)

    def width(self, answer: NDArray[np.generic]) -> int:
        """Scores a picture where an answer is a list of them: (1, C), (1, C, 1, 1), (1, 1, C), (C,); 0 for anything else."""
        if answer.dtype.kind not in "fiu" or not answer.size:
            return 0
        copies = max(1, self._picture.batch)
        shape = answer.shape
        if len(shape) > 1 and shape[0] == copies:
            shape = shape[1:]
        elif len(shape) > 1 or copies > 1:
            return 0
        return int(np.prod(shape)) if sum(size > 1 for size in shape) <= 1 else 0


def _not_computed(said: str, proto: onnx.ModelProto, name: str) -> BadModelError | None:
    """What is meant where onnxruntime has no code for an operator with such numbers; None for other failures."""
    found = re.search(r"NOT_IMPLEMENTED.*implementation for (\w+)\(", said)
    if not found:
        return None
    stored = {tensor.data_type for graph in graphs(proto.graph) for tensor in graph.initializer}
    kinds = {TensorProto.DOUBLE: "double", TensorProto.BFLOAT16: "bfloat16", TensorProto.FLOAT16: "half"}
    kind = next((text for number, text in kinds.items() if number in stored), "")
    said = f"in {kind} precision" if kind else "with numbers of this type"
    return BadModelError(
        f"{name} computes {found[1]} {said}, which onnxruntime cannot on this machine; export it in float32"
    )


def ask_twice(
    reference: Reference, values: NDArray[np.generic], watched: str, proto: onnx.ModelProto, name: str
) -> None:
    """Raises BadModelError where the same picture gets other scores, naming what in the graph is random."""
    first, second = (reference.scores(values, watched) for _ in range(2))
    if np.array_equal(first, second, equal_nan=True):
        return
    largest = float(np.nanmax(np.abs(first - second)))
    if largest <= 1e-6 * max(1.0, float(np.nanmax(np.abs(first)))):
        return  # threads that add in another order
    found = sorted({node.op_type for graph in graphs(proto.graph) for node in graph.node if node.op_type in RANDOM})
    why = f"it has {', '.join(found)}" if found else "onnxruntime computes it in another order each time"
    raise BadModelError(
        f"{name} gives the same picture other scores when asked twice (they differ by {largest:.3g}): {why}; "
        "export it in evaluation mode, without random operators"
    )


def settle(proto: onnx.ModelProto) -> list[str]:
    """Take a graph that was exported in training mode out of it. Returns what was changed, a line each.

    Dropout that drops becomes Dropout that does not; batch normalisation uses the statistics in the file, not those of the batch.
    """
    dropped = normalized = 0
    for graph in graphs(proto.graph):
        stored = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
                mode = stored.get(node.input[2])
                if mode is None or onnx.numpy_helper.to_array(mode).any():
                    dropped += 1
                del node.input[2:]
            elif node.op_type == "BatchNormalization":
                normalized += _in_evaluation(graph, node)
    lines = []
    if dropped:
        lines.append(
            f"{_count(dropped, 'dropout')} in training mode, switched off: the original drops values at random"
        )
    if normalized:
        lines.append(
            f"{_count(normalized, 'batch normalisation')} in training mode, on the stored statistics now: "
            "the original's answers depend on what else is in the batch"
        )
    return lines


def _in_evaluation(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    mode = next((item for item in node.attribute if item.name == "training_mode"), None)
    extra = [name for name in node.output[1:] if name]
    training = (mode is not None and mode.i == 1) or bool(extra)
    used = {name for other in graph.node for name in other.input} | {value.name for value in graph.output}
    if not training or used & set(extra):
        return False
    if mode is not None:
        mode.i = 0
    del node.output[1:]
    return True


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"
