"""What fine-tuning takes where the settings leave it open: epochs, precision, weights of classes; dropout and seeds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_tl.models import Network
from edge_tl.training.finetune.mixing import UNLABELLED
from edge_tl.training.probe.balance import class_counts, class_weights, weighs


def default_epochs(photos: int, adversarial: bool = False) -> int:
    """Six for few photos, four for many: more of them made the validation loss worse (docs/decisions/0005-recipes.md).
    Twice as many under attack, half of which go by while it grows."""
    return max(4, min(6, round(1000 / max(1, photos)) + 2)) * (2 if adversarial else 1)


def amp_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of mixed precision, None for float32. On CPUs bf16 measured no faster than float32: auto leaves it."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def loss_weights(targets: NDArray[np.int64], classes: int, balance: str, device: torch.device) -> torch.Tensor | None:
    """Weights of the loss by class, None for none; photos without a label have no say."""
    counts = class_counts(targets[targets != UNLABELLED], classes)
    if balance == "sampling" or not weighs(balance, counts):
        return None
    return torch.from_numpy(class_weights(counts)).float().to(device)


def set_dropout(network: Network, rate: float) -> None:
    """Give the layer before the head this rate of dropout, where the network has one; add none where it has not."""
    for layer in network.module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = rate
    if isinstance(getattr(network.module, "drop_rate", None), float):
        setattr(network.module, "drop_rate", rate)  # noqa: B010  # timm applies it in its forward pass


def seed_everything(seed: int, epoch: int, rank: int) -> None:
    """Dropout and its like draw from torch's generator, which an interruption would otherwise put out of step."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0]))
