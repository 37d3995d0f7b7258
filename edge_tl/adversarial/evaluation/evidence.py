"""Adversarial pictures as files: written, read back by the runner's own decoder, and counted only if they still fool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import make_folder, name_part, write_bytes
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.images.uncrop import uncrop
from edge_tl_runtime.modelfile.spec import ResizeRule
from edge_tl_runtime.robustness.corruptions.digital import recompressed

Change = Callable[[Frame], Frame]


@dataclass(frozen=True)
class StoredExample:
    """A photo and its adversarial version as PNG files, relative to the folder, and what the runner read back of the latter."""

    photo: int
    radius: float
    clean: str
    adversarial: str
    pixels: NDArray[np.uint8]


def store(
    folder: Path,
    name: str,
    photo: int,
    radius: float,
    pixels: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    rule: ResizeRule,
    frame: Frame | None,
) -> StoredExample:
    """Write a clean picture and its adversarial version, uint8 (H, W, 3) each, such that the runner's crop finds them again.

    frame: the photo, for the border around the crop. Raises OutputError when what is read back is not what was written.
    """
    png = f"{stem(photo, Path(name).stem)}.png"
    places = (Path("clean", png), Path("adversarial", f"eps-{radius:g}", png))
    for place, picture in zip(places, pixels, strict=True):
        make_folder((folder / place).parent)
        write_uncropped(folder / place, picture, rule, frame)
    read = crop_resize(read_photo(folder / places[1]), rule)
    if not np.array_equal(read, pixels[1]):
        raise OutputError(
            f"{folder / places[1]} is not read back as it was written; the disk or the decoder is at fault"
        )
    return StoredExample(photo, radius, places[0].as_posix(), places[1].as_posix(), read)


def stem(number: int, name: str) -> str:
    """A file's name without its ending, unique by its number."""
    return f"{number:04d}-{name_part(name)}"


def write_uncropped(path: Path, pixels: NDArray[np.uint8], rule: ResizeRule, photo: Frame | None = None) -> None:
    """Write pixels of the network, uint8 (H, W, 3), as a PNG that the runner's crop turns into them again."""
    _, data = cv2.imencode(".png", uncrop(pixels, rule, photo))
    write_bytes(path, data.tobytes())


def _jpeg(quality: int) -> Change:
    return lambda frame: recompressed(frame, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)


def _through_camera_size(frame: Frame) -> Frame:
    """Shown three times larger, as on a screen that fills a camera's picture; the runner's crop shrinks it again."""
    size = (frame.shape[1] * 3, frame.shape[0] * 3)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), np.uint8)


SURVIVAL: Sequence[tuple[str, Change]] = (
    ("JPEG quality 95", _jpeg(95)),
    ("JPEG quality 75", _jpeg(75)),
    ("JPEG quality 50", _jpeg(50)),
    ("enlarged 3 times, shrunk by the runner", _through_camera_size),
)
"""What may happen to a picture on its way to the network: a weaker threat, since the attack did not know of it."""


def after_changes(folder: Path, stored: StoredExample, rule: ResizeRule) -> NDArray[np.uint8]:
    """What the network gets of a stored adversarial picture after each change of SURVIVAL, uint8 (changes, H, W, 3)."""
    frame = read_photo(folder / stored.adversarial)
    return np.stack([crop_resize(change(frame), rule) for _, change in SURVIVAL])
