"""The linear probe: multinomial logistic regression on frozen features, fitted to convergence.

Features are centred, Pareto-scaled (divided by the square root of their deviation: between raw and standardised, and with
the lowest cross-validated loss over the three on hymenoptera, pets37 and cats-dogs) and rotated into the span of the
training photos; an L2 penalty does not see the rotation, so the answer is that of the full problem at the cost of
min(N, D) dimensions. The penalty is chosen by cross-validation on the training photos alone; the validation photos only
evaluate. Few photos choose badly, so a penalty far from the usual one must be clearly better.

Where classes are unequal, photos weigh by the inverse of their class's size, which alone does little: a probe that separates its
training photos has no errors to weigh. What hides the small class is that its few photos fit the probe more closely than a new
one would. Photos held out show by how much, and the logits of small classes are raised by that
(docs/decisions/0012-few-and-unequal.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from edge_tl.training.probe.balance import class_counts, class_weights, weighs

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""L2 penalties tried, strongest first, so that each fit starts from the one before."""
FOLDS = 5
SMALL = 20_000_000
"""Photos times features times classes below which one thread is as fast as several."""
USUAL, DECADES = 0.03, 0.5
"""Prior of the penalty: log-normal about what was best for 2 to 20 photos per class, with this deviation in powers of ten."""
WITHOUT_FOLDS = (0.03, 10.0)
"""Penalty where a class has a single photo, so that none can be held out: for equal classes, and for unequal ones, whose balance
then rests on the penalty alone."""
RAISE = 3.0
"""Deviation of the prior of what small classes are raised by, over the logarithm of how much smaller they are."""


@dataclass(frozen=True)
class _Stop:
    """When L-BFGS ends: largest gradient entry, or steps."""

    gradient: float
    steps: int


# Ranking penalties needs less than the head that is kept.
_RANK = _Stop(1e-4, 60)
_CONVERGED = _Stop(1e-7, 1000)


@dataclass(frozen=True)
class Probe:
    """weight: float64 (C, D); bias: float64 (C,), for raw features. penalty: the L2 chosen.

    cv_loss: cross-entropy by penalty over held-out folds; empty when classes are too small to hold any out.
    held_out: float32 (N, C), each training photo's logits from the fold that did not see it; None where cv_loss is empty.
    balanced: whether every class had equal say, whatever its size; losses are then means over classes.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float
    cv_loss: dict[float, float]
    held_out: NDArray[np.float32] | None = None
    balanced: bool = False

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """features: (N, D). Returns (N, C)."""
        return np.asarray(features @ self.weight.T + self.bias, np.float32)


@dataclass(frozen=True)
class _Lift:
    """Logits become scale * logits + rise: what held-out photos say of small classes. loss: weighted mean after it."""

    scale: float
    rise: NDArray[np.float64]
    loss: float

    def __call__(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.scale * logits + self.rise


def fit_probe(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    names: Sequence[str],
    classes: int,
    balance: str = "auto",
    penalty: float | None = None,
    groups: Sequence[str] = (),
) -> Probe:
    """Fit on features (N, D) of photos of class targets (N,). Deterministic: folds depend on the photos' names alone.

    balance: as in the settings; "sampling" asks of a probe what "weights" asks. penalty: taken as it is, without folds; small
    classes are then not raised. groups: what the photos stem from, as for `make_folds`.
    """
    with _threads(features.size * classes):
        return _fit_probe(features, targets, names, classes, balance, penalty, groups)


def _fit_probe(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    names: Sequence[str],
    classes: int,
    balance: str,
    penalty: float | None,
    groups: Sequence[str],
) -> Probe:
    counts = class_counts(targets, classes)
    balanced = weighs(balance, counts)
    photo_weights = class_weights(counts)[targets] if balanced else np.ones(len(targets))
    mean, scale = _standard(features, photo_weights / photo_weights.sum())
    standard = torch.from_numpy((features - mean) / scale)
    basis = torch.linalg.svd(standard, full_matrices=False).Vh if len(standard) < standard.shape[1] else None
    reduced = standard if basis is None else standard @ basis.T
    labels, weights = torch.from_numpy(targets), torch.from_numpy(photo_weights)
    held_out = {}
    if penalty is None:
        held_out = _cross_validate(reduced, labels, weights, make_folds(targets, names, groups=groups), classes)
    lifts = {p: _lift(rows, targets, photo_weights, counts, balanced) for p, rows in held_out.items()}
    if penalty is None:
        penalty = _chosen(lifts, photo_weights) if lifts else WITHOUT_FOLDS[balanced]
    lift = lifts.get(penalty, _Lift(1.0, np.zeros(classes), 0.0))
    fitted = _fit(reduced, labels, weights, classes, [penalty], _CONVERGED)[0]
    weight = fitted[:-1].T if basis is None else fitted[:-1].T @ basis
    raw = weight.numpy() / scale
    bias = lift(fitted[-1].numpy() - raw @ mean)
    outside = np.asarray(lift(held_out[penalty]), np.float32) if held_out else None
    cv_loss = {p: found.loss for p, found in lifts.items()}
    return Probe(lift.scale * raw, bias, penalty, cv_loss, outside, balanced)


@contextlib.contextmanager
def _threads(work: int) -> Iterator[None]:
    """One thread for small problems: what more of them gain there is lost to waiting, on a busy machine a hundredfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if work < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _standard(
    features: NDArray[np.float32], shares: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and Pareto scale of the features, each (D,). shares: of each photo in both, (N,), summing to 1."""
    mean = shares @ features.astype(np.float64)
    deviation = np.sqrt(shares @ np.square(features - mean))
    scale = np.sqrt(deviation * max(deviation.mean(), 1e-12))
    scale[deviation <= 1e-6 * deviation.max()] = np.inf  # a feature that never varies says nothing
    return mean, scale


def _chosen(lifts: dict[float, _Lift], weights: NDArray[np.float64]) -> float:
    """The penalty of the lowest held-out loss; among few photos, one near the usual."""
    photos = float(weights.sum() ** 2 / np.square(weights).sum())  # effective number, Kish 1965

    def cost(penalty: float) -> float:
        away = math.log10(penalty / USUAL) / DECADES
        return float(photos * lifts[penalty].loss + 0.5 * away * away)

    return min(lifts, key=cost)


def _lift(
    logits: NDArray[np.float64],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64],
    counts: NDArray[np.int64],
    balanced: bool,
) -> _Lift:
    """Fit to held-out logits (N, C) how much a class must rise for each e-fold of photos that the largest has more than it."""
    photos, shares = float(weights.sum() ** 2 / np.square(weights).sum()), weights / weights.sum()
    smaller = np.log(counts.max() / np.maximum(counts, 1))
    rows = np.arange(len(targets))

    def loss(parameters: NDArray[np.float64]) -> float:
        scaled = math.exp(parameters[1]) * logits + parameters[0] * smaller
        return float(shares @ (logsumexp(scaled, axis=1) - scaled[rows, targets]))

    def cost(parameters: NDArray[np.float64]) -> float:
        return float(photos * loss(parameters) + (parameters[0] / RAISE) ** 2 / 2 + parameters[1] ** 2 / 2)

    best = np.zeros(2)
    if balanced:
        best = minimize(cost, best, method="L-BFGS-B", bounds=[(None, None), (-4.0, 0.0)]).x
    return _Lift(math.exp(best[1]), best[0] * smaller, loss(best))


def _cross_validate(
    features: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, places: NDArray[np.int64], classes: int
) -> dict[float, NDArray[np.float64]]:
    """Logits (N, C) of every photo from the fold that left it out, for each penalty; {} where a class has a single photo.

    places: fold of each photo, (N,).
    """
    counts = torch.bincount(targets)
    if int(counts[counts > 0].min()) < 2:
        return {}
    folds = torch.from_numpy(places)
    logits = {penalty: np.empty((len(targets), classes)) for penalty in PENALTIES}
    for fold in folds.unique().tolist():
        held = folds == fold
        kept = features[~held], targets[~held], weights[~held]
        for penalty, parameters in zip(PENALTIES, _fit(*kept, classes, PENALTIES, _RANK), strict=True):
            logits[penalty][held.numpy()] = (features[held] @ parameters[:-1] + parameters[-1]).numpy()
    return logits


def make_folds(
    targets: NDArray[np.int64], names: Sequence[str], salt: str = "", groups: Sequence[str] = ()
) -> NDArray[np.int64]:
    """Fold of each photo, int64 (N,), 0 to `FOLDS` - 1: each class over all folds, in an order by SHA-256 of salt and name.

    groups: of each photo, what it stems from (a burst, a video); photos of one group are in one fold, large groups are placed
    first. "" and () are photos that stand alone. A class with fewer photos than folds is held out one photo at a time, and so
    is a class of a single group (`classes_of_one_group`): held out whole, nothing would be left to learn it from.
    """
    own = [group or f"\0{name}" for group, name in zip(groups, names, strict=True)] if groups else list(names)
    members: dict[str, list[int]] = {}
    for place in sorted(range(len(names)), key=lambda i: _rank(salt, names[i])):
        members.setdefault(own[place], []).append(place)
    sizes = np.bincount(targets)
    load = np.zeros((FOLDS, len(sizes)))
    folds = np.zeros(len(targets), np.int64)
    for places in sorted(
        members.values(), key=len, reverse=True
    ):  # stable: groups of one size in the order of their hashes
        content = np.bincount(targets[places], minlength=len(sizes)) / np.maximum(sizes, 1)
        chosen = int(np.argmin(load @ content))
        load[chosen] += content
        folds[places] = chosen
    for target in np.unique(targets):
        of_class = np.flatnonzero(targets == target).tolist()
        if len(np.unique(folds[of_class])) < 2:
            of_class.sort(key=lambda i: _rank(salt, names[i]))
            folds[of_class] = np.arange(len(of_class)) % FOLDS
    return folds


def classes_of_one_group(targets: NDArray[np.int64], groups: Sequence[str]) -> list[int]:
    """Classes whose photos, two or more, all stem from the same: they cannot be held out by group. groups: as in `make_folds`."""
    found = []
    for target in np.unique(targets).tolist() if groups else ():
        own = [groups[i] for i in np.flatnonzero(targets == target).tolist()]
        if len(own) > 1 and own[0] and len(set(own)) == 1:
            found.append(target)
    return found


def _rank(salt: str, name: str) -> bytes:
    return hashlib.sha256((salt + name).encode("utf-8", "surrogateescape")).digest()


def _fit(
    features: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    classes: int,
    penalties: Sequence[float],
    stop: _Stop,
) -> list[torch.Tensor]:
    """Weights over bias, (D + 1, C), for each penalty in turn. Minimises weighted mean cross-entropy + penalty / 2 |W|^2."""
    parameters = torch.zeros(features.shape[1] + 1, classes, dtype=torch.float64, requires_grad=True)
    shares = weights / weights.sum()
    fitted = []
    for penalty in penalties:
        optimizer = torch.optim.LBFGS(
            [parameters],
            max_iter=stop.steps,
            tolerance_grad=stop.gradient,
            tolerance_change=1e-12,
            history_size=10,
            line_search_fn="strong_wolfe",
        )

        def closure(penalty: float = penalty) -> torch.Tensor:
            parameters.grad = None
            scores = features @ parameters[:-1] + parameters[-1]
            loss = torch.nn.functional.cross_entropy(scores, targets, reduction="none") @ shares
            loss = loss + 0.5 * penalty * parameters[:-1].square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        fitted.append(parameters.detach().clone())
    return fitted
