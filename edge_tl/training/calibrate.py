"""The temperature that makes probabilities honest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from edge_tl_runtime.calibration import Reliability, reliability
from edge_tl_runtime.spec import Scores

BOUNDS = (0.05, 20.0)


@dataclass(frozen=True)
class Calibration:
    """temperature: for softmax(logits / temperature). before, after: on the photos it was fitted on."""

    temperature: float
    before: Reliability
    after: Reliability


def calibrate(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Calibration:
    """Fit one temperature by maximum likelihood (Guo et al. 2017, section 4.2). logits: (N, C); targets: (N,).

    A network without an error would be given certainty, which no finite set of photos warrants; a weak prior, log T normal
    with mean 0 and deviation 1, counts as much as a single photo or so and keeps the answer finite.
    """
    scores, photos = logits.astype(np.float64), np.arange(len(targets))

    def cost(log_temperature: float) -> float:
        scaled = scores / math.exp(log_temperature)
        likelihood = (logsumexp(scaled, axis=1) - scaled[photos, targets]).sum()
        return float(likelihood + log_temperature**2 / 2)

    low, high = (math.log(bound) for bound in BOUNDS)
    temperature = round(math.exp(minimize_scalar(cost, bounds=(low, high), method="bounded").x), 4)
    before, after = (
        reliability(Scores(temperature=value).probabilities(logits), targets) for value in (1.0, temperature)
    )
    return Calibration(temperature, before, after)
