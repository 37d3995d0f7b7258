"""Losses over hard, mixed and taught targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

UNLABELLED = -1


@dataclass(frozen=True)
class Targets:
    """What a batch should be taken for: class `first` with weight `share`, class `second` with the rest. int64 (B,).

    UNLABELLED in `first`: the photo has no label and only a teacher speaks of it.
    """

    first: torch.Tensor
    second: torch.Tensor
    share: float = 1.0


def mix(views: torch.Tensor, targets: torch.Tensor, mixup: float, cutmix: float, rng: np.random.Generator):  # type: ignore[no-untyped-def]
    """Mix each view with another of its batch: mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019), one of them by chance.

    views: float32 (B, H, W, 3). Returns the views and their `Targets`.
    """
    methods = [(name, beta) for name, beta in (("mixup", mixup), ("cutmix", cutmix)) if beta > 0]
    if not methods or len(views) < 2:
        return views, Targets(targets, targets)
    name, beta = methods[int(rng.integers(len(methods)))]
    share = float(rng.beta(beta, beta))
    partner = torch.from_numpy(rng.permutation(len(views))).to(views.device)
    if name == "mixup":
        return views.lerp(views[partner], 1 - share), Targets(targets, targets[partner], share)
    height, width = views.shape[1:3]
    cut_height, cut_width = round(height * (1 - share) ** 0.5), round(width * (1 - share) ** 0.5)
    top, left = int(rng.integers(height - cut_height + 1)), int(rng.integers(width - cut_width + 1))
    mixed = views.clone()
    rows, columns = slice(top, top + cut_height), slice(left, left + cut_width)
    mixed[:, rows, columns] = views[partner][:, rows, columns]
    return mixed, Targets(targets, targets[partner], 1 - cut_height * cut_width / (height * width))


def hard_loss(logits: torch.Tensor, targets: Targets, smoothing: float, weights: torch.Tensor | None) -> torch.Tensor:
    """Sum of cross-entropies over the batch; photos without a label count nothing. logits: float32 (B, C)."""
    if targets.share == 1.0:
        return _cross_entropy(logits, targets.first, smoothing, weights)
    first, second = (_cross_entropy(logits, each, smoothing, weights) for each in (targets.first, targets.second))
    return targets.share * first + (1 - targets.share) * second


def taught_loss(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Sum over the batch of T^2 KL(teacher || student), both softened by T (Hinton et al. 2015, section 2)."""
    student = functional.log_softmax(logits / temperature, 1)
    taught = functional.log_softmax(teacher / temperature, 1)
    return functional.kl_div(student, taught, reduction="sum", log_target=True) * temperature**2


def _cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, smoothing: float, weights: torch.Tensor | None
) -> torch.Tensor:
    return functional.cross_entropy(
        logits, target, weight=weights, ignore_index=UNLABELLED, label_smoothing=smoothing, reduction="sum"
    )
