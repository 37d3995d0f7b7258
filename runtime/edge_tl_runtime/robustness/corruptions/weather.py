"""Weather of ImageNet-C, with its published parameters; frost is drawn here, and photographed there."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.robustness.corruptions.base import (
    HENDRYCKS,
    Corruption,
    Pixels,
    Values,
    filtered,
    luminance,
    ruler,
)
from edge_tl_runtime.robustness.corruptions.blur import sweep
from edge_tl_runtime.robustness.corruptions.texture import clouds, ice

Snow = tuple[float, float, float, float, int, float, float]


def snow(picture: Pixels, strength: Snow, rng: np.random.Generator) -> Values:
    """Flakes in the wind before a picture that is paler and greyer.

    strength: mean and spread of the noise that flakes are cut from, how far it is enlarged, the level it is cut at, half the
    length and the spread of the motion blur, and the share of the picture's own colours that stays.
    """
    mean, spread, zoom, level, radius, fade, kept = strength
    unit = ruler(picture)
    rows, columns = picture.shape[:2]
    noise = rng.normal(mean, spread, (math.ceil(rows / (zoom * unit)), math.ceil(columns / (zoom * unit))))
    layer = cv2.resize(noise.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR)
    layer = np.where(layer < level, 0, np.minimum(layer, 1)).astype(np.float32)
    flakes = filtered(layer, sweep(radius, fade, math.radians(rng.uniform(-135, -45)), unit))
    pale = np.maximum(picture, luminance(picture) * np.float32(1.5) + np.float32(127.5))
    both = 255 * (flakes + flakes[::-1, ::-1])[..., None]
    snowed: Values = np.float32(kept) * picture + np.float32(1 - kept) * pale + both
    return snowed


def frost(picture: Pixels, strength: tuple[float, float], rng: np.random.Generator) -> Values:
    """Ice on the window. strength: shares of the picture and of the ice in their sum.

    ImageNet-C pastes photographs of frozen windows; here the ice is drawn, in their brightness and contrast, so that figures
    come near to the paper's and are not the same.
    """
    kept, added = strength
    frozen: Values = np.float32(kept) * picture + np.float32(added) * ice(picture.shape, rng)
    return frozen


def fog(picture: Pixels, strength: tuple[float, float], rng: np.random.Generator) -> Values:
    """Clouds of every size over a picture that loses contrast. strength: of the clouds, and how fast finer ones get weaker."""
    amount, decay = strength
    brightest = float(picture.max()) / 255
    covered = picture + np.float32(255 * amount) * clouds(picture.shape[0], picture.shape[1], decay, rng)[..., None]
    fogged: Values = covered * np.float32(brightest / (brightest + amount))
    return fogged


def brightness(picture: Pixels, amount: float, rng: np.random.Generator) -> Values:
    """Value, of hue, saturation and value, raised by `amount` of a white of 1."""
    value = picture.max(2, keepdims=True).astype(np.float32)
    raised = np.minimum(value + np.float32(255 * amount), 255)
    # Hue and saturation stay where all channels grow alike; black has neither and becomes grey.
    scale = np.divide(raised, value, out=np.zeros_like(value), where=value > 0)
    result: NDArray[np.float32] = np.where(value > 0, picture * scale, raised)
    return result


CORRUPTIONS: tuple[Corruption[Any], ...] = (
    Corruption(
        "snow",
        "weather",
        HENDRYCKS,
        (
            (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        snow,
    ),
    Corruption(
        "frost",
        "weather",
        f"{HENDRYCKS}; the ice is drawn",
        ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
        frost,
    ),
    Corruption("fog", "weather", HENDRYCKS, ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)), fog),
    Corruption("brightness", "weather", HENDRYCKS, (0.1, 0.2, 0.3, 0.4, 0.5), brightness),
)
