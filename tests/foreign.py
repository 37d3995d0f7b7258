"""Small ONNX classifiers as other toolkits write them, and what onnxruntime says of them by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5
SIZE = 16
LABELS = ("cat", "dog", "fox", "owl", "bee")

Tail = Callable[["Graph", str], str]


class Graph:
    """A graph under construction. Every method gives the name of the value it made."""

    def __init__(self, opset: int = 17, kind: int = TensorProto.FLOAT) -> None:
        self.opset, self.kind = opset, kind
        self.nodes: list[onnx.NodeProto] = []
        self.stored: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(3)

    @property
    def dtype(self) -> np.dtype:
        return helper.tensor_dtype_to_np_dtype(self.kind)

    def store(self, array: Any, kind: Any = None) -> str:
        name = f"w{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(array, kind or self.dtype), name))
        return name

    def op(self, operator: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, **attributes))
        return names[0]

    def body(self, x: str, channels: int = 3, classes: int = CLASSES) -> str:
        """Convolution, ReLU, mean, linear layer: logits that differ from picture to picture."""
        weights = self.random.normal(0, 0.6, (8, channels, 3, 3))
        x = self.op("Conv", x, self.store(weights), self.store(self.random.normal(0, 0.3, 8)), strides=[2, 2])
        x = self.op("GlobalAveragePool", self.op("Relu", x))
        x = self.op("Flatten", x)
        return self.op("Gemm", x, self.store(self.random.normal(0, 2, (8, classes))), self.store(np.zeros(classes)))

    def model(
        self,
        outputs: Sequence[str],
        shape: Sequence[Any] = ("N", 3, SIZE, SIZE),
        kind: int | None = None,
        out_shape: Sequence[Any] | None = None,
        ir: int = 8,
        inputs: Sequence[onnx.ValueInfoProto] = (),
        domains: Sequence[str] = (),
        metadata: dict[str, str] | None = None,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "foreign",
            [helper.make_tensor_value_info("image", self.kind if kind is None else kind, shape), *inputs],
            [helper.make_tensor_value_info(name, self.kind, out_shape) for name in outputs],
            self.stored,
        )
        imports = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        made = helper.make_model(graph, opset_imports=imports, ir_version=ir)
        helper.set_model_props(made, metadata or {})
        return made


def classifier(tail: Tail | None = None, opset: int = 17, **more: Any) -> onnx.ModelProto:
    """The plain one, float32, N x 3 x 16 x 16, with something behind its logits."""
    graph = Graph(opset)
    out = graph.body("image")
    return graph.model([tail(graph, out) if tail else out], **more)


def answers(model: onnx.ModelProto, values: np.ndarray, output: int | str = 0) -> np.ndarray:
    """What the original says of each picture, asked alone and by onnxruntime itself: (N, ...) in float64."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0].name
    name = output if isinstance(output, str) else session.get_outputs()[output].name
    return np.stack([np.asarray(session.run([name], {taken: v[None]})[0], np.float64).reshape(-1) for v in values])


def pixels(count: int = 6, size: int = SIZE) -> np.ndarray:
    """uint8 (N, size, size, 3), RGB: coarse noise, so that no two have the same mean."""
    random = np.random.default_rng(8)
    coarse = random.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(size // 4, 1).repeat(size // 4, 2))


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
