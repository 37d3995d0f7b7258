"""The first directory of a TIFF or BigTIFF file: how large it decodes and what its samples mean (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_tl_runtime.images.formats.kinds import TIFF_MAGICS, Damaged

if TYPE_CHECKING:
    from mmap import mmap

    Readable = bytes | mmap

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
SAMPLES, ROWS, MAX_VALUE, TILE_WIDTH, TILE_HEIGHT = 277, 278, 281, 322, 323
SUBFILE, DIRECTORIES, EXTRA, FORMAT, DNG = 254, 330, 338, 339, 50706

_SIZES = frozenset({WIDTH, HEIGHT, BITS, SAMPLES, ROWS, TILE_WIDTH, TILE_HEIGHT})
_MEANING = frozenset(
    {COMPRESSION, PHOTOMETRIC, ORIENTATION, MAX_VALUE, SUBFILE, DIRECTORIES, EXTRA, FORMAT, DNG},
)
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Types of tags that hold whole numbers, and how each is stored."""
MAX_ENTRIES = 4096
"""Entries of a directory that are looked at; cameras write a hundred."""

_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946})
"""None, CCITT, LZW, JPEG, Deflate, PackBits: what OpenCV's libtiff is built with."""
_RAW_COLOURS = (32803, 34892)
"""PhotometricInterpretation of a sensor's colour filter and of linear raw (DNG)."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Numbers of the first directory; of a tag with several values, the first. order: "<" or ">"."""

    order: str
    tags: dict[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px; 0 for one that is missing."""
        return self.tags.get(WIDTH, 0), self.tags.get(HEIGHT, 0)

    @property
    def bits(self) -> int:
        """Bits of a sample."""
        return self.tags.get(BITS, 1)

    @property
    def samples(self) -> int:
        return self.tags.get(SAMPLES, 1)

    @property
    def alpha(self) -> bool:
        """Whether the sample after the colours is declared as alpha. Premultiplied: the value of the tag is 1."""
        return self.tags.get(EXTRA) in (1, 2)

    @property
    def premultiplied(self) -> bool:
        return self.tags.get(EXTRA) == 1

    @property
    def is_raw(self) -> bool:
        """Whether this is a camera's raw file: DNG, or a thumbnail that stands before the sensor's data (NEF, ARW)."""
        thumbnail_first = bool(self.tags.get(SUBFILE, 0) & 1) and DIRECTORIES in self.tags
        return DNG in self.tags or thumbnail_first or self.tags.get(PHOTOMETRIC) in _RAW_COLOURS

    def refusal(self) -> str:
        """Why its samples cannot become a photo; "" when they can."""
        number = {2: "signed numbers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}.get(
            self.tags.get(FORMAT, 1), ""
        )
        if number:
            return f"TIFF of {number}, which do not say what is black and white; save it with 8 or 16 bits"
        if self.bits > 16:
            return f"TIFF of {self.bits} bits a sample; save it with 8 or 16 bits"
        if self.tags.get(COMPRESSION, 1) not in _COMPRESSIONS:
            return (
                f"TIFF packed in a way that is not read here (compression {self.tags[COMPRESSION]}); "
                "save it with LZW or without compression"
            )
        if self.alpha and self.samples == 2:
            return "grey TIFF with transparency, whose alpha OpenCV does not give; save it as PNG"
        return ""

    def tile_bytes(self) -> int:
        """One tile or strip, which is decoded at a time: as it is stored, or as RGBA if that is more."""
        width, height = self.size
        if not width or not height:
            raise Damaged
        rows = min(self.tags.get(ROWS, height), height)
        pixels = max(width * rows, self.tags.get(TILE_WIDTH, 0) * self.tags.get(TILE_HEIGHT, 0))
        return pixels * max(4, -(-self.samples * self.tags.get(BITS, 8) // 8))


def first_directory(data: Readable) -> Directory:
    """Raises Damaged, or struct.error where an offset lies outside `data`."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\x00", b"\x00+")
    if big:
        at = struct.unpack_from(order + "Q", data, 8)[0]
        count, start, step = _unpacked(order + "Q", data, at), at + 8, 20
    else:
        at = struct.unpack_from(order + "I", data, 4)[0]
        count, start, step = _unpacked(order + "H", data, at), at + 2, 12
    found: dict[int, int] = {}
    if count > MAX_ENTRIES and start + step * count > len(data):
        raise Damaged
    for entry in range(start, start + step * min(count, MAX_ENTRIES), step):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag not in _SIZES and tag not in _MEANING:
            continue
        values = _unpacked(order + ("Q" if big else "I"), data, entry + 4)
        # Readers differ in which of two they believe, and in sizes of other kinds than SHORT and LONG.
        if tag in _SIZES and (tag in found or kind not in ((3, 4, 16) if big else (3, 4)) or values < 1):
            raise Damaged
        if kind not in _NUMBERS or values < 1 or tag in found:
            continue
        place = entry + (12 if big else 8)
        if values * struct.calcsize(_NUMBERS[kind]) > (8 if big else 4):  # the entry says where the numbers are
            place = _unpacked(order + ("Q" if big else "I"), data, place)
        try:
            found[tag] = _unpacked(order + _NUMBERS[kind], data, place)
        except struct.error:
            if tag in _SIZES:
                raise
    return Directory(order, found)


def orientation(exif: bytes) -> int:
    """EXIF orientation 1..8 of a block of EXIF, with or without its `Exif` mark; 1 where it says nothing that can be."""
    block = exif[6:] if exif.startswith(b"Exif\x00\x00") else exif
    try:
        found = first_directory(block).tags.get(ORIENTATION, 1) if block[:4] in TIFF_MAGICS[:2] else 1
    except (struct.error, Damaged, OverflowError):
        return 1
    return found if 1 <= found <= 8 else 1


def _unpacked(form: str, data: Readable, at: int) -> int:
    if at > len(data):
        raise struct.error("outside the file")
    return int(struct.unpack_from(form, data, at)[0])
