"""Random perturbations as large as an attack may make them: what an attack must beat by far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.robustness.square_proposals import check_ball


def uniform_noise(
    pixels: NDArray[np.uint8], epsilon: float, keys: Sequence[int], *, norm: str = "linf", seed: int = 0
) -> NDArray[np.uint8]:
    """Photos, uint8 (N, H, W, 3), with noise on the border of the ball, clipped to 0..255.

    epsilon: in pixel values. Linf: every value moves by epsilon, up or down by chance. L2: all values move by the same whole
    step and as many random ones by one more as the radius pays for, so that before clipping the square of the length is short
    of epsilon's by less than one such move. keys: a number of at least 0 a photo; its noise follows from seed and key alone.
    Raises UsageError for another norm, and for an epsilon that `check_ball` refuses.
    """
    check_ball(norm, epsilon)
    noisy = np.empty_like(pixels)
    for photo, key, out in zip(pixels, keys, noisy, strict=True):
        rng = np.random.default_rng((seed, int(key)))
        signs = 2 * rng.integers(0, 2, photo.shape, np.int16) - 1
        if norm == "linf":
            signs *= min(int(epsilon), 255)
        else:
            signs *= _steps(photo.size, min(epsilon, 255 * photo.size**0.5), rng).reshape(photo.shape)
        np.clip(photo.astype(np.int16) + signs, 0, 255, out=signs)
        out[:] = signs
    return noisy


def _steps(count: int, length: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """How far each of `count` values moves, int16 (count,): the length that is nearest from below."""
    least = int(length / count**0.5)
    more = int((length * length - count * least * least) / (2 * least + 1))
    steps = np.full(count, least, np.int16)
    steps[rng.permutation(count)[:more]] += 1
    return steps
