"""The classifier of the device: one ONNX file in, labels and probabilities out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, EdgeTLError, UsageError
from edge_tl_runtime.core.html import html_table
from edge_tl_runtime.core.text import one_line, percent, plural
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.images.asked_geometry import seeing
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference.label_sets import LabelSetRule
from edge_tl_runtime.inference.ood import KEPT, OODDetector, ood_detector_of
from edge_tl_runtime.inference.providers import PROVIDERS, find_provider
from edge_tl_runtime.inference.settings import PredictSettings
from edge_tl_runtime.inference.usual_keep import usual_keep
from edge_tl_runtime.modelfile.onnx import parse_spec, read_model
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule

if TYPE_CHECKING:
    from edge_tl_runtime.inference.documents import PredictionDocument, ScoreDocument

UNKNOWN = "unknown"
"""What is said in place of a label where none is to be believed."""
INPUT_NAME = "pixels"
OUTPUT_NAME = "logits"
CPU = PROVIDERS["cpu"].name
NO_DETECTOR = (
    "does not say which scores are usual: it was evaluated on too few photos, or is from an earlier "
    "release; export it again, or leave --unknown out"
)
SELF_TEST_S = 600.0
"""How long a graph may take over its self-test, one frame: some providers compile it then. An endless loop never answers."""


@dataclass(frozen=True, slots=True)
class Score:
    """One class, its probability in [0, 1] and its place among the model's labels."""

    label: str
    confidence: float
    index: int

    def to_dict(self) -> ScoreDocument:
        return {"label": self.label, "confidence": round(self.confidence, 6)}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model said of one frame.

    top: the k likeliest classes, likeliest first. latency_ms: crop, resize and inference together, without decoding.
    known: False where the picture is like none of the training photos, and the likeliest class is not to be believed.
    label_set: labels that hold the right one as often as was asked for, likeliest first; None where that was not asked, and for a
    picture that is not known.
    """

    top: tuple[Score, ...]
    latency_ms: float
    known: bool = True
    label_set: tuple[Score, ...] | None = None
    with_set: bool = field(default=False, repr=False)
    """Whether a set was asked for."""

    @property
    def label(self) -> str:
        """The likeliest class; UNKNOWN for a picture that is like none of the training photos."""
        return self.top[0].label if self.known else UNKNOWN

    @property
    def confidence(self) -> float:
        return self.top[0].confidence

    def to_dict(self) -> PredictionDocument:
        document: PredictionDocument = {
            "label": self.label,
            "confidence": self.top[0].to_dict()["confidence"],
            "known": self.known,
            "top": [score.to_dict() for score in self.top],
            "latency_ms": round(self.latency_ms, 3),
        }
        if self.with_set:
            document["set"] = set_document(self.label_set)
        return document

    def _repr_html_(self) -> str:
        return html_table(self.label, ["class", "confidence"], [(s.label, percent(s.confidence)) for s in self.top])


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How onnxruntime runs the file.

    threads: of the session, or of the provider where it has its own; None takes the cores this process may use
        (onnxruntime's own default fails under cpusets).
    spin: whether threads that wait for their share of a call burn CPU rather than sleep. Waking takes them longer than a small
        layer does, so spinning is faster where cores are free, and slower where other programs want them. They never spin
        between calls.
    provider: execution provider to insist on, a name in `edge_tl_runtime.inference.providers.PROVIDERS` or onnxruntime's own;
        another one is never used in its place.
    """

    threads: int | None = None
    spin: bool = False
    provider: str = "cpu"

    def __str__(self) -> str:
        threads = plural(self.threads or usable_cores(), "thread")
        return f"{self.provider}, {threads}{', spinning' if self.spin else ''}"


class Classifier:
    """A loaded model file that has passed its own self-test.

    >>> classifier = Classifier("model-int8.onnx")
    >>> classifier.classify(cv2.imread("bee.jpg")).label
    'bees'
    """

    def __init__(self, path: str | os.PathLike[str], settings: SessionSettings = SessionSettings()) -> None:
        """Raises BadModelError for a file that is damaged, foreign or fails its self-test, UsageError for a missing provider."""
        self.path, self.settings = Path(path), settings
        data = read_model(self.path)
        self.spec: ModelSpec = parse_spec(data, str(self.path))
        self.session = open_session(data, str(self.path), settings)
        self._stoppable: onnxruntime.RunOptions | None = None
        self.detector: OODDetector | None = ood_detector_of(self.spec)
        """What tells pictures that are like none of the training photos; None where the file has nothing for it."""
        self._check_signature()
        self.check_self_test()
        self._bind()

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """pixels: uint8 (N, H, W, 3) as `preprocess_batch` makes them. Returns float32 (N, C).

        Raises BadModelError, or UsageError for a provider other than the plain processor, where onnxruntime cannot run the graph.
        """
        (scores,) = self._run([OUTPUT_NAME], pixels)
        return scores

    def answers(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits as `logits`, and the evidence of each: features that the head sees, float32 (N, D), or again the logits."""
        if self.spec.features is None or self.detector is None or not self.detector.by_features:
            logits = self.logits(pixels)
            return logits, logits
        logits, features = self._run([OUTPUT_NAME, self.spec.features.output], pixels)
        return logits, features

    def _run(self, names: list[str], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        try:
            found = self.session.run(names, {INPUT_NAME: pixels}, self._stoppable)
        except Exception as error:  # noqa: BLE001  # as for a graph it cannot load
            raise _refusal("run", str(self.path), self.settings, error) from None
        sizes = {OUTPUT_NAME: len(self.spec.labels)}
        if self.spec.features is not None:
            sizes[self.spec.features.output] = self.spec.features.size
        for name, array in zip(names, found, strict=True):
            expected = (len(pixels), sizes[name])
            if array.shape != expected:  # onnxruntime only warns when a graph breaks its own declaration
                raise BadModelError(
                    f"{self.path} answered with an array of shape {array.shape}, not {expected}; export the model again"
                )
        return [np.asarray(array, dtype=np.float32) for array in found]

    def classify(
        self,
        frame: Frame,
        top: int = PredictSettings.top_k,
        keep: float = 0.0,
        sets: LabelSetRule | None = None,
        rule: ResizeRule | None = None,
    ) -> Prediction:
        """Classify one frame, uint8 (H, W, 3), BGR, any size. Not for several threads at once: it reuses one input buffer.

        keep: fraction of photos like the training photos that stay known, see `keep`; 0: every picture is known. sets: of
        `label_sets`, for an answer with its set. rule: as in `frame_logits`. Raises as `is_known`.
        """
        started = time.perf_counter()
        logits = self.frame_logits(frame, rule)
        known = not keep or self.is_known(keep)(self.evidence)
        elapsed = time.perf_counter() - started
        probabilities = self.probabilities(logits)
        answer = self.ranked(probabilities, top, elapsed * 1e3, known)
        if sets is None:
            return answer
        return replace(answer, label_set=self.label_set(probabilities, sets) if known else None, with_set=True)

    def label_sets(self, coverage: float | None) -> LabelSetRule | None:
        """What makes sets that hold the right label with this probability, in (0, 1); None for None.

        Raises UsageError for a file without them, or without any for so high a coverage.
        """
        return None if coverage is None else LabelSetRule.of(self.spec, coverage, str(self.path))

    def label_set(self, probabilities: NDArray[np.float64], sets: LabelSetRule) -> tuple[Score, ...]:
        """The set of one row of probabilities, (C,), likeliest first."""
        places = sets.places(probabilities)
        return tuple(Score(self.spec.labels[place], float(probabilities[place]), place) for place in places)

    @property
    def evidence(self) -> NDArray[np.float32]:
        """What `detector` looks at: features, float32 (D,), or logits, (C,), of the frame that `frame_logits` answered last.

        Overwritten by the next call."""
        row: NDArray[np.float32] = (self._output if self._features is None else self._features)[0]
        return row

    def keep(self, asked: float | None) -> float:
        """The fraction of photos like the training photos that stays known: what was asked for, or the default; 0: all are known.

        By default only files with features tell: logits alone would miss most of what is unknown. Background photos of the
        training may have chosen another default (`inference.usual_keep`).
        """
        if asked is not None:
            return asked
        return usual_keep(self.spec, KEPT) if self.detector is not None and self.detector.by_features else 0.0

    def is_known(self, keep: float) -> Callable[[NDArray[np.float32]], bool]:
        """Tells by the `evidence` of a frame whether it is like the photos that the model was trained on, of which it keeps a
        fraction `keep`. Raises UsageError for a file that has nothing to tell it by, or no threshold for this fraction."""
        detector = self.detector
        if detector is None:
            raise UsageError(f"{self.path} {NO_DETECTOR}")
        least = detector.thresholds.threshold(keep)
        return lambda evidence: detector.score(evidence) >= least

    def look_by(self, rule: ResizeRule) -> None:
        """Turn and crop pictures by this rule from now on, which has the input size of the file's own."""
        self.spec = seeing(self.spec, rule)

    def frame_logits(self, frame: Frame, rule: ResizeRule | None = None) -> NDArray[np.float32]:
        """Scores of one frame as `classify` takes it: float32 (C,), overwritten by the next call.

        rule: to look by, of the input size of the file's own; None: that one. Raises as `logits`, and BadFrame for an array that
        is no frame.
        """
        crop_resize(frame, rule or self.spec.resize, out=self._input[0])
        try:
            self.session.run_with_iobinding(self._binding)
        except Exception as error:  # noqa: BLE001  # as for a graph it cannot load
            raise _refusal("run", str(self.path), self.settings, error) from None
        row: NDArray[np.float32] = self._output[0]
        return row

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """logits: one row, float32 (C,). Raises BadModelError for scores that are no numbers."""
        if not np.isfinite(logits).all():
            raise BadModelError(f"{self.path} gave a score that is not a number; export the model again")
        return self.spec.scores.probabilities(logits)

    def ranked(self, probabilities: NDArray[np.float64], top: int, latency_ms: float, known: bool = True) -> Prediction:
        """The `top` likeliest classes of one row of probabilities, (C,)."""
        return Prediction(best_scores(probabilities, self.spec.labels, top), latency_ms, known)

    def _bind(self) -> None:
        """Input and outputs in fixed memory, so that a frame allocates and looks up nothing."""
        rule = self.spec.resize
        self._input = np.empty((1, rule.height, rule.width, 3), np.uint8)
        self._output = np.empty((1, len(self.spec.labels)), np.float32)
        self._binding = self.session.io_binding()
        # The values share the arrays' memory, and are kept because the binding does not own them.
        self._bound = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in (self._input, self._output)]
        self._binding.bind_ortvalue_input(INPUT_NAME, self._bound[0])
        self._binding.bind_ortvalue_output(OUTPUT_NAME, self._bound[1])
        self._features: NDArray[np.float32] | None = None
        if self.spec.features is not None and self.detector is not None and self.detector.by_features:
            self._features = np.empty((1, self.spec.features.size), np.float32)
            self._bound.append(onnxruntime.OrtValue.ortvalue_from_numpy(self._features))
            self._binding.bind_ortvalue_output(self.spec.features.output, self._bound[2])

    def _check_signature(self) -> None:
        rule, classes = self.spec.resize, len(self.spec.labels)
        try:
            inputs, outputs = (
                [(value.name, value.type, list(value.shape)) for value in values]
                for values in (self.session.get_inputs(), self.session.get_outputs())
            )
        except Exception as error:  # noqa: BLE001  # names of axes, which may be no text at all
            raise _refusal("load", str(self.path), self.settings, error) from None
        size = [rule.height, rule.width, 3]
        if [(n, t, s[1:]) for n, t, s in inputs] != [(INPUT_NAME, "tensor(uint8)", size)]:
            raise BadModelError(
                f"{self.path}: the graph's input is not {INPUT_NAME}, uint8, N x {rule.height} x {rule.width} x 3; "
                "export the model again"
            )
        logits, features = (OUTPUT_NAME, "tensor(float)", [classes]), self.spec.features
        if [(n, t, s[1:]) for n, t, s in outputs[:1]] != [logits] or (features is None and len(outputs) > 1):
            raise BadModelError(
                f"{self.path}: the graph's output does not fit its {classes} labels; export the model again"
            )
        if features is not None:
            second = (features.output, "tensor(float)", [features.size])
            if [(n, t, s[1:]) for n, t, s in outputs[1:]] != [second]:
                raise BadModelError(
                    f"{self.path}: the graph's second output is not the {features.size} features that its contract names; "
                    "export the model again"
                )

    def check_self_test(self) -> None:
        """Run the stored input. Raises BadModelError when the answer is not the stored one or takes over SELF_TEST_S."""
        test = self.spec.self_test
        if test is None:
            raise BadModelError(f"{self.path} has no self-test; export the model again")
        pixels = test.pixels(self.spec.resize)
        options = onnxruntime.RunOptions()
        late = threading.Event()

        def stop() -> None:
            late.set()
            options.terminate = True  # onnxruntime looks at it between nodes, in loops too

        timer = threading.Timer(SELF_TEST_S, stop)
        timer.daemon = True
        timer.start()
        self._stoppable = options
        try:
            scores = self.logits(pixels)
        except EdgeTLError:
            if late.is_set():
                raise BadModelError(
                    f"{self.path} did not answer its self-test within {SELF_TEST_S:g} s; export a smaller model"
                ) from None
            raise
        finally:
            timer.cancel()
            self._stoppable = None
        self.check_answer(scores[0])

    def check_answer(self, logits: NDArray[np.float32]) -> None:
        """Compare scores of the stored input, float32 (C,), with the stored ones. Raises BadModelError when they differ."""
        test = self.spec.self_test
        assert test is not None
        got = logits.astype(np.float64)
        difference = float(np.abs(got - np.asarray(test.logits)).max())
        if not difference <= test.tolerance or int(got.argmax()) != test.top1:
            raise BadModelError(
                f"{self.path} failed its self-test on this machine: largest score difference {difference:.3g}, "
                f"allowed {test.tolerance:.3g}; expected {self.spec.labels[test.top1]!r}, "
                f"got {self.spec.labels[int(got.argmax())]!r}. Copy the file again, or export it for this CPU"
            )


def set_document(label_set: Sequence[Score] | None) -> list[str] | None:
    """The labels of a set, for JSON; None for a picture that has none."""
    return None if label_set is None else [score.label for score in label_set]


def best_scores(probabilities: NDArray[np.float64], labels: Sequence[str], top: int) -> tuple[Score, ...]:
    """The `top` likeliest of (C,) probabilities, likeliest first; of equal ones the first label."""
    count = min(max(1, top), len(labels))
    if 4 * count < len(labels):  # of a thousand classes five are found twice as fast one by one as by sorting
        left, best = probabilities.copy(), list[int]()
        for _ in range(count):
            best.append(int(left.argmax()))
            left[best[-1]] = -np.inf
    else:
        best = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return tuple(Score(labels[index], float(probabilities[index]), index) for index in best)


def open_session(data: bytes, name: str, settings: SessionSettings) -> onnxruntime.InferenceSession:
    """An onnxruntime session over a serialized model; `name` is for messages.

    Raises UsageError when the provider is not there or refuses the graph, BadModelError when onnxruntime itself cannot load it.
    """
    provider = find_provider(settings.provider)
    threads = settings.threads or usable_cores()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads if provider.session_threads else 1
    options.log_severity_level = 4  # errors come as exceptions; its log prints names in the file as they are
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spin else "0")
    # Or they would go on for tens of milliseconds after a call, which at a camera's pace is until the next one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    own = {**provider.options, **({provider.threads_option: str(threads)} if provider.threads_option else {})}
    try:
        # Without the last argument onnxruntime answers a provider's failure by printing it and taking the CPU.
        session = onnxruntime.InferenceSession(data, options, providers=[(provider.name, own)], enable_fallback=0)
    except Exception as error:  # noqa: BLE001  # onnxruntime raises a dozen unrelated types for a graph it cannot load
        raise _refusal("load", name, settings, error) from None
    if session.get_providers()[0] != provider.name:
        raise UsageError(f"{name}: execution provider {settings.provider!r} was asked for and refused by this machine")
    return session


def _refusal(what: str, name: str, settings: SessionSettings, error: Exception) -> EdgeTLError:
    """What a failure of onnxruntime means: on the plain processor the file is bad; elsewhere the provider may be."""
    reason = one_line((str(error).strip() or type(error).__name__).splitlines()[0], 300)
    if find_provider(settings.provider).name == CPU:
        return BadModelError(f"onnxruntime cannot {what} {name}: {reason}; export the model again")
    return UsageError(
        f"{name}: execution provider {settings.provider!r} cannot {what} it: {reason}; try --provider cpu"
    )
