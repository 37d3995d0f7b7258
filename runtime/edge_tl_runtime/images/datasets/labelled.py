"""Labelled photos as every stage gets them, and the line that says what was understood of a folder or list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from edge_tl_runtime.core.text import one_line, plural
from edge_tl_runtime.images.datasets.choosing import spread_over
from edge_tl_runtime.images.datasets.survey import Unreadable

_NAMED = 5
"""Classes that are named where a line says what was understood."""


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """paths[i] shows class labels[targets[i]]. `skipped` were passed over, each with its reason.

    root: folder that was asked for, for messages and names. split: "train", "val", "test" or "all". how: what was understood of
    the folder or list, in words. groups: of each photo, its origin as a column of the list or `--group` says it, "" for a photo
    that stands alone; () without.
    """

    root: Path
    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    targets: tuple[int, ...]
    split: str = "all"
    skipped: tuple[Unreadable, ...] = ()
    how: str = ""
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The photo's path relative to the root, with forward slashes: its identity across machines."""
        path = self.paths[index]
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    @property
    def names(self) -> list[str]:
        return [self.name(index) for index in range(len(self))]

    def subset(self, indices: Sequence[int], split: str) -> LabelledPhotos:
        return replace(
            self,
            paths=tuple(self.paths[i] for i in indices),
            targets=tuple(self.targets[i] for i in indices),
            split=split,
            groups=tuple(self.groups[i] for i in indices) if self.groups else (),
        )

    def spread(self, count: int) -> LabelledPhotos:
        """`count` of them, spread over all and over the classes; every one where there are fewer or `count` is 0."""
        places = spread_over(self.targets, count)
        return self if len(places) == len(self) else self.subset(places, self.split)

    def describe(self, decoded: bool = False) -> str:
        """What was understood, in a line: `photos: found 153 val of 2 classes: ants, bees (folders train, val)`.

        decoded: these are the photos that could be read, and `skipped` is all that was not used; otherwise the line says that
        they were found only, for decoding may still leave some out.
        """
        if self.targets and self.targets[0] < 0:
            return _line(f"{len(self)} without labels", self.how or one_line(self.root), self.skipped, decoded)
        part = "" if self.split == "all" else f" {self.split}"
        return _line(f"{len(self)}{part} of {_classes(self.labels, self.targets)}", self.how, self.skipped, decoded)


class Splits(NamedTuple):
    """Photos that train, photos that validate, and photos that only test (None where none were kept apart)."""

    train: LabelledPhotos
    val: LabelledPhotos
    test: LabelledPhotos | None = None

    @property
    def skipped(self) -> tuple[Unreadable, ...]:
        """All that was passed over, each once."""
        return tuple(dict.fromkeys(item for part in self if part is not None for item in part.skipped))

    def describe(self, decoded: bool = False) -> str:
        """What was understood, in a line: `photos: found 245 train / 153 val of 2 classes: ants, bees (folders train, val)`.

        decoded: as in `LabelledPhotos.describe`.
        """
        counts = " / ".join(f"{len(part)} {part.split}" for part in self if part is not None)
        return _line(
            f"{counts} of {_classes(self.train.labels, self.train.targets)}", self.train.how, self.skipped, decoded
        )


def _classes(labels: Sequence[str], targets: Sequence[int]) -> str:
    """`2 classes: ants, bees`, of those that have photos."""
    there = [one_line(labels[target], 40) for target in sorted(set(targets))]
    several = plural(len(there), "class")
    if len(there) < len(labels):
        several = f"{len(there)} of {len(labels)} classes"
    more = ", ..." if len(there) > _NAMED else ""
    return f"{several}: {', '.join(there[:_NAMED])}{more}"


def _line(counts: str, how: str, skipped: Sequence[Unreadable], decoded: bool) -> str:
    passed = f"; {len(skipped)} passed over{'' if decoded else ' so far'}" if skipped else ""
    return f"photos: {'' if decoded else 'found '}{counts}{f' ({how})' if how else ''}{passed}"
