"""`stripes`: every eighth row darker, as of a screen that flickers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tl.plugins import Corruption


def _stripes(picture: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    values = picture.astype(np.float32)
    values[int(rng.integers(8)) :: 8] *= 1 - strength
    return values


STRIPES = Corruption(
    name="stripes",
    group="camera",
    source="a screen that flickers",
    strengths=(0.2, 0.35, 0.5, 0.65, 0.8),
    apply=_stripes,
)
