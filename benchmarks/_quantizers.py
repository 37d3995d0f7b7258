"""Other quantizers, and this project's, behind one function each: a pixels-to-logits FP32 graph and calibration photos to INT8.

Adding one: a function and its entry in PEERS. A peer that is not installed raises Missing, and the tables say so. Olive has no
entry: its static quantization of ONNX files is onnxruntime's. ONNX Neural Compressor 1.0 asks for numpy below 2 and transformers,
and needs an environment of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_tl_export import Comparison, QuantizationSearch, Quantizer
from edge_tl_export.search.compare import open_model
from edge_tl_runtime.images.crop import DEFAULT_RESAMPLE
from edge_tl_runtime.inference.classifier import INPUT_NAME
from edge_tl_runtime.modelfile.spec import ResizeRule

BATCH = 8
ENTRY = ("Transpose", "Cast", "Mul", "Add", "Sub", "Div")
"""Operators between the pixels and the first convolution."""

Pixels = NDArray[np.uint8]


class Missing(Exception):
    """A peer that cannot be tried here, and why."""


@dataclass(frozen=True)
class OpenVinoModel:
    """A model in OpenVINO's own form, which onnxruntime does not read."""

    xml: bytes
    weights: bytes


Quantize = Callable[[bytes, Pixels], "bytes | OpenVinoModel"]


def ours(fp32: bytes, calibration: Pixels) -> bytes:
    """What `edge-tl export --quantize` evaluates first: the candidate with the least noise.

    It sees no labels. Where the command has more photos than those that calibrate, it ranks on others; here on the same ones.
    """
    quantizer = Quantizer(fp32, list(_batches(calibration)))
    rule = ResizeRule(height=calibration.shape[1], width=calibration.shape[2], crop_pct=1, resample=DEFAULT_RESAMPLE)
    search = QuantizationSearch(quantizer, calibration[:64], Comparison(fp32, rule, None, open_model), "x86-vnni")
    return search.ranked()[0].model


def onnxruntime_advised(fp32: bytes, calibration: Pixels) -> bytes:
    """What its documentation advises: preprocessing, QDQ, int8 weights by channel, uint8 activations, MinMax."""
    return _quantize_static(fp32, calibration, float_entry=False)


def onnxruntime_entry_float(fp32: bytes, calibration: Pixels) -> bytes:
    """The same; layout, cast and normalisation of the pixels stay float, which its quantizer has to be told."""
    return _quantize_static(fp32, calibration, float_entry=True)


def onnxruntime_defaults(fp32: bytes, calibration: Pixels) -> bytes:
    """`quantize_static` with nothing said: int8 activations, one scale for a whole weight tensor, no preprocessing."""
    with tempfile.TemporaryDirectory() as name:
        given, made = Path(name, "fp32.onnx"), Path(name, "int8.onnx")
        given.write_bytes(fp32)
        quantize_static(given, made, _Reader(calibration))
        return onnx.load(made).SerializeToString()


def _quantize_static(fp32: bytes, calibration: Pixels, *, float_entry: bool) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        given, ready, made = (Path(name, f"{stem}.onnx") for stem in ("fp32", "ready", "int8"))
        given.write_bytes(fp32)
        quant_pre_process(given, ready)
        quantize_static(
            ready,
            made,
            _Reader(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=_entry_nodes(onnx.load(ready).graph) if float_entry else [],
        )
        return onnx.load(made).SerializeToString()


def nncf_onnx(preset: str = "performance", **options: Any) -> Quantize:
    """nncf.quantize on the ONNX graph. "performance": symmetric activations; "mixed": asymmetric where they have two signs."""

    def quantize(fp32: bytes, calibration: Pixels) -> bytes:
        model: onnx.ModelProto = _nncf_quantize(onnx.load_from_string(fp32), calibration, preset, options)
        return model.SerializeToString()

    return quantize


def nncf_openvino(preset: str = "performance", **options: Any) -> Quantize:
    """nncf.quantize on OpenVINO's form of the same graph, as OpenVINO's documentation does it."""

    def quantize(fp32: bytes, calibration: Pixels) -> OpenVinoModel:
        openvino = installed("openvino")
        model = _nncf_quantize(openvino.Core().read_model(fp32), calibration, preset, options)
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "model.xml")
            openvino.save_model(model, path, compress_to_fp16=False)
            return OpenVinoModel(path.read_bytes(), path.with_suffix(".bin").read_bytes())

    return quantize


def _nncf_quantize(model: Any, calibration: Pixels, preset: str, options: dict[str, Any]) -> Any:
    nncf = installed("nncf")
    data = nncf.Dataset([{INPUT_NAME: calibration[i : i + 1]} for i in range(len(calibration))])
    presets = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}
    return nncf.quantize(model, data, preset=presets[preset], subset_size=len(calibration), **options)


def neural_compressor(fp32: bytes, calibration: Pixels) -> bytes:
    """ONNX Neural Compressor, Intel's quantizer for ONNX since neural-compressor itself dropped the format with 3.0."""
    installed("onnx_neural_compressor")
    quantization = importlib.import_module("onnx_neural_compressor.quantization")
    config = importlib.import_module("onnx_neural_compressor.quantization.config")
    with tempfile.TemporaryDirectory() as name:
        given, made = Path(name, "fp32.onnx"), Path(name, "int8.onnx")
        given.write_bytes(fp32)
        settings = config.StaticQuantConfig(
            calibration_data_reader=_rewinding(
                importlib.import_module("onnx_neural_compressor.data_reader"), calibration
            ),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
        )
        quantization.quantize(str(given), str(made), settings)
        return onnx.load(made).SerializeToString()


def _rewinding(module: ModuleType, calibration: Pixels) -> Any:
    class Reader(module.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rewind()

        def rewind(self) -> None:
            self._left = _batches(calibration)

        def get_next(self) -> dict[str, Pixels] | None:
            batch = next(self._left, None)
            return None if batch is None else {INPUT_NAME: batch}

    return Reader()


PEERS: dict[str, Quantize] = {
    "edge-tl": ours,
    "onnxruntime, advised": onnxruntime_advised,
    "onnxruntime, advised, entry float": onnxruntime_entry_float,
    "onnxruntime, all defaults": onnxruntime_defaults,
    "NNCF on ONNX": nncf_onnx(),
    "NNCF on ONNX, mixed, full bias correction": nncf_onnx("mixed", fast_bias_correction=False),
    "NNCF on OpenVINO": nncf_openvino(),
    "NNCF on OpenVINO, mixed, full bias correction": nncf_openvino("mixed", fast_bias_correction=False),
    "ONNX Neural Compressor": neural_compressor,
}


def installed(name: str) -> ModuleType:
    """A module that only benchmarks use. Raises Missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"not installed: {str(error).splitlines()[0]}") from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars and the advice of quantizers out of the tables."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, calibration: Pixels) -> None:
        self._left = _batches(calibration)

    def get_next(self) -> dict[str, Pixels] | None:
        batch = next(self._left, None)
        return None if batch is None else {INPUT_NAME: batch}


def _batches(pixels: Pixels) -> Iterator[Pixels]:
    return (pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH))


def _entry_nodes(graph: onnx.GraphProto) -> list[str]:
    names, reached = [], {INPUT_NAME}
    for node in graph.node:  # in topological order
        if node.op_type in ENTRY and reached & set(node.input):
            names.append(node.name)
            reached.update(node.output)
    return names
