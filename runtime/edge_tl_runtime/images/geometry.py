"""Which rectangle of a frame reaches the network, and how it is turned: the arithmetic that cropping and showing share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.modelfile.sections import FILL, Geometry
from edge_tl_runtime.modelfile.spec import ResizeRule

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS = {"horizontal": 1, "vertical": 0, "both": -1}  # as cv2.flip counts them


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of whole pixels: its left upper corner and its size, at least one pixel each way."""

    x: int
    y: int
    width: int
    height: int

    def of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of a frame, (H, W, ...), as a view."""
        return frame[self.y : self.y + self.height, self.x : self.x + self.width]


def sides(frame: NDArray[np.uint8]) -> tuple[int, int]:
    """Rows and columns."""
    return frame.shape[0], frame.shape[1]


def turned_size(rows: int, columns: int, geometry: Geometry | None) -> tuple[int, int]:
    """Rows and columns of a frame after its rotation."""
    return (columns, rows) if geometry is not None and geometry.rotate in (90, 270) else (rows, columns)


def turned(frame: NDArray[np.uint8], geometry: Geometry | None) -> NDArray[np.uint8]:
    """The frame, uint8 (H, W) or (H, W, C), rotated and then flipped; itself where neither is asked for."""
    if geometry is None:
        return frame
    found: Any = frame
    if geometry.rotate:
        found = cv2.rotate(found, _ROTATIONS[geometry.rotate])
    if geometry.flip != "none":
        found = cv2.flip(found, _FLIPS[geometry.flip])
    return np.asarray(found, np.uint8)


def turned_back(frame: NDArray[np.uint8], geometry: Geometry | None) -> NDArray[np.uint8]:
    """The frame that `turned` makes this one of."""
    if geometry is None:
        return frame
    found: Any = frame
    if geometry.flip != "none":
        found = cv2.flip(found, _FLIPS[geometry.flip])
    if geometry.rotate:
        found = cv2.rotate(found, _ROTATIONS[360 - geometry.rotate])
    return np.asarray(found, np.uint8)


def region_box(rows: int, columns: int, geometry: Geometry | None) -> Box:
    """`geometry.crop` of a turned frame of that size: edges rounded to whole pixels, at least one pixel, never outside."""
    if geometry is None:
        return Box(0, 0, columns, rows)
    x, y, width, height = geometry.crop
    left, right = _edges(x, width, columns)
    top, bottom = _edges(y, height, rows)
    return Box(left, top, right - left, bottom - top)


def _edges(start: float, length: float, size: int) -> tuple[int, int]:
    first = min(round(start * size), size - 1)
    return first, max(first + 1, min(size, round((start + length) * size)))


def centre_box(rows: int, columns: int, rule: ResizeRule) -> Box:
    """The centred rectangle of the target's aspect ratio, `crop_pct` of the largest that fits; at least one pixel."""
    scale = min(rows / rule.height, columns / rule.width) * rule.crop_pct
    height = min(rows, max(1, round(scale * rule.height)))
    width = min(columns, max(1, round(scale * rule.width)))
    return Box((columns - width) // 2, (rows - height) // 2, width, height)


def seen_box(rows: int, columns: int, rule: ResizeRule) -> Box:
    """What the network gets to see of a turned frame of that size: the region, or the centre crop of it."""
    region = region_box(rows, columns, rule.geometry)
    if rule.geometry is not None and rule.geometry.fit != "crop":
        return region
    centre = centre_box(region.height, region.width, rule)
    return Box(region.x + centre.x, region.y + centre.y, centre.width, centre.height)


def seen_part(frame: NDArray[np.uint8], rule: ResizeRule) -> NDArray[np.uint8]:
    """What is resized for the network: `seen_box` of the turned frame. frame: uint8 (H, W, C), never written to.

    The box is cut out before anything is turned, so that a rotation moves these pixels alone.
    """
    geometry = rule.geometry
    if geometry is None:
        return centre_box(*sides(frame), rule).of(frame)
    return _turned_part(frame, seen_box(*turned_size(*sides(frame), geometry), rule), geometry)


def region_of(frame: NDArray[np.uint8], geometry: Geometry | None) -> NDArray[np.uint8]:
    """The region of the turned frame, before any fitting: what views for training are taken from."""
    if geometry is None:
        return frame
    return _turned_part(frame, region_box(*turned_size(*sides(frame), geometry), geometry), geometry)


def _turned_part(frame: NDArray[np.uint8], box: Box, geometry: Geometry) -> NDArray[np.uint8]:
    return turned(before_turning(box, *sides(frame), geometry).of(frame), geometry)


def before_turning(box: Box, rows: int, columns: int, geometry: Geometry) -> Box:
    """The rectangle of a frame of that size that becomes `box` of the turned frame."""
    height, width = turned_size(rows, columns, geometry)
    x = width - box.x - box.width if geometry.flip in ("horizontal", "both") else box.x
    y = height - box.y - box.height if geometry.flip in ("vertical", "both") else box.y
    if geometry.rotate == 90:
        return Box(y, rows - x - box.width, box.height, box.width)
    if geometry.rotate == 180:
        return Box(columns - x - box.width, rows - y - box.height, box.width, box.height)
    if geometry.rotate == 270:
        return Box(columns - y - box.height, x, box.height, box.width)
    return Box(x, y, box.width, box.height)


def letterbox_size(rows: int, columns: int, rule: ResizeRule) -> tuple[int, int]:
    """Rows and columns of a part of that size, made as large as fits into the network's input with its shape kept."""
    scale = min(rule.height / rows, rule.width / columns)
    return min(rule.height, max(1, round(rows * scale))), min(rule.width, max(1, round(columns * scale)))


def letterboxed(inner: NDArray[np.uint8], rule: ResizeRule) -> NDArray[np.uint8]:
    """inner, uint8 (h, w, 3) no larger than the network's input, centred on grey: uint8 (rule.height, rule.width, 3)."""
    fill = rule.geometry.fill if rule.geometry is not None and rule.geometry.fill is not None else FILL
    rows, columns = inner.shape[:2]
    top, left = (rule.height - rows) // 2, (rule.width - columns) // 2
    made = np.full((rule.height, rule.width, 3), fill, np.uint8)
    made[top : top + rows, left : left + columns] = inner
    return made
