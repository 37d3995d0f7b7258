"""Accuracy under corruptions, on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_tl_runtime.bench.parts.clean import Labelled, OnPhotos, in_pieces, joined
from edge_tl_runtime.bench.parts.part import Bench, Document
from edge_tl_runtime.core.errors import BadFrame, BadImage
from edge_tl_runtime.robustness.corrupted_accuracy import CleanPhoto, CorruptedAccuracy, right_under
from edge_tl_runtime.robustness.corruptions import MIN_SIDE, named_corruptions, named_severities

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import BenchCorruptionsDocument


class Corruptions(OnPhotos):
    """The document of `edge-tl evaluate --corruptions` for the photos of the pack, or those given."""

    name, title = "corruptions", "corruptions"

    def run(self, bench: Bench) -> BenchCorruptionsDocument:
        photos, settings = Labelled(bench), bench.settings
        names, severities = named_corruptions(settings.corruptions), named_severities(settings.severities)
        spec = bench.classifier.spec

        def evaluate(places: list[int]) -> Document:
            readable = [clean for place in places if (clean := _readable(photos, place)) is not None]
            right = right_under(
                bench.classifier.logits,
                readable,
                photos.targets,
                spec.resize,
                names,
                severities,
                seed=settings.seed,
            )
            return {"right": right.astype(int).tolist()}

        found, complete = in_pieces(bench, self.name, photos.places, evaluate)
        variants = 1 + len(names) * len(severities)
        right = np.array(joined(found, "right"), np.bool_).reshape(-1, variants)
        grid = right[:, 1:].reshape(len(right), len(names), len(severities))
        measured = CorruptedAccuracy(names, severities, right[:, 0], grid, settings.seed, complete)
        document = measured.to_dict()
        return {**document, "workstation": _workstation(bench, document)}


def _workstation(bench: Bench, here: Mapping[str, Any]) -> float | None:
    """Mean accuracy there; None unless it was measured of the same photos, corruptions, severities and seed."""
    there: Document = (bench.pack.workstation.get("corruptions") if bench.pack is not None else None) or {}

    def asked(document: Mapping[str, Any]) -> Document:
        return {
            "names": [row.get("name") for row in document.get("rows", ())],
            "n": document.get("clean", {}).get("n"),
            **{key: document.get(key) for key in ("severities", "seed", "complete")},
        }

    same = bool(there) and asked(there) == asked(here)
    return there["mean_accuracy"] if same else None


def _readable(photos: Labelled, place: int) -> CleanPhoto | None:
    try:
        clean = photos.clean(place)
    except (BadImage, BadFrame):
        return None
    return clean if min(clean.frame.shape[:2]) >= MIN_SIDE else None
