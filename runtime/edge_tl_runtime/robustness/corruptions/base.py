"""What a corruption is, and what all of them share: a random stream of their own, the ruler, kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

HENDRYCKS = "Hendrycks and Dietterich 2019, arXiv 1903.12261"
PAPER_SIDE = 224
"""Pixels of the pictures that ImageNet-C's lengths are meant for."""

Pixels = NDArray[np.uint8]
"""uint8 (H, W, 3), BGR, or (H, W, 1), grey."""

Values = NDArray[Any]
"""The shape of the picture, in 0..255 or outside of it; clipped and rounded at the end."""

Group = Literal["noise", "blur", "weather", "digital", "camera"]
CorruptionStage = Literal["pixels", "frame"]

Strength = TypeVar("Strength")


@dataclass(frozen=True, slots=True)
class Corruption(Generic[Strength]):
    """A corruption as data and one function.

    source: the paper, or what it imitates. strengths: for severities 1 to 5. stage: what it is meant for, the network's pixels
    after crop and resize, or the camera's frame before. apply: a picture, a strength and random numbers to values; it never
    writes to the picture.
    """

    name: str
    group: Group
    source: str
    strengths: tuple[Strength, Strength, Strength, Strength, Strength]
    apply: Callable[[Pixels, Strength, np.random.Generator], Values]
    stage: CorruptionStage = "pixels"


def random_stream(seed: int, key: str, name: str, severity: int) -> np.random.Generator:
    """Random numbers that these four alone decide: no order of work, no machine."""
    digest = hashlib.sha256(f"{seed}\0{key}\0{name}\0{severity}".encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def ruler(picture: Values) -> float:
    """How many of its pixels are as long as one pixel of ImageNet-C's pictures: 1.0 where the shorter side is 224."""
    return float(min(picture.shape[:2])) / PAPER_SIDE


def kernel_of(points: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """A filter that takes in what lies at `points` from each pixel. points: (K, 2), x and y; weights: (K,), of any sum > 0.

    A point between pixels is shared out among the four around it. Returns float32 (2R+1, 2R+1), of sum 1.
    """
    reach = int(np.ceil(np.abs(points).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    corner = np.floor(points).astype(int)
    share = points - corner
    for x in (0, 1):
        for y in (0, 1):
            part = np.abs(1 - x - share[:, 0]) * np.abs(1 - y - share[:, 1]) * weights
            np.add.at(kernel, (corner[:, 1] + y + reach, corner[:, 0] + x + reach), part)
    normed: NDArray[np.float32] = (kernel / kernel.sum()).astype(np.float32)
    return normed


def filtered(picture: Values, kernel: NDArray[np.float32], border: int = cv2.BORDER_REPLICATE) -> NDArray[np.float32]:
    """Each pixel the weighted mean of those around it."""
    # Of bytes it takes ten times as long.
    result = cv2.filter2D(np.asarray(picture, np.float32), -1, kernel, borderType=border)
    return np.asarray(result, np.float32).reshape(picture.shape)


def smoothed(picture: Values, sigma: float, reach: float = 4.0, border: int = cv2.BORDER_REPLICATE) -> Values:
    """A gaussian blur, cut off after `reach` standard deviations."""
    size = 2 * int(reach * sigma + 0.5) + 1
    return np.asarray(cv2.GaussianBlur(picture, (size, size), sigma, borderType=border)).reshape(picture.shape)


def luminance(picture: Pixels) -> Values:
    """uint8 (H, W, 1)."""
    if picture.shape[2] == 1:
        return picture
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))[..., None]
