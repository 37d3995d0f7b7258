"""Digital faults of ImageNet-C, with its published parameters."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.robustness.corruptions.base import HENDRYCKS, Corruption, Pixels, Values, ruler, smoothed

_ELASTIC_SIDE = 244
"""Pixels that ImageNet-C's shares of the elastic transform are taken of; it meant 224."""


def contrast(picture: Pixels, share: float, rng: np.random.Generator) -> Values:
    """Each channel drawn towards its mean. share: of the distance that is left."""
    means = picture.sum((0, 1), dtype=np.int64) / (picture.shape[0] * picture.shape[1])
    nearer: Values = (picture - means) * share + means
    return nearer


def elastic_transform(picture: Pixels, strength: tuple[float, float, float], rng: np.random.Generator) -> Values:
    """A small affine change, and displacements that vary smoothly (Simard et al. 2003).

    strength: height of the displacements before they are smoothed, spread of the smoothing, and how far the three points of the
    affine change move; shares of the picture's side. As published, the two mildest severities move the points farthest; what
    the package imagecorruptions calls by this name has other numbers and no affine change.
    """
    side = _ELASTIC_SIDE * ruler(picture)
    height, spread, moved = (share * side for share in strength)
    rows, columns = picture.shape[:2]
    centre, third = np.array([columns // 2, rows // 2]), min(rows, columns) // 3
    corners = centre + third * np.array([[1, 1], [-1, 1], [-1, -1]])
    targets = corners + rng.uniform(-moved, moved, corners.shape)
    matrix = cv2.getAffineTransform(corners.astype(np.float32), targets.astype(np.float32))
    bent = cv2.warpAffine(picture.astype(np.float32), matrix, (columns, rows), borderMode=cv2.BORDER_REFLECT_101)
    right, down = (np.float32(height) * _smooth_field(rows, columns, spread, rng) for _ in range(2))
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    moved_picture = cv2.remap(bent, x + right, y + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved_picture).reshape(picture.shape)


def _smooth_field(rows: int, columns: int, spread: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Uniform noise in -1..1 after a gaussian blur, float32 (rows, columns)."""
    noise = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    # A blur of 170 pixels is made of 1000 taps, or of 24 on a coarser grid: 45 ms or 0.3.
    coarse = max(1, min(int(spread / 4), rows // 4, columns // 4))
    if coarse > 1:
        noise = np.asarray(cv2.resize(noise, (columns // coarse, rows // coarse), interpolation=cv2.INTER_AREA))
    noise = smoothed(noise, spread / coarse, 3.0, cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)


def pixelate(picture: Pixels, share: float, rng: np.random.Generator) -> Values:
    """Shrunk by averaging and enlarged by repeating. share: of the side that is left."""
    rows, columns = picture.shape[:2]
    small = cv2.resize(picture, (int(columns * share), int(rows * share)), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(large).reshape(picture.shape)


def jpeg_compression(picture: Pixels, quality: int, rng: np.random.Generator) -> Values:
    """Written as JPEG, chroma halved both ways, and read."""
    return recompressed(picture, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)


def recompressed(picture: Pixels, quality: int, chroma: int) -> Pixels:
    """A picture through a JPEG file. quality: 1 to 100; chroma: one of OpenCV's IMWRITE_JPEG_SAMPLING_FACTOR."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, chroma]
    _, data = cv2.imencode(".jpg", picture, settings)
    flag = cv2.IMREAD_COLOR if picture.shape[2] == 3 else cv2.IMREAD_GRAYSCALE
    return np.asarray(cv2.imdecode(data, flag), np.uint8).reshape(picture.shape)


CORRUPTIONS: tuple[Corruption[Any], ...] = (
    Corruption("contrast", "digital", HENDRYCKS, (0.4, 0.3, 0.2, 0.1, 0.05), contrast),
    Corruption(
        "elastic_transform",
        "digital",
        HENDRYCKS,
        ((2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
        elastic_transform,
    ),
    Corruption("pixelate", "digital", HENDRYCKS, (0.6, 0.5, 0.4, 0.3, 0.25), pixelate),
    Corruption("jpeg_compression", "digital", HENDRYCKS, (25, 18, 15, 10, 7), jpeg_compression),
)
