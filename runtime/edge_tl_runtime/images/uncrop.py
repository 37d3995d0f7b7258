"""From the network's input back to a picture file: the border that `crop_resize` cuts off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.crop import RESAMPLES, three_channels
from edge_tl_runtime.images.decode import MAX_MEGAPIXELS, Frame
from edge_tl_runtime.images.geometry import centre_box, region_box, region_of, sides, turned_back
from edge_tl_runtime.modelfile.sections import Geometry
from edge_tl_runtime.modelfile.spec import ResizeRule


def uncrop(pixels: NDArray[np.uint8], rule: ResizeRule, photo: Frame | None = None) -> Frame:
    """A picture that the device's own crop turns into `pixels` again, bit for bit: `crop_resize(uncrop(p, rule), rule) == p`.

    pixels: uint8 (rule.height, rule.width, 3) in `rule.color_order`, as the network takes them.
    photo: frame of any size whose surroundings of the centre crop, at the scale of the crop, fill the border. Where the photo
        or the region of `rule.geometry` ends, and everywhere without a photo, the border repeats the outermost pixels.
    Returns uint8, BGR, of the size `canvas_size` gives, in a frame around it where the geometry has a crop; a new array.
    Raises as `canvas_size`.
    """
    geometry = rule.geometry
    plain = replace(rule, geometry=None, crop_pct=rule.crop_pct if geometry is None or geometry.fit == "crop" else 1.0)
    if geometry is None:
        return _canvas(pixels, plain, photo)
    region = None if photo is None or geometry.fit != "crop" else region_of(three_channels(photo), geometry)
    return turned_back(_framed(_canvas(pixels, plain, region), geometry), geometry)


def _framed(canvas: Frame, geometry: Geometry) -> Frame:
    """The smallest turned frame whose region is the canvas."""
    rows, columns = canvas.shape[:2]
    height = _side(rows, geometry.crop[3], lambda side: region_box(side, 1, geometry).height)
    width = _side(columns, geometry.crop[2], lambda side: region_box(1, side, geometry).width)
    if height * width > MAX_MEGAPIXELS * 1e6:
        raise UsageError(
            f"the model looks at {100 * geometry.crop[2] * geometry.crop[3]:.3g} % of a frame: one that shows it "
            f"{columns}x{rows} px would have more than {MAX_MEGAPIXELS:.0f} megapixels; train with a larger --crop"
        )
    box = region_box(height, width, geometry)
    border = (box.y, height - rows - box.y, box.x, width - columns - box.x)
    return np.asarray(cv2.copyMakeBorder(canvas, *border, cv2.BORDER_REPLICATE), np.uint8)


def _side(wanted: int, fraction: float, length: Callable[[int], int]) -> int:
    """The smallest side of a frame whose region is `wanted` pixels long. From one pixel of the frame to the next the length
    grows or falls by at most one, so none is passed over."""
    side = max(1, int((wanted - 1) / fraction) - 1)
    while length(side) != wanted:
        side += 1
    return side


def _canvas(pixels: NDArray[np.uint8], rule: ResizeRule, photo: Frame | None) -> Frame:
    rows, columns = canvas_size(rule)
    if pixels.shape != (rule.height, rule.width, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are uint8 {(rule.height, rule.width, 3)}, not {pixels.dtype} {pixels.shape}")
    inner = np.array(pixels[..., ::-1] if rule.color_order == "RGB" else pixels)
    top, left = (rows - rule.height) // 2, (columns - rule.width) // 2
    border = (top, rows - rule.height - top, left, columns - rule.width - left)
    if photo is None:
        return np.asarray(cv2.copyMakeBorder(inner, *border, cv2.BORDER_REPLICATE), np.uint8)
    canvas = _surroundings(three_channels(photo), rule, border)
    canvas[top : top + rule.height, left : left + rule.width] = inner
    return canvas


def canvas_size(rule: ResizeRule) -> tuple[int, int]:
    """Rows and columns of the smallest picture whose centre crop is exactly `rule.height` x `rule.width`.

    There always is one: along the longer side of n pixels, the canvases that work fill an interval 1 / crop_pct >= 1 wide
    around n / crop_pct, and the shorter side follows. Raises UsageError where it is larger than a photo may be.
    """
    longer, shorter = max(rule.height, rule.width), min(rule.height, rule.width)
    scale = (longer - 0.5) / longer / rule.crop_pct
    if scale * longer * scale * shorter > MAX_MEGAPIXELS * 1e6:
        raise UsageError(
            f"the model looks at {100 * rule.crop_pct:.3g} % of a photo: one that shows it {rule.width}x{rule.height} px would "
            f"have more than {MAX_MEGAPIXELS:.0f} megapixels; export the model with a larger crop"
        )
    for rows in _from(scale, rule.height):
        for columns in _from(scale, rule.width):
            crop = centre_box(rows, columns, rule)
            if (crop.height, crop.width) == (rule.height, rule.width):
                return rows, columns
    raise AssertionError(rule)


def _from(scale: float, side: int) -> Iterator[int]:
    """Lengths to try for one side of the canvas, from one below what exact arithmetic gives; a single pixel is any crop's."""
    least = side if side == 1 else max(side, int(scale * side) - 1)
    yield from range(least, int(scale * side) + 4)


def _surroundings(photo: Frame, rule: ResizeRule, border: tuple[int, int, int, int]) -> Frame:
    """The photo's centre crop with `border` pixels above, below, left and right of it, at the network's scale."""
    crop = centre_box(*sides(photo), rule).of(photo)
    parts = []
    for axis, target, before, after in ((0, rule.height, *border[:2]), (1, rule.width, *border[2:])):
        size, length = photo.shape[axis], crop.shape[axis]
        start, scale = (size - length) // 2, length / target
        first = max(0, start - round(before * scale))
        last = min(size, start + length + round(after * scale))
        shown = min(before, round((start - first) / scale)), min(after, round((last - start - length) / scale))
        parts.append((slice(first, last), shown, (before - shown[0], after - shown[1])))
    (rows, (above, below), missing_rows), (columns, (left, right), missing_columns) = parts
    resample = RESAMPLES[rule.resample]
    resized = resample(photo[rows, columns], rule.height + above + below, rule.width + left + right)
    return np.asarray(cv2.copyMakeBorder(resized, *missing_rows, *missing_columns, cv2.BORDER_REPLICATE), np.uint8)
