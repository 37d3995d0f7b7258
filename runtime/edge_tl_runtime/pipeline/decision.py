"""From one frame's scores to what is shown: smoothing, the labels that count, and "unknown" where no class is to be believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.inference.classifier import Score, best_scores
from edge_tl_runtime.inference.settings import PredictSettings
from edge_tl_runtime.modelfile.spec import ModelSpec
from edge_tl_runtime.pipeline.smoothing import Smoother

if TYPE_CHECKING:
    from edge_tl_runtime.pipeline.documents import DecisionDocument

UNKNOWN = "unknown"

IsKnown = Callable[[NDArray[np.float32]], bool]
"""Whether a row of logits, float32 (C,), is like those of photos that the model knows."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to show of a frame.

    top: the likeliest classes of those that count, likeliest first, after smoothing. known: whether the first is to be believed.
    label, index: the shown class, UNKNOWN and -1 where it is not known. confidence: its probability in [0, 1], calibrated where
    the model is and among all its classes, be they allowed or not; where the class is not known, that of the likeliest one.
    """

    label: str
    index: int
    confidence: float
    known: bool
    top: tuple[Score, ...]

    def to_dict(self) -> DecisionDocument:
        return {
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "known": self.known,
            "top": [score.to_dict() for score in self.top],
        }


class Decider:
    """Turns scores into decisions, frame after frame.

    >>> decider = Decider(classifier.spec, threshold=0.7, smoother=Ema(0.5))
    >>> decider.decide(logits, probabilities, now).label
    'unknown'
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        top: int = PredictSettings.top_k,
        threshold: float = 0.0,
        allow: Sequence[str] = (),
        smoother: Smoother | None = None,
        is_known: IsKnown | None = None,
    ) -> None:
        """threshold: probability below which a frame is unknown; allow: the labels that count, all when empty; is_known: see
        `IsKnown`, asked of every frame's own logits. Raises UsageError for a label that the model does not have."""
        if not 0.0 <= threshold <= 1.0:
            raise UsageError(f"a threshold of {threshold:g}; give a probability between 0 and 1")
        self.top, self.threshold, self.smoother, self.is_known = top, threshold, smoother, is_known
        missing = sorted(set(allow) - set(spec.labels))
        if missing:
            raise UsageError(f"the model has no label {missing[0]!r}; it has: {', '.join(spec.labels[:20])}")
        counting = set(allow or spec.labels)
        self._indices = [index for index, label in enumerate(spec.labels) if label in counting]
        self._labels = [spec.labels[index] for index in self._indices]
        self._all = len(self._labels) == len(spec.labels)

    def decide(
        self,
        logits: NDArray[np.float32],
        probabilities: NDArray[np.float64],
        captured: float,
        ranked: tuple[Score, ...] = (),
    ) -> Decision:
        """logits, probabilities: (C,) of one frame; captured: seconds on a clock that only goes forward. ranked: the likeliest
        classes of this very frame, where they are known already; not ranked again when nothing here changes them."""
        if len(ranked) == self.top and self._all and self.smoother is None:
            return self._evaluated(ranked[0], ranked, logits)
        shown = -1
        if not self._all:
            probabilities = probabilities[self._indices]
        if self.smoother is not None:
            steadied, shown = self.smoother.update(probabilities, captured)
            probabilities = np.asarray(steadied, np.float64)
        top = best_scores(probabilities, self._labels, self.top)
        best = top[0] if shown in (-1, top[0].index) else self._score(shown, probabilities)
        if not self._all:
            top = tuple(replace(score, index=self._indices[score.index]) for score in top)
            best = replace(best, index=self._indices[best.index])
        return self._evaluated(best, top, logits)

    def _evaluated(self, best: Score, top: tuple[Score, ...], logits: NDArray[np.float32]) -> Decision:
        known = best.confidence >= self.threshold and (self.is_known is None or self.is_known(logits))
        if not known:
            return Decision(UNKNOWN, -1, best.confidence, False, top)
        return Decision(best.label, best.index, best.confidence, True, top)

    def _score(self, index: int, probabilities: NDArray[np.float64]) -> Score:
        return Score(self._labels[index], float(probabilities[index]), index)
