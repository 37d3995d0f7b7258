"""The temperature with which probabilities say how often they are right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from edge_tl_runtime.evaluation.reliability import Reliability, reliability
from edge_tl_runtime.modelfile.spec import Scores

BOUNDS = (0.05, 20.0)
ENOUGH_TO_SHARPEN = 100
"""Photos, or their effective number where classes weigh differently, below which no temperature makes answers surer."""
FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """temperature: for softmax(logits / temperature). before, after: on the photos it was fitted on.

    kept: why the temperature is 1 or did not fall below it, in words; "" where it is the fitted one.
    """

    temperature: float
    before: Reliability
    after: Reliability
    kept: str = ""


def calibrate(
    logits: NDArray[np.float32], targets: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> Calibration:
    """Fit one temperature by maximum likelihood (Guo et al. 2017, section 4.2). logits: (N, C); targets: (N,).

    weights: of the photos, (N,), for probabilities of classes as common as these make them; None: as common as the photos are.

    A network without an error would be given certainty, which no finite set of photos warrants; a weak prior, log T normal
    with mean 0 and deviation 1, counts as much as a single photo or so and keeps the answer finite. Few photos sharpen nothing,
    and a temperature stays only if it lowers the loss of photos that it was not fitted on.
    """
    scores = logits.astype(np.float64)
    shares = np.ones(len(targets)) if weights is None else weights / weights.mean()
    photos = float(shares.sum() ** 2 / np.square(shares).sum())
    lowest = 1.0 if photos < ENOUGH_TO_SHARPEN else BOUNDS[0]
    temperature, kept = _fitted(scores, targets, shares, lowest), ""
    if temperature == lowest == 1.0:
        kept = f"{photos:.0f} photos are too few to make answers surer" if _fitted(scores, targets, shares) < 1 else ""
    elif not _helps(scores, targets, shares, lowest):
        temperature, kept = 1.0, "another would not lower the loss of photos that it was not fitted on"
    before, after = (
        reliability(Scores(temperature=value).probabilities(logits), targets) for value in (1.0, temperature)
    )
    return Calibration(temperature, before, after, kept)


def _losses(scores: NDArray[np.float64], targets: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
    """Cross-entropy of each photo, (N,)."""
    scaled = scores / temperature
    losses: NDArray[np.float64] = logsumexp(scaled, axis=1) - scaled[np.arange(len(targets)), targets]
    return losses


def _fitted(
    scores: NDArray[np.float64], targets: NDArray[np.int64], weights: NDArray[np.float64], lowest: float = BOUNDS[0]
) -> float:
    def cost(log_temperature: float) -> float:
        return float(weights @ _losses(scores, targets, math.exp(log_temperature)) + log_temperature**2 / 2)

    bounds = (math.log(lowest), math.log(BOUNDS[1]))
    found = minimize_scalar(cost, bounds=bounds, method="bounded").x
    return 1.0 if lowest == 1.0 and cost(0.0) <= cost(found) else round(math.exp(found), 4)


def _helps(
    scores: NDArray[np.float64], targets: NDArray[np.int64], weights: NDArray[np.float64], lowest: float
) -> bool:
    """Whether temperatures fitted without a fold lower its loss, all folds together."""
    folds = np.arange(len(targets)) % min(FOLDS, len(targets))
    order = np.lexsort((folds, targets))  # every class over all folds
    saved = 0.0
    for fold in np.unique(folds):
        held = np.zeros(len(targets), bool)
        held[order[fold :: folds.max() + 1]] = True
        if held.all():
            return False
        fitted = _fitted(scores[~held], targets[~held], weights[~held], lowest)
        saved += float(
            weights[held] @ (_losses(scores[held], targets[held], 1.0) - _losses(scores[held], targets[held], fitted))
        )
    return saved > 0
