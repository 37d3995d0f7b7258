"""Views as poor cameras deliver them: noise and blur, of a strength that is drawn for each photo.

Each strength is even from none to the most, so clear views stay among them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

NOISE = 38.0
"""Largest standard deviation of the noise, in pixel values: between severities 2 and 3 of Hendrycks and Dietterich 2019."""
BLUR = 0.01
"""Largest standard deviation of the blur over the view's side: 2.2 pixels of 224."""
KINDS = {"none": (), "noise": ("noise",), "blur": ("blur",), "both": ("blur", "noise")}
"""What is done to each view, in the order of a camera: the lens, then the sensor."""


def disturb(views: torch.Tensor, kind: str, rngs: list[np.random.Generator]) -> torch.Tensor:
    """views: float32 (B, H, W, 3), 0 to 255. kind: a key of `KINDS`. rngs: one for each view. Returns new views, 0 to 255."""
    for step in KINDS[kind]:
        strengths = np.asarray([rng.uniform() for rng in rngs], np.float32)
        if step == "blur":
            views = blur(views, strengths * BLUR * min(views.shape[1:3]))
        else:
            drawn = [
                rng.standard_normal(views.shape[1:], np.float32) * NOISE * s
                for rng, s in zip(rngs, strengths, strict=True)
            ]
            views = (views + torch.from_numpy(np.stack(drawn)).to(views.device)).clamp_(0, 255)
    return views


def blur(views: torch.Tensor, sigmas: NDArray[np.float32]) -> torch.Tensor:
    """Gaussian blur with a standard deviation for each view, in pixels; borders are mirrored."""
    radius = max(1, math.ceil(3 * float(sigmas.max())))
    radius = min(radius, min(views.shape[1:3]) - 1)
    offsets = np.arange(-radius, radius + 1, dtype=np.float32)
    weights = np.exp(-0.5 * (offsets / np.maximum(sigmas, 1e-3)[:, None]) ** 2)
    weights /= weights.sum(1, keepdims=True)
    kernels = torch.from_numpy(weights.astype(np.float32)).to(views.device).repeat_interleave(3, 0)
    count, height, width, _ = views.shape
    planes = views.permute(0, 3, 1, 2).reshape(1, 3 * count, height, width)
    padded = functional.pad(planes, (radius,) * 4, mode="reflect")
    rows = functional.conv2d(padded, kernels[:, None, None, :], groups=3 * count)
    both = functional.conv2d(rows, kernels[:, None, :, None], groups=3 * count)
    return both.reshape(count, 3, height, width).permute(0, 2, 3, 1)
