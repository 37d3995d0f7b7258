"""Pictures that fooled the file on the workstation: do they fool it here?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.pack.pack import MODEL, Adversarial, Pack, StoredAttack
from edge_tl_runtime.bench.parts.clean import Labelled, OnPhotos, in_pieces, joined, outcomes, read_group
from edge_tl_runtime.bench.parts.part import Bench, Document
from edge_tl_runtime.core.statistics import rate

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import StoredPicturesDocument, StoredResultDocument, StoredWorkstationDocument
    from edge_tl_runtime.core.documents import RateDocument


class StoredAttackPart(OnPhotos):
    """Every stored picture evaluated by the file here; accuracy by epsilon under the worst of them.

    Attacks that adapt to this machine would do at least as well, so the accuracy left is an upper bound.
    """

    name, title = "stored", "stored adversarial pictures"

    def absent(self, bench: Bench) -> str:
        if bench.pack is None:
            return "it needs a pack"
        return "" if bench.pack.stored else "the pack holds no adversarial pictures"

    def run(self, bench: Bench) -> StoredPicturesDocument:
        assert bench.pack is not None
        pack, photos = bench.pack, Labelled(bench)
        by_photo = _by_photo(pack)

        def evaluate(places: list[int]) -> Document:
            group = read_group(photos, places)
            right = bench.classifier.logits(group.pixels).argmax(1) == group.targets
            return {"right": right.tolist(), "fools": [_fools(bench, pack, by_photo, place) for place in places]}

        found, complete = in_pieces(bench, self.name, photos.places, evaluate)
        right = np.array(joined(found, "right"), np.bool_)
        # Per photo and attack: the smallest stored epsilon that fools here, inf for none.
        radii: NDArray[np.float64] = np.array(joined(found, "fools"), np.float64).reshape(len(right), len(pack.stored))
        radii = np.where(radii == 0, np.inf, radii)
        places = photos.places[: len(right)]
        attacks = [_attack(pack, number, radii[:, number], places) for number in range(len(pack.stored))]
        counted = [number for number, item in enumerate(pack.stored) if not item.control]
        worst = radii[:, counted].min(1, initial=np.inf)
        routes = sorted({pack.stored[number].route or pack.stored[number].kind for number in counted})
        return {
            "norm": pack.norm,
            "accuracy": {
                "0": rate(int(right.sum()), len(right)),
                **_left(pack, right, worst),
            },
            "routes": {route: _left(pack, right, radii[:, _of_route(pack, route)].min(1)) for route in routes},
            "attacks": attacks,
            "outcomes": {f"{e:g}": outcomes(photos, places, right & (worst > e)) for e in pack.epsilons},
            "workstation": _workstation(pack, places),
            "complete": complete,
        }


def _by_photo(pack: Pack) -> dict[int, list[tuple[int, Adversarial]]]:
    """Number of the attack and the picture, by photo."""
    found: dict[int, list[tuple[int, Adversarial]]] = {}
    for number, attack in enumerate(pack.stored):
        for picture in attack.pictures:
            found.setdefault(picture.photo, []).append((number, picture))
    return found


def _fools(bench: Bench, pack: Pack, by_photo: dict[int, list[tuple[int, Adversarial]]], place: int) -> list[float]:
    """Of each attack the epsilon at which its picture of the photo fools here, 0 for none."""
    found = [0.0] * len(pack.stored)
    pictures = by_photo.get(place, [])
    if pictures:
        pixels = np.stack([pack.adversarial(picture) for _, picture in pictures])
        answers = bench.classifier.logits(pixels).argmax(1)
        for (number, picture), answer in zip(pictures, answers, strict=True):
            if answer != pack.photos[place].target:
                found[number] = picture.epsilon
    return found


def _attack(pack: Pack, number: int, radii: NDArray[np.float64], places: list[int]) -> StoredResultDocument:
    attack: StoredAttack = pack.stored[number]
    here = dict(zip(places, radii, strict=True))
    shown = [picture for picture in attack.pictures if picture.photo in here]
    still = sum(bool(np.isfinite(here[picture.photo])) for picture in shown)
    return {
        "attack": attack.attack,
        "route": attack.route,
        "kind": attack.kind,
        "control": attack.control,
        "still": rate(still, len(shown)),
        "fooled": {f"{e:g}": int((radii <= e).sum()) for e in pack.epsilons},
    }


def _workstation(pack: Pack, places: list[int]) -> StoredWorkstationDocument:
    """What the file that the pictures were made for did on the same photos there, where each of them fooled it."""
    made_for = next((item for item in pack.expected if item.role == MODEL), None)
    if made_for is None:
        return {}
    right = (pack.logits(made_for).argmax(1) == pack.targets)[places]
    worst = np.full(len(pack.photos), np.inf)
    for attack in pack.stored:
        for picture in () if attack.control else attack.pictures:
            worst[picture.photo] = min(worst[picture.photo], picture.epsilon)
    return {
        "model": made_for.sha256,
        "clean_accuracy": rate(int(right.sum()), len(right)),
        "robust_accuracy": _left(pack, right, worst[places]),
    }


def _of_route(pack: Pack, route: str) -> list[int]:
    return [n for n, item in enumerate(pack.stored) if not item.control and (item.route or item.kind) == route]


def _left(pack: Pack, right: NDArray[np.bool_], worst: NDArray[np.float64]) -> dict[str, RateDocument]:
    """Accuracy by epsilon. worst: the smallest epsilon that fools, of each photo, inf for none."""
    return {f"{e:g}": rate(int((right & (worst > e)).sum()), len(right)) for e in pack.epsilons}
