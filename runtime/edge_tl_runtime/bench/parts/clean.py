"""The labelled photos of a benchmark, whether from a pack or from files: read a few at a time, evaluated in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.parts.part import Bench, Document, Part
from edge_tl_runtime.core.errors import BadFrame, BadImage
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.choosing import spread_over
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.robustness.corrupted_accuracy import CleanPhoto, camera_frame

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import RightPhotosDocument

PIECE = 16
"""Photos between two looks at the clock, and kept together on disk."""
NONE = "it needs labelled photos: give a pack, or --data"


@dataclass(frozen=True)
class Labelled:
    """Labelled photos of a benchmark, by place."""

    bench: Bench

    def __len__(self) -> int:
        if self.bench.pack is not None:
            return len(self.bench.pack.photos)
        return 0 if self.bench.photos is None else len(self.bench.photos)

    @property
    def places(self) -> list[int]:
        """Those that are evaluated: so many as were asked for, spread over the classes of a pack; files were drawn before."""
        return spread_over(self.targets.tolist(), 0 if self.bench.pack is None else self.bench.settings.photos)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Index of the class of each photo, by place, int64."""
        if self.bench.pack is not None:
            return self.bench.pack.targets
        return np.asarray(() if self.bench.photos is None else self.bench.photos.targets, np.int64)

    def name(self, place: int) -> str:
        if self.bench.pack is not None:
            return self.bench.pack.photos[place].name
        assert self.bench.photos is not None
        return self.bench.photos.name(place)

    def pixels(self, place: int) -> NDArray[np.uint8]:
        """As the network gets it, uint8 (H, W, 3). Raises BadImage or BadFrame for a file that is no photo."""
        if self.bench.pack is not None:
            return self.bench.pack.pixels(place)
        return crop_resize(self._file(place), self.bench.classifier.spec.resize)

    def clean(self, place: int) -> CleanPhoto:
        """For corruptions: the network's pixels in BGR, and the frame of a camera."""
        rule = replace(self.bench.classifier.spec.resize, color_order="BGR")
        if self.bench.pack is not None:
            pixels, frame = self.bench.pack.pixels(place), self.bench.pack.frame(place)
            if self.bench.pack.resize.color_order == "RGB":
                pixels = np.ascontiguousarray(pixels[..., ::-1])
        else:
            photo = self._file(place)
            pixels, frame = crop_resize(photo, rule), camera_frame(photo)
        return CleanPhoto(place, self.name(place), pixels, frame)

    def _file(self, place: int) -> Frame:
        assert self.bench.photos is not None
        return read_photo(self.bench.photos.paths[place])


class OnPhotos(Part):
    """A part that evaluates labelled photos, PIECE at a time (see `in_pieces`)."""

    def absent(self, bench: Bench) -> str:
        return "" if len(Labelled(bench)) else NONE

    def pieces(self, bench: Bench) -> int:
        return -(-len(Labelled(bench).places) // PIECE)


@dataclass(frozen=True)
class ImageBatch:
    """Photos that could be read. pixels: uint8 (N, H, W, 3); targets: int64 (N,); places: int64 (N,)."""

    places: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]


def read_group(photos: Labelled, places: list[int]) -> ImageBatch:
    """Those of the photos that can be read."""
    read: list[tuple[int, NDArray[np.uint8]]] = []
    for place in places:
        try:
            read.append((place, photos.pixels(place)))
        except (BadImage, BadFrame):
            continue
    rule = photos.bench.classifier.spec.resize
    pixels = np.stack([item for _, item in read]) if read else np.empty((0, rule.height, rule.width, 3), np.uint8)
    kept = np.array([place for place, _ in read], np.int64)
    return ImageBatch(kept, pixels, photos.targets[kept])


def in_pieces(
    bench: Bench, name: str, places: list[int], evaluate: Callable[[list[int]], Document | None]
) -> tuple[list[Document], bool]:
    """`evaluate` of PIECE photos at a time, from the ledger where it was asked before; and whether time was left for all.

    evaluate: places to a JSON document, or None where it saw the time end first; that piece is done again another time. The first
    is always begun, so that there is a figure.
    """
    found: list[Document] = []
    for piece in pieces(places):
        entry = f"{name} {piece}"
        stored = bench.ledger.get(entry)
        if stored is None:
            if found and bench.stop():
                return found, False
            stored = evaluate(piece)
            if stored is None:
                return found, False
            bench.ledger.put(entry, stored)
        found.append(stored)
        bench.progress(1)
    return found, True


def pieces(places: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(places), PIECE):
        yield places[start : start + PIECE]


def joined(found: list[Document], key: str) -> list[Any]:
    """Lists under a key of every piece, one after the other."""
    return [value for piece in found for value in piece[key]]


def outcomes(photos: Labelled, places: list[int], right: Iterable[bool]) -> RightPhotosDocument:
    """Which photos were right, for statistics of pairs. photos: digest of their names and classes; right: a 1 or 0 for each."""
    targets = photos.targets
    digest = listing_digest((photos.name(place), int(targets[place])) for place in places)
    return {"photos": digest, "right": "".join("1" if value else "0" for value in right)}


def listing_digest(photos: Iterable[tuple[str, int]]) -> str:
    """SHA-256 of names and classes, in order."""
    listed = "\n".join(f"{name}\t{target}" for name, target in photos)
    return sha256(listed.encode("utf-8", "surrogateescape"))
