"""The curve of a search for the learning rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RangeTest:
    """points: (rate of the last backbone layer, loss of that step)."""

    points: tuple[tuple[float, float], ...]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the smoothed loss is lowest."""
        average, weight, smooth = 0.0, 0.0, []
        for _, loss in self.points:
            average, weight = 0.9 * average + 0.1 * loss, 0.9 * weight + 0.1
            smooth.append(average / weight)
        return self.points[int(np.argmin(smooth))][0] / 10
