"""Which photos must stay on one side of a split, and how that is found again later, also on a device."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_tl_runtime.core.errors import DataError

NONE, BY_NAME, AUTO = "none", "by-name", "auto"
_MARK_BYTES = 6
"""Of the SHA-256 of a name: with 10,000 names held out and 100,000 photos, one is taken for another in 280,000 sets."""
MAX_MARKS = 20_000
"""Photos held out whose names a model file keeps: 160 kB."""


@dataclass(frozen=True)
class Grouping:
    """How photos are grouped. method: "none", "by-name", "auto", or a column of the list. held_out: marks of the names that
    validated, for groups that only looking at the photos finds; None where names or the list give the same groups again."""

    method: str = NONE
    held_out: frozenset[bytes] | None = None

    @property
    def by_column(self) -> bool:
        return self.method not in (NONE, BY_NAME, AUTO)

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Grouping:
        """As a contract's `training` says. A model from before groups has none. Raises DataError for what is no record."""
        method, marks = training.get("group", NONE), training.get("held_out")
        if marks is None:
            return cls(str(method))
        try:
            data = base64.b64decode(marks, validate=True)
        except (ValueError, TypeError):
            raise DataError(
                "the model's record of the photos that validated is damaged; export the run again"
            ) from None
        return cls(str(method), frozenset(data[at : at + _MARK_BYTES] for at in range(0, len(data), _MARK_BYTES)))

    def record(self, names: Iterable[str]) -> dict[str, str]:
        """What goes into `training`, for photos of these names that validate."""
        kept = sorted({mark(name) for name in names}) if self.method == AUTO else []
        if not kept or len(kept) > MAX_MARKS:
            return {"group": self.method}
        return {"group": self.method, "held_out": base64.b64encode(b"".join(kept)).decode()}


def mark(name: str) -> bytes:
    """A photo's name (its path below the data, forward slashes) in a few bytes."""
    text = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).digest()[:_MARK_BYTES]


def joined(*keys: Sequence[str]) -> list[str]:
    """One key for each photo, equal for photos that share a key in any of the lists, directly or through others."""
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def find(node: tuple[int, str]) -> tuple[int, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for row in zip(*keys, strict=True):
        nodes = [find((kind, key)) for kind, key in enumerate(row)]
        least = min(nodes)
        for node in nodes:
            parent[node] = least
    return [find((0, row[0]))[1] for row in zip(*keys, strict=True)]


def together(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    """The keys, with a photo alone in its group under its own name: such photos are split as without groups."""
    counts = Counter(keys)
    return [key if counts[key] > 1 else name for key, name in zip(keys, names, strict=True)]
