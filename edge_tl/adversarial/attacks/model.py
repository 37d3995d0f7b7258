"""What an attack may use: where gradients come from, whose scores the loss is computed on, and who decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_tl_runtime.evaluation.evaluate import Logits

ASKED_AT_ONCE = 32


@dataclass(frozen=True)
class AttackedModel:
    """A deployed file under attack.

    answer: scores by the file itself, in onnxruntime: uint8 (N, H, W, 3) to float32 (N, C). It alone decides what is fooled.
    gradients: float pixels (N, H, W, 3) in 0..255 to logits (N, C), differentiable; None for attacks that need no gradient.
    backward_only: use `gradients` on the way back alone, and compute the loss on the file's own scores (BPDA, Athalye et al.
    2018, section 4.1).
    """

    answer: Logits
    gradients: nn.Module | None = None
    backward_only: bool = False
    device: str = "cpu"

    def evaluated(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores by the file, a few photos at a time: float32 (N, C)."""
        parts = [
            self.answer(np.ascontiguousarray(pixels[i : i + ASKED_AT_ONCE]))
            for i in range(0, len(pixels), ASKED_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def loss_and_gradient(
        self, pixels: torch.Tensor, scores: NDArray[np.float32], loss: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each photo, (N,), and its gradient towards the pixels, (N, H, W, 3).

        pixels: whole values, float32. scores: what the file answered for them. loss: logits to (N,).
        """
        inputs = pixels.detach().requires_grad_()
        losses = loss(self.logits(inputs, scores))
        (gradient,) = torch.autograd.grad(losses.sum(), inputs)
        return losses.detach(), gradient

    def logits(self, inputs: torch.Tensor, scores: NDArray[np.float32]) -> torch.Tensor:
        """Logits, (N, C), that can be differentiated by inputs. inputs, scores: as for `loss_and_gradient`."""
        assert self.gradients is not None
        logits: torch.Tensor = self.gradients(inputs)
        if self.backward_only:
            logits = logits + (torch.from_numpy(scores).to(logits.device) - logits).detach()
        return logits
