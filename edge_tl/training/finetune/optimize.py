"""Which weight learns how fast: parameter groups, the schedule, averages of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from edge_tl.models import Network
from edge_tl.training.settings import FinetuneSettings

State = dict[str, torch.Tensor]


def make_optimizer(network: Network, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum over all parameters, in groups of equal rate and decay.

    Rates rise geometrically with depth from `layer_decay` times the last backbone layer's rate; the head has its own.
    Norms and biases do not decay (He et al. 2019, section 3.1).
    """
    named = list(network.module.named_parameters())
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for place, (name, parameter) in enumerate(named):
        parameter.requires_grad_(True)
        depth = (place + 1) / len(named)
        factor = settings.head_rate if is_head(network, name) else settings.layer_decay ** (1 - round(depth, 2))
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((settings.learning_rate * factor, decay), []).append(parameter)
    parameters = [{"params": p, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, nesterov=settings.momentum > 0)
    device = named[0][1].device.type
    return torch.optim.AdamW(parameters, fused=device in ("cuda", "cpu"))


def is_head(network: Network, parameter: str) -> bool:
    return parameter.startswith(network.head_path + ".")


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group to `factor` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017), without restarts."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def snapshot(network: Network) -> State:
    """A copy of every tensor, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in network.module.state_dict().items()}


def blend(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor], share: float) -> State:
    """(1 - share) of `first` and `share` of `second`; counters come from `second`."""
    return {
        name: first[name].lerp(tensor, share) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in second.items()
    }
