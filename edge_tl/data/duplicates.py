"""Photos that are in the data twice: the same bytes, or the same picture in other bytes.

A pair is a near duplicate when the perceptual hashes differ in few bits, or in some more and the network's features agree
too. The two together find copies that were recompressed, scaled, mirrored or lightened.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from edge_tl.data.pictures import ImageRecord

SURE_BITS, LIKELY_BITS = 4, 16
LIKELY_COSINE = 0.95
_ROWS = 1024


def exact_groups(pictures: Sequence[ImageRecord]) -> list[list[int]]:
    """Places of pictures whose files are equal, two or more a group."""
    groups: dict[str, list[int]] = {}
    for place, picture in enumerate(pictures):
        groups.setdefault(picture.digest, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def near_groups(
    pictures: Sequence[ImageRecord],
    features: NDArray[np.float32] | None,
    likely_bits: int = LIKELY_BITS,
    likely_cosine: float = LIKELY_COSINE,
) -> list[list[int]]:
    """Places of pictures that show the same, equal files included. features: float32 (N, D), centred on no class; or None.

    likely_bits, likely_cosine: bits in which the hashes may differ where the features agree, and how much that is.
    """
    count = len(pictures)
    if count < 2:
        return []
    plain, mirrored = (_signs([getattr(p, name) for p in pictures]) for name in ("phash", "mirrored"))
    unit = None if features is None else _unit(features - features.mean(0))
    pairs: list[NDArray[np.int64]] = []
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        agreement = np.maximum(plain[rows] @ plain.T, mirrored[rows] @ plain.T)
        bits = (plain.shape[1] - agreement) / 2
        same = bits <= SURE_BITS
        if unit is not None:
            same |= (bits <= likely_bits) & (unit[rows] @ unit.T >= likely_cosine)
        left, right = np.nonzero(same)
        keep = left + start < right
        pairs.append(np.stack([left[keep] + start, right[keep]]))
    left, right = np.concatenate(pairs, axis=1)
    _, component = connected_components(coo_matrix((np.ones(len(left)), (left, right)), (count, count)), directed=False)
    groups: dict[int, list[int]] = {}
    for place, number in enumerate(component.tolist()):
        groups.setdefault(number, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _signs(hashes: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    return np.where(np.stack(hashes), 1, -1).astype(np.float32)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)
