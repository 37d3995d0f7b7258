"""Sizes of photo files as they are decoded, found without decoding most of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edge_tl_runtime.core.errors import BadImage, UsageError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.decode import decode_photo, read_file
from edge_tl_runtime.images.headers import picture_header

_REDUCED = 8


def photo_size(path: Path) -> tuple[int, int]:
    """Rows and columns of the photo that `read_photo` gives, its orientation applied. Raises BadImage."""
    data = read_file(path)
    kind, (columns, rows) = picture_header(data)
    small = -(-rows // _REDUCED), -(-columns // _REDUCED)
    if kind == "JPEG" and small[0] != small[1]:
        # Decoding an eighth of a JPEG is fast and shows whether its orientation exchanges the sides.
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_8)
        if found is not None and found.shape[:2] in (small, small[::-1]):
            return (rows, columns) if found.shape[:2] == small else (columns, rows)
    found = decode_photo(data)
    return found.shape[0], found.shape[1]


def common_size(paths: Sequence[Path], asked: str) -> tuple[int, int] | None:
    """Rows and columns that all photos share, those that cannot be read left out; None where none can.

    asked: the crop in pixels, for the message. Raises UsageError for photos of different sizes.
    """

    def size(path: Path) -> tuple[int, int] | None:
        try:
            return photo_size(path)
        except (BadImage, cv2.error):
            return None

    first: tuple[Path, tuple[int, int]] | None = None
    for path, found in zip(paths, map_in_order(size, paths), strict=True):
        if found is None:
            continue
        if first is not None and found != first[1]:
            raise UsageError(
                f"--crop {asked} is in pixels, and the photos differ in size: {one_line(str(first[0]))} is "
                f"{first[1][1]}x{first[1][0]} px, {one_line(str(path))} is {found[1]}x{found[0]}; "
                "give fractions, such as 0,0,0.5,1"
            )
        first = first or (path, found)
    return None if first is None else first[1]
