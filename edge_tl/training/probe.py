"""The linear probe: multinomial logistic regression on frozen features, fitted to convergence.

Features are centred, Pareto-scaled (divided by the square root of their deviation: between raw and standardised, and with
the lowest cross-validated loss over the three on hymenoptera, pets37 and cats-dogs) and rotated into the span of the
training photos; an L2 penalty does not see the rotation, so the answer is that of the full problem at the cost of
min(N, D) dimensions. The penalty is chosen by cross-validation on the
training photos alone: the validation photos judge, they do not choose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""L2 penalties tried, strongest first, so that each fit starts from the one before."""
FOLDS = 5


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
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    penalty: float
    cv_loss: dict[float, float]
    held_out: NDArray[np.float32] | None = None

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """features: (N, D). Returns (N, C)."""
        return np.asarray(features @ self.weight.T + self.bias, np.float32)


def fit_probe(features: NDArray[np.float32], targets: NDArray[np.int64], names: Sequence[str], classes: int) -> Probe:
    """Fit on features (N, D) of photos of class targets (N,). Deterministic: folds depend on the photos' names alone."""
    mean = features.mean(0, dtype=np.float64)
    deviation = features.std(0, dtype=np.float64)
    scale = np.sqrt(deviation * max(deviation.mean(), 1e-12))
    scale[deviation <= 1e-6 * deviation.max()] = np.inf  # a feature that never varies says nothing
    standard = torch.from_numpy((features - mean) / scale)
    basis = torch.linalg.svd(standard, full_matrices=False).Vh if len(standard) < standard.shape[1] else None
    reduced = standard if basis is None else standard @ basis.T
    labels = torch.from_numpy(targets)
    held_out = _cross_validate(reduced, labels, names, classes)
    cv_loss = {p: float(torch.nn.functional.cross_entropy(rows, labels)) for p, rows in held_out.items()}
    penalty = min(cv_loss, key=lambda p: cv_loss[p]) if cv_loss else 0.1
    fitted = _fit(reduced, labels, classes, [penalty], _CONVERGED)[0]
    weight = fitted[:-1].T if basis is None else fitted[:-1].T @ basis
    raw = weight.numpy() / scale
    outside = held_out[penalty].float().numpy() if held_out else None
    return Probe(raw, fitted[-1].numpy() - raw @ mean, penalty, cv_loss, outside)


def _cross_validate(
    features: torch.Tensor, targets: torch.Tensor, names: Sequence[str], classes: int
) -> dict[float, torch.Tensor]:
    """Logits (N, C) of every photo from the fold that left it out, for each penalty; {} where no fold can be made."""
    folds = _folds(targets, names)
    if int(folds.max()) == 0:
        return {}
    logits = {penalty: torch.empty(len(targets), classes, dtype=torch.float64) for penalty in PENALTIES}
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        for penalty, parameters in zip(
            PENALTIES, _fit(features[~held], targets[~held], classes, PENALTIES, _RANK), strict=True
        ):
            logits[penalty][held] = features[held] @ parameters[:-1] + parameters[-1]
    return logits


def _folds(targets: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """Fold of each photo, stratified by class; as many folds as the smallest class allows, 1 when it has a single photo."""
    folds = torch.zeros(len(targets), dtype=torch.long)
    count = min(FOLDS, int(torch.bincount(targets).clamp(min=1).min()))
    for target in targets.unique().tolist():
        members = (targets == target).nonzero().flatten().tolist()
        members.sort(key=lambda i: hashlib.sha256(names[i].encode("utf-8", "surrogateescape")).digest())
        for rank, index in enumerate(members):
            folds[index] = rank % count
    return folds


def _fit(
    features: torch.Tensor, targets: torch.Tensor, classes: int, penalties: Sequence[float], stop: _Stop
) -> list[torch.Tensor]:
    """Weights over bias, (D + 1, C), for each penalty in turn. Minimises mean cross-entropy + penalty / 2 |W|^2."""
    parameters = torch.zeros(features.shape[1] + 1, classes, dtype=torch.float64, requires_grad=True)
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
            loss = torch.nn.functional.cross_entropy(scores, targets)
            loss = loss + 0.5 * penalty * parameters[:-1].square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        fitted.append(parameters.detach().clone())
    return fitted
