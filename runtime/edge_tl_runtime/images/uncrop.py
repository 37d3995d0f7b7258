"""From the network's input back to a picture file: the border that `crop_resize` cuts off again."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.crop import RESAMPLES, centre_crop, three_channels
from edge_tl_runtime.images.decode import MAX_MEGAPIXELS, Frame
from edge_tl_runtime.modelfile.spec import ResizeRule


def uncrop(pixels: NDArray[np.uint8], rule: ResizeRule, photo: Frame | None = None) -> Frame:
    """A picture that the device's own crop turns into `pixels` again, bit for bit: `crop_resize(uncrop(p, rule), rule) == p`.

    pixels: uint8 (rule.height, rule.width, 3) in `rule.color_order`, as the network takes them.
    photo: frame of any size whose surroundings of the centre crop, at the scale of the crop, fill the border. Where the photo
        ends, and everywhere without one, the border repeats the outermost pixels.
    Returns uint8, BGR, of the size `canvas_size` gives; a new array. Raises as `canvas_size`.
    """
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
            crop = centre_crop(np.broadcast_to(np.uint8(0), (rows, columns, 3)), rule)
            if crop.shape[:2] == (rule.height, rule.width):
                return rows, columns
    raise AssertionError(rule)


def _from(scale: float, side: int) -> Iterator[int]:
    """Lengths to try for one side of the canvas, from one below what exact arithmetic gives; a single pixel is any crop's."""
    least = side if side == 1 else max(side, int(scale * side) - 1)
    yield from range(least, int(scale * side) + 4)


def _surroundings(photo: Frame, rule: ResizeRule, border: tuple[int, int, int, int]) -> Frame:
    """The photo's centre crop with `border` pixels above, below, left and right of it, at the network's scale."""
    crop = centre_crop(photo, rule)
    sides = []
    for axis, target, before, after in ((0, rule.height, *border[:2]), (1, rule.width, *border[2:])):
        size, length = photo.shape[axis], crop.shape[axis]
        start, scale = (size - length) // 2, length / target
        first = max(0, start - round(before * scale))
        last = min(size, start + length + round(after * scale))
        shown = min(before, round((start - first) / scale)), min(after, round((last - start - length) / scale))
        sides.append((slice(first, last), shown, (before - shown[0], after - shown[1])))
    (rows, (above, below), missing_rows), (columns, (left, right), missing_columns) = sides
    resample = RESAMPLES[rule.resample]
    resized = resample(photo[rows, columns], rule.height + above + below, rule.width + left + right)
    return np.asarray(cv2.copyMakeBorder(resized, *missing_rows, *missing_columns, cv2.BORDER_REPLICATE), np.uint8)
