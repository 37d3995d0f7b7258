"""From a frame of any size to the network's input: the one place where a picture is cropped and resized.

Training's evaluation transform, calibration, prediction, the camera and every attack call `crop_resize`; normalisation is
inside the graph. What was measured to choose the rule is in docs/decisions/0002-crop-and-resize.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, BadModelError
from edge_tl_runtime.images.geometry import letterbox_size, letterboxed, seen_part, sides
from edge_tl_runtime.modelfile.spec import ResizeRule

DEFAULT_RESAMPLE = "area-linear"

Resample = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]
"""A crop, uint8 (h, w, 3), to uint8 (height, width, 3)."""


def crop_resize(frame: NDArray[np.uint8], rule: ResizeRule, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Turn, crop and resize a frame to the network's input, as `rule.geometry` and the rule itself say.

    frame: uint8 (H, W, 3), BGR as OpenCV decodes it; grey (H, W) or (H, W, 1) and BGRA (H, W, 4) are converted. Any H, W >= 1,
        contiguous or a slice. It is never written to.
    out: uint8 (rule.height, rule.width, 3), contiguous, written and returned when given; else a new array is returned.
    Returns uint8 (rule.height, rule.width, 3) in `rule.color_order`. The same bytes for every thread count.
    Raises BadFrame for an array that is no frame, BadModelError for a resampling rule this release does not know.
    """
    resample = RESAMPLES.get(rule.resample)
    if resample is None:
        raise BadModelError(
            f"resampling rule {rule.resample!r} is unknown to this edge-tl; upgrade it, or export again"
        )
    part = seen_part(three_channels(frame), rule)
    if rule.geometry is not None and rule.geometry.fit == "letterbox":
        resized = letterboxed(resample(part, *letterbox_size(*sides(part), rule)), rule)
    else:
        resized = resample(part, rule.height, rule.width)
    if out is None:
        out = np.empty((rule.height, rule.width, 3), np.uint8)
    if rule.color_order == "RGB":
        cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=out)
    else:
        np.copyto(out, resized)
    return out


def preprocess_batch(frames: Sequence[NDArray[np.uint8]], rule: ResizeRule) -> NDArray[np.uint8]:
    """Frames of any sizes to one batch, uint8 (N, height, width, 3). Raises as `crop_resize`."""
    batch = np.empty((len(frames), rule.height, rule.width, 3), np.uint8)
    for frame, place in zip(frames, batch, strict=True):
        crop_resize(frame, rule, out=place)
    return batch


def area_linear(crop: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Average whole blocks of k x k pixels, then bilinear for the rest, in whole numbers: the same bytes on x86 and on ARM.

    k is the largest integer that leaves the averaged crop at least as large as the target. The block average antialiases and is
    OpenCV's fastest way to; what is left for the bilinear step, which does not antialias, is a factor below 2. The crop loses
    up to k - 1 rows and columns, so that blocks fit.
    """
    averaged = _block_average(crop, height, width)
    if averaged.shape[:2] == (height, width):
        return averaged
    # INTER_LINEAR differs between processors; its exact form is fixed-point arithmetic everywhere. It takes 0.16 ms for four
    # channels and 0.23 ms for three, and each channel is resized by itself.
    four = np.asarray(cv2.cvtColor(averaged, cv2.COLOR_BGR2BGRA), np.uint8)
    resized = _resize(four, height, width, cv2.INTER_LINEAR_EXACT)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGRA2BGR), np.uint8)


def area_cubic(crop: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """As `area_linear` with a bicubic step, which OpenCV rounds otherwise on x86 than on ARM, by 1 in some values.

    Files that name this rule keep it: their networks were evaluated with it.
    """
    return _resize(_block_average(crop, height, width), height, width, cv2.INTER_CUBIC)


RESAMPLES: dict[str, Resample] = {DEFAULT_RESAMPLE: area_linear, "area-cubic": area_cubic}


def _block_average(crop: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    k = max(1, min(crop.shape[0] // height, crop.shape[1] // width))
    if k == 1:
        return crop
    rows, columns = crop.shape[0] // k, crop.shape[1] // k
    top, left = (crop.shape[0] - rows * k) // 2, (crop.shape[1] - columns * k) // 2
    crop = crop[top : top + rows * k, left : left + columns * k]
    while k > 1:
        # Halving has a kernel of its own: 4 by 2 and 2 takes 0.27 ms where 4 takes 0.92.
        step = 2 if k % 2 == 0 else k
        crop = _resize(crop, crop.shape[0] // step, crop.shape[1] // step, cv2.INTER_AREA)
        k //= step
    return crop


def _resize(image: NDArray[np.uint8], height: int, width: int, interpolation: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    resized: Any = cv2.resize(image, (width, height), interpolation=interpolation)
    return np.asarray(resized, np.uint8)


def three_channels(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as uint8 (H, W, 3), BGR: itself where it is one, grey and BGRA converted. Raises BadFrame for anything else."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        raise BadFrame(f"a frame is an array of uint8, not {getattr(frame, 'dtype', type(frame).__name__)}")
    if frame.ndim not in (2, 3) or frame.size == 0:
        raise BadFrame(f"a frame has height, width and channels, not shape {frame.shape}")
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if channels == 3:
        return frame
    if channels == 1:
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8)
    if channels == 4:
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR), np.uint8)
    raise BadFrame(f"a frame has 1, 3 or 4 channels, not {channels}")
