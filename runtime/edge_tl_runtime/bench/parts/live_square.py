"""The Square attack, live on this machine: what an attacker who may only ask would find here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_tl_runtime.bench.parts.clean import Labelled, OnPhotos, in_pieces, joined, read_group
from edge_tl_runtime.bench.parts.part import Bench, Document
from edge_tl_runtime.core.statistics import rate
from edge_tl_runtime.robustness.square_attack import Square

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import SquareDocument
    from edge_tl_runtime.robustness.documents import QueriesDocument


class LiveSquare(OnPhotos):
    """Accuracy left by epsilon with a budget of questions for each photo and epsilon.

    From the largest epsilon down: what resists a larger one is not attacked at a smaller.
    """

    name, title = "square", "Square attack"

    def absent(self, bench: Bench) -> str:
        if not bench.settings.radii():
            return "no epsilon above 0 was asked for"
        return super().absent(bench)

    def run(self, bench: Bench) -> SquareDocument:
        photos, settings = Labelled(bench), bench.settings
        square = Square(queries=settings.queries, seed=settings.seed)
        radii = settings.radii()

        def evaluate(places: list[int]) -> Document | None:
            group = read_group(photos, places)
            right = bench.classifier.logits(group.pixels).argmax(1) == group.targets
            fooled: dict[str, list[int]] = {}
            queries: dict[str, list[int]] = {}
            left = np.flatnonzero(right)
            for radius in reversed(radii):
                found = square.run(
                    bench.classifier.logits,
                    group.pixels[left],
                    group.targets[left],
                    float(radius),
                    keys=group.places[left].tolist(),
                    stop=bench.stop,
                )
                if not found.complete.all():
                    return None
                fooled[str(radius)] = group.places[left[found.fooled]].tolist()
                queries[str(radius)] = found.queries[found.fooled].tolist()
                left = left[found.fooled]
            return {"right": right.tolist(), "fooled": fooled, "queries": queries}

        found, complete = in_pieces(bench, self.name, photos.places, evaluate)
        right = joined(found, "right")
        n, clean = len(right), sum(right)
        accuracy = {"0": rate(clean, n)}
        asked: dict[str, QueriesDocument] = {}
        for radius in map(str, radii):
            accuracy[radius] = rate(clean - sum(len(piece["fooled"][radius]) for piece in found), n)
            spent = [count for piece in found for count in piece["queries"][radius]]
            asked[radius] = {
                "median": float(np.median(spent)) if spent else None,
                "p90": float(np.percentile(spent, 90)) if spent else None,
            }
        return {
            "queries": settings.queries,
            "norm": square.norm,
            "accuracy": accuracy,
            "queries_to_success": asked,
            "complete": complete,
        }
