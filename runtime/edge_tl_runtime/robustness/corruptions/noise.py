"""Noise of ImageNet-C, with its published parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_tl_runtime.robustness.corruptions.base import HENDRYCKS, Corruption, Pixels, Values


def gaussian_noise(picture: Pixels, spread: float, rng: np.random.Generator) -> Values:
    """The same spread everywhere, as of a sensor in the dark. spread: standard deviation, of a white of 1."""
    noisy: Values = picture + np.float32(255 * spread) * rng.standard_normal(picture.shape, np.float32)
    return noisy


def shot_noise(picture: Pixels, photons: int, rng: np.random.Generator) -> Values:
    """Photons counted, so that the spread grows with the root of the brightness. photons: mean count of a white pixel."""
    counted: Values = rng.poisson(picture * (photons / 255)) * (255 / photons)
    return counted


def impulse_noise(picture: Pixels, share: float, rng: np.random.Generator) -> Values:
    """Values that are black or white, as many of the one as of the other. share: of both together."""
    drawn = rng.random(picture.shape)
    noisy: Values = picture.copy()
    noisy[drawn < share] = 255
    noisy[drawn < share / 2] = 0
    return noisy


CORRUPTIONS: tuple[Corruption[Any], ...] = (
    Corruption("gaussian_noise", "noise", HENDRYCKS, (0.08, 0.12, 0.18, 0.26, 0.38), gaussian_noise),
    Corruption("shot_noise", "noise", HENDRYCKS, (60, 25, 12, 5, 3), shot_noise),
    Corruption("impulse_noise", "noise", HENDRYCKS, (0.03, 0.06, 0.09, 0.17, 0.27), impulse_noise),
)
