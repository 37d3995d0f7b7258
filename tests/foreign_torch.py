"""A small PyTorch network that someone else trained and exported."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, softmax: bool = False, channels_last: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(8 * 7 * 5, 3)
        self.softmax, self.channels_last = softmax, channels_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.layers(x.permute(0, 3, 1, 2) if self.channels_last else x))
        return torch.softmax(logits, 1) if self.softmax else logits


def exported(path: Path, network: nn.Module, *, free: bool = True, dynamo: bool = False) -> Path:
    """As a stranger would: height 30, width 24."""
    shape = (1, 30, 24, 3) if network.channels_last else (1, 3, 30, 24)
    more = (
        {"dynamic_shapes": ({0: torch.export.Dim("n")},) if free else None}
        if dynamo
        else {"dynamic_axes": {"image": {0: "n"}, "score": {0: "n"}} if free else {}}
    )
    torch.onnx.export(
        network.eval(),
        (torch.zeros((2, *shape[1:]) if dynamo and free else shape),),
        str(path),
        dynamo=dynamo,
        input_names=["image"],
        output_names=["score"],
        external_data=False,
        **more,
    )
    return path
