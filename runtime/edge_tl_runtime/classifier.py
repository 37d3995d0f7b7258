"""The classifier of the device: one ONNX file in, labels and probabilities out."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_tl_runtime.errors import BadModelError, UsageError
from edge_tl_runtime.onnx_file import parse_spec, read_model
from edge_tl_runtime.photos import Frame, usable_cores
from edge_tl_runtime.preprocess import crop_resize
from edge_tl_runtime.spec import ModelSpec

INPUT_NAME = "pixels"
OUTPUT_NAME = "logits"


@dataclass(frozen=True, slots=True)
class Score:
    """One class, its probability in [0, 1] and its place among the model's labels."""

    label: str
    confidence: float
    index: int

    def to_dict(self) -> dict[str, Any]:
        return {"label": self.label, "confidence": round(self.confidence, 6)}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model said of one frame.

    top: the k likeliest classes, likeliest first. latency_ms: crop, resize and inference together, without decoding.
    """

    top: tuple[Score, ...]
    latency_ms: float

    @property
    def label(self) -> str:
        return self.top[0].label

    @property
    def confidence(self) -> float:
        return self.top[0].confidence

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.top[0].to_dict(),
            "top": [score.to_dict() for score in self.top],
            "latency_ms": round(self.latency_ms, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How onnxruntime runs the file.

    threads: intra-op threads; None takes the cores this process may use (onnxruntime's own default fails under cpusets).
    spin: whether idle threads burn CPU between frames; worth it for back-to-back batches, wasteful at camera pace.
    provider: execution provider to insist on; another one is never used in its place.
    """

    threads: int | None = None
    spin: bool = False
    provider: str = "CPUExecutionProvider"


class Classifier:
    """A loaded model file that has passed its own self-test.

    >>> classifier = Classifier("model-int8.onnx")
    >>> classifier.classify(cv2.imread("bee.jpg")).label
    'bees'
    """

    def __init__(self, path: str | os.PathLike[str], settings: SessionSettings = SessionSettings()) -> None:
        """Raises BadModelError for a file that is damaged, foreign or fails its self-test, UsageError for a missing provider."""
        self.path = Path(path)
        data = read_model(self.path)
        self.spec: ModelSpec = parse_spec(data, str(self.path))
        self.session = open_session(data, str(self.path), settings)
        self._check_signature()
        self.check_self_test()
        rule = self.spec.resize
        self._input = np.empty((1, rule.height, rule.width, 3), np.uint8)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """pixels: uint8 (N, H, W, 3) as `preprocess_batch` makes them. Returns float32 (N, C)."""
        (scores,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        return np.asarray(scores, dtype=np.float32)

    def classify(self, frame: Frame, top: int = 5) -> Prediction:
        """Classify one frame, uint8 (H, W, 3), BGR, any size. Not for several threads at once: it reuses one input buffer."""
        started = time.perf_counter()
        crop_resize(frame, self.spec.resize, out=self._input[0])
        scores = self.logits(self._input)[0]
        elapsed = time.perf_counter() - started
        return self.prediction(scores, top, elapsed * 1e3)

    def prediction(self, logits: NDArray[np.float32], top: int, latency_ms: float) -> Prediction:
        """Turn one row of logits, float32 (C,), into a Prediction."""
        if not np.isfinite(logits).all():
            raise BadModelError(f"{self.path} gave a score that is not a number; export the model again")
        probabilities = self.spec.scores.probabilities(logits)
        order = np.argsort(-probabilities, kind="stable")[: max(1, top)]
        return Prediction(tuple(Score(self.spec.labels[i], float(probabilities[i]), int(i)) for i in order), latency_ms)

    def _check_signature(self) -> None:
        rule, classes = self.spec.resize, len(self.spec.labels)
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = list(inputs[0].shape[1:]) if len(inputs) == 1 else []
        if (
            [i.name for i in inputs] != [INPUT_NAME]
            or inputs[0].type != "tensor(uint8)"
            or shape
            != [
                rule.height,
                rule.width,
                3,
            ]
        ):
            raise BadModelError(
                f"{self.path}: the graph's input is not {INPUT_NAME}, uint8, N x {rule.height} x {rule.width} x 3"
            )
        if [o.name for o in outputs] != [OUTPUT_NAME] or outputs[0].shape[-1] != classes:
            raise BadModelError(f"{self.path}: the graph's output does not fit its {classes} labels")

    def check_self_test(self) -> None:
        """Run the stored input. Raises BadModelError when the answer is not the stored one."""
        test = self.spec.self_test
        if test is None:
            raise BadModelError(f"{self.path} has no self-test; export the model again")
        got = self.logits(test.pixels(self.spec.resize))[0].astype(np.float64)
        difference = float(np.abs(got - np.asarray(test.logits)).max())
        if not difference <= test.tolerance or int(got.argmax()) != test.top1:
            raise BadModelError(
                f"{self.path} failed its self-test on this machine: largest score difference {difference:.3g}, "
                f"allowed {test.tolerance:.3g}; expected {self.spec.labels[test.top1]!r}, "
                f"got {self.spec.labels[int(got.argmax())]!r}. Copy the file again, or export it for this CPU"
            )


def open_session(data: bytes, name: str, settings: SessionSettings) -> onnxruntime.InferenceSession:
    """An onnxruntime session over a serialized model; `name` is for messages.

    Raises UsageError when the provider is not there, BadModelError when onnxruntime refuses the graph.
    """
    available = onnxruntime.get_available_providers()
    if settings.provider not in available:
        raise UsageError(
            f"execution provider {settings.provider!r} is not installed here; there are: {', '.join(available)}"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads or usable_cores()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spin else "0")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=[settings.provider])
    except Exception as error:  # noqa: BLE001  # onnxruntime raises a dozen unrelated types for a graph it cannot load
        reason = str(error).strip().splitlines()[0]
        raise BadModelError(f"onnxruntime cannot load {name}: {reason}") from None
    if settings.provider not in session.get_providers():
        raise UsageError(f"{name}: execution provider {settings.provider!r} was asked for and refused by this machine")
    return session
