"""What cameras of small devices, and the code behind them, do to a frame. Lengths are shares of its shorter side."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from edge_tl_runtime.robustness.corruptions.base import Corruption, Pixels, Values, filtered, kernel_of
from edge_tl_runtime.robustness.corruptions.digital import recompressed

_GAMMA = 2.2
_ADC_WHITE = 4095
"""Of the 12 bits that a sensor's converter gives."""


def mjpg(picture: Pixels, quality: int, rng: np.random.Generator) -> Values:
    """The JPEG of a webcam's MJPG stream: chroma halved across only, as UVC cameras send it."""
    return recompressed(picture, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422)


def low_light(picture: Pixels, strength: tuple[float, float, float], rng: np.random.Generator) -> Values:
    """Few photons, amplified: what a sensor counts has photon noise and the noise of being read, and the gain raises both.

    strength: electrons of a white pixel, electrons of read noise (standard deviation), and the share of the scene's light that
    the gain gives back. Light is linear in electrons: the gamma of 2.2 is taken off, and put on after the converter's 12 bits.
    The noise of n electrons is gaussian of variance n + read^2 (Foi et al. 2008).
    """
    white, read, gain = strength
    mean = white * (np.arange(256) / 255) ** _GAMMA
    spread = np.sqrt(mean + read**2)
    noise = rng.standard_normal(picture.shape, np.float32)
    counted = mean.astype(np.float32)[picture] + spread.astype(np.float32)[picture] * noise
    converted = np.clip(np.rint(counted * np.float32(gain * _ADC_WHITE / white)), 0, _ADC_WHITE).astype(np.int32)
    shown = np.rint(255 * (np.arange(_ADC_WHITE + 1) / _ADC_WHITE) ** (1 / _GAMMA)).astype(np.uint8)
    return np.asarray(shown[converted])


def camera_motion(picture: Pixels, length: float, rng: np.random.Generator) -> Values:
    """A camera held by hand while the shutter is open: a walk whose speed wanders, so that the path bends and doubles back
    (after Boracchi and Foi 2012). Unlike motion_blur, it has no one direction and the picture stays where it is.

    length: of the path, of the frame's shorter side.
    """
    steps = 128
    side = min(picture.shape[:2])
    push = rng.standard_normal((steps, 2)) * 0.25
    speed = np.empty((steps, 2))
    current = rng.standard_normal(2)
    for index in range(steps):
        current = 0.95 * current + push[index]
        speed[index] = current
    speed *= length * side / np.linalg.norm(speed, axis=1).sum()
    path = np.cumsum(speed, 0)
    return filtered(picture, kernel_of(path - path.mean(0), np.ones(steps)))


def white_balance(picture: Pixels, gain: float, rng: np.random.Generator) -> Values:
    """Gains of red and blue that do not fit the light, one up and one down: too warm or too cold, by the toss of a coin.

    gain: of linear light. A grey camera has none, and its frame stays as it is.
    """
    if picture.shape[2] == 1:
        return picture
    warm = rng.random() < 0.5
    gains = (1 / gain, 1.0, gain) if warm else (gain, 1.0, 1 / gain)
    table = 255 * (np.minimum(np.outer((np.arange(256) / 255) ** _GAMMA, gains), 1)) ** (1 / _GAMMA)
    balanced: Values = table[picture, np.arange(3)]
    return balanced


def resize_kernel(picture: Pixels, factor: float, rng: np.random.Generator) -> Values:
    """Shrunk by dropping pixels, as drivers and fast paths do, where others average; and enlarged again.

    factor: by which it was shrunk.
    """
    rows, columns = picture.shape[:2]
    size = max(1, round(columns / factor)), max(1, round(rows / factor))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST_EXACT)
    large = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large).reshape(picture.shape)


def channel_swap(picture: Pixels, share: float, rng: np.random.Generator) -> Values:
    """BGR read as RGB. share: of each that is in the place of the other; 1 is the plain mistake, less is a bridge to it.

    A grey frame stays as it is.
    """
    return (1 - share) * picture + share * picture[..., ::-1]


CORRUPTIONS: tuple[Corruption[Any], ...] = (
    Corruption("mjpg", "camera", "JPEG as webcams send it", (90, 75, 60, 45, 30), mjpg, "frame"),
    Corruption(
        "low_light",
        "camera",
        "photon and read noise under gain",
        ((400, 3.0, 1.0), (150, 3.0, 0.8), (60, 3.0, 0.6), (30, 3.0, 0.5), (15, 3.0, 0.4)),
        low_light,
        "frame",
    ),
    Corruption(
        "camera_motion",
        "camera",
        "Boracchi and Foi 2012, motion of a hand",
        (0.02, 0.04, 0.07, 0.11, 0.16),
        camera_motion,
        "frame",
    ),
    Corruption("white_balance", "camera", "red against blue", (1.15, 1.35, 1.6, 2.0, 2.5), white_balance, "frame"),
    Corruption(
        "resize_kernel", "camera", "shrinking without antialiasing", (1.5, 2.0, 3.0, 4.0, 5.0), resize_kernel, "frame"
    ),
    Corruption("channel_swap", "camera", "BGR read as RGB", (0.2, 0.4, 0.6, 0.8, 1.0), channel_swap, "frame"),
)
