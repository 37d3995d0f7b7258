"""One graph from pixels to logits, before it is ONNX. Training needs it, and the start of a training loads nothing of ONNX."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_tl_runtime.modelfile.spec import Normalization


class PixelModel(nn.Module):
    """Pixels, uint8 (N, H, W, 3), to logits, float32 (N, C): layout, cast and normalisation around a network.

    The same module gives features in training, scores in evaluation, and the exported graph.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, network: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.network = network
        mean = torch.tensor(normalization.mean, dtype=torch.float64).view(1, 3, 1, 1)
        std = torch.tensor(normalization.std, dtype=torch.float64).view(1, 3, 1, 1)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("offset", (-mean / std).float(), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        planes = pixels.permute(0, 3, 1, 2).float()
        output: torch.Tensor = self.network(planes * self.scale + self.offset)
        return output

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`forward` for arrays, on whatever device the module is: what `edge_tl_runtime.evaluation.evaluate` calls Logits."""
        with torch.inference_mode():
            output: torch.Tensor = self(torch.from_numpy(pixels).to(self.scale.device))
            return output.float().cpu().numpy()
