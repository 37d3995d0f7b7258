"""Fits what tells known pictures from others to each file that was made, on the features of that very file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.detection.trials import DetectionTrial, strange_pictures
from edge_tl_export.onnx_graph.feature_output import FEATURES, with_features
from edge_tl_export.search.compare import in_batches, open_model
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference import feature_distance, ood
from edge_tl_runtime.inference.ood import KEPT, OODDetector, fit_detector
from edge_tl_runtime.modelfile.sections import FeatureOutput, OODScore
from edge_tl_runtime.modelfile.spec import ResizeRule

FIT_PHOTOS = 1000
"""Training photos that are looked at, at most, spread over the classes."""
FEW_HELD_OUT = 300
"""Evaluation photos below which the oddest one or two place the threshold that keeps 99 %."""
RANKS = (64, 48, 32, 24, 16, 8, 4)
SIZE_SHARE = 0.045
"""Of the file that the detector may add."""

if TYPE_CHECKING:
    from edge_tl_export.documents import DetectionDocument


@dataclass(frozen=True)
class Detection:
    """model: the graph with its second output. trials: what the file notices at `keep`, the fraction
    of known photos that it keeps by default. kept: held-out photos that stay known."""

    model: bytes = field(repr=False)
    features: FeatureOutput
    ood_score: OODScore
    trials: tuple[DetectionTrial, ...]
    kept: DetectionTrial
    keep: float = KEPT

    def describe(self) -> str:
        noticed = ", ".join(trial.describe() for trial in self.trials)
        return f"calls unknown: {noticed}; keeps the label of {self.kept.describe()}"

    @property
    def missed(self) -> tuple[DetectionTrial, ...]:
        return tuple(trial for trial in self.trials if not trial.all_noticed)

    @property
    def caution(self) -> str:
        """What a person should know of the threshold; "" where enough photos placed it, or others chose it."""
        if self.kept.n >= FEW_HELD_OUT or self.keep != KEPT:
            return ""
        return (
            f"the oddest of only {self.kept.n} evaluation photos place this threshold; --unknown 0.95 notices more of what is "
            "unknown, and keeps the label of fewer photos"
        )

    def to_dict(self) -> DetectionDocument:
        return {
            "keep": self.keep,
            "kept": {"noticed": self.kept.noticed, "n": self.kept.n},
            "trials": [{"kind": trial.kind, "noticed": trial.noticed, "n": trial.n} for trial in self.trials],
        }


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
        held_out: Iterable[NDArray[np.uint8]],
        data: str,
        foreign: Sequence[Frame] = (),
        done: Callable[[int], None] = lambda count: None,
    ) -> dict[str, Detection]:
        """By precision, for those where it can be told. held_out: pixels of photos that trained nothing; data: in words."""
        if not self._sides:
            return {}
        some = training.spread(min(FIT_PHOTOS, len(training)))
        reader = PixelReader(some, self._rule, progress=done)
        rows, targets = self._rows((batch.pixels, [some.targets[i] for i in batch.indices]) for batch in reader)
        kept = list(held_out)
        held, _ = self._rows((pixels, []) for pixels in kept)
        if not rows or not held or len(targets) < feature_distance.MIN_PHOTOS:
            least = feature_distance.MIN_PHOTOS
            self.why_none = (
                f"{len(targets)} training photos are too few to tell what is like them; {least} are the least"
            )
            return {}
        strange = self._strange(kept, foreign)
        found = {}
        for name, (model, width) in self._sides.items():
            rank = _rank(width, len(set(targets.tolist())), self._bytes[name])
            detector = fit_detector((rows[name], targets), held[name], data, rank) if rank else None
            if detector is None:
                few = len(held[name]) < ood.MIN_PHOTOS
                self.why_none = (
                    f"{len(held[name])} evaluation photos are too few to place a threshold; {ood.MIN_PHOTOS} are the least"
                    if few
                    else f"what it takes is too large for a file of {self._bytes[name]} bytes"
                )
                continue
            found[name] = self._tried(name, model, width, detector, held[name], strange)
        return found

    def _rows(
        self, batches: Iterable[tuple[NDArray[np.uint8], list[int]]]
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
        rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self._open}
        targets: list[int] = []
        for pixels, those in batches:
            targets += those
            for name, features in self._open.items():
                rows[name].append(in_batches(features, pixels))
        whole = {name: np.concatenate(parts) for name, parts in rows.items() if parts}
        return whole, np.asarray(targets, np.int64)

    def _strange(self, kept: Sequence[NDArray[np.uint8]], foreign: Sequence[Frame]) -> dict[str, NDArray[np.uint8]]:
        return strange_pictures(self._rule, kept, foreign)

    def _tried(
        self,
        name: str,
        model: bytes,
        width: int,
        detector: OODDetector,
        held: NDArray[np.float32],
        strange: Mapping[str, NDArray[np.uint8]],
    ) -> Detection:
        least = detector.thresholds.threshold(KEPT)

        def known(features: NDArray[np.float32]) -> int:
            return int((detector.scores(features) >= least).sum())

        trials = tuple(
            DetectionTrial(kind, len(pixels) - known(in_batches(self._open[name], pixels)), len(pixels))
            for kind, pixels in strange.items()
        )
        kept = DetectionTrial("photos that placed the threshold", known(held), len(held))
        return Detection(model, FeatureOutput(output=FEATURES, size=width), detector.section(), trials, kept)


def _rank(width: int, classes: int, size: int) -> int:
    """The most directions whose numbers, in base64, stay within SIZE_SHARE of a file of so many bytes; 0 where none do."""
    for rank in RANKS:
        if rank > width:
            continue
        taken = width * rank + 4 * rank + 4 * rank * rank + 2 * classes * rank + 2 * width
        if taken * 4 / 3 <= SIZE_SHARE * size:
            return rank
    return 0
