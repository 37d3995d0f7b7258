"""What stands between the last layer with weights and the scores: whether they can still be logits, and what else is possible."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

from edge_tl_export.adoption.graph import names_used, producers

LAYERS = (
    *("Gemm", "MatMul", "Conv", "ConvTranspose", "Einsum", "RNN", "LSTM", "GRU", "Scan", "Loop"),
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm", "DynamicQuantizeLinear"),
    *("FusedConv", "FusedGemm", "FusedMatMul", "MatMulNBits", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
    *("GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "QLinearGlobalAveragePool"),
)
"""Operators that mix their inputs: what comes before them says nothing of what the scores mean."""
SHAPES = (
    *("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Dropout", "Transpose"),
    *("Expand", "QuantizeLinear", "DequantizeLinear"),
)
LINEAR = (*SHAPES, "Add", "Sub", "Mul", "Div", "Neg", "Sum", "Mean", "Concat", "BatchNormalization")
"""Operators that leave logits logits, where they have stored numbers beside them."""
ACTIVATIONS = {
    "Softmax": "softmax",
    "LogSoftmax": "log-softmax",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard sigmoid",
    "Hardmax": "hardmax",
}
RANKING = ("ArgMax", "ArgMin", "TopK", "OneHot", "Unique", "NonZero", "Hardmax")
"""Operators behind which the place of a number no longer says its class, or only the class is left."""
_TOGETHER = ("Add", "Sub", "Sum", "Mean", "Max", "Min", "Concat")
"""Operators of several computed inputs that are followed into each of them."""
_MOST = 200


@dataclass(frozen=True)
class Tail:
    """behind: operators between the last layer and the scores that do more than move values, last first, each once.

    activations: names from ACTIVATIONS among them; ranking: those of RANKING; bent: whether one of them is not linear.
    parts: how many computed values a Concat puts together, 1 where there is none.
    """

    behind: tuple[str, ...] = ()
    activations: tuple[str, ...] = ()
    ranking: tuple[str, ...] = ()
    bent: bool = False
    parts: int = 1

    @property
    def says(self) -> str:
        """The operators for a message: those behind the activation, or all."""
        return ", ".join(dict.fromkeys(self.behind)) or "operators of no known meaning"


def find_tail(graph: onnx.GraphProto, tensor: str) -> Tail:
    """Walk backwards from the scores to the layers that made them."""
    made, computed = producers(graph), _computed(graph)
    behind: list[str] = []
    bent, parts = False, 1
    waiting, seen = [tensor], {tensor}
    while waiting and len(seen) < _MOST:
        node = made.get(waiting.pop(0))
        if node is None or node.op_type in LAYERS:
            continue
        from_picture = list(dict.fromkeys(name for name in names_used(node) if name in computed))
        if node.op_type not in SHAPES:
            behind.append(node.op_type)
        together = node.op_type in _TOGETHER
        if node.op_type not in LINEAR or (len(from_picture) > 1 and not together):
            bent = True
        if node.op_type == "Concat":
            parts = max(parts, len(from_picture))
        if len(from_picture) == 1 or together:
            waiting += [name for name in from_picture if name not in seen]
            seen.update(from_picture)
    return Tail(
        tuple(dict.fromkeys(behind)),
        tuple(ACTIVATIONS[name] for name in dict.fromkeys(behind) if name in ACTIVATIONS),
        tuple(name for name in dict.fromkeys(behind) if name in RANKING),
        bent,
        parts,
    )


def _computed(graph: onnx.GraphProto) -> set[str]:
    """Values that depend on an input of the graph."""
    found = {value.name for value in graph.input}
    for node in graph.node:
        if not found.isdisjoint(names_used(node)):
            found.update(name for name in node.output if name)
    return found


@dataclass(frozen=True)
class ScoreOutput:
    """An output that may hold the scores.

    output: its name. tensor: the value that holds scores, before the operators that only rank them. dropped: what was passed
    over to get there. activation: softmax, log-softmax, sigmoid or "", found in the graph; before: the value it is taken of;
    through: the operators between it and the tensor that move values, the first behind the activation first. factor: what they
    are multiplied by there. negative: whether their sign is turned. labels: of a ZipMap. tail: all that is behind the layers.
    """

    output: str
    tensor: str
    dropped: str = ""
    activation: str = ""
    before: str = ""
    through: tuple[onnx.NodeProto, ...] = ()
    factor: float = 1.0
    negative: bool = False
    labels: tuple[str, ...] = ()
    tail: Tail = field(default_factory=Tail)

    @property
    def watched(self) -> tuple[str, ...]:
        return (self.tensor, self.before) if self.before else (self.tensor,)
