"""Attack after attack on one file: every epsilon, photo by photo, remembering the smallest success."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.base import Attack, AttackOutcome, Stop
from edge_tl.adversarial.attacks.criteria import Criterion
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.attacks.norms import NORMS
from edge_tl.adversarial.evaluation.checkpoint import Checkpoint
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.progress import Progress

GROUP = 16
"""Photos attacked together where gradients are needed: more would not be faster on a CPU."""
GROUP_BLACK_BOX = 64


@dataclass
class AttackRun:
    """One attack along one route, at every epsilon. Arrays over all N photos.

    fooled, queries, complete: by epsilon. A success at a smaller epsilon is one at the larger ones. found: by photo, the name of
    the ledger's entry and the place in it that hold its smallest success.
    """

    name: str
    route: str
    kind: str
    attack: Attack
    fooled: dict[float, NDArray[np.bool_]] = field(default_factory=dict)
    queries: dict[float, NDArray[np.int64]] = field(default_factory=dict)
    complete: dict[float, NDArray[np.bool_]] = field(default_factory=dict)
    found: dict[int, tuple[str, int, float]] = field(default_factory=dict)
    members: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    """Photos of each entry of the ledger."""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.route})" if self.route else self.name


@dataclass(frozen=True)
class AttackSweep:
    """Photos and what is wanted of them. attackable: bool (N,), photos that are classified right and not yet as wanted.

    radii: epsilons above 0, ascending, as the person wrote them; unit: pixel values in one of them.
    """

    model_name: str
    pixels: NDArray[np.uint8]
    criterion: Criterion
    attackable: NDArray[np.bool_]
    radii: tuple[float, ...]
    unit: float
    ledger: Checkpoint
    stop: Stop
    progress: Progress

    def run(self, name: str, route: str, kind: str, attack: Attack, model: AttackedModel) -> AttackRun:
        """One attack at every epsilon, cheapest order first.

        Gradient attacks go from small epsilons to large ones: what is fooled at one need not be tried at the next. Attacks that
        spend a budget on each photo that resists go from large to small: what resists a large epsilon is not tried at a smaller
        one and counts as robust there.
        """
        line = AttackRun(name, route, kind, attack)
        if attack.finds_smallest:
            self._smallest(line, model)
        elif attack.needs_gradients:
            left = self.attackable.copy()
            for radius in self.radii:
                self._at(line, model, radius, left)
                left &= ~line.fooled[radius]
        else:
            left = self.attackable.copy()
            for radius in reversed(self.radii):
                self._at(line, model, radius, left)
                left &= line.fooled[radius] | ~line.complete[radius]
        self._carry(line)
        return line

    def successes(self, line: AttackRun, photos: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Photos of `line.found` with their smallest successes, uint8 (H, W, 3), in the order in which the ledger holds them."""
        by_entry: dict[str, list[int]] = {}
        for photo in photos:
            by_entry.setdefault(line.found[photo][0], []).append(photo)
        for entry, members in by_entry.items():
            result = self.ledger.get(entry, self.pixels[line.members[entry]])
            assert result is not None
            for photo in members:
                yield photo, result.adversarial[line.found[photo][1]]

    def _at(self, line: AttackRun, model: AttackedModel, radius: float, left: NDArray[np.bool_]) -> None:
        count = len(self.pixels)
        line.fooled[radius] = np.zeros(count, np.bool_)
        line.queries[radius] = np.zeros(count, np.int64)
        line.complete[radius] = np.ones(count, np.bool_)
        for photos, result, entry in self._groups(line, model, radius, np.flatnonzero(left)):
            self._note(line, radius, photos, result, entry)

    def _note(
        self, line: AttackRun, radius: float, photos: NDArray[np.int64], result: AttackOutcome, entry: str
    ) -> None:
        line.fooled[radius][photos] = result.fooled
        line.queries[radius][photos] = result.queries
        line.complete[radius][photos] = result.complete
        for place in np.flatnonzero(result.fooled):
            photo = int(photos[place])
            if photo not in line.found or radius < line.found[photo][2]:
                line.found[photo] = (entry, int(place), radius)

    def _smallest(self, line: AttackRun, model: AttackedModel) -> None:
        """One search serves every epsilon: it counts where its perturbation fits."""
        largest = self.radii[-1]
        self._at(line, model, largest, self.attackable)
        sizes = np.full(len(self.pixels), np.inf)
        norm = NORMS[line.attack.norm]
        for photo, adversarial in self.successes(line, line.found):
            difference = adversarial.astype(np.int64) - self.pixels[photo]
            sizes[photo] = norm.sizes(difference[None])[0] / self.unit
        for radius in self.radii:
            line.fooled[radius] = sizes <= radius
            line.queries[radius], line.complete[radius] = line.queries[largest], line.complete[largest]
        line.found = {photo: (*place[:2], float(sizes[photo])) for photo, place in line.found.items()}

    def _groups(
        self, line: AttackRun, model: AttackedModel, radius: float, photos: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], AttackOutcome, str]]:
        """Photos attacked together, what became of them, and the ledger's name for it."""
        size = GROUP if line.attack.needs_gradients else GROUP_BLACK_BOX
        for start in range(0, len(photos), size):
            group = photos[start : start + size]
            entry = f"{self.model_name} {line.title} {radius} {group.tolist()}"
            clean = self.pixels[group]
            result = self.ledger.get(entry, clean)
            if result is None and self.stop():
                result = untried(clean)
            elif result is None:
                result = line.attack.run(
                    model, clean, self.criterion.take(group), radius * self.unit, keys=group, stop=self.stop
                )
                self._check_size(line, clean, result, radius)
                # Under another name, so that a run that goes on does this group again and whole.
                entry += "" if result.complete.all() else " cut short"
                self.ledger.put(entry, clean, result)
            line.members[entry] = group
            self.progress(len(group))
            yield group, result, entry

    def _check_size(self, line: AttackRun, clean: NDArray[np.uint8], result: AttackOutcome, radius: float) -> None:
        """Raises UsageError for an attack, of another package perhaps, that changed a photo by more than it was allowed."""
        sizes = NORMS[line.attack.norm].sizes(result.adversarial.astype(np.int16) - clean)[result.fooled]
        allowed = radius * self.unit
        if len(sizes) and sizes.max() > allowed * (1 + 1e-4) + 1e-3:
            raise UsageError(
                f"the attack {line.name} changed a photo by {sizes.max() / self.unit:g} where {radius:g} is allowed, so that its "
                "successes prove nothing; leave it out of --attacks, and tell its author"
            )

    def _carry(self, line: AttackRun) -> None:
        """Let successes count at every larger epsilon, with the queries that they took."""
        for smaller, larger in zip(self.radii, self.radii[1:], strict=False):
            inherited = line.fooled[smaller] & ~line.fooled[larger]
            line.fooled[larger] |= inherited
            line.queries[larger][inherited] = line.queries[smaller][inherited]
            line.complete[larger] |= line.fooled[larger]


def untried(clean: NDArray[np.uint8]) -> AttackOutcome:
    """The result for photos that there was no time for."""
    nothing = np.zeros(len(clean), np.bool_)
    return AttackOutcome(
        clean, nothing, np.zeros(len(clean), np.int64), np.full(len(clean), -np.inf, np.float32), nothing
    )
