"""Blurs of ImageNet-C, with its published parameters. Lengths are pixels of a picture of 224 and grow with the picture."""

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
    kernel_of,
    ruler,
    smoothed,
)


def defocus_blur(picture: Pixels, strength: tuple[int, float], rng: np.random.Generator) -> Values:
    """A disc, as of a lens that is out of focus. strength: its radius, and the spread of the gaussian that smooths its edge."""
    radius, edge = strength
    unit = ruler(picture)
    # Points of the disc as far apart as ImageNet-C's pixels leave gaps in a larger picture.
    steps = max(1, math.ceil(unit))
    line = np.arange(-radius * steps, radius * steps + 1) / steps
    grid = np.stack(np.meshgrid(line, line), 2).reshape(-1, 2)
    points = grid[(grid**2).sum(1) <= radius**2] * unit
    disc = np.pad(kernel_of(points, np.ones(len(points))), 2)
    size = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disc, (size, size), edge * unit, borderType=cv2.BORDER_CONSTANT)
    return filtered(picture, np.asarray(kernel, np.float32), cv2.BORDER_REFLECT_101)


def glass_blur(picture: Pixels, strength: tuple[float, int, int], rng: np.random.Generator) -> Values:
    """Seen through frosted glass: pixels take the place of neighbours, between two gaussian blurs.

    strength: spread of the gaussian, how far a neighbour is at most, how many times.
    """
    spread, reach, turns = strength
    unit = ruler(picture)
    reach = max(1, round(reach * unit))
    blurred = smoothed(picture, spread * unit)
    rows, columns = picture.shape[:2]
    mixed: Values = blurred.reshape(rows * columns, -1)
    for _ in range(turns):
        mixed = mixed[neighbours_taken(rows, columns, reach, rng)]
    return smoothed(mixed.reshape(picture.shape), spread * unit)


def neighbours_taken(rows: int, columns: int, reach: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Where each pixel of a shuffle comes from, as an index, (rows * columns,): the paper's pass over the picture, at once.

    The pass goes from the last pixel to the first and overwrites each with a neighbour, which the pass may have overwritten
    already: then the pixel gets what the neighbour got. Such chains are followed here in steps that double.
    """
    source = np.arange(rows * columns).reshape(rows, columns)
    inner = np.zeros((rows, columns), bool)
    inner[reach + 1 : rows - reach + 1, reach + 1 : columns - reach + 1] = True
    down, right = rng.integers(-reach, reach, (2, rows, columns))
    taken: NDArray[np.int64] = np.where(inner, source + down * columns + right, source).ravel()
    follow = inner.ravel() & (taken > source.ravel()) & inner.ravel()[taken]
    while follow.any():
        taken, follow = np.where(follow, taken[taken], taken), follow & follow[taken]
    return taken


def motion_blur(picture: Pixels, strength: tuple[int, float], rng: np.random.Generator) -> Values:
    """A straight sweep within 45 degrees of the horizontal that fades towards its end.

    strength: half its length, and the spread of the gaussian it fades with.
    """
    radius, spread = strength
    angle = math.radians(rng.uniform(-45, 45))
    return filtered(picture, sweep(radius, spread, angle, ruler(picture)))


def sweep(radius: int, spread: float, angle: float, unit: float) -> NDArray[np.float32]:
    """The kernel of a straight motion, 2 `radius` units into the direction `angle`, weighted by half a gaussian."""
    steps = max(1, math.ceil(unit))
    along: NDArray[np.float64] = np.arange(2 * radius * steps + 1) / steps
    path = along[:, None] * np.array((math.cos(angle), math.sin(angle))) * unit
    return kernel_of(path, np.exp(-(along**2) / (2 * spread**2)))


def zoom_blur(picture: Pixels, strength: tuple[float, float], rng: np.random.Generator) -> Values:
    """The mean of the picture and its enlargements, as of a camera that moves ahead. strength: end and step of the factors."""
    rows, columns = picture.shape[:2]
    centre = np.array([(columns - 1) / 2, (rows - 1) / 2])
    factors = np.arange(1, *strength)
    total: Values = picture.astype(np.float32)
    start = total.copy()
    for factor in factors:
        # From where in the picture each pixel comes: the centre stays.
        back = np.column_stack([np.eye(2) / factor, centre - centre / factor])
        layer: Values = cv2.warpAffine(
            start,
            back,
            (columns, rows),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        total += layer.reshape(picture.shape)
    mean: Values = total / np.float32(len(factors) + 1)
    return mean


CORRUPTIONS: tuple[Corruption[Any], ...] = (
    Corruption("defocus_blur", "blur", HENDRYCKS, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), defocus_blur),
    Corruption(
        "glass_blur",
        "blur",
        HENDRYCKS,
        ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        glass_blur,
    ),
    Corruption("motion_blur", "blur", HENDRYCKS, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), motion_blur),
    Corruption(
        "zoom_blur",
        "blur",
        HENDRYCKS,
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        zoom_blur,
    ),
)
