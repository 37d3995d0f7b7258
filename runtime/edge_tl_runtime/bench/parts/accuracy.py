"""How good the file is here, and whether it says what it said on the workstation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_tl_runtime.bench.pack.pack import Pack
from edge_tl_runtime.bench.parts.clean import Labelled, OnPhotos, in_pieces, joined, outcomes, read_group
from edge_tl_runtime.bench.parts.part import Bench, Document
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.core.statistics import rate
from edge_tl_runtime.modelfile.onnx import read_model

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import AgreementDocument, BenchAccuracyDocument, DifferingDocument

SHOWN = 20
"""Photos named at most whose label differs from the workstation's."""


class AccuracyPart(OnPhotos):
    """Share of the labelled photos that are classified right."""

    name, title = "accuracy", "accuracy"

    def run(self, bench: Bench) -> BenchAccuracyDocument:
        photos = Labelled(bench)

        def evaluate(places: list[int]) -> Document:
            group = read_group(photos, places)
            answers = bench.classifier.logits(group.pixels).argmax(1) if len(group.places) else group.targets
            right, unreadable = (answers == group.targets).tolist(), len(places) - len(group.places)
            return {"right": right, "places": group.places.tolist(), "unreadable": unreadable}

        found, complete = in_pieces(bench, self.name, photos.places, evaluate)
        right, places = joined(found, "right"), joined(found, "places")
        unreadable = sum(piece["unreadable"] for piece in found)
        return {
            "top1": rate(sum(right), len(right)),
            "unreadable": unreadable,
            "outcomes": outcomes(photos, places, right),
            "complete": complete,
        }


class Agreement(OnPhotos):
    """Whether this processor and the workstation's make the same of the same bytes: integer kernels differ between them."""

    name, title = "agreement", "agreement with the workstation"

    def absent(self, bench: Bench) -> str:
        if bench.pack is None:
            return "it needs a pack"
        if bench.pack.expected_of(_digest(bench)) is None:
            names = ", ".join(item.name for item in bench.pack.expected)
            return f"the pack knows what {names} said, and this is another file"
        return ""

    def run(self, bench: Bench) -> AgreementDocument:
        assert bench.pack is not None
        photos, pack = Labelled(bench), bench.pack
        expected = pack.expected_of(_digest(bench))
        assert expected is not None
        wanted = pack.logits(expected)

        def evaluate(places: list[int]) -> Document:
            logits = bench.classifier.logits(read_group(photos, places).pixels)
            there = wanted[places]
            return {
                "labels": logits.argmax(1).tolist(),
                "wanted": there.argmax(1).tolist(),
                "largest": np.abs(logits - there).max(1).astype(float).tolist(),
                "identical": (logits == there).all(1).tolist(),
            }

        found, complete = in_pieces(bench, self.name, photos.places, evaluate)
        labels, there = np.array(joined(found, "labels")), np.array(joined(found, "wanted"))
        largest, places = np.array(joined(found, "largest")), photos.places[: len(labels)]
        differing = np.flatnonzero(labels != there)
        spread = float(np.median(wanted.max(1) - wanted.min(1)))
        return {
            "file": expected.name,
            "same_label": rate(int((labels == there).sum()), len(labels)),
            "identical": sum(joined(found, "identical")),
            "largest_difference": float(largest.max()),
            "median_difference": float(np.median(largest)),
            "spread": spread,
            "differing": [_differing(pack, places[i], int(labels[i]), int(there[i])) for i in differing[:SHOWN]],
            "workstation": pack.workstation.get("machine", {}),
            "complete": complete,
        }


def _differing(pack: Pack, place: int, here: int, there: int) -> DifferingDocument:
    return {"photo": pack.photos[place].name, "here": pack.labels[here], "workstation": pack.labels[there]}


def _digest(bench: Bench) -> str:
    return sha256(read_model(bench.model))
