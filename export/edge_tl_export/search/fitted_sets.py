"""Sets of labels of a file that was made: their thresholds, and how large they are on the photos that placed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.inference.label_sets import (
    COVERAGES,
    LabelSetRule,
    fit_label_sets,
    photos_needed,
    stored_thresholds,
)
from edge_tl_runtime.modelfile.sections import LabelSets
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl_export.documents import SetsDocument


@dataclass(frozen=True)
class FittedSets:
    """section: of the contract. sizes: labels in a set on average, by coverage."""

    section: LabelSets
    sizes: Mapping[float, float]

    @property
    def missing(self) -> tuple[float, ...]:
        """Coverages for which there were too few photos."""
        return tuple(level for level in COVERAGES if level not in self.sizes)

    def describe(self) -> str:
        sizes = ", ".join(f"{size:.2f} labels for {100 * level:g} %" for level, size in self.sizes.items())
        text = f"sets that hold the right label (--coverage): {sizes}, on average"
        if not self.missing:
            return text
        first = self.missing[0]
        return f"{text}; {100 * first:g} % takes {photos_needed(first)} validation photos of different origins"

    def to_dict(self) -> SetsDocument:
        return {"sizes": {f"{level:g}": round(size, 4) for level, size in self.sizes.items()}, "n": self.section.n}


def fitted_sets(
    answers: NDArray[np.float32], targets: NDArray[np.int64], groups: Sequence[str], spec: ModelSpec, data: str
) -> FittedSets | None:
    """As `edge_tl_runtime.inference.label_sets.fit_label_sets`."""
    section = fit_label_sets(answers, targets, groups, spec, data)
    if section is None:
        return None
    probabilities = spec.scores.probabilities(answers)
    sizes = {
        level: float(LabelSetRule(level, level, least).members(probabilities).sum(1).mean())
        for level, least in stored_thresholds(section).items()
    }
    return FittedSets(section, sizes)
