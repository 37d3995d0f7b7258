"""Classes of unequal size: from when on they are, and what each photo then weighs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.evaluation.evaluate import unequal


def class_counts(targets: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Photos per class, int64 (classes,)."""
    return np.bincount(targets, minlength=classes).astype(np.int64)


def weighs(balance: str, counts: NDArray[np.int64]) -> bool:
    """Whether classes get equal say. balance: "none", "weights", "sampling", or "auto" for weights where classes are unequal."""
    return balance in ("weights", "sampling") or (balance == "auto" and unequal(counts))


def class_weights(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a photo of each class weighs, float64 (C,): the inverse of its class's size, with mean 1 over the photos."""
    present = max(1, int((counts > 0).sum()))
    weights = counts.sum() / (present * np.maximum(counts, 1))
    return np.asarray(weights, np.float64)
