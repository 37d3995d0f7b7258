"""From one frame's scores to what is shown: smoothing, the labels that count, and "unknown" where no class is to be believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.inference.classifier import UNKNOWN, Score, best_scores, set_document
from edge_tl_runtime.inference.label_sets import LabelSetRule, in_words
from edge_tl_runtime.inference.settings import PredictSettings
from edge_tl_runtime.modelfile.spec import ModelSpec
from edge_tl_runtime.pipeline.smoothing import Smoother

if TYPE_CHECKING:
    from edge_tl_runtime.pipeline.documents import DecisionDocument

IsKnown = Callable[[NDArray[np.float32]], bool]
"""Whether a frame is like photos that the model knows, by its features, float32 (D,), or its logits, (C,)."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to show of a frame.

    top: the likeliest classes of those that count, likeliest first, after smoothing. known: whether the first is to be believed.
    label, index: the shown class, UNKNOWN and -1 where it is not known. confidence: its probability in [0, 1], calibrated where
    the model is and among all its classes, be they allowed or not; where the class is not known, that of the likeliest one.
    label_set: of those that count, the labels that hold the right one as often as was asked for, the shown one first; None where
    that was not asked (`with_set`), and where the class is not known.
    """

    label: str
    index: int
    confidence: float
    known: bool
    top: tuple[Score, ...]
    label_set: tuple[Score, ...] | None = None
    with_set: bool = False

    @property
    def words(self) -> str:
        """What a person reads: the label, or "cat or dog"."""
        return self.label if self.label_set is None else in_words([score.label for score in self.label_set])

    @property
    def answer(self) -> tuple[str, frozenset[str]]:
        """What is new if it differs from that of the frame before: the label, and the labels of its set."""
        return self.label, frozenset(score.label for score in self.label_set or ())

    def to_dict(self) -> DecisionDocument:
        document: DecisionDocument = {
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "known": self.known,
            "top": [score.to_dict() for score in self.top],
        }
        if self.with_set:
            document["set"] = set_document(self.label_set)
        return document


class Decider:
    """Turns scores into decisions, frame after frame.

    >>> decider = Decider(classifier.spec, threshold=0.7, smoother=Ema(0.5))
    >>> decider.decide(classifier.evidence, probabilities, now).label
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
        sets: LabelSetRule | None = None,
    ) -> None:
        """threshold: probability below which a frame is unknown; allow: the labels that count, all when empty; is_known:
        asked of every frame's own evidence; sets: makes the set of labels from every frame's own probabilities. Raises
        UsageError for a label that the model does not have."""
        if not 0.0 <= threshold <= 1.0:
            raise UsageError(f"a threshold of {threshold:g}; give a probability between 0 and 1")
        self.top, self.threshold, self.smoother, self.is_known, self.sets = top, threshold, smoother, is_known, sets
        missing = sorted(set(allow) - set(spec.labels))
        if missing:
            raise UsageError(f"the model has no label {missing[0]!r}; it has: {', '.join(spec.labels[:20])}")
        counting = set(allow or spec.labels)
        self._indices = [index for index, label in enumerate(spec.labels) if label in counting]
        self._labels = [spec.labels[index] for index in self._indices]
        self._spec_labels, self._counting = spec.labels, frozenset(self._indices)
        self._all = len(self._labels) == len(spec.labels)

    def decide(
        self,
        evidence: NDArray[np.float32],
        probabilities: NDArray[np.float64],
        captured: float,
        ranked: tuple[Score, ...] = (),
    ) -> Decision:
        """evidence: what `is_known` looks at; probabilities: (C,); both of one frame. captured: seconds on a clock that only goes
        forward. ranked: the likeliest classes of this very frame, where they are known already; not ranked again when nothing
        here changes them."""
        if len(ranked) == self.top and self._all and self.smoother is None:
            return self._evaluated(ranked[0], ranked, evidence, probabilities)
        shown, own = -1, probabilities
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
        return self._evaluated(best, top, evidence, own)

    def _evaluated(
        self, best: Score, top: tuple[Score, ...], evidence: NDArray[np.float32], own: NDArray[np.float64]
    ) -> Decision:
        known = best.confidence >= self.threshold and (self.is_known is None or self.is_known(evidence))
        with_set = self.sets is not None
        if not known:
            return Decision(UNKNOWN, -1, best.confidence, False, top, with_set=with_set)
        return Decision(best.label, best.index, best.confidence, True, top, self._set(best, own), with_set)

    def _set(self, best: Score, own: NDArray[np.float64]) -> tuple[Score, ...] | None:
        """The set of this very frame's probabilities, for which the promise holds, without labels that do not count, and with the
        shown one, be it from smoothing: a label more breaks no promise."""
        if self.sets is None:
            return None
        others = (place for place in self.sets.places(own) if place in self._counting and place != best.index)
        return (best, *(Score(self._spec_labels[place], float(own[place]), place) for place in others))

    def _score(self, index: int, probabilities: NDArray[np.float64]) -> Score:
        return Score(self._labels[index], float(probabilities[index]), index)
