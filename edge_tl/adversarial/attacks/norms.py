"""Balls around photos, in units of pixel values: which way is steepest, what lies inside, and the nearest whole pixels.

Tensors are float32 (N, H, W, 3). epsilon is in steps of one pixel value, so 8 is what papers write as 8/255; for L2 it is the
length of the vector of differences, so 0.5 of the papers is 127.5.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Radius = float | torch.Tensor
"""One for all photos, or one for each, (N,)."""

_TINY = 1e-12
_BISECTIONS = 12
_EXACT = 4000.0
"""Below this length, sums of squares of whole numbers stay under 2^24, where float32 counts exactly."""


class Norm(ABC):
    """A way to measure a perturbation."""

    name: str

    @abstractmethod
    def sizes(self, difference: NDArray[Any]) -> NDArray[np.float64]:
        """Norm of each of (N, ...) whole differences, exact."""

    @abstractmethod
    def lengths(self, difference: torch.Tensor) -> torch.Tensor:
        """Norm of each of (N, ...) differences, (N,)."""

    @abstractmethod
    def dual_lengths(self, gradient: torch.Tensor) -> torch.Tensor:
        """The dual norm of each gradient, (N,): how fast the loss can rise in a unit of this norm."""

    @abstractmethod
    def steepest(self, gradient: torch.Tensor) -> torch.Tensor:
        """The step of length 1 along which the loss rises fastest."""

    def project(self, difference: torch.Tensor, epsilon: float) -> torch.Tensor:
        """The nearest differences within the ball."""
        return self.project_(difference.clone(), epsilon)

    @abstractmethod
    def project_(self, difference: torch.Tensor, epsilon: float) -> torch.Tensor:
        """The same in place. On a CPU a fresh tensor of this size costs more than all of the arithmetic."""

    @abstractmethod
    def between(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        """A radius in the middle; one that a perturbation of whole pixels can have."""

    @abstractmethod
    def random(self, shape: tuple[int, ...], epsilon: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """A random difference for one photo, from the ball."""

    @abstractmethod
    def on_grid(self, photos: torch.Tensor, difference: torch.Tensor, epsilon: Radius) -> torch.Tensor:
        """Photos with the differences on whole pixel values in 0..255, within the ball. photos: whole values."""


def per_photo(values: torch.Tensor) -> torch.Tensor:
    """One number a photo, (N,), for arithmetic with (N, H, W, 3)."""
    return values.view(-1, 1, 1, 1)


def _values_of(array: NDArray[Any]) -> tuple[int, ...]:
    return tuple(range(1, array.ndim))


def _radii(epsilon: Radius, photos: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(epsilon, dtype=torch.float64, device=photos.device).expand(len(photos))


class Linf(Norm):
    name = "linf"

    def sizes(self, difference: NDArray[Any]) -> NDArray[np.float64]:
        largest = np.abs(difference.astype(np.int64)).max(axis=_values_of(difference), initial=0)
        return np.asarray(largest, np.float64)

    def lengths(self, difference: torch.Tensor) -> torch.Tensor:
        return difference.abs().flatten(1).amax(1)  # vector_norm takes 20 times as long

    def dual_lengths(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.abs().flatten(1).sum(1)

    def steepest(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.sign()

    def project_(self, difference: torch.Tensor, epsilon: float) -> torch.Tensor:
        return difference.clamp_(-epsilon, epsilon)

    def random(self, shape: tuple[int, ...], epsilon: float, rng: np.random.Generator) -> NDArray[np.float32]:
        return np.asarray((2 * rng.random(shape, np.float32) - 1) * epsilon, np.float32)

    def between(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.floor((low + high) / 2)

    def on_grid(self, photos: torch.Tensor, difference: torch.Tensor, epsilon: Radius) -> torch.Tensor:
        whole = per_photo(_radii(epsilon, photos).floor().to(photos.dtype))
        return difference.round().clamp_(-whole, whole).add_(photos).clamp_(0, 255)


class L2(Norm):
    name = "l2"

    def sizes(self, difference: NDArray[Any]) -> NDArray[np.float64]:
        squares = np.square(difference.astype(np.int64)).sum(axis=_values_of(difference))
        return np.asarray(np.sqrt(squares), np.float64)

    def lengths(self, difference: torch.Tensor) -> torch.Tensor:
        lengths: torch.Tensor = torch.linalg.vector_norm(difference.flatten(1), dim=1)
        return lengths

    def dual_lengths(self, gradient: torch.Tensor) -> torch.Tensor:
        return self.lengths(gradient)

    def steepest(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient / per_photo(self.lengths(gradient) + _TINY)

    def project_(self, difference: torch.Tensor, epsilon: float) -> torch.Tensor:
        return difference.mul_(per_photo((epsilon / (self.lengths(difference) + _TINY)).clamp_(max=1)))

    def random(self, shape: tuple[int, ...], epsilon: float, rng: np.random.Generator) -> NDArray[np.float32]:
        drawn = rng.standard_normal(shape, np.float32)
        radius = epsilon * rng.random() ** (1 / drawn.size)
        return np.asarray(drawn * (radius / max(float(np.linalg.norm(drawn)), _TINY)), np.float32)

    def between(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        return (low + high) / 2

    def on_grid(self, photos: torch.Tensor, difference: torch.Tensor, epsilon: Radius) -> torch.Tensor:
        """A small difference spread over all values would round to nothing: it is scaled until, rounded, it fills the ball.

        So the values that matter most change by one, as many of them as the radius pays for.
        """
        radii = _radii(epsilon, photos)
        moved = torch.empty_like(difference)

        def change(factor: torch.Tensor) -> torch.Tensor:
            torch.mul(difference, per_photo(factor), out=moved)
            return moved.add_(photos).round_().clamp_(0, 255).sub_(photos)

        counted = torch.float32 if float(radii.max()) < _EXACT else torch.float64
        largest = Linf().lengths(difference).clamp_(min=_TINY)
        # Up to the first of these everything rounds to nothing; from the second on, the largest value alone is too much, unless
        # 0 or 255 stops it.
        low, high = 0.49 / largest, (radii.to(largest.dtype) + 1) / largest
        for _ in range(_BISECTIONS):
            # The geometric middle: most of the range between is far too long.
            factor = (low * high).sqrt()
            whole = change(factor).flatten(1).to(counted)
            inside = torch.linalg.vecdot(whole, whole) <= radii.square()
            low, high = torch.where(inside, factor, low), torch.where(inside, high, factor)
        return change(low).add_(photos)


NORMS: Mapping[str, Norm] = {norm.name: norm for norm in (Linf(), L2())}
