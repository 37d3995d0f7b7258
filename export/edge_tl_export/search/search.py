"""The guarded search: candidates are made, ranked without labels, evaluated with them, and only a good one is handed over.

Half a point of accuracy is four photos of 800, less than chance moves. So candidates are ranked by the noise in their logits, on
photos that neither calibrate nor evaluate, and evaluated in that order until one passes: few looks at the evaluation photos,
so that the best of many is not merely the luckiest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.quantization.quantize import Quantizer
from edge_tl_export.quantization.recipe import CALIBRATIONS, Recipe
from edge_tl_export.search.compare import CandidateRow, Comparison, in_batches, sqnr

if TYPE_CHECKING:
    from edge_tl_export.documents import CandidateDocument, LayerDocument

TARGET_RECIPES = {
    "x86-vnni": Recipe(),
    "x86-avx2": Recipe(weight_bits=7),
    "arm-dotprod": Recipe(),
    "arm": Recipe(),
    "generic": Recipe(weight_bits=7),
}
"""What a target's arithmetic asks for. uint8 everywhere: ARM kernels sum it as exactly as int8, and one file can be evaluated on
both kinds of machine; int8 is several times slower on x86. 7-bit weights where pairs of products are summed in 16 bits."""

EQUALIZE = (0.0, 0.25)
FLOAT_LAYERS = (1, 2, 4, 8, 16)
EVALUATED_FIRST = 3
WORTH_ASKING = 0.5
"""Decibels within which two candidates are as good as each other."""
HOPELESS = 0.8
"""Speed over FP32 of the plain candidate below which no search is begun: others differ from it by a few percent."""


@dataclass(frozen=True)
class Candidate:
    """A file that was tried. sqnr: decibels on the ranking photos. row: None while it was not evaluated."""

    recipe: Recipe
    model: bytes = field(repr=False)
    sqnr: float
    row: CandidateRow | None = None
    trained: bool = False

    @property
    def name(self) -> str:
        return f"{self.recipe}, trained" if self.trained else str(self.recipe)

    @property
    def passes(self) -> bool:
        return self.row is not None and self.row.is_accurate and self.row.is_faster

    def to_dict(self) -> CandidateDocument:
        return {
            "name": self.name,
            "recipe": self.recipe.to_dict(),
            "trained": self.trained,
            "bytes": len(self.model),
            "sqnr_db": round(self.sqnr, 2),
            "row": None if self.row is None else self.row.to_dict(),
        }


@dataclass(frozen=True)
class Layer:
    """What one layer alone in INT8 costs. sqnr: decibels of the logits; agreement: share of labels kept, on the ranking photos.

    place: of the layer in the graph, from 0.
    """

    name: str
    place: int
    sqnr: float
    agreement: float

    def to_dict(self) -> LayerDocument:
        return {
            "name": self.name,
            "place": self.place,
            "sqnr_db": round(self.sqnr, 2),
            "agreement": round(self.agreement, 6),
        }


class QuantizationSearch:
    """Candidates for one graph on one target. Nothing is written here; `candidates` grows as they are tried."""

    def __init__(
        self,
        quantizer: Quantizer,
        ranking: NDArray[np.uint8],
        comparison: Comparison,
        target: str,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """ranking: pixels to rank on, uint8 (N, H, W, 3). progress: called with 1 for each file made."""
        self._quantizer, self._ranking, self._comparison, self._progress = quantizer, ranking, comparison, progress
        self._base = TARGET_RECIPES[target]
        self._expected = in_batches(comparison.fp32, ranking)
        self.candidates: list[Candidate] = []
        self.layers: list[Layer] = []

    def plain_speed(self) -> float:
        """Speed over FP32 before anything is searched: of the plain recipe, or of that with float hard-swishes if faster."""
        recipes = [self._base, *([self._base.but(hard_swish=False)] if self._quantizer.has("HardSwish") else [])]
        return max(self._comparison.time(self._quantizer.make(recipe), str(recipe)).speedup for recipe in recipes)

    def ranked(self) -> list[Candidate]:
        """The plain candidates, calibrations and equalizations, the least noise first; nothing is evaluated."""
        return sorted(self._rank(self._calibrations()), key=_cleanliness, reverse=True)

    def first(self) -> Candidate | None:
        """The first candidate, in order of quality, that is accurate enough and faster; None when there is none."""
        ranked = self.ranked()
        for candidate in ranked[:EVALUATED_FIRST]:
            if (evaluated := self.evaluated(candidate)).passes:
                return evaluated
        best = ranked[0]
        forms = sorted(self._rank(self._forms(best.recipe)), key=_cleanliness, reverse=True)
        for candidate in forms:
            if candidate.sqnr >= best.sqnr - WORTH_ASKING and (evaluated := self.evaluated(candidate)).passes:
                return evaluated
        for recipe in self._with_float_layers(max((best, *forms), key=_cleanliness).recipe):
            (candidate,) = self._rank([recipe])
            if (evaluated := self.evaluated(candidate)).passes:
                return evaluated
        return None

    def full(self) -> Candidate | None:
        """Every candidate evaluated; of those that pass and are hardly noisier than the best of them, the fastest."""
        ranked = self.ranked()
        ranked += self._rank(self._forms(ranked[0].recipe))
        ranked += self._rank(self._with_float_layers(max(ranked, key=_cleanliness).recipe))
        passing = [evaluated for candidate in ranked if (evaluated := self.evaluated(candidate)).passes]
        cleanest = max((c.sqnr for c in passing), default=0.0)
        return max((c for c in passing if c.sqnr >= cleanest - WORTH_ASKING), key=_speed, default=None)

    @property
    def front(self) -> list[Candidate]:
        """Evaluated candidates that no other beats in noise and in speed at once, fastest first."""
        evaluated = [c for c in self.candidates if c.row is not None]

        def beaten(c: Candidate) -> bool:
            assert c.row is not None
            return any(
                o.row is not None
                and (o.row.speedup, o.sqnr) != (c.row.speedup, c.sqnr)
                and o.row.speedup >= c.row.speedup
                and o.sqnr >= c.sqnr
                for o in evaluated
            )

        return sorted((c for c in evaluated if not beaten(c)), key=lambda c: -_speed(c))

    @property
    def nearest(self) -> Candidate | None:
        """The evaluated candidate that lost least, for saying how far the budget was missed."""
        evaluated = [c for c in self.candidates if c.row is not None and c.row.drop is not None]
        return min(evaluated, key=lambda c: c.row.drop if c.row and c.row.drop is not None else 0.0, default=None)

    def evaluated(self, candidate: Candidate) -> Candidate:
        """The candidate with its row: accuracy against FP32 on the evaluation photos, time against FP32 on this machine."""
        row = self._comparison.row("int8", candidate.model, candidate.name, candidate.sqnr)
        evaluated = replace(candidate, row=row)
        self.candidates = [evaluated if c is candidate else c for c in self.candidates]
        return evaluated

    def add(self, recipe: Recipe, model: bytes, trained: bool = False) -> Candidate:
        """A candidate made elsewhere (training), ranked with the others."""
        answers = in_batches(self._comparison.open(model, str(recipe)), self._ranking)
        candidate = Candidate(recipe, model, sqnr(self._expected, answers), trained=trained)
        self.candidates.append(candidate)
        self._progress(1)
        return candidate

    def sensitivity(self, recipe: Recipe, progress: Callable[[int], None] = lambda done: None) -> list[Layer]:
        """Each layer quantized alone, the others float: what it costs by itself, on the photos that rank. Most sensitive first;
        measured once.

        progress: called with 1 for each layer.
        """
        if not self.layers:
            names = self._quantizer.layers(recipe)
            for place, name in enumerate(names):
                alone = recipe.but(float_nodes=tuple(n for n in names if n != name))
                answers = in_batches(self._comparison.open(self._quantizer.make(alone), name), self._ranking)
                same = float((answers.argmax(1) == self._expected.argmax(1)).mean())
                self.layers.append(Layer(name, place, sqnr(self._expected, answers), same))
                progress(1)
            self.layers.sort(key=lambda layer: layer.sqnr)
        return self.layers

    def _rank(self, recipes: Iterable[Recipe]) -> list[Candidate]:
        return [self.add(recipe, self._quantizer.make(recipe)) for recipe in recipes]

    def _calibrations(self) -> list[Recipe]:
        return [self._base.but(calibration=c, equalize=e) for e in EQUALIZE for c in CALIBRATIONS]

    def _forms(self, best: Recipe) -> list[Recipe]:
        """Other forms of the best recipe: what may be less exact, or slower, in this graph."""
        forms = [
            best.but(pixels=False),
            best.but(per_channel=False),
            best.but(rounding="nearest"),
            best.but(equalize=0.5),
        ]
        if self._quantizer.has("HardSwish"):
            forms.append(best.but(hard_swish=False))
        return forms

    def _with_float_layers(self, best: Recipe) -> Iterator[Recipe]:
        """The best recipe of all with its most sensitive layers left in float, more and more of them."""
        layers = self.sensitivity(best)
        tried: set[tuple[str, ...]] = {()}
        for count in FLOAT_LAYERS:
            names = self._quantizer.chained(best, [layer.name for layer in layers[:count]])
            if count < len(layers) and names not in tried:
                tried.add(names)
                yield best.but(float_nodes=names)


def _cleanliness(candidate: Candidate) -> float:
    return candidate.sqnr


def _speed(candidate: Candidate) -> float:
    return 0.0 if candidate.row is None else candidate.row.speedup
