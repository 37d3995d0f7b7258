"""The contract's section about training images: which photos a model has seen, in a few bytes a photo.

Of each photo's file four bytes of its SHA-256, which a renamed or moved file keeps, and of each picture a hash of 96 bits
(`edge_tl_runtime.images.fingerprint`), which a copy that was saved again or made smaller nearly keeps. Beyond `MAX_BYTES` the
photos with the smallest hashes alone are listed, which is as good as drawing them by lot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.modelfile.sections import Section, decoded, require, text, whole

METHOD = "sha256-32+dct-96"
MAX_BYTES = 128 * 1024
"""Of both lists of hashes, before base64: 1 % of a file of 17 MB. 8192 photos whole; the files of 24,576."""
FILE_BYTES, PICTURE_BYTES = 4, 12
MAX_RADIUS = 12
"""Of 96 bits in which a copy may differ. Of 2867 different photos no two are nearer than 21 (decision 10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoHashes(Section):
    """n: different files; n_pictures: pictures that have a hash. files, pictures: base64 of the hashes, ascending; fewer than n
    where the list is partial."""

    n: int
    n_pictures: int
    files: str
    pictures: str

    def __post_init__(self) -> None:
        require(whole(self.n, self.n_pictures), "training images are not counted in whole photos")
        require(0 <= self.n < 2**63 and 0 <= self.n_pictures < 2**63, "training images are counted out of bounds")
        for data, size, most in ((self.files, FILE_BYTES, self.n), (self.pictures, PICTURE_BYTES, self.n_pictures)):
            length = len(decoded(data, "a list of training images"))
            require(length % size == 0 and length // size <= most, "a list of training images has a wrong length")

    def file_keys(self) -> NDArray[np.uint32]:
        return np.frombuffer(decoded(self.files, "a list"), "<u4").astype(np.uint32)

    def picture_hashes(self) -> NDArray[np.uint8]:
        """uint8 (N, PICTURE_BYTES)."""
        return np.frombuffer(decoded(self.pictures, "a list"), np.uint8).reshape(-1, PICTURE_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingImages(Section):
    """Photos that a model has seen.

    method: how they were hashed. radius: bits of the picture hash in which a copy may differ, smaller where the training photos
    are much alike, -1 where copies cannot be told from new photos. trained_on: photos that taught it, with or without labels;
    validation: photos that chose its recipe and temperature.
    """

    INNER: ClassVar[Mapping[str, type[Section]]] = {"trained_on": PhotoHashes, "validation": PhotoHashes}

    method: str
    radius: int
    trained_on: PhotoHashes
    validation: PhotoHashes

    def __post_init__(self) -> None:
        require(text(self.method) and bool(self.method), "the method of training images has no name")
        require(whole(self.radius) and -1 <= self.radius <= 48, f"training images are the same within {self.radius!r}")

    @property
    def readable(self) -> bool:
        """Whether this release knows how the photos were hashed."""
        return self.method == METHOD

    @property
    def share_of_files(self) -> float:
        """Share of the photos whose file is listed, in [0, 1]."""
        return _share(self, "files", FILE_BYTES, "n")

    @property
    def share_of_pictures(self) -> float:
        """Share of the photos of which a copy is recognised, in [0, 1]."""
        return 0.0 if self.radius < 0 else _share(self, "pictures", PICTURE_BYTES, "n_pictures")

    def describe(self) -> str:
        """`245 trained on, 153 for validation; copies are recognised`."""
        if not self.readable:
            return f"listed by a method that this edge-tl does not know ({self.method}); upgrade it to use the list"
        said = f"{self.trained_on.n} trained on, {self.validation.n} for validation"
        if self.share_of_files < 1:
            said += f"; {100 * self.share_of_files:.0f} % of them are listed, drawn by chance"
        if self.radius < 0:
            return f"{said}; only identical files are recognised, for the photos are too much alike"
        if self.share_of_pictures < self.share_of_files:
            return f"{said}; copies of {100 * self.share_of_pictures:.0f} % are recognised"
        return f"{said}; copies are recognised"


def _share(images: TrainingImages, name: str, size: int, count: str) -> float:
    parts = (images.trained_on, images.validation)
    total = sum(getattr(part, count) for part in parts)
    listed = sum(len(decoded(getattr(part, name), "a list")) // size for part in parts)
    return listed / total if total else 1.0
