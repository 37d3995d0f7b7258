"""Fits what tells known pictures from others to each file that was made, on the features of that very file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.detection.trials import DetectionTrial, strange_pictures
from edge_tl_export.onnx_graph.feature_output import FEATURES, with_features
from edge_tl_export.search.compare import FileEvaluator, in_batches, open_model
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.splitting import photo_origins
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference import feature_distance, ood
from edge_tl_runtime.inference.ood import KEPT
from edge_tl_runtime.inference.ood_fit import FittedDetector, KnownPhotos, fit_detector
from edge_tl_runtime.modelfile.sections import FeatureOutput, OODScore
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule

FIT_PHOTOS = 1000
"""Training photos that are looked at, at most, spread over the classes."""
FEW = 150
"""Photos below which nothing is promised: a threshold that keeps 99 % of so few lets most of what is unknown pass, or may."""
SHOWN = 5
"""Photos named at most in a line."""
RANKS = (64, 48, 32, 24, 16, 8, 4)
SIZE_SHARE = 0.045
"""Of the file that the detector may add."""

if TYPE_CHECKING:
    from edge_tl_export.documents import DetectionDocument


@dataclass(frozen=True)
class Detection:
    """model: the graph with its second output. trials: what the file notices at `keep`, the fraction of known photos that it
    keeps by default. kept: photos that stay known, of those that placed it, each scored by statistics that it had no part in.
    why: which photos those were and why, in words. set_aside, unknown: names of evaluation photos, the oddest first: those that
    placed nothing, and others called unknown."""

    model: bytes = field(repr=False)
    features: FeatureOutput
    ood_score: OODScore
    trials: tuple[DetectionTrial, ...]
    kept: DetectionTrial
    keep: float = KEPT
    why: str = ""
    set_aside: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def describe(self) -> str:
        noticed = ", ".join(trial.describe() for trial in self.trials)
        return f"calls unknown: {noticed}; keeps the label of {self.kept.describe()} ({self.why})"

    @property
    def missed(self) -> tuple[DetectionTrial, ...]:
        return tuple(trial for trial in self.trials if not trial.all_noticed)

    @property
    def caution(self) -> str:
        """What a person should know of the threshold; "" where enough photos placed it, or others chose it."""
        if self.kept.n >= FEW or self.keep != KEPT:
            return ""
        return (
            f"{self.kept.n} photos are too few to promise that it notices what is unknown; {FEW} are the least. Add photos, or "
            "use --unknown 0.95, which notices more of what is unknown and keeps the label of fewer photos"
        )

    @property
    def odd(self) -> tuple[str, ...]:
        """A line each on photos that a person should look at: they may show none of the classes."""
        told = []
        if self.set_aside:
            told.append(f"set aside, because they are like no other photo: {_named(self.set_aside)}; look at them")
        if self.unknown:
            told.append(f"evaluation photos that it calls unknown, the oddest first: {_named(self.unknown)}")
        return tuple(told)

    def to_dict(self) -> DetectionDocument:
        return {
            "keep": self.keep,
            "kept": {"noticed": self.kept.noticed, "n": self.kept.n},
            "placed_by": self.why,
            "set_aside": list(self.set_aside),
            "unknown": list(self.unknown),
            "trials": [{"kind": trial.kind, "noticed": trial.noticed, "n": trial.n} for trial in self.trials],
        }


def _named(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return one_line(", ".join(names[:SHOWN])) + (f" and {more} more" if more > 0 else "")


class Fitting:
    """Looks at photos once for all files. `why_none` says, for a person, why there is no detector."""

    def __init__(self, models: Mapping[str, bytes], rule: ResizeRule) -> None:
        """models: serialized graphs by precision."""
        self._rule = rule
        self._sides = {name: found for name, model in models.items() if (found := with_features(model)) is not None}
        self._bytes = {name: len(model) for name, model in models.items()}
        self._open = {name: open_model(model, name, FEATURES) for name, (model, _) in self._sides.items()}
        self.why_none = "" if self._sides else "no layer that turns features into scores was found in the graph"

    def fit(
        self,
        training: LabelledPhotos,
        held_out: FileEvaluator,
        foreign: Sequence[Frame] = (),
        done: Callable[[int], None] = lambda count: None,
        *,
        frozen: bool,
    ) -> dict[str, Detection]:
        """By precision, for those where it can be told. held_out: photos that trained nothing. frozen: whether the training
        photos left the features as they were."""
        if not self._sides:
            return {}
        some = training.spread(min(FIT_PHOTOS, len(training)))
        places: list[int] = []

        def read() -> Iterator[NDArray[np.uint8]]:
            for batch in PixelReader(some, self._rule, progress=done):
                places.extend(batch.indices)
                yield batch.pixels

        rows = self._rows(read())
        kept = list(held_out.batches())
        held = self._rows(kept)
        self.why_none = _too_few(len(places), len(held_out.indices))
        if self.why_none:
            return {}
        origins = some.groups or photo_origins(some)
        targets = np.array([some.targets[i] for i in places], np.int64)
        evaluated = np.array([held_out.target(i) for i in range(len(held_out.indices))], np.int64)
        strange = strange_pictures(self._rule, kept, foreign)
        found = {}
        for name, (model, width) in self._sides.items():
            rank = _rank(width, len(set(targets.tolist())), self._bytes[name])
            if not rank:
                self.why_none = f"what it takes is too large for a file of {self._bytes[name]} bytes"
                continue
            fitted = fit_detector(
                KnownPhotos(rows[name], targets, [origins[i] for i in places]),
                KnownPhotos(held[name], evaluated, held_out.origins),
                held_out.data,
                rank,
                frozen=frozen,
            )
            if fitted is None:
                self.why_none = "the features of most photos are all zero"
                continue
            found[name] = self._tried(name, model, width, fitted, held_out, frozen, strange)
        return found

    def _rows(self, batches: Iterable[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
        rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self._open}
        for pixels in batches:
            for name, features in self._open.items():
                rows[name].append(in_batches(features, pixels))
        return {name: np.concatenate(parts) for name, parts in rows.items() if parts}

    def _tried(
        self,
        name: str,
        model: bytes,
        width: int,
        fitted: FittedDetector,
        held_out: FileEvaluator,
        frozen: bool,
        strange: Mapping[str, NDArray[np.uint8]],
    ) -> Detection:
        detector = fitted.detector
        least = detector.thresholds.threshold(KEPT)

        def known(features: NDArray[np.float32]) -> int:
            return int((detector.scores(features) >= least).sum())

        trials = tuple(
            DetectionTrial(kind, len(pixels) - known(in_batches(self._open[name], pixels)), len(pixels))
            for kind, pixels in strange.items()
        )
        return Detection(
            model=model,
            features=FeatureOutput(output=FEATURES, size=width),
            ood_score=detector.section(),
            trials=trials,
            kept=DetectionTrial("photos that placed the threshold", fitted.kept, fitted.n),
            why=_placed_by(fitted, frozen),
            set_aside=tuple(map(held_out.name, fitted.set_aside)),
            unknown=tuple(map(held_out.name, fitted.unknown)),
        )


def features_are_frozen(spec: ModelSpec) -> bool:
    """Whether the photos that trained the file left its features as they were: a probe's, and those of an adopted file, of whose
    training nothing is known and which sees all its photos here for the first time."""
    return spec.training.get("best", "probe") == "probe" and not spec.training.get("hardening")


def _placed_by(fitted: FittedDetector, frozen: bool) -> str:
    if fitted.pooled:
        return "training and evaluation photos, each compared with the others"
    if frozen:
        return "evaluation photos alone: they are less alike than the training photos"
    return "evaluation photos alone: the network was trained on the others"


def _too_few(training: int, held_out: int) -> str:
    """Why no threshold can be placed, for a person; "" where one can."""
    if training < feature_distance.MIN_PHOTOS:
        least = feature_distance.MIN_PHOTOS
        return f"{training} training photos are too few to tell what is like them; {least} are the least"
    if held_out < ood.MIN_PHOTOS:
        return f"{held_out} evaluation photos are too few to place a threshold; {ood.MIN_PHOTOS} are the least"
    return ""


def _rank(width: int, classes: int, size: int) -> int:
    """The most directions whose numbers, in base64, stay within SIZE_SHARE of a file of so many bytes; 0 where none do."""
    for rank in RANKS:
        if rank > width:
            continue
        taken = width * rank + 4 * rank + 4 * rank * rank + 2 * classes * rank + 2 * width
        if taken * 4 / 3 <= SIZE_SHARE * size:
            return rank
    return 0
