"""A small data set that needs no download: photographs of brick, grass and gravel that come with scikit-image.

Training patches are cut from the left half of each photograph and validation patches from the right half, at changing scale,
rotation and light, so that no pixel is seen twice.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.files import make_folder, write_bytes

CLASSES = ("brick", "grass", "gravel")
PATCH = 192
SCALES = (0.6, 1.4)
"""Side of the cut square over PATCH: how near the camera is."""


def write_surfaces(root: Path, train: int = 60, val: int = 20, seed: int = 0) -> Path:
    """Write root/train and root/val with so many photos a class. The same seed gives the same bytes. Returns `root`."""
    from skimage import data

    rng = np.random.default_rng(seed)
    for label in CLASSES:
        photo = np.asarray(getattr(data, label)(), np.uint8)
        middle = photo.shape[1] // 2
        for split, half, count in (("train", photo[:, :middle], train), ("val", photo[:, middle:], val)):
            folder = make_folder(root / split / label)
            for number in range(count):
                encoded = cv2.imencode(".jpg", patch(half, rng), [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
                write_bytes(folder / f"{label}_{number:03d}.jpg", encoded.tobytes())
    return root


def patch(photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random square of a grey photo, uint8 (H, W): turned, scaled and lit. Returns uint8 (PATCH, PATCH, 3), BGR."""
    side = PATCH * rng.uniform(*SCALES)
    reach = side / np.sqrt(2)  # half the diagonal: a turned square stays inside the photo
    height, width = photo.shape
    reach = min(reach, (min(height, width) - 1) / 2)
    centre = (rng.uniform(reach, width - reach), rng.uniform(reach, height - reach))
    turn = cv2.getRotationMatrix2D(centre, float(rng.uniform(0, 360)), PATCH / (reach * np.sqrt(2)))
    turn = turn + np.array([[0, 0, PATCH / 2 - centre[0]], [0, 0, PATCH / 2 - centre[1]]])
    cut = cv2.warpAffine(photo, turn, (PATCH, PATCH), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    tint = rng.uniform(0.85, 1.15, 3)
    ramp = np.linspace(rng.uniform(0.7, 1.0), rng.uniform(1.0, 1.3), PATCH)
    light = rng.uniform(0.6, 1.3) * (ramp[None, :, None] if rng.random() < 0.5 else ramp[:, None, None])
    noisy = cut[..., None] * light * tint + rng.normal(0, 3, (PATCH, PATCH, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)
