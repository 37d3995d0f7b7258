"""Sets of labels that hold the right one as often as was asked for: "cat or dog" where the model cannot decide.

Split conformal prediction (Vovk et al. 2005, "Algorithmic Learning in a Random World"). A label belongs to the set if its
probability reaches a threshold (Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error
Levels"), and the likeliest one always does. Nothing is drawn at random: the same picture has the same set in every run
(docs/decisions/0027-label-sets.md compares the adaptive sets of Romano et al. 2020 and Angelopoulos et al. 2021).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.modelfile.sections import LabelSets
from edge_tl_runtime.modelfile.spec import ModelSpec

METHOD = "least_probability"
"""Of this rule in the contract."""
COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""For which a threshold is stored, as far as photos allow."""
SHOWN = 4
"""Labels of a set that are named for a person."""
_ROUNDED = 1e-9
"""What a product such as 0.95 x 20 may be off."""


def photos_needed(coverage: float) -> int:
    """The fewest photos of different origins that place a threshold for a coverage in (0, 1): 19 for 0.95, 99 for 0.99."""
    return math.ceil(coverage / (1 - coverage) - _ROUNDED)


def coverage_threshold(right: NDArray[np.float64], groups: Sequence[str], coverage: float) -> float | None:
    """The probability that labels must reach, so that sets of new photos hold the right label that often.

    right: (N,), in [0, 1]: the probability of the right label of each photo, or 1 where it is the likeliest, which is in
    every set. groups: of each its origin, "" for one that stands alone; () where all do. Each origin counts as one, shared by its
    photos (Lee, Barber and Willett 2023, "Distribution-free inference with hierarchical data"), so the promise is for photos of
    new origins; without groups this is the k-th lowest with k = floor((1 - coverage)(n + 1)). Rounded down to twelve decimals.
    None where there are fewer origins than `photos_needed`.
    """
    keys = [key or f"\0{place}" for place, key in enumerate(groups or [""] * len(right))]
    sizes = Counter(keys)
    if len(sizes) < photos_needed(coverage):
        return None
    order = np.argsort(-right, kind="stable")
    held = np.cumsum([1 / sizes[keys[place]] for place in order]) / (len(sizes) + 1)
    last = min(int(np.searchsorted(held, coverage - _ROUNDED)), len(order) - 1)
    return math.floor(float(right[order[last]]) * 1e12) / 1e12


def fit_label_sets(
    logits: NDArray[np.floating], targets: NDArray[np.integer], groups: Sequence[str], spec: ModelSpec, data: str
) -> LabelSets | None:
    """From a file's own logits, (N, C), on photos that trained nothing, and their classes, (N,). groups: their origins.

    data: where the photos come from, in words. None where they are too few for any of COVERAGES, or logits are no numbers.
    """
    if not len(logits) or not np.isfinite(logits).all():
        return None
    right = probability_of_right(spec.scores.probabilities(logits), targets)
    found = {coverage: coverage_threshold(right, groups, coverage) for coverage in COVERAGES}
    thresholds = {f"{coverage:g}": value for coverage, value in found.items() if value is not None}
    if not thresholds:
        return None
    origins = len({key for key in groups if key}) + list(groups).count("") if groups else len(logits)
    named = data if origins == len(logits) else f"{data}, of {origins} origins"
    return LabelSets(thresholds=thresholds, n=len(logits), data=named, method=METHOD)


def probability_of_right(probabilities: NDArray[np.float64], targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """As `coverage_threshold` takes it: (N, C) and (N,) to (N,)."""
    rows = np.arange(len(targets))
    likeliest = probabilities.argmax(1) == targets
    return np.where(likeliest, 1.0, probabilities[rows, targets])


@dataclass(frozen=True, slots=True)
class LabelSetRule:
    """Makes sets. asked: the coverage that a person wants; stored: that of the threshold, the same or higher."""

    asked: float
    stored: float
    least: float

    @classmethod
    def of(cls, spec: ModelSpec, coverage: float, name: str) -> LabelSetRule:
        """coverage: in (0, 1). The next higher one that the file holds is taken: its sets hold the right label at least as often.

        name: of the file. Raises UsageError where it holds none so high, BadModelError for a method that this release lacks.
        """
        if isinstance(coverage, bool) or not isinstance(coverage, (int, float)) or not 0 < coverage < 1:
            raise UsageError(f"a coverage of {coverage!r}; give a fraction between 0 and 1, such as 0.95")
        section = spec.label_sets
        if section is None:
            raise UsageError(
                f"{name} holds no label sets: it was evaluated on too few photos, or is from an earlier release; export it again "
                f"with at least {photos_needed(COVERAGES[0])} validation photos, or leave --coverage out"
            )
        if section.method != METHOD:
            raise BadModelError(f"label sets of {name} are made by {section.method!r}; upgrade edge-tl on this machine")
        thresholds = stored_thresholds(section)
        for level, least in thresholds.items():
            if level >= coverage - _ROUNDED:
                return cls(float(coverage), level, least)
        held = ", ".join(f"{level:g}" for level in thresholds)
        reachable = min(level for level in (*COVERAGES, 1.0) if level >= coverage - _ROUNDED)
        if reachable == 1.0:
            raise UsageError(f"{name} has no label sets for a coverage of {coverage:g}; it has: {held}")
        raise UsageError(
            f"{name} has no label sets for a coverage of {coverage:g}: that takes {photos_needed(reachable)} validation photos "
            f"of different origins, and it had {section.n} ({section.data}); it has: {held}"
        )

    def places(self, probabilities: NDArray[np.float64]) -> list[int]:
        """Places of the labels in the set of one row of probabilities, (C,), likeliest first; never empty."""
        best = int(probabilities.argmax())
        inside = np.flatnonzero(probabilities >= self.least)
        ordered = inside[np.argsort(-probabilities[inside], kind="stable")].tolist()
        return [best, *(place for place in ordered if place != best)]

    def members(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which labels are in the sets of rows of probabilities, (N, C): bool (N, C)."""
        inside = probabilities >= self.least
        inside[np.arange(len(inside)), probabilities.argmax(1)] = True
        return np.asarray(inside)

    def note(self) -> str:
        """For a person who asked for a coverage that is not stored; "" for one that is."""
        if abs(self.asked - self.stored) < _ROUNDED:
            return ""
        return (
            f"the file holds no label sets for a coverage of {self.asked:g}; those for {self.stored:g} are used, which hold the "
            "right label at least as often"
        )


def stored_thresholds(section: LabelSets) -> Mapping[float, float]:
    """By coverage, lowest first."""
    return dict(sorted((float(level), float(value)) for level, value in section.thresholds.items()))


def in_words(labels: Sequence[str]) -> str:
    """ "cat", "cat or dog", "cat, dog or cow", "cat, dog, cow, pig or 3 others"."""
    named, rest = list(labels[:SHOWN]), len(labels) - SHOWN
    if rest == 1:  # one more name takes no more room
        named, rest = list(labels), 0
    if rest > 0:
        named.append(f"{rest} others")
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} or {named[-1]}"
