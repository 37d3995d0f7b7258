"""What stays in the pictures of a camera that stays: edges, where they are and how sharp, whatever the light does.

A picture is cut into TILES. Edges are compared by their direction and not by which side is brighter, since a lamp at night lights
from elsewhere than the sun: the gradient enters with its angle doubled (the structure tensor's orientation; Granlund 1978).
Energies are products of two looks in a row, or of two neighbouring rows, rather than squares: noise, which is another one there,
drops out.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.images.crop import three_channels
from edge_tl_runtime.images.decode import Frame

Field = NDArray[np.float32]

WIDTH, HEIGHT = 160, 90
"""Of the small grey picture."""
TILES = (6, 10)
"""Rows and columns of tiles, 15 x 16 pixels of the small picture each."""
_WORK = 640
"""Columns at most of the picture that sharpness is measured in."""
_GREY = 110.0
"""Mean that pictures are brought to before they are compared."""
_LEAST_MEAN = 4.0
_WHITE = 250
LEAST_RESPONSE = 0.05
"""Of a phase correlation that found a shift."""


@dataclass(frozen=True, slots=True)
class Small:
    """A look at a frame. picture: float32 (HEIGHT, WIDTH), grey. fine: float32 TILES, energy of what is sharp. mean: of the grey
    values; bright: what 2 % of them exceed. white: share of pixels that are cut off at the top."""

    picture: Field
    fine: Field
    mean: float
    bright: float
    white: float

    @property
    def even(self) -> Field:
        """The picture at a mean of _GREY."""
        return np.asarray(self.picture * (_GREY / max(self.mean, _LEAST_MEAN)), np.float32)


def small(frame: Frame) -> Small:
    """frame: uint8 (H, W, 3), (H, W) or (H, W, 4). Raises BadFrame for anything else."""
    frame = three_channels(frame)
    rows, columns = frame.shape[:2]
    scale = min(1.0, _WORK / columns)
    size = max(2 * WIDTH, round(scale * columns)), max(2 * HEIGHT, round(scale * rows))
    work = cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2GRAY)
    picture = np.asarray(cv2.resize(work, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)
    mean = float(picture.mean())
    fine = _sharp(np.asarray(work, np.float32)) * (_GREY / max(mean, _LEAST_MEAN)) ** 2
    return Small(picture, fine, mean, float(np.quantile(picture, 0.98)), float((work >= _WHITE).mean()))


def _sharp(work: Field) -> Field:
    """Energy of second differences along the rows and along the columns, float32 TILES: of an edge they are alike in two
    neighbours, of noise they are not."""
    across = work[:, 2:] - 2 * work[:, 1:-1] + work[:, :-2]
    along = work[2:] - 2 * work[1:-1] + work[:-2]
    return tile_means(across[1:] * across[:-1]) + tile_means(along[:, 1:] * along[:, :-1])


def tile_means(field: Field) -> Field:
    """The mean of each tile, float32 TILES, of a field of any size of at least a pixel a tile."""
    return np.asarray(cv2.resize(field, TILES[::-1], interpolation=cv2.INTER_AREA), np.float32)


def gradient(picture: Field) -> tuple[Field, Field]:
    """Along the columns and along the rows, after a blur that forgives a shift of a pixel."""
    soft = cv2.GaussianBlur(picture, (5, 5), 1.0)
    across, along = (cv2.Sobel(soft, cv2.CV_32F, *order, ksize=3, scale=0.125) for order in ((1, 0), (0, 1)))
    return np.asarray(across, np.float32), np.asarray(along, np.float32)


@dataclass(frozen=True, slots=True)
class Orientation:
    """The gradient with its angle doubled, and its length; float32 (HEIGHT, WIDTH) each."""

    real: Field
    imaginary: Field
    length: Field

    @classmethod
    def of(cls, picture: Field) -> Orientation:
        across, along = gradient(picture)
        length = np.hypot(across, along)
        safe = np.maximum(length, 1e-3)
        parts = (across**2 - along**2) / safe, 2 * across * along / safe, length
        return cls(*(np.asarray(part, np.float32) for part in parts))

    def moved(self, right: float, down: float) -> Orientation:
        """The same of a picture whose content is shifted by pixels; what comes in from outside is 0."""
        matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
        shifted = [cv2.warpAffine(part, matrix, (WIDTH, HEIGHT)) for part in (self.real, self.imaginary, self.length)]
        return Orientation(*(np.asarray(part, np.float32) for part in shifted))

    def agreement(self, other: Orientation) -> Field:
        """Correlation of each tile, float32 TILES, in [-1, 1]; 0 where either has no edges.

        Around the mean of the tile: upright edges agree with upright edges wherever they are.
        """
        both, mine, theirs = self._products(other), self._products(self), other._products(other)
        return np.asarray(both / np.sqrt(np.maximum(mine * theirs, 1e-6)), np.float32)

    def _products(self, other: Orientation) -> Field:
        """Covariance of each tile."""
        real = tile_means(self.real * other.real) - tile_means(self.real) * tile_means(other.real)
        imaginary = tile_means(self.imaginary * other.imaginary) - tile_means(self.imaginary) * tile_means(
            other.imaginary
        )
        return real + imaginary


def coarse_energy(now: Small, before: Small) -> Field:
    """Energy of the gradient of each tile, float32 TILES, without noise: the product of two looks, both at a mean of _GREY."""
    products = [a * b for a, b in zip(gradient(now.even), gradient(before.even), strict=True)]
    return tile_means(products[0] + products[1])


def shift_of(view: Orientation, reference: Orientation) -> tuple[float, float, float]:
    """How far the content of `view` moved right and down, in pixels of the small picture, and the response of the phase
    correlation (Kuglin and Hines 1975), which is small where there is none."""
    window = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)
    # Copies: OpenCV multiplies what it is given by the window, in place.
    (right, down), response = cv2.phaseCorrelate(reference.length.copy(), view.length.copy(), window)
    return float(right), float(down), float(response)


def layout(now: Field, before: Field) -> float:
    """Correlation of what is left of two pictures after a strong blur: the rough order of light and dark."""
    rough = [np.asarray(cv2.GaussianBlur(picture, (0, 0), 6.0), np.float64) for picture in (now, before)]
    one, other = (picture - picture.mean() for picture in rough)
    both = float(np.sqrt((one**2).mean() * (other**2).mean()))
    return float((one * other).mean()) / both if both > 1e-6 else 0.0
