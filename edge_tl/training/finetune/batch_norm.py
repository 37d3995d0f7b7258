"""Batch normalisation where a step gives a layer a single value per channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def accept_single_values(model: nn.Module) -> None:
    """Let every layer of batch normalisation train on one value per channel, which PyTorch refuses.

    That happens after a global pooling (timm's mobilenetv4, for one) when a process has a single photo in a step. One value has
    no deviation: the layer learns it into its running statistics and normalises by those. Steps with more values are as ever.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm) and layer.track_running_stats:
            layer.register_forward_pre_hook(_before)
            layer.register_forward_hook(_after, always_call=True)


def _before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    assert isinstance(layer, _BatchNorm)
    values: torch.Tensor = inputs[0]
    if not layer.training or values.numel() != values.shape[1]:
        return
    layer.training = False  # not eval(): children of timm's layers hold dropout, which stays
    assert layer.running_mean is not None
    assert layer.running_var is not None
    share = 0.1 if layer.momentum is None else layer.momentum
    with torch.no_grad():
        distance = values.detach().reshape(-1).to(layer.running_mean.dtype) - layer.running_mean
        layer.running_var.mul_(1 - share).add_((1 - share) * share * distance.square())
        layer.running_mean.add_(share * distance)
    layer.single_value = True  # type: ignore[assignment]


def _after(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if layer.__dict__.pop("single_value", False):
        layer.training = True
