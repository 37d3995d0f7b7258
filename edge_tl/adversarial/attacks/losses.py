"""What attacks maximise, (N, C) logits to one number a photo; a new loss is an entry in LOSSES."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from edge_tl.adversarial.attacks.criteria import Criterion

Loss = Callable[[torch.Tensor, Criterion], torch.Tensor]
"""Logits, float32 (N, C), and what is wanted of them, to (N,): larger is nearer to success."""

_TINY = 1e-12


def cross_entropy(logits: torch.Tensor, criterion: Criterion) -> torch.Tensor:
    """Cross-entropy with the true class, or its negative with the target (Goodfellow et al. 2015)."""
    classes = torch.from_numpy(criterion.classes).to(logits.device)
    loss = functional.cross_entropy(logits, classes, reduction="none")
    return -loss if criterion.targeted else loss


def margin(logits: torch.Tensor, criterion: Criterion) -> torch.Tensor:
    """Difference of the two scores that decide (Carlini and Wagner 2017, f_6 without its bound): never saturates."""
    return criterion.margin(logits)


def dlr(logits: torch.Tensor, criterion: Criterion) -> torch.Tensor:
    """Difference of logits ratio (Croce and Hein 2020, equations 5 and 6): the margin over a spread of the scores.

    Blind to the scale of the logits, which cross-entropy is not. It needs three classes, or four with a target, whose formula
    keeps away from the two best; with fewer there is no spread to divide by, and it is the margin.
    """
    ranked = logits.sort(1, descending=True).values
    if ranked.shape[1] < (4 if criterion.targeted else 3):
        return criterion.margin(logits)
    # The paper subtracts the target from the true class; from the best other it is the same until another overtakes it.
    far = (ranked[:, 2] + ranked[:, 3]) / 2 if criterion.targeted else ranked[:, 2]
    spread = ranked[:, 0] - far
    return criterion.margin(logits) / (spread + _TINY)


LOSSES: Mapping[str, Loss] = {"cross-entropy": cross_entropy, "margin": margin, "dlr": dlr}
