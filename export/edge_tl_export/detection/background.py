"""Photos of the empty scene and of other things choose how much a file calls unknown.

They are no class: measured on the same features, an extra score for them, or their direction added to the distance, notices no
more at the same share of known photos kept (docs/decisions/0026-background.md). What they do tell is which threshold is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.detection.detector import Detection
from edge_tl_export.detection.trials import DetectionTrial, strange_pictures
from edge_tl_export.onnx_graph.feature_output import FEATURES
from edge_tl_export.search.compare import in_batches, open_model
from edge_tl_export.settings import LEAST_BACKGROUND
from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.progress import Progress, silent
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.origins import origin
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference.feature_distance import FeatureDistance
from edge_tl_runtime.inference.usual_keep import KEY
from edge_tl_runtime.modelfile.spec import ResizeRule

if TYPE_CHECKING:
    from edge_tl_export.documents import BackgroundTrialDocument

WANTED = 0.99
"""Of the background photos that choose, the share that should be called unknown."""
KIND = "background photos"


@dataclass(frozen=True)
class BackgroundTrial:
    """keep: fraction of known photos that stays known from now on. chosen_by: photos that chose it, and how many of them are
    noticed. check: the same of others, which chose nothing. usual: whether it is what it would be without them."""

    keep: float
    chosen_by: DetectionTrial
    check: DetectionTrial
    usual: bool

    def describe(self) -> str:
        """For a person."""
        text = (
            f"background: {self.chosen_by.noticed} of {self.chosen_by.n} photos that choose, and {self.check.noticed} of "
            f"{self.check.n} others, are called unknown at {self.keep:g}"
        )
        if self.usual:
            return f"{text}, as without them"
        return f"{text}, which is this file's default now: it keeps the label of {100 * self.keep:g} % of photos like the classes"

    @property
    def caution(self) -> str:
        """What a person should know; "" where nearly all are noticed."""
        if self.chosen_by.noticed >= WANTED * self.chosen_by.n:
            return ""
        missed = self.chosen_by.n + self.check.n - self.chosen_by.noticed - self.check.noticed
        return f"{missed} background photos get a class all the same: see whether they show things of a class, or look like them"

    def to_dict(self) -> BackgroundTrialDocument:
        return {
            "keep": self.keep,
            "chosen_by": {"noticed": self.chosen_by.noticed, "n": self.chosen_by.n},
            "check": {"noticed": self.check.noticed, "n": self.check.n},
        }


class BackgroundPhotos:
    """Photos of nothing, read once for all files: half of their origins choose, the others check."""

    def __init__(self, photos: LabelledPhotos, rule: ResizeRule, progress: Progress = silent) -> None:
        """progress: called with 1 for each photo. Raises DataError where fewer than LEAST_BACKGROUND can be read."""
        self._rule = rule
        reader = PixelReader(photos, rule, progress=progress)
        batches, places = [], list[int]()
        for batch in reader:
            batches.append(batch.pixels)
            places += batch.indices
        self.skipped = tuple(reader.skipped)
        if len(places) < LEAST_BACKGROUND:
            raise DataError(
                f"{len(places)} background photos of {photos.root} can be read, and {LEAST_BACKGROUND} are the least; add photos"
            )
        self._pixels = np.concatenate(batches)
        own = [origin(photos.name(place)) for place in places]
        order = sorted(set(own))
        chooses = set(order[::2])
        if len(order) == 1:  # one burst: nothing can be held out whole
            self._choose = np.arange(len(own)) % 2 == 0
        else:
            self._choose = np.array([key in chooses for key in own])

    def tried(
        self,
        detection: Detection,
        name: str,
        kept: Sequence[NDArray[np.uint8]],
        foreign: Sequence[Frame],
    ) -> tuple[Detection, BackgroundTrial]:
        """A file's detection with the fraction to keep that these photos choose, and what it notices of them.

        kept: batches of evaluation photos; foreign: frames of none of the classes; both are tried again at another fraction.
        """
        features = open_model(detection.model, name, FEATURES)
        distance = FeatureDistance.from_parameters(detection.ood_score.parameters)
        scores = distance.scores(in_batches(features, self._pixels))
        levels = sorted(
            ((float(keep), float(least)) for keep, least in detection.ood_score.thresholds.items()), reverse=True
        )
        trials = [self._trial(keep, least, scores, keep == levels[0][0]) for keep, least in levels]
        enough = (trial for trial in trials if not trial.caution)
        chosen = next(enough, max(trials, key=lambda trial: (trial.chosen_by.noticed, trial.keep)))
        if chosen.usual:
            return detection, chosen
        least = dict(levels)[chosen.keep]

        def trial(kind: str, pixels: NDArray[np.uint8]) -> DetectionTrial:
            missed = int((distance.scores(in_batches(features, pixels)) >= least).sum())
            return DetectionTrial(kind, len(pixels) - missed, len(pixels))

        again = tuple(trial(kind, pixels) for kind, pixels in strange_pictures(self._rule, kept, foreign).items())
        of_known = [trial("", pixels) for pixels in kept]
        known = sum(one.n - one.noticed for one in of_known)
        score = detection.ood_score
        score = replace(score, parameters={**score.parameters, KEY: chosen.keep})
        still = DetectionTrial("evaluation photos", known, sum(one.n for one in of_known))
        return replace(detection, ood_score=score, trials=again, kept=still, keep=chosen.keep), chosen

    def _trial(self, keep: float, least: float, scores: NDArray[np.float64], usual: bool) -> BackgroundTrial:
        first, second = (
            DetectionTrial(KIND, int((scores[part] < least).sum()), int(part.sum())) for part in self._parts()
        )
        return BackgroundTrial(keep, first, second, usual)

    def _parts(self) -> Iterator[NDArray[np.bool_]]:
        yield self._choose
        yield ~self._choose
