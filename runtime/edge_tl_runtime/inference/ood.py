"""Whether a photo is like those a model was trained on: a score, and thresholds that travel in the model file.

Files of this release hold the distance of features (`feature_distance`); older ones, and those made without training photos, the
energy of the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.text import UNPRINTABLE, error_line, one_line
from edge_tl_runtime.inference import feature_distance
from edge_tl_runtime.inference.feature_distance import FeatureDistance
from edge_tl_runtime.modelfile.sections import OODScore
from edge_tl_runtime.modelfile.spec import ModelSpec

KEEP = (0.95, 0.99)
"""Fractions of photos like the training data to keep, for which a threshold is stored."""
KEPT = 0.99
"""Of photos like the training photos, what stays known unless somebody asks for another fraction."""
MIN_PHOTOS = 20
"""The fewest photos that place a threshold. 95 % needs 19: the lowest of them (see `threshold`)."""
EARLIER_KEY = "familiarity"
"""Of the contract's `export`: where earlier releases kept what the section `ood_score` holds now."""
LARGEST = 1e39
"""Beyond what float32 logits can reach."""


def energy(logits: NDArray[np.floating[Any]], temperature: float = 1.0) -> NDArray[np.float64]:
    """The negative free energy of the logits, T logsumexp(logits / T): higher is more like the training data.

    Liu et al. 2020, "Energy-based Out-of-distribution Detection", section 3.1. logits: (..., C), finite; temperature: positive.
    Returns float64 (...), never below the largest logit and at most T ln C above it.
    """
    scaled = logits.astype(np.float64) / temperature
    largest = scaled.max(axis=-1, keepdims=True)
    total = np.exp(scaled - largest).sum(axis=-1)
    return np.asarray(temperature * (largest[..., 0] + np.log(total)))


SCORES: Mapping[str, Callable[[NDArray[np.floating[Any]]], NDArray[np.float64]]] = MappingProxyType({"energy": energy})
"""By the name a file gives: logits, (..., C), to a score, float64 (...), higher where more like the training data.

Of 37 breeds, energy notices more than the largest probability and hardly more than the largest logit, whatever its temperature.
Of two classes all of them order photos alike and notice little: the probe's logits sum to zero, so each score is a function of
one number, their difference (benchmarks/studies/ood_score.py).
"""


def threshold(scores: NDArray[np.float64], keep: float) -> float:
    """The score that a fraction `keep` of photos like these reaches, on average over draws of the n photos.

    scores: (N,), finite, N >= 1. It is the k-th lowest with k = floor((1 - keep)(n + 1)): a new photo of the same kind is equally
    likely to fall between any two of them (split conformal prediction, Vovk et al. 2005). Where k is below 1, as for 99 % of
    fewer than 99 photos, the lowest score is taken, which keeps n / (n + 1). Rounded down to a millionth.
    """
    place = math.floor((1 - keep) * (len(scores) + 1) + 1e-9)
    lowest = float(np.sort(scores)[max(1, place) - 1])
    return math.floor(lowest * 1e6) / 1e6 if abs(lowest) < 1e9 else lowest


@dataclass(frozen=True, slots=True, kw_only=True)
class OODThresholds:
    """What a file's own logits on n evaluation photos say of how much a photo should be like them.

    score: a name in SCORES, or that of the distance of features. thresholds: lowest score of a photo like those, by the fraction
    of photos to keep, in (0, 1). n: photos they stand on; data: where those came from, in words.
    """

    score: str = "energy"
    thresholds: Mapping[float, float]
    n: int
    data: str

    def __post_init__(self) -> None:
        names = (*SCORES, feature_distance.NAME)
        known = isinstance(self.score, str) and self.score in names
        _require(known, f"score {self.score!r} is none of {', '.join(names)}; upgrade edge-tl on this machine")
        _require(isinstance(self.thresholds, Mapping) and len(self.thresholds) > 0, "no thresholds")
        object.__setattr__(self, "thresholds", MappingProxyType(dict(sorted(self.thresholds.items()))))
        _require(all(_number(x) and 0 < x < 1 for x in self.thresholds), "a fraction to keep is outside (0, 1)")
        values = list(self.thresholds.values())
        _require(all(_number(x) and abs(x) <= LARGEST for x in values), "a threshold is not a finite number")
        _require(
            values == sorted(values, reverse=True), "keeping more photos takes a lower threshold, not a higher one"
        )
        _require(type(self.n) is int and MIN_PHOTOS <= self.n < 2**63, f"{self.n} photos place no threshold")
        _require(isinstance(self.data, str) and not UNPRINTABLE.search(self.data), "its photos are not a line of text")

    def is_known(self, logits: NDArray[np.floating[Any]], keep: float = 0.95) -> bool:
        """Whether one photo, logits (C,), scores as those the file was evaluated on. Raises UsageError as `threshold`."""
        return bool(SCORES[self.score](logits) >= self.threshold(keep))

    def threshold(self, keep: float) -> float:
        """The stored threshold. Raises UsageError where there is none for this fraction."""
        try:
            return self.thresholds[keep]
        except KeyError:
            stored = ", ".join(f"{level:g}" for level in self.thresholds)
            raise UsageError(
                f"the model holds no threshold for keeping {keep:g} of the photos; it has: {stored}"
            ) from None

    def describe(self) -> str:
        """`energy >= 1.2345 keeps 95 %, >= 0.9876 keeps 99 % of photos like its 153, val of hymenoptera`."""
        levels = ", ".join(f">= {value:.4f} keeps {100 * keep:g} %" for keep, value in self.thresholds.items())
        return f"{self.score} {levels} of photos like its {self.n}, {self.data}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `from_dict` of it gives an equal OODThresholds."""
        thresholds = {str(keep): value for keep, value in self.thresholds.items()}
        return {"score": self.score, "thresholds": thresholds, "n": self.n, "data": self.data}

    def section(self) -> OODScore:
        """What the contract of the file says of it."""
        return OODScore(**self.to_dict(), parameters={})

    @classmethod
    def from_dict(cls, document: Any) -> OODThresholds:
        """Raises BadModelError for a malformed document."""
        _require(isinstance(document, Mapping), "the document is not a JSON object")
        try:
            thresholds = {float(keep): value for keep, value in document["thresholds"].items()}
            _require(len(thresholds) == len(document["thresholds"]), "a fraction to keep appears twice")
            return cls(score=document["score"], thresholds=thresholds, n=document["n"], data=document["data"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadModelError(
                f"out-of-distribution thresholds: the document is damaged ({error_line(error)})"
            ) from None


@dataclass(frozen=True, slots=True)
class OODDetector:
    """What a file uses to tell a picture that is like none of its training photos.

    thresholds: lowest scores of known photos. distance: the rule that needs features; None where the logits are scored.
    """

    thresholds: OODThresholds
    distance: FeatureDistance | None = None

    @property
    def by_features(self) -> bool:
        return self.distance is not None

    def scores(self, evidence: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """evidence: (N, D) features or (N, C) logits. Returns float64 (N,), higher is more like known photos."""
        rule = SCORES[self.thresholds.score] if self.distance is None else self.distance.scores
        return rule(evidence)

    def score(self, evidence: NDArray[np.float32]) -> float:
        """Of one picture: features, float32 (D,), or logits, (C,)."""
        return (
            float(SCORES[self.thresholds.score](evidence)) if self.distance is None else self.distance.score(evidence)
        )

    def section(self) -> OODScore:
        """What the contract of the file says of it."""
        section = self.thresholds.section()
        return section if self.distance is None else replace(section, parameters=self.distance.parameters())


def ood_detector_of(spec: ModelSpec) -> OODDetector | None:
    """What a file's contract holds: by features where it has them, else by its logits; None for a file without thresholds.

    Raises BadModelError for damaged ones.
    """
    thresholds = ood_thresholds_of(spec)
    if thresholds is None or spec.ood_score is None or thresholds.score != feature_distance.NAME:
        return None if thresholds is None else OODDetector(thresholds)
    distance = FeatureDistance.from_parameters(spec.ood_score.parameters)
    if spec.features is None or len(distance.mean) != spec.features.size:
        raise BadModelError("model contract: the out-of-distribution score does not fit the features; export again")
    return OODDetector(thresholds, distance)


def fit_ood_thresholds(logits: NDArray[np.floating[Any]], data: str) -> OODThresholds | None:
    """Thresholds from a file's own logits, (N, C), on the photos it was evaluated on; `data` names them in words.

    None for fewer than MIN_PHOTOS photos, and for logits that are no numbers.
    """
    if len(logits) < MIN_PHOTOS or not np.isfinite(logits).all():
        return None
    scores = energy(logits)
    return OODThresholds(thresholds={keep: threshold(scores, keep) for keep in KEEP}, n=len(logits), data=data)


def ood_thresholds_of(spec: ModelSpec) -> OODThresholds | None:
    """What a file's contract says; None for a file without thresholds.

    Raises BadModelError for damaged ones, and for a score that this release does not know.
    """
    document = spec.export.get(EARLIER_KEY) if spec.ood_score is None else spec.ood_score.known()
    return None if document is None else OODThresholds.from_dict(document)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise BadModelError(f"out-of-distribution thresholds: {one_line(message)}")


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
