"""How far the features of a picture are from those of the photos that a model was trained on.

Scores of the logits say little with two classes: the two logits are one number. The features before the head, once brought to
length one, do tell (Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples"; Mueller and Hein
2025, "Mahalanobis++": normalise). The distance here is Mahalanobis's to the nearest class mean, with one covariance for all
classes, in the few directions in which training photos vary, plus what lies outside of them, weighed by how much of known
photos lies there (Wang et al. 2022, "ViM", takes that part alone).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.modelfile.sections import Array, plain

NAME = "feature_distance"
"""Of this rule in the contract."""
MIN_PHOTOS = 20
"""Training photos below which directions are chance."""
PER_CLASS = 3
"""Photos a class, on average, below which its mean is chance: all photos then count as one class."""
SHRINK = 0.1
"""How much of the covariance is replaced by an equal spread in all directions."""
EXACT = 256
"""Photos or features up to which directions are found by a decomposition in full."""
_TINY = 1e-6
"""Length below which features are those of no picture: they have no direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDistance:
    """mean: float32 (D,). basis: float32 (D, K), orthonormal but for rounding. whiten: float32 (K, K), from coordinates in the
    basis to those in which known photos spread alike. centres: float32 (C, K), class means there. outside: mean squared length of
    what lies outside the basis, of known photos, per direction left."""

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    whiten: NDArray[np.float32]
    centres: NDArray[np.float32]
    outside: float
    _for_one: _ForOne = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_for_one", _ForOne.of(self))

    def score(self, features: NDArray[np.float32]) -> float:
        """As `scores`, of one picture, float32 (D,): within a thousandth of it.

        Matrix products alone: behind a network, which has emptied the caches, the first call of each kind of NumPy operation
        takes 20 us, longer than all arithmetic here.
        """
        length = math.sqrt(float(features.dot(features)))
        if not _TINY < length < math.inf:
            return -math.inf
        one = self._for_one
        along = one.rows.dot(features)
        inside = along[:-1]
        *classes, within = one.linear.dot(along).tolist()
        known: float = min(map(operator.add, [value / length for value in classes], one.constants))
        known += float(inside.dot(one.weights.dot(inside))) / length**2
        rest = one.rest + within / length - float(inside.dot(inside)) / length**2
        return -(max(known, 0.0) + float(max(rest, 0.0)) / self.outside)

    def scores(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Minus the squared distance to the nearest class: higher is more like the training photos.

        features: (N, D). Returns float64 (N,); minus infinity where features are no numbers or all zero, since such a picture is
        like nothing.
        """
        unit, usable = self._centred(features)
        inside = unit @ self.basis
        rest = np.einsum("nd,nd->n", unit, unit) - np.einsum("nk,nk->n", inside, inside)
        known = inside @ self.whiten
        squared = ((known[:, None, :] - self.centres[None]) ** 2).sum(2).min(1)
        distance = squared.astype(np.float64) + np.maximum(rest, 0).astype(np.float64) / self.outside
        return np.where(usable, -distance, -np.inf)

    def places(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Where pictures lie among the training photos: (N, D) to (N, K), in units of the spread of known photos within a class.

        The last of the K vary most among training photos. Zeros where features are no numbers or all zero.
        """
        unit, usable = self._centred(features)
        return np.where(usable[:, None], unit @ self.basis @ self.whiten, np.float32(0))

    def _centred(self, features: NDArray[np.floating[Any]]) -> tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]:
        """Features of length one less their mean, (N, D), and which rows are usable, (N,): the others are zeros less the mean."""
        rows = np.asarray(features, np.float32)
        length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        usable = np.isfinite(length) & (length > _TINY)
        return np.where(usable[:, None], rows, 0) / np.where(usable, length, 1)[:, None] - self.mean, usable

    def parameters(self) -> dict[str, Any]:
        """As the contract keeps them: a byte for each number of the basis, two for each of the others."""
        scale = np.abs(self.basis).max(0) / 127
        steps = np.rint(self.basis / scale).astype(np.int8)
        arrays = {
            "mean": Array.of(self.mean, "float16"),
            "basis": Array.of(steps, "int8"),
            "basis_scale": Array.of(scale, "float32"),
            "whiten": Array.of(self.whiten, "float32"),
            "centres": Array.of(self.centres, "float16"),
        }
        return {**plain(arrays), "outside": self.outside}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> FeatureDistance:
        """Raises BadModelError for parameters that do not fit each other."""
        try:
            arrays = {
                name: Array.from_dict(dict(parameters[name]), name).array().astype(np.float32)
                for name in ("mean", "basis", "basis_scale", "whiten", "centres")
            }
            outside = float(parameters["outside"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadModelError(f"model contract: the out-of-distribution score is damaged ({error})") from None
        size, rank = arrays["basis"].shape if arrays["basis"].ndim == 2 else (0, 0)
        shapes = [arrays[name].shape for name in ("mean", "basis_scale", "whiten")]
        fits = shapes == [(size,), (rank,), (rank, rank)] and arrays["centres"].shape[1:] == (rank,)
        finite = all(np.isfinite(array).all() for array in arrays.values()) and np.isfinite(outside)
        if not (size and rank and len(arrays["centres"]) and fits and finite and outside > 0):
            raise BadModelError("model contract: arrays of the out-of-distribution score do not fit each other")
        return cls(
            mean=arrays["mean"],
            basis=arrays["basis"] * arrays["basis_scale"],
            whiten=arrays["whiten"],
            centres=arrays["centres"],
            outside=outside,
        )


@dataclass(frozen=True, slots=True)
class _ForOne:
    """What `score` multiplies with. The basis is turned so that whitening only scales.

    rows: float32 (K + 1, D), the turned basis and the mean. weights: float32 (K, K), diagonal. linear: float32 (C + 1, K + 1), of
    each class, and of what lies outside. constants: of each class; rest: of what lies outside.
    """

    rows: NDArray[np.float32]
    weights: NDArray[np.float32]
    linear: NDArray[np.float32]
    constants: list[float]
    rest: float

    @classmethod
    def of(cls, distance: FeatureDistance) -> _ForOne:
        whiten, centres, mean = (
            array.astype(np.float64) for array in (distance.whiten, distance.centres, distance.mean)
        )
        scale = np.linalg.norm(whiten, axis=0)
        turned = distance.basis.astype(np.float64) @ (whiten / scale)
        shift = mean @ turned
        linear = np.zeros((len(centres) + 1, len(scale) + 1))
        linear[:-1, :-1] = -2 * scale * (scale * shift + centres)
        linear[-1, :-1], linear[-1, -1] = 2 * shift, -2
        return cls(
            rows=np.ascontiguousarray(np.vstack([turned.T, mean]), np.float32),
            weights=np.diag(scale**2).astype(np.float32),
            linear=linear.astype(np.float32),
            constants=((scale * shift + centres) ** 2).sum(1).tolist(),
            rest=float(1 + mean @ mean - shift @ shift),
        )


def fit_feature_distance(
    features: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]], rank: int
) -> FeatureDistance | None:
    """features: (N, D) of training photos; targets: (N,), the class of each; rank: directions to keep at most.

    None where fewer than MIN_PHOTOS have features that are not all zero.
    """
    rows = np.asarray(features, np.float64)
    length = np.linalg.norm(rows, axis=1)
    usable = np.isfinite(length) & (length > _TINY)
    if usable.sum() < MIN_PHOTOS:
        return None
    unit, classes = rows[usable] / length[usable, None], targets[usable]
    if len(unit) < PER_CLASS * len(np.unique(classes)):
        classes = np.zeros(len(unit), np.int64)
    mean = unit.mean(0)
    # Directions that a few photos span by chance fit those photos alone, so half as many as photos at most.
    basis = _directions(unit - mean, min(rank, max(1, len(unit) // 2)))
    rank = basis.shape[1]
    inside = (unit - mean) @ basis
    known = np.unique(classes)
    centres = np.stack([inside[classes == label].mean(0) for label in known])
    within = inside - centres[np.searchsorted(known, classes)]
    spread = within.T @ within / max(1, len(unit) - len(known))
    equal = np.trace(spread) / rank
    spread = (1 - SHRINK) * spread + SHRINK * max(equal, 1e-12) * np.eye(rank)
    variances, axes = np.linalg.eigh(spread)
    whiten = axes / np.sqrt(variances)
    rest = ((unit - mean) ** 2).sum() - (inside**2).sum()
    left = max(1, min(unit.shape[1], len(unit) - 1) - rank)
    outside = max(float(rest) / len(unit) / left, SHRINK * float(equal), 1e-9)
    return FeatureDistance(
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float32),
        whiten=whiten.astype(np.float32),
        centres=(centres @ whiten).astype(np.float32),
        outside=outside,
    )


def _directions(rows: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    """The directions in which rows, (N, D), vary most, (D, K), K <= rank, orthonormal; those without any variation are left out.

    Of large arrays by subspace iteration (Halko et al. 2011, "Finding structure with randomness", algorithm 4.4): a few products
    rather than a decomposition in full, which took twenty times as long for 1000 photos.
    """
    if min(rows.shape) > EXACT:
        found = np.random.default_rng(0).standard_normal((rows.shape[1], rank + 16))
        for _ in range(4):
            found = np.linalg.qr(rows.T @ (rows @ found))[0]
        _, values, within = np.linalg.svd(rows @ found, full_matrices=False)
        directions = within @ found.T
    else:
        _, values, directions = np.linalg.svd(rows, full_matrices=False)
    varied = int((values > 1e-7 * values[0]).sum()) if values[0] > 0 else 1
    kept: NDArray[np.float64] = directions[: max(1, min(rank, varied))].T
    return kept
