"""Drawn textures: clouds, and ice."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.robustness.corruptions.base import PAPER_SIDE, smoothed

_ICE_MEAN, _ICE_SPREAD = (0.48, 0.81), (0.06, 0.16)
"""Of the five photographs that ImageNet-C draws from: from the darkest to the brightest, from the evenest to the roughest."""
_WINDOW, _HOAR, _STREAM = (1.05, 0.99, 0.93), (1.02, 1.0, 0.98), (1.15, 1.03, 0.60)
_ICE_TINTS = (_WINDOW, _WINDOW, _HOAR, _HOAR, _STREAM)
"""BGR, of mean about 1; of the five photographs, in their shares."""
_CRYSTALS, _TWIGS, _TWIG_ANGLE = 90, 14, np.deg2rad(55)


def clouds(rows: int, columns: int, decay: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Clouds in 0..1, float32 (rows, columns), from darkest 0 to brightest 1: midpoints displaced, from coarse to fine
    (Fournier et al. 1982).

    decay: each finer step is weaker by its square. Drawn for a shorter side of 224 and stretched to the picture.
    """
    unit = min(rows, columns) / PAPER_SIDE
    height, width = round(rows / unit), round(columns / unit)
    grid: NDArray[np.float64] = np.zeros((1, 1))
    amount = 1.0
    while len(grid) < max(height, width):
        grid = _finer(grid, amount, rng)
        amount /= decay**2
    # The whole map makes 0 and 1, the picture shows a part of it.
    grid = (grid - grid.min()) / (grid.max() - grid.min())
    part = np.ascontiguousarray(grid[:height, :width], np.float32)
    return np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def _finer(grid: NDArray[np.float64], amount: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A grid, (n, n), whose edges meet, with a point put between each two: (2n, 2n)."""
    right, below = np.roll(grid, -1, 1), np.roll(grid, -1, 0)
    shifts = amount * rng.uniform(-1, 1, (3, *grid.shape))
    centres = (grid + right + below + np.roll(below, -1, 1)) / 4 + shifts[0]
    fine = np.empty((2 * len(grid), 2 * len(grid)))
    fine[::2, ::2], fine[1::2, 1::2] = grid, centres
    fine[::2, 1::2] = (grid + right + centres + np.roll(centres, 1, 0)) / 4 + shifts[1]
    fine[1::2, ::2] = (grid + below + centres + np.roll(centres, 1, 1)) / 4 + shifts[2]
    return fine


def ice(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """A frozen window, float32 (H, W, channels) of 0..255: feathered crystals over a haze, in one of their tints."""
    rows, columns, channels = shape
    canvas = np.full((rows, columns), 60, np.uint8)
    lines: Any
    for lines in _crystals(rows, columns, rng):
        cv2.polylines(canvas, lines, False, int(rng.integers(90, 256)), 1, cv2.LINE_AA, 4)
    crystals = smoothed(canvas.astype(np.float32), 0.6)
    haze = clouds(rows, columns, 1.5, rng)
    grain = rng.standard_normal((rows, columns), np.float32)
    rough = _standard(_standard(crystals) + 0.7 * _standard(haze) + 0.3 * grain)
    mean, spread = rng.uniform(*_ICE_MEAN), rng.uniform(*_ICE_SPREAD)
    tint = np.array(_ICE_TINTS[rng.integers(len(_ICE_TINTS))] if channels == 3 else (1.0,), np.float32)
    return np.asarray(np.clip(255 * (mean + spread * rough)[..., None] * tint, 0, 255), np.float32)


def _crystals(rows: int, columns: int, rng: np.random.Generator) -> list[NDArray[np.int32]]:
    """Lines of each crystal, a stem and its twigs: int32 (M, 2, 2), start and end, x and y, in sixteenths of a pixel."""
    side = min(rows, columns)
    count = round(_CRYSTALS * max(rows, columns) / side)
    seeds = rng.uniform(-0.1, 1.1, (count, 1, 2)) * (columns, rows)
    angles = rng.uniform(0, 2 * np.pi, (count, 1))
    lengths = side * rng.uniform(0.1, 0.45, (count, 1))
    at = np.linspace(0.05, 0.95, _TWIGS) * np.ones((count, 1))
    stems = seeds + (at * lengths)[..., None] * _direction(angles)
    twigs = lengths * 0.45 * (1 - at) * rng.uniform(0.5, 1.0, at.shape)
    parts = [np.stack([seeds, seeds + lengths[..., None] * _direction(angles)], 2)]
    parts += [
        np.stack([stems, stems + twigs[..., None] * _direction(angles + turn)], 2)
        for turn in (-_TWIG_ANGLE, _TWIG_ANGLE)
    ]
    return list(np.rint(16 * np.concatenate(parts, 1)).astype(np.int32))


def _direction(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def _standard(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-6), np.float32)
