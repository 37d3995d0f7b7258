"""A model file in a program: classify, stream, evaluate, attack, quantize. What the device does needs no training library."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from edge_tl.api.evaluating import corrupted_on, evaluate_on, known_logits, named
from edge_tl.api.pixels import Channels, frame_of
from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.settings import PathLike, settings_of
from edge_tl.api.train_extra import train_extra
from edge_tl.training.settings import TrainSettings
from edge_tl_export.settings import ExportSettings
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.html import html_table
from edge_tl_runtime.core.text import percent
from edge_tl_runtime.evaluation.evaluate import Evaluation
from edge_tl_runtime.evaluation.settings import EvaluateSettings
from edge_tl_runtime.images.asked_geometry import AskedGeometry
from edge_tl_runtime.inference.classifier import Classifier, Prediction, SessionSettings
from edge_tl_runtime.inference.settings import OpenSettings, PredictSettings
from edge_tl_runtime.machine.open_classifier import open_classifier
from edge_tl_runtime.machine.settings import TuneSettings
from edge_tl_runtime.modelfile.onnx import RUN_WEIGHTS
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_tl.api.results import AttackResult, BenchResult, DreamResult, PackResult, TuneResult
    from edge_tl_export import ExportReport
    from edge_tl_runtime.pipeline.stream import Stream
    from edge_tl_runtime.robustness.corrupted_accuracy import CorruptedAccuracy


class LookOptions(TypedDict, total=False):
    """Where to look in a picture, in place of what the file says; as --crop, --rotate, --flip and --fit.

    crop: "x,y,w,h" or four numbers, of pixels or fractions of the turned picture.
    """

    crop: Any
    rotate: int
    flip: str
    fit: str


class StreamOptions(LookOptions, total=False):
    """What `Model.stream` takes; names, units and defaults are those of `edge-tl run`, times in seconds.

    crop: also several regions by name, {"door": (0, 0, 0.5, 1), ...}, each with results of its own.
    """

    size: tuple[int, int]
    fps: float
    pixel_format: str
    max_fps: float
    every: float
    on_motion: bool
    any_view: bool
    realtime: bool
    wait: bool
    stall: float
    first_frame: float
    frozen: float
    threshold: float
    unknown: float
    coverage: float
    labels: str
    smooth: str
    top_k: int
    batch: int


class EdgeTLWarning(UserWarning):
    """Something that was asked for is not so, or a file fits this machine badly; the text says what to do."""


class Model:
    """A model file that passed its self-test on this machine.

    >>> model = Model("model-int8.onnx")
    >>> model.predict("bee.jpg").label
    'bees'
    """

    def __init__(
        self,
        path: PathLike,
        *,
        threads: int | None = None,
        provider: str | None = None,
        profile: bool = OpenSettings.profile,
    ) -> None:
        """threads, provider: of the session; None: those of the profile that `edge-tl tune` wrote, or all cores and the
        processor. profile: whether to follow that profile. Raises BadModelError, UsageError."""
        if not isinstance(path, (str, os.PathLike)):
            raise UsageError(f"load takes the path of an .onnx file, not a {type(path).__name__}")
        self.path = Path(path)
        if self.path.is_dir() and (self.path / RUN_WEIGHTS).is_file():
            raise UsageError(f"{self.path} is a run, not a model file; make one with Run({str(self.path)!r}).export()")
        self._session = (threads, provider, profile)
        self.report: ExportReport | None = None
        """What was measured when it was exported in this process."""
        self._classifier: Classifier | None = self._open("row", SessionSettings(spin=True))
        self._lock = threading.Lock()

    def _open(self, task: str, untuned: SessionSettings) -> Classifier:
        return open_classifier(self.path, *self._session, task, untuned, _warn)

    @property
    def classifier(self) -> Classifier:
        """For loops of one's own. Raises UsageError when the model was closed."""
        if self._classifier is None:
            raise UsageError(f"{self.path} was closed; load it again")
        return self._classifier

    @property
    def spec(self) -> ModelSpec:
        """All that the file says of itself."""
        return self.classifier.spec

    @property
    def labels(self) -> tuple[str, ...]:
        return self.spec.labels

    @property
    def precision(self) -> str:
        """ "fp32", "int8" or "fp16"."""
        return self.spec.precision

    def predict(
        self,
        image: Any,
        *,
        channels: Channels | None = None,
        top: int = PredictSettings.top_k,
        unknown: float | None = PredictSettings.unknown,
        coverage: float | None = PredictSettings.coverage,
        **look: Unpack[LookOptions],
    ) -> Prediction:
        """Classify one picture. May be called from several threads; they take turns.

        image: a path, the bytes of a photo file, a Pillow image, or an array, uint8, (H, W, 3) or grey (H, W).
        channels: "rgb" or "bgr", for an array with colours, which cannot say so itself. top: classes in the answer.
        unknown: fraction of photos like the training photos that stays known, 0.95 or 0.99, or 0 for all; None: 0.99 where the
        file tells by its features. The label of a picture that is not known is "unknown". coverage: probability, such as 0.95,
        with which `label_set` of the answer holds the right label. look: crop, rotate, flip, fit.
        Raises BadImage, BadFrame, DataError, UsageError.

        >>> Model("model-int8.onnx").predict(cv2.imread("bee.jpg"), channels="bgr", top=2).top[0].label
        'bees'
        """
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise UsageError(f"top is {top!r}; give a number of classes from 1 on")
        classifier, asked = self.classifier, _asked(look, "predict")
        frame = frame_of(image, channels)
        rule = asked.regions(classifier.spec.resize, *frame.shape[:2])[0].rule if asked else None
        with self._lock:
            return classifier.classify(frame, top, classifier.keep(unknown), classifier.label_sets(coverage), rule)

    def evaluate(
        self,
        photos: PathLike,
        *,
        split: str = EvaluateSettings.split,
        count: int | None = EvaluateSettings.count,
        coverage: float | None = PredictSettings.coverage,
        progress: bool | Reporter = False,
        **look: Unpack[LookOptions],
    ) -> Evaluation:
        """Accuracy on labelled photos that it was not trained on, as `edge-tl evaluate`.

        split: "val", "test", "train" or "all". count: so many photos only, spread over the classes. coverage: count how often
        sets of labels for it hold the right one. look: crop, rotate, flip, fit. Raises DataError, UsageError.
        """
        classifier, report, asked = self.classifier, reporter(progress), _asked(look, "evaluate")
        sets = classifier.label_sets(coverage)
        with self._lock:
            known = known_logits(classifier)
            return evaluate_on(
                classifier.spec, classifier.logits, Path(photos), split, count, report, known, sets, asked
            )[1]

    def evaluate_corrupted(
        self,
        photos: PathLike,
        corruptions: str = "camera",
        severities: str = EvaluateSettings.severities,
        *,
        split: str = EvaluateSettings.split,
        count: int | None = EvaluateSettings.count,
        seed: int = EvaluateSettings.seed,
        progress: bool | Reporter = False,
    ) -> CorruptedAccuracy:
        """Accuracy on the photos of `evaluate` under corruptions, as `edge-tl evaluate --corruptions`.

        corruptions: "camera", "imagenet-c", "all", a group or names, with commas. severities: "1-5" or "1,3,5".
        Raises UsageError, DataError.
        """
        wanted = named(corruptions, severities)
        classifier, report = self.classifier, reporter(progress)
        with self._lock:
            spec, logits = classifier.spec, classifier.logits
            _, _, found = evaluate_on(spec, logits, Path(photos), split, count, report)
            return corrupted_on(spec, logits, found, wanted, seed, report)

    def stream(
        self, source: int | PathLike = 0, *, progress: bool | Reporter = False, **options: Unpack[StreamOptions]
    ) -> Stream:
        """Results for the frames of a camera (its index), video, folder, list, address or test pattern, as `edge-tl run`.

        A live source gives its newest frame and is reconnected for ever. The source is released when the loop ends, by `break`
        and by an error too, or by `close`. progress=True prints what happens to the connection.
        Raises UsageError, SourceError; a live source connects, and raises, in the loop.

        >>> [result.label for result in Model("model-int8.onnx").stream("bee.jpg")]
        ['bees']
        """
        from edge_tl_runtime.run.assemble import default_settings, open_stream, pace
        from edge_tl_runtime.run.plan import RunPlan

        self.classifier  # noqa: B018  # raises when closed
        if isinstance(source, bool) or not isinstance(source, (int, str, os.PathLike)):
            raise UsageError(f"a source is a camera's index, a path or an address, not a {type(source).__name__}")
        known = {**StreamOptions.__annotations__, **LookOptions.__annotations__}
        for name in options:
            if name not in known:
                raise UsageError(f"stream has no option {name!r}; there are {', '.join(known)}")
        plan = RunPlan(
            model=self.path, source=os.fspath(source) if not isinstance(source, int) else str(source), **options
        )
        return open_stream(plan, lambda path: self._open(pace(plan), default_settings(plan)), reporter(progress).say)

    def attack(
        self,
        photos: PathLike,
        preset: str = "standard",
        eps: Any = None,
        folder: PathLike | None = None,
        **settings: Any,
    ) -> AttackResult:
        """How robust the file is to pictures made to mislead it; as `edge_tl.attack`."""
        from edge_tl.api.attacking import attack

        self.classifier  # noqa: B018  # raises when closed
        return attack(self.path, photos, folder, eps=eps, preset=preset, **settings)

    def bench(self, pack: PathLike | None = None, output: PathLike | None = None, **settings: Any) -> BenchResult:
        """How fast, how good and how robust the file is on this machine, in the session of this model; as `edge_tl.bench`.

        >>> Model("model-int8.onnx").bench(parts="latency", seconds=0.1, calls=3).latency_ms > 0
        True
        """
        from edge_tl.api.benching import bench

        self.classifier  # noqa: B018  # raises when closed
        threads, provider, profile = self._session
        session = {"threads": threads, "provider": provider, "profile": profile}
        return bench(self.path, pack, output, **{**session, **settings})

    def pack(self, photos: PathLike, output: PathLike | None = None, **settings: Any) -> PackResult:
        """A pack of this file for the benchmark on devices; as `edge_tl.pack`."""
        from edge_tl.api.packing import pack

        self.classifier  # noqa: B018  # raises when closed
        return pack(self.path, photos, output, **settings)

    def dream(self, classes: str | Sequence[str], folder: PathLike = "dreams", **settings: Any) -> DreamResult:
        """The picture that the file takes for the best example of a class; as `edge_tl.dream`."""
        from edge_tl.api.dreaming import dream

        self.classifier  # noqa: B018  # raises when closed
        return dream(self.path, classes, folder, **settings)

    def tune(self, seconds: float = TuneSettings.seconds, *, progress: bool | Reporter = False) -> TuneResult:
        """Find the fastest settings on this machine; as `edge_tl.tune`. This model follows them at once, unless it was opened
        with profile=False or with threads or a provider of its own."""
        from edge_tl.api.tuning import tune

        self.classifier  # noqa: B018  # raises when closed
        with self._lock:
            found = tune(self.path, seconds, progress=progress)
            self._classifier = self._open("row", SessionSettings(spin=True))
        return found

    def quantize(self, photos: PathLike, quantize: str = "int8", **settings: Any) -> Model:
        """A quantized file made from this FP32 one, beside it; as `edge_tl.export`."""
        return export(self.path, quantize=quantize, photos=photos, **settings)

    def close(self) -> None:
        """Release the session; safe to call twice."""
        self._classifier = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def to_dict(self) -> dict[str, Any]:
        """The file and all that it says of itself, as `edge-tl inspect --json`.

        >>> Model("model-int8.onnx").to_dict()["labels"]
        ['bees', 'ants', 'wasps']
        """
        return {"path": str(self.path), **self.spec.to_dict()}

    def __repr__(self) -> str:
        if self._classifier is None:
            return f"<Model {self.path}, closed>"
        return f"<Model {self.path}: {self.spec.arch}, {self.precision}, {len(self.labels)} classes>"

    def _repr_html_(self) -> str:
        if self._classifier is None:
            return html_table(f"{self.path}, closed", [], [])
        accuracy, rule = self.spec.validation, self.spec.resize
        rows = [
            ("architecture", self.spec.arch),
            ("precision", self.precision),
            ("input", f"{rule.width} x {rule.height} px"),
            ("classes", len(self.labels)),
            ("labels", ", ".join(self.labels[:20]) + (", ..." if len(self.labels) > 20 else "")),
            ("top-1", "not measured" if accuracy is None else f"{percent(accuracy.top1)} of {accuracy.n} photos"),
        ]
        return html_table(str(self.path), ["", ""], rows)


def load(
    path: PathLike, *, threads: int | None = None, provider: str | None = None, profile: bool = OpenSettings.profile
) -> Model:
    """Open a model file. Needs numpy, onnxruntime and OpenCV alone. Raises BadModelError, UsageError.

    >>> with load("model-int8.onnx", threads=1) as model:
    ...     print(model.labels, model.predict("bee.jpg").label)
    ('bees', 'ants', 'wasps') bees
    """
    return Model(path, threads=threads, provider=provider, profile=profile)


def export(
    model: PathLike,
    folder: PathLike | None = None,
    *,
    quantize: str | None = None,
    photos: PathLike | None = None,
    background: PathLike | None = None,
    weights: str = TrainSettings.weights,
    progress: bool | Reporter = False,
    **settings: Any,
) -> Model:
    """Verified ONNX files from a run folder, a backbone by name or an FP32 file; as `edge-tl export`.

    Returns the file that travels.

    quantize: "int8", "fp16" or None. photos: labelled, to calibrate and evaluate on; None: the run's own.
    background: photos of nothing, which choose how much is called unknown; None: the run's own.
    settings: target, max_drop (points of top-1, as the command takes it), search, calibration_photos, qat_epochs, layers, seed.
    Where the quantized file is refused, the best file that was written is returned, with an EdgeTLWarning that says why;
    `Model.report` holds all that was measured. Raises UsageError, DataError, ExportError, OutputError, MissingPackage.
    """
    made = settings_of(ExportSettings, {**settings, "quantize": quantize}, "export")
    report = reporter(progress)
    with train_extra("export"):
        from edge_tl.deploy import deploy
    exported = deploy(
        os.fspath(model),
        None if folder is None else Path(folder),
        made,
        None if photos is None else Path(photos),
        weights,
        report.stage,
        report.say,
        None if background is None else Path(background),
    )
    for line in (*exported.warnings, *filter(None, [exported.refused])):
        warnings.warn(line, EdgeTLWarning, stacklevel=2)
    opened = Model(exported.files[-1].path)
    opened.report = exported
    return opened


def _asked(look: LookOptions, what: str) -> AskedGeometry:
    for name in look:
        if name not in LookOptions.__annotations__:
            raise UsageError(f"{what} has no option {name!r}; there are {', '.join(LookOptions.__annotations__)}")
    return AskedGeometry.parse(**look).single(what)


def _warn(line: str) -> None:
    warnings.warn(line, EdgeTLWarning, stacklevel=2)
