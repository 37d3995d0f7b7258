"""Pictures that show nothing that was trained on: what a camera sees of an empty wall, a hand, a lens out of focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.modelfile.spec import ResizeRule

GREYS = (0, 8, 32, 64, 96, 128, 160, 192, 224, 248, 255)
COLOURS = ((200, 40, 40), (40, 160, 40), (40, 60, 200), (200, 180, 60), (120, 80, 50))
BLUR = 0.1
"""Standard deviation of the blur over the picture's width: a lens so far out of focus that nothing can be named."""
BLURRED = 50
"""Evaluation photos that are blurred, at most."""


@dataclass(frozen=True)
class DetectionTrial:
    """How many of so many pictures of a kind a file calls unknown. kind: for a person."""

    kind: str
    noticed: int
    n: int

    @property
    def all_noticed(self) -> bool:
        return self.noticed == self.n

    def describe(self) -> str:
        return f"{self.noticed} of {self.n} {self.kind}"


PLAIN = "plain colours"
COVERED = "covered lenses"
NOISE = "noise"
BLURRED_PHOTOS = "photos blurred beyond recognition"
FOREIGN = "foreign photographs"


def empty_pictures(rule: ResizeRule) -> dict[str, NDArray[np.uint8]]:
    """By kind: uint8 (N, H, W, 3), the same on every machine."""
    height, width = rule.height, rule.width
    rng = np.random.default_rng(0)

    def shaped(values: NDArray[np.floating]) -> NDArray[np.uint8]:
        return np.clip(np.rint(np.broadcast_to(values, (height, width, 3))), 0, 255).astype(np.uint8)

    def noise(spread: float) -> NDArray[np.floating]:
        return np.asarray(rng.normal(0, spread, (height, width, 3)))

    plain = [shaped(np.full(3, grey, float)) for grey in GREYS] + [shaped(np.array(c, float)) for c in COLOURS]
    away = np.hypot(*np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height)))[..., None]
    skin = np.array((150.0, 70.0, 55.0))  # light through a finger
    covered = [shaped(level * (1 - 0.4 * away) + noise(2)) for level in (4, 12, 24)]
    covered += [shaped(skin * light * (1 - 0.5 * away) + noise(3)) for light in (0.15, 0.5, 1.0)]
    grains = [shaped(middle + noise(spread)) for middle in (16, 128) for spread in (4, 16, 48)]
    grains += [rng.integers(0, 256, (height, width, 3)).astype(np.uint8)]
    return {PLAIN: np.stack(plain), COVERED: np.stack(covered), NOISE: np.stack(grains)}


def strange_pictures(
    rule: ResizeRule, kept: Sequence[NDArray[np.uint8]], foreign: Sequence[Frame]
) -> dict[str, NDArray[np.uint8]]:
    """By kind, uint8 (N, H, W, 3). kept: batches of evaluation photos; foreign: frames of none of the classes."""
    pictures = empty_pictures(rule)
    step = max(1, sum(map(len, kept)) // BLURRED)
    pictures[BLURRED_PHOTOS] = blurred(np.concatenate(kept)[::step][:BLURRED])
    if foreign:
        pictures[FOREIGN] = seen_by_model(foreign, rule)
    return pictures


def blurred(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Photos, uint8 (N, H, W, 3), of which only patches of colour are left."""
    sigma = BLUR * pixels.shape[2]
    return np.stack([cv2.GaussianBlur(photo, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for photo in pixels])


def seen_by_model(frames: Sequence[Frame], rule: ResizeRule) -> NDArray[np.uint8]:
    """Frames of any size, uint8 (H, W, 3), BGR, as the network gets them: uint8 (N, H, W, 3)."""
    return np.stack([crop_resize(frame, rule) for frame in frames])
