"""Pictures that look to a hash like photos, and photos by their checksum."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np

from edge_tl_runtime.images.datasets.survey import photo_files


def scene(seed: int, height: int = 180, width: int = 240) -> np.ndarray:
    """uint8 BGR, with the spectrum of a photo: most at low frequencies."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for side in (2, 4, 8, 16, 32):
        small = rng.normal(size=(side, side, 3)).astype(np.float32) / side
        picture += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 90 * picture, 0, 255).astype(np.uint8)


def files_of(folder: Path | None) -> dict[str, Path]:
    files = [] if folder is None else photo_files(folder)
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}
