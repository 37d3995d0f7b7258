"""What a classifier is shown while it is timed: photos of the pack, of the data, or pixels left to chance."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.parts.part import Bench
from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import Frame, read_photo

DIFFERENT = 32
"""Pictures that take turns: more than caches remember, few enough for the memory of a small board."""


def frames(bench: Bench) -> tuple[list[Frame], str]:
    """Frames of the size that was asked for, uint8 (H, W, 3), BGR, and where they are from: "pack", "data" or "random"."""
    height, width = bench.settings.frame_shape()
    found = [np.asarray(cv2.resize(frame, (width, height)), np.uint8) for frame in _photos(bench)]
    if found:
        return found, "data" if bench.pack is None else "pack"
    rng = np.random.default_rng(bench.settings.seed)
    noise = rng.integers(0, 256, (DIFFERENT, height, width, 3), np.uint8)
    return list(noise), "random"


def pixels(bench: Bench) -> tuple[NDArray[np.uint8], str]:
    """Pixels of the network, uint8 (N, H, W, 3), contiguous, and where they are from: "pack", "data" or "random"."""
    rule = bench.classifier.spec.resize
    if bench.pack is not None and len(bench.pack.photos):
        count = min(DIFFERENT, len(bench.pack.photos))
        return np.stack([bench.pack.pixels(index) for index in range(count)]), "pack"
    found = [crop_resize(frame, rule) for frame in _photos(bench)]
    if found:
        return np.stack(found), "data"
    rng = np.random.default_rng(bench.settings.seed)
    return rng.integers(0, 256, (DIFFERENT, rule.height, rule.width, 3), np.uint8), "random"


def _photos(bench: Bench) -> Iterator[Frame]:
    """At most DIFFERENT frames as they were decoded; files that cannot be read are passed over."""
    if bench.pack is not None:
        for index in range(min(DIFFERENT, len(bench.pack.photos))):
            yield bench.pack.frame(index)
        return
    count = 0
    for path in bench.photos.paths if bench.photos is not None else ():
        try:
            yield read_photo(path)
        except BadImage:
            continue
        count += 1
        if count == DIFFERENT:
            return
