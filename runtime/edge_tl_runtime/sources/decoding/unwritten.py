"""Whether a decoder wrote the picture that it says it wrote.

OpenCV 5 reports success for interlaced H.264 and leaves the buffer as it was: black, or whatever was there before. So marks that
no picture holds are put into the buffer first, and a picture in which one stands untouched was not written, or only in part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.images.decode import Frame

BANDS = 16
"""Rows that are marked, spread over the height: a picture of which only a part was written is noticed too."""
MARK_BYTES = 16
"""By chance a picture holds one mark in 2^128."""


class Poison:
    """Marks for one buffer at a time: `put` before it is written, `stands` after."""

    def __init__(self, seed: int | None = None) -> None:
        """seed: for tests; else the marks are other ones in each process."""
        self._marks: NDArray[np.uint8] = np.random.default_rng(seed).integers(0, 256, (BANDS, MARK_BYTES), np.uint8)

    def put(self, frame: Frame) -> None:
        """Write the marks. frame: uint8, contiguous; too small a one (under MARK_BYTES a row) is filled."""
        rows = frame.reshape(frame.shape[0], -1)
        for mark, (row, begin) in zip(self._marks, _places(rows), strict=False):
            rows[row, begin : begin + MARK_BYTES] = mark[: rows.shape[1]]

    def stands(self, frame: Frame) -> bool:
        """Whether a mark is still there."""
        rows = frame.reshape(frame.shape[0], -1)
        return any(
            np.array_equal(rows[row, begin : begin + MARK_BYTES], mark[: rows.shape[1]])
            for mark, (row, begin) in zip(self._marks, _places(rows), strict=False)
        )


def _places(rows: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Row and first byte of each mark: one in each band, at another place in each."""
    height, width = rows.shape
    bands = min(BANDS, height)
    room = max(0, width - MARK_BYTES)
    return [((2 * band + 1) * height // (2 * bands), band * 7919 % (room + 1)) for band in range(bands)]
