"""Whether a printed probability means what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edge_tl_runtime.evaluation.documents import ReliabilityDocument

BINS = 15


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy in bins of equal width over [0, 1].

    counts: int64 (BINS,); confidence, accuracy: float64 (BINS,), means within each bin, 0 where it is empty.
    """

    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap, weighted by counts (Guo et al. 2017, equation 5)."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.counts).sum() / max(1, self.counts.sum()))

    def to_dict(self) -> ReliabilityDocument:
        return {
            "ece": round(self.ece, 6),
            "counts": self.counts.tolist(),
            "confidence": [round(x, 6) for x in self.confidence.tolist()],
            "accuracy": [round(x, 6) for x in self.accuracy.tolist()],
        }


def reliability(probabilities: NDArray[np.float64], targets: NDArray[np.int64]) -> Reliability:
    """probabilities: (N, C), rows summing to 1; targets: (N,). A bin holds its upper edge, as in the paper."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == targets
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    shown = np.maximum(counts, 1)
    return Reliability(
        counts,
        np.bincount(places, confidence, BINS) / shown,
        np.bincount(places, right.astype(np.float64), BINS) / shown,
    )
