"""Post-training static quantization to INT8, in QDQ form."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from edge_tl_runtime.classifier import INPUT_NAME

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


@dataclass(frozen=True)
class Recipe:
    """How a file is quantized; stored in its contract.

    activations: "uint8" or "int8". On x86 onnxruntime is fast with uint8 only; with VNNI nothing saturates.
    reduce_range: 7-bit weights, for x86 CPUs without VNNI, where sums of two 8-bit products saturate at 16 bits.
    """

    activations: str = "uint8"
    weights: str = "int8"
    per_channel: bool = True
    calibration: str = "minmax"
    reduce_range: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


DEFAULT_RECIPE = Recipe()


def quantize(fp32: bytes, batches: Iterable[NDArray[np.uint8]], recipe: Recipe = DEFAULT_RECIPE) -> bytes:
    """Quantize a pixels-to-logits graph. batches: calibration photos, uint8 (N, H, W, 3) each, read once.

    Weights and activations of convolutions and matrix products become 8-bit integers with float scales; what onnxruntime has
    no integer kernel for stays float between them. The same photos give the same bytes.
    """
    with tempfile.TemporaryDirectory(prefix="edge-tl-") as name, _quiet():
        folder = Path(name)
        (folder / "fp32.onnx").write_bytes(fp32)
        quant_pre_process(folder / "fp32.onnx", folder / "ready.onnx")
        quantize_static(
            folder / "ready.onnx",
            folder / "int8.onnx",
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            activation_type=_TYPES[recipe.activations],
            weight_type=_TYPES[recipe.weights],
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            calibrate_method=_METHODS[recipe.calibration],
            nodes_to_exclude=_entry_nodes(onnx.load(folder / "ready.onnx").graph),
        )
        return _finished(onnx.load(folder / "int8.onnx"))


def to_fp16(fp32: bytes) -> bytes:
    """Half-precision weights and arithmetic; pixels stay uint8 and logits float32."""
    with _quiet():
        return _finished(convert_float_to_float16(onnx.load_from_string(fp32), keep_io_types=True))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[NDArray[np.uint8]]) -> None:
        self._batches: Iterator[NDArray[np.uint8]] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def _entry_nodes(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that turn pixels into the network's input: layout, cast, normalisation.

    They stay float. Quantized, the multiplication and the addition over the whole picture cost more than all convolutions
    save: 3.4 of 5.7 ms for efficientnet_lite0, where in float they take 0.1.
    """
    names, reached = [], {INPUT_NAME}
    for node in graph.node:  # in topological order
        if node.op_type in ("Transpose", "Cast", "Mul", "Add") and reached & set(node.input):
            names.append(node.name)
            reached.update(node.output)
    return names


def _finished(proto: onnx.ModelProto) -> bytes:
    del proto.metadata_props[:]
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


class _quiet:
    """onnxruntime's quantizer warns through the root logger that preprocessing is advised, which it has just had."""

    def __enter__(self) -> None:
        self._level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self._level)
