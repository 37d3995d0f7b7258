"""Was this photo trained on? Hashes of files and pictures, and the list of those that a model has seen.

The hash of a picture is the signs of its 96 lowest frequencies: of the luminance, shrunk to 32 x 32 by area, the two-dimensional
cosine transform without its constant term. A copy saved as JPEG of quality 20, or made 128 pixels wide, differs in at most 7
bits, two photos in 21 or more (decision 10). Turning and mirroring permutes and flips bits, so those copies are found too.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, BadImage
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.decode import Frame, decode_photo, read_file
from edge_tl_runtime.modelfile.training_images import (
    FILE_BYTES,
    MAX_BYTES,
    MAX_RADIUS,
    METHOD,
    PICTURE_BYTES,
    PhotoHashes,
    TrainingImages,
)

Role = Literal["trained_on", "validation", "new"]
"""Whether a model was trained on a photo, chosen by it (validation), or has not seen it as far as is known."""
ROLES: tuple[Role, ...] = ("trained_on", "validation", "new")

SIDE = 32
MIN_DETAIL = 2.0
"""Half of a picture's frequencies must be at least so strong (0.125 of 255 grey levels); a blank wall has no hash."""
ALIKE_SHARE = 0.02
"""Of a data set's photos, at most so many may look like another one of it within the radius."""
MARGIN = 2
"""Bits. Of 1000 new frames of cameras that do not move 15 were taken for old ones without it, none with it."""
FILE_SHARE = 0.75
"""Of MAX_BYTES, at most so much goes to the hashes of files."""

_BITS = 8 * PICTURE_BYTES
_FREQUENCIES = sorted(
    ((u, v) for u in range(SIDE) for v in range(SIDE) if u or v), key=lambda p: (sum(p), abs(p[0] - p[1]), p)
)[:_BITS]
_ROWS, _COLUMNS = (np.array(axis) for axis in zip(*_FREQUENCIES, strict=True))
_TRANSPOSED = np.array([_FREQUENCIES.index((v, u)) for u, v in _FREQUENCIES])
_TURNS = [(flip_rows, flip_columns) for flip_rows in (0, 1) for flip_columns in (0, 1)]
_FLIPS = np.array(
    [(_ROWS * vertical + _COLUMNS * horizontal) % 2 for _ in (0, 1) for vertical, horizontal in _TURNS], np.uint8
)
_POSITIONS = np.repeat([np.arange(_BITS), _TRANSPOSED], len(_TURNS), axis=0)
_COUNTS = np.array([value.bit_count() for value in range(256)], np.uint8)
_PIECE = 1024


def file_key(data: bytes) -> int:
    """The first four bytes of the file's SHA-256, little endian."""
    return key_of_digest(hashlib.sha256(data).hexdigest())


def key_of_digest(digest: str) -> int:
    """The same of a digest in hexadecimal."""
    return int.from_bytes(bytes.fromhex(digest[: 2 * FILE_BYTES]), "little")


def picture_hash(frame: Frame) -> NDArray[np.uint8] | None:
    """uint8 (PICTURE_BYTES,) of a frame, uint8 (H, W, 3), BGR; None for one with too little in it to be known again."""
    waves = cv2.dct(_shrunk(frame).astype(np.float32))[_ROWS, _COLUMNS]
    if np.median(np.abs(waves)) < MIN_DETAIL:
        return None
    return np.packbits(waves > 0)


def _shrunk(frame: Frame) -> NDArray[np.uint8]:
    """Luminance, uint8 (SIDE, SIDE). Halved first as often as it can be, which costs a fifth of one step by area."""
    small = frame
    while min(rows := small.shape[0] // 2, columns := small.shape[1] // 2) >= 2 * SIDE:
        halved = cv2.resize(small[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
        small = np.asarray(halved, np.uint8)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def turned(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hashes of a picture in its eight positions, turned and mirrored: uint8 (8, PICTURE_BYTES)."""
    return np.packbits(np.unpackbits(picture)[_POSITIONS] ^ _FLIPS, axis=1)


def distances(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bits that differ between hashes, uint8 (N, PICTURE_BYTES) and (M, PICTURE_BYTES): int64 (N, M)."""
    columns = zip(*(np.ascontiguousarray(hashes).view(np.uint32).T.copy() for hashes in (left, right)), strict=True)
    return np.asarray(sum(_ones(a[:, None] ^ b[None]) for a, b in columns), np.int64)


def _ones(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Bits that are 1 in each word. NumPy counts them from its version 2 on, fifteen times as fast."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(words), np.uint8)
    return np.asarray(_COUNTS[words.view(np.uint8).reshape(*words.shape, 4)].sum(-1), np.uint8)


class SeenPhotos:
    """Recognises the photos that a model has seen.

    seen = SeenPhotos.of(spec.training_images)
    seen.role_of_file(data) or seen.role_of_picture(frame)  # 'trained_on'
    """

    def __init__(self, images: TrainingImages) -> None:
        """images: a readable section of a contract."""
        self.images = images
        parts = (images.trained_on, images.validation)
        self._files = [frozenset(part.file_keys().tolist()) for part in parts]
        self._pictures = [part.picture_hashes() for part in parts] if images.radius >= 0 else []

    @classmethod
    def of(cls, images: TrainingImages | None) -> SeenPhotos | None:
        """None where nothing is known: no section, or one that this release cannot read."""
        return cls(images) if images is not None and images.readable else None

    def role_of_file(self, data: bytes) -> Role | None:
        """Of a file that was seen byte for byte; None for any other."""
        key = file_key(data)
        return next((role for role, keys in zip(ROLES, self._files, strict=False) if key in keys), None)

    def role_of_picture(self, frame: Frame) -> Role:
        """Of the seen photo that the frame, BGR, is a copy of; "new" where it is none."""
        picture = picture_hash(frame) if self._pictures else None
        if picture is None:
            return "new"
        found: list[tuple[int, Role]] = []
        for role, hashes in zip(ROLES, self._pictures, strict=False):
            if len(hashes):
                found.append((int(distances(turned(picture), hashes).min()), role))
        nearest, role = min(found, key=lambda item: item[0], default=(_BITS, "new"))
        return role if nearest <= self.images.radius else "new"


@dataclass(frozen=True)
class SeenFiles:
    """Files that a training has seen. trained_on, validation: SHA-256 in hexadecimal to where the file lies."""

    trained_on: Mapping[str, Path]
    validation: Mapping[str, Path]


def fingerprint_photos(files: SeenFiles, earlier: Sequence[TrainingImages] = ()) -> TrainingImages:
    """The section of a contract for photos that were just trained on.

    earlier: of the networks that the training started from, whose photos count too. Reads at most as many photos as fit.
    A file that can no longer be read is listed by its digest alone.
    """
    paths = {key_of_digest(digest): path for digest, path in {**files.validation, **files.trained_on}.items()}
    digests = (files.trained_on, files.validation)
    own = [{key_of_digest(digest) for digest in part} for part in digests]
    keys = [set(part) for part in own]
    readable = [images for images in earlier if images.readable]
    for place, name in enumerate(("trained_on", "validation")):
        keys[place] |= {int(key) for images in readable for key in getattr(images, name).file_keys()}
    keys[1] -= keys[0]
    counts = [len(part) for part in keys]
    for images in readable:  # of a partial list not all can be taken over, but all are counted
        for place, part in enumerate((images.trained_on, images.validation)):
            counts[place] += part.n - len(part.file_keys())
    listed = sorted(keys[0] | keys[1])[: int(FILE_SHARE * MAX_BYTES) // FILE_BYTES]
    room = (MAX_BYTES - FILE_BYTES * len(listed)) // PICTURE_BYTES
    looked_at = [key for key in listed if key in paths][:room]
    pictures = dict(zip(looked_at, map_in_order(_hash_of, [paths[key] for key in looked_at]), strict=True))
    hashes = [_hashes(pictures, part) for part in keys]
    alike = [*hashes]  # one row a file: equal pictures in different files say how alike the photos are
    for place, name in enumerate(("trained_on", "validation")):
        old = [getattr(images, name).picture_hashes() for images in readable if images.radius >= 0]
        both = np.unique(np.concatenate([hashes[place], *old]), axis=0)
        alike.append(both[~_among(both, hashes[place])])
        hashes[place] = both
    radius = safe_radius(np.concatenate(alike))
    if radius < 0:
        hashes = [part[:0] for part in hashes]
    # Those that were not looked at are supposed to have a hash each.
    missing = [len(part - set(looked_at)) for part in own]
    for place, name in enumerate(("trained_on", "validation")):
        lists = [getattr(images, name) for images in readable]
        missing[place] += sum(part.n_pictures - len(part.picture_hashes()) for part in lists)
    room_each = _shared_room(room, hashes)
    sections = [
        PhotoHashes(
            n=counts[place],
            n_pictures=len(hashes[place]) + (missing[place] if radius >= 0 else 0),
            files=_encoded(np.array([key for key in listed if key in keys[place]], "<u4")),
            pictures=_encoded(hashes[place][: room_each[place]]),
        )
        for place in (0, 1)
    ]
    return TrainingImages(method=METHOD, radius=radius, trained_on=sections[0], validation=sections[1])


def safe_radius(hashes: NDArray[np.uint8]) -> int:
    """The largest radius, at most MAX_RADIUS, within which few photos of a set look like another one of it; -1 for none.

    Frames of a camera that does not move differ in few bits, and a new frame would be taken for an old one. Where that is so, the
    radius is MARGIN smaller. hashes: uint8 (N, PICTURE_BYTES), one of each file.
    """
    nearest = np.full(len(hashes), _BITS)
    signs = np.where(np.unpackbits(hashes, axis=1), 1, -1).astype(np.float32)
    for start in range(0, len(hashes), _PIECE):
        apart = (_BITS - signs[start : start + _PIECE] @ signs.T) / 2
        rows = np.arange(len(apart))
        apart[rows, start + rows] = _BITS
        nearest[start : start + _PIECE] = apart.min(1)
    allowed = max(4, ALIKE_SHARE * len(hashes))  # two pairs of copies say nothing of a small set
    radius = next((radius for radius in range(MAX_RADIUS, -1, -1) if (nearest <= radius).sum() <= allowed), -1)
    return radius if radius == MAX_RADIUS else max(radius - MARGIN, -1)


def _hash_of(path: Path) -> NDArray[np.uint8] | None:
    try:
        return picture_hash(decode_photo(read_file(path)))
    except (BadImage, BadFrame):
        return None


def _hashes(pictures: Mapping[int, NDArray[np.uint8] | None], keys: Iterable[int]) -> NDArray[np.uint8]:
    found = [picture for key in sorted(keys) if (picture := pictures.get(key)) is not None]
    return np.stack(found) if found else np.empty((0, PICTURE_BYTES), np.uint8)


def _among(rows: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each row is one of the others."""
    known = {row.tobytes() for row in others}
    return np.array([row.tobytes() in known for row in rows], np.bool_)


def _shared_room(room: int, hashes: Sequence[NDArray[np.uint8]]) -> list[int]:
    total = sum(map(len, hashes))
    return [len(part) if total <= room else room * len(part) // total for part in hashes]


def _encoded(values: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
