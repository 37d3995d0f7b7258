"""The pictures of a robustness page: worst cases side by side, and where the perturbations sit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl.report.common.html import picture
from edge_tl_runtime.core.errors import BadFrame, BadImage
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.modelfile.spec import ResizeRule

Example = Mapping[str, Any]

SIDE = 256
ENCODING = (
    cv2.IMWRITE_JPEG_QUALITY,
    92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
"""Full colour resolution: perturbations are of single pixels."""
ZERO = 128
TYPICAL = 0.9
MAX_FACTOR = 64
RINGS = 14


@dataclass(frozen=True)
class Triplet:
    """An example to look at. images: data URIs of the photo, the amplified difference and the adversarial picture, as the
    network sees them. factor: of the amplification. largest: change of one colour value, of 255. length: L2 of the change, of
    colours in 0..1."""

    example: Example
    images: tuple[str, str, str]
    factor: int
    largest: int
    length: float


@dataclass(frozen=True)
class Heat:
    """Where perturbations sit.

    mean: float64 (H, W), mean absolute change in pixel values. epsilon: in words. distance, profile: float64 (RINGS,), the
    middle of each square ring around the centre, 0 at the centre and 1 at the edge, and the mean change in it.
    central: share of the squared change within half the distance, `even` if it were spread evenly: about a quarter.
    """

    mean: NDArray[np.float64]
    epsilon: str
    photos: int
    distance: NDArray[np.float64]
    profile: NDArray[np.float64]
    central: float
    even: float


def triplets(folder: Path, examples: Sequence[Example], rule: ResizeRule, limit: int) -> Iterator[Triplet]:
    """The first `limit` examples of different photos whose pictures are still in the folder."""
    seen: set[str] = set()
    for example in examples:
        if len(seen) == limit:
            return
        pair = None if example["photo"] in seen else _pair(folder, example, rule)
        if pair is not None:
            seen.add(example["photo"])
            yield _triplet(example, *pair)


def populated_epsilon(examples: Sequence[Example]) -> float:
    """The epsilon with most examples, the smaller of several."""
    counts = Counter(float(example["epsilon"]) for example in examples)
    return min(counts, key=lambda epsilon: (-counts[epsilon], epsilon))


def heat(folder: Path, examples: Sequence[Example], rule: ResizeRule, words: str) -> Heat | None:
    """Mean over all the examples given; None where no picture is left. words: their epsilon."""
    absolute = np.zeros((rule.height, rule.width))
    squared = np.zeros((rule.height, rule.width))
    photos = 0
    for example in examples:
        pair = _pair(folder, example, rule)
        if pair is not None:
            change = pair[1].astype(np.float64) - pair[0]
            absolute += np.abs(change).mean(2)
            squared += np.square(change).mean(2)
            photos += 1
    if not photos:
        return None
    distance = _distance(rule)
    ring = np.minimum((distance * RINGS).astype(int), RINGS - 1).ravel()
    inside = np.bincount(ring, minlength=RINGS)
    sums = np.bincount(ring, weights=(absolute / photos).ravel(), minlength=RINGS)
    filled = inside > 0
    middles = (np.arange(RINGS) + 0.5) / RINGS
    central = float(squared[distance <= 0.5].sum() / max(squared.sum(), 1e-12))
    even = float((distance <= 0.5).mean())
    return Heat(absolute / photos, words, photos, middles[filled], sums[filled] / inside[filled], central, even)


def _distance(rule: ResizeRule) -> NDArray[np.float64]:
    """Of each pixel from the centre, (H, W): 0 there, 1 at the nearest edge's line, so that rings are frames."""
    rows, columns = (np.abs((np.arange(n) + 0.5) * 2 / n - 1) for n in (rule.height, rule.width))
    distance: NDArray[np.float64] = np.maximum(rows[:, None], columns[None])
    return distance


def as_seen(folder: Path, place: str, rule: ResizeRule) -> Frame | None:
    """A picture of the folder, BGR, as the network gets it; None when it is gone or lies elsewhere."""
    path = folder / place
    if not path.resolve().is_relative_to(folder.resolve()):
        return None
    try:
        pixels = crop_resize(read_photo(path), rule)
    except (BadImage, BadFrame):
        return None
    return np.ascontiguousarray(pixels[:, :, ::-1]) if rule.color_order == "RGB" else pixels


def as_data(pixels: Frame, interpolation: int = cv2.INTER_AREA) -> str:
    """A data URI, with the full resolution of colour."""
    return picture(pixels, SIDE, ENCODING, interpolation)


def _pair(folder: Path, example: Example, rule: ResizeRule) -> tuple[Frame, Frame] | None:
    """Clean and adversarial; None when one of them is not there."""
    clean, adversarial = (as_seen(folder, example[key], rule) for key in ("clean", "adversarial"))
    return None if clean is None or adversarial is None else (clean, adversarial)


def _triplet(example: Example, clean: Frame, adversarial: Frame) -> Triplet:
    change = adversarial.astype(np.int64) - clean
    absolute = np.abs(change)
    largest = int(absolute.max())
    # Of a sparse change most values are 1 where the largest is 6: what few are larger may be cut off at black and white.
    typical = np.quantile(absolute[absolute > 0], TYPICAL) if largest else 1
    factor = 1
    while 2 * factor * typical < ZERO and factor < MAX_FACTOR:
        factor *= 2
    difference = np.clip(ZERO + factor * change, 0, 255).astype(np.uint8)
    length = float(np.sqrt(np.square(change).sum())) / 255
    # An average would wash a noisy difference out, so that is thinned instead.
    kernels = (cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_AREA)
    frames = (clean, difference, adversarial)
    first, second, third = (as_data(x, kernel) for x, kernel in zip(frames, kernels, strict=True))
    return Triplet(example, (first, second, third), factor, largest, length)
