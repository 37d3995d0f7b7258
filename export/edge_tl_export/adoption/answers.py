"""What was made: its precision, and its answers by onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_tl_export.adoption.graph import graphs
from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, SessionSettings, open_session

TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 1e-1}
"""What scores may differ by from the original's, over the largest of them; integers that round the other way move by steps."""
PROBABILITY = {"fp32": 1e-4, "fp16": 5e-3, "int8": 5e-2}
"""The same of probabilities."""
TRIED = 3
"""Pictures at once in the comparison with the original: more than one, so that a batch that is fixed shows."""
ASKED = 8
"""Pictures that the original is asked about to understand its answers."""
QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul")


def precision_of(proto: onnx.ModelProto) -> str:
    kinds = {node.op_type for graph in graphs(proto.graph) for node in graph.node}
    if kinds & set(QUANTIZED) or any(kind.startswith(("QLinear", "QGemm", "DynamicQuantize")) for kind in kinds):
        return "int8"
    half = sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in proto.graph.initializer)
    return "fp16" if 2 * half >= max(1, len(proto.graph.initializer)) else "fp32"


def adopted_runner(model: bytes, name: str) -> Any:
    session = open_session(model, name, SessionSettings())

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: pixels})[0], np.float32)
        except Exception as error:  # noqa: BLE001  # onnxruntime raises unrelated types
            reason = one_line(str(error).splitlines()[0], 160)
            raise BadModelError(
                f"{name} does not run on {len(pixels)} pictures: {reason}; export it with a free batch"
            ) from None

    return logits
