"""Whether gradients lead where they point: what they promise for a small step, against what the file then answers.

An attack that follows a gradient is as strong as the gradient is true. A branch that rounds to nothing, but has the slope that
any rounding gets (straight-through), leaves every answer as it was and sends such an attack astray (obfuscated gradients: Athalye
et al. 2018).
Finite differences of the file's own answers need no trust in the graph.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.criteria import Criterion
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.evaluation.gradient_masking import clean_gradients

PART = 1 / 16
"""Of the values that are moved by one step of 255: fewer, and integers round it away; more, and honest networks bend."""
REPEATS = 2
HONEST = 0.5
"""Part of the promise that honest files keep: the least of those measured kept 0.68 (docs/decisions/0008)."""
FEWEST = 4


def kept_promises(
    model: AttackedModel, pixels: NDArray[np.uint8], criterion: Criterion, seed: int
) -> tuple[float, float] | None:
    """What small steps along the gradient do to the margin, over what the gradient says they do; and its standard error.

    pixels: uint8 (N, H, W, 3), right without an attack. 1 for a file that is linear so near, 0 for gradients that say nothing of
    it. None for fewer than FEWEST photos and for gradients of zero. The standard error is the jackknife's over photos.
    """
    if len(pixels) < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    groups = list(clean_gradients(model, pixels, criterion, ("margin",)))
    before = criterion.margin(torch.from_numpy(np.concatenate([scores for scores, _ in groups]))).numpy()
    gradients = np.concatenate([found["margin"].cpu().numpy().astype(np.float64) for _, found in groups])
    promised, done = np.zeros(len(pixels)), np.zeros(len(pixels))
    for _ in range(REPEATS):
        steps = np.sign(gradients) * (rng.random(pixels.shape) < PART)
        moved = np.clip(pixels + steps, 0, 255).astype(np.uint8)
        promised += (gradients * (moved - pixels.astype(np.float64))).reshape(len(pixels), -1).sum(1)
        done += criterion.margin(torch.from_numpy(model.evaluated(moved))).numpy() - before
    if not np.isfinite(promised).all() or promised.sum() <= 0:
        return None
    total, n = done.sum() / promised.sum(), len(pixels)
    without = (done.sum() - done) / np.maximum(promised.sum() - promised, np.finfo(np.float64).tiny)
    return float(total), float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))


def misleading_slopes(model: AttackedModel, pixels: NDArray[np.uint8], criterion: Criterion, seed: int) -> str:
    """Figures of gradients that promise what the file does not do, beyond two standard errors, or ""."""
    found = kept_promises(model, pixels, criterion, seed)
    if found is None or found[0] + 2 * found[1] >= HONEST:
        return ""
    return (
        f"small steps along the gradient did {100 * max(0.0, found[0]):.0f} % of what it says they do, on {len(pixels)} photos; "
        f"gradients of a file that hides nothing keep more than {100 * HONEST:.0f} %"
    )
