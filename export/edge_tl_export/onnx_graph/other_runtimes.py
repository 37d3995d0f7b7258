"""Checks of an exported file: other runtimes than onnxruntime read it and classify the same pixels.

An engine shares no kernel with onnxruntime, so what both compute is what the file says. Adding one: a function and its entry in
ENGINES.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from edge_tl_export.documents import RuntimeCheckDocument

Engine = Callable[[bytes, NDArray[np.uint8]], NDArray[np.float32]]
"""A model file and pixels, uint8 (N, H, W, 3), to logits, float32 (N, C). Raises CannotRead."""

FLOAT_TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
"""Of the largest logit, by precision. OpenVINO and OpenCV stay below 2e-6 of it on the FP32 files of efficientnet_lite0,
mobilenet_v2 and resnet18, and of the FP16 files on a processor that computes them in float32; one with half arithmetic rounds at
5e-4 after every operator, and its 1e-2 is not measured."""

ROUNDINGS, INT8_FLOOR, INT8_TOP1 = 3.0, 1e-2, 0.75
"""An INT8 file rounds after every operator, and one value that falls to the other side of a half moves all that follow:
onnxruntime with and without its integer kernels differs on one file as much as two engines do. So its own spread on the same
pixels is the measure: ROUNDINGS times that, and at least INT8_FLOOR of the largest logit; INT8_TOP1 of the labels must be equal.

Measured over 320 photos, efficientnet_lite0 and mobilenet_v2: the relative error of OpenVINO is 0.034 and 0.115 where
onnxruntime's own spread is 0.029 and 0.105, and its labels are equal on 98.4 and 94.7 % (99.1 and 92.8). In groups of 16 photos
the largest difference of a logit is at most 1.64 times the spread, and 81 % of the labels are equal or more."""

MAX_REASON = 200

OPENCV_ERRS = {
    # 5.0.0: the gate of squeeze-and-excitation is right by itself and wrong by half once it has been multiplied.
    "HardSigmoid": "its HardSigmoid after a convolution is wrong where a product follows",
    # 5.0.0: efficientnet_lite0 in INT8 is off by 0.38 of its logits, from a tensor on that is right until it is quantized.
    "DequantizeLinear": "its integer convolutions are wrong in deeper networks",
}
"""Operators that OpenCV reads without a complaint and computes wrongly."""


class CannotRead(Exception):
    """An engine refuses the graph or is not to be trusted with it; the message says why."""


@dataclass(frozen=True)
class RuntimeCheck:
    """What one engine makes of a file, against the reference logits.

    max_difference: largest absolute one between two logits; tolerance: what was allowed, in the same units.
    top1_equal: photos of `n` with the same label. top1_least: how many are demanded; 0 where the tolerance says it all.
    reason: why the runtime could not check; "" when it could.
    """

    engine: str
    version: str
    max_difference: float
    tolerance: float
    top1_equal: int
    n: int
    reason: str = ""
    top1_least: int = 0

    @property
    def read(self) -> bool:
        """Whether the engine could read the file at all."""
        return not self.reason

    @property
    def agrees(self) -> bool:
        """False for a runtime that could not check, too."""
        return self.read and self.max_difference <= self.tolerance and self.top1_equal >= self.top1_least

    @property
    def who(self) -> str:
        """`OpenVINO 2026.4`"""
        return f"{NAMES.get(self.engine, self.engine)} {self.version}".strip()

    def describe(self) -> str:
        """`OpenVINO 2026.4 agrees: logits differ by at most 1.1e-05 (allowed 0.0014), label equal on 16 of 16`."""
        if not self.read:
            return f"{self.who} did not check: {self.reason}"
        return (
            f"{self.who} {'agrees' if self.agrees else 'DISAGREES'}: logits differ by at most {self.max_difference:.2g} "
            f"(allowed {self.tolerance:.2g}), label equal on {self.top1_equal} of {self.n}"
        )

    def to_dict(self) -> RuntimeCheckDocument:
        return {
            "runtime": self.engine,
            "version": self.version,
            "max_difference": self.max_difference,
            "tolerance": self.tolerance,
            "top1_equal": self.top1_equal,
            "n": self.n,
            "reason": self.reason,
            "top1_least": self.top1_least,
            "agrees": self.agrees,
        }


def check_in_other_runtimes(
    model: bytes, reference: NDArray[np.float32], pixels: NDArray[np.uint8], precision: str
) -> tuple[RuntimeCheck, ...]:
    """One check for each runtime that is installed. reference: onnxruntime's logits, float32 (N, C), of `pixels`.

    precision: "fp32", "fp16" or "int8"; it decides what is allowed.
    """
    tolerance = _tolerance(model, reference, pixels, precision)
    least = int(np.ceil(INT8_TOP1 * len(pixels))) if precision == "int8" else 0
    checks = []
    for name, engine in ENGINES.items():
        found = engine_version(name)
        if not found:
            continue
        try:
            logits = engine(model, pixels)
        except CannotRead as error:
            checks.append(RuntimeCheck(name, found, 0.0, tolerance, 0, len(pixels), str(error)))
            continue
        difference = float(np.abs(logits - reference).max()) if logits.shape == reference.shape else float("inf")
        equal = int((logits.argmax(1) == reference.argmax(1)).sum()) if np.isfinite(difference) else 0
        checks.append(RuntimeCheck(name, found, difference, tolerance, equal, len(pixels), top1_least=least))
    return tuple(checks)


def engine_version(name: str) -> str:
    """Of an installed engine; "" where it is not."""
    module = _installed(_MODULES[name])
    return "" if module is None else str(module.__version__).split("-")[0]


def openvino_logits(model: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """On the CPU, one photo at a time; what is float in the file is computed in float32 (its own choice may be bfloat16)."""
    openvino = _installed("openvino")
    if openvino is None:
        raise CannotRead("not installed; pip install openvino")
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        rows = [np.array(compiled(pixels[i : i + 1])[0], np.float32) for i in range(len(pixels))]
    except Exception as error:  # noqa: BLE001  # RuntimeError from its core, others from its Python layer
        raise CannotRead(_line(str(error))) from None
    return np.concatenate(rows)


def opencv_logits(model: bytes, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """OpenCV's dnn, one photo at a time; it takes uint8 pixels, rows by columns by colours, as the file does."""
    kinds = {node.op_type for node in onnx.load_from_string(model).graph.node}
    for kind in sorted(kinds & OPENCV_ERRS.keys()):
        raise CannotRead(f"the graph holds {kind}, and {OPENCV_ERRS[kind]}")
    try:
        with _opencv_silent():
            network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
            rows = []
            for i in range(len(pixels)):
                network.setInput(pixels[i : i + 1], INPUT_NAME)
                rows.append(np.array(network.forward(), np.float32))
    except cv2.error as error:
        raise CannotRead(_line(error.err)) from None
    return np.concatenate(rows)


ENGINES: dict[str, Engine] = {"openvino": openvino_logits, "opencv": opencv_logits}
NAMES = {"openvino": "OpenVINO", "opencv": "OpenCV"}
_MODULES = {"openvino": "openvino", "opencv": "cv2"}


def _tolerance(model: bytes, reference: NDArray[np.float32], pixels: NDArray[np.uint8], precision: str) -> float:
    largest = float(np.abs(reference).max())
    if precision != "int8":
        return FLOAT_TOLERANCE[precision] * largest
    spread = float(np.abs(_onnxruntime(model, pixels, fused=True) - _onnxruntime(model, pixels, fused=False)).max())
    return max(ROUNDINGS * spread, INT8_FLOOR * largest)


def _onnxruntime(model: bytes, pixels: NDArray[np.uint8], *, fused: bool) -> NDArray[np.float32]:
    """fused: with integer kernels; otherwise each quantization is taken literally, with float operators between roundings."""
    level = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level.ORT_ENABLE_ALL if fused else level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    rows = [session.run([OUTPUT_NAME], {INPUT_NAME: pixels[i : i + 1]})[0] for i in range(len(pixels))]
    return np.concatenate(rows)


def _installed(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _line(complaint: str) -> str:
    """An engine's complaint as one line, without the places in its source."""
    said = [line.strip(" >") for line in complaint.splitlines() if not line.startswith(("Exception from", "Check "))]
    line = " ".join(part for part in said if part)
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 3] + "..."


@contextlib.contextmanager
def _opencv_silent() -> Iterator[None]:
    """OpenCV prints what it cannot read before it raises it."""
    logging: Any = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
