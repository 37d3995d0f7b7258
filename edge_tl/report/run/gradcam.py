"""Where a network looked."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_tl_export import PixelModel


def grad_cam(model: PixelModel, pixels: NDArray[np.uint8], target: int) -> NDArray[np.float32]:
    """Evidence for class `target` in one photo (Selvaraju et al. 2017, equations 1 and 2).

    pixels: uint8 (H, W, 3). Returns float32 (H, W) in [0, 1]; all 0 where nothing speaks for the class. The layer is the
    last one whose output still has places.
    """
    maps: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            maps[:] = [output]

    hooks = [layer.register_forward_hook(keep) for layer in model.network.modules()]
    try:
        with torch.enable_grad():
            scores = model(torch.from_numpy(pixels[None]).to(model.scale.device).float().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        return np.zeros(pixels.shape[:2], np.float32)
    (gradient,) = torch.autograd.grad(scores[0, target], maps[0])
    weights = gradient.mean((2, 3), keepdim=True)
    evidence = (weights * maps[0]).sum(1)[0].relu().detach().float().cpu().numpy()
    peak = float(evidence.max())
    evidence = evidence / peak if peak > 0 else evidence
    return np.asarray(cv2.resize(evidence, (pixels.shape[1], pixels.shape[0])), np.float32)


def overlay(frame: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The frame, BGR, under a colour map of the evidence, which is of the same height and width."""
    heat = cv2.applyColorMap((255 * evidence.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_JET)
    return np.asarray(cv2.addWeighted(frame, 0.55, heat, 0.45, 0), np.uint8)
