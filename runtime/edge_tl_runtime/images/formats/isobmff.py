"""What the boxes of a HEIC or AVIF file say before anything is decoded: size, turn, mirror, bits, transparency.

ISO/IEC 14496-12 (boxes), 23008-12 (pictures in them). The picture's own turn and mirror count; EXIF inside such a file only
repeats them, so it is not looked at: a photo is never turned twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from edge_tl_runtime.images.formats.av1 import largest_frame
from edge_tl_runtime.images.formats.kinds import Damaged

_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:avc:2015:auxid:1")
_PICTURES = frozenset({b"hvc1", b"av01", b"grid", b"iovl", b"iden", b"jpeg", b"avc1", b"unci"})
"""Types of items that are pictures, coded or made of others."""
_HEADERS = 4096
"""Bytes of an item in which AV1 says its size."""
MAX_BOXES = 20_000
"""Boxes looked at; a picture of 1000 tiles has a few thousand."""


@dataclass(frozen=True, slots=True)
class BoxedPicture:
    """size: px before `steps`. largest: pixels of the largest picture that the file asks for, tiles and AV1 included.

    steps: what is done to the decoded pixels, in order: ("turn", quarter turns against the clock), ("mirror", 0 for top and
    bottom changing places, 1 for left and right). bits: of a colour. cropped: whether only a part of the pixels is to be seen.
    """

    size: tuple[int, int]
    largest: int
    steps: tuple[tuple[str, int], ...]
    bits: int
    alpha: bool
    cropped: bool


def boxed_picture(data: bytes) -> BoxedPicture:
    """Read the boxes of the main picture. Raises Damaged or struct.error."""
    budget = [MAX_BOXES]
    meta = next((body for kind, body in _boxes(data, 0, len(data), budget) if kind == b"meta"), None)
    if meta is None:
        raise Damaged
    primary = 0
    associations: dict[int, list[int]] = {}
    alpha_items: set[tuple[int, int]] = set()
    properties: list[tuple[bytes, tuple[int, int]]] = []
    places: dict[int, bytes] = {}
    coded: list[int] = []
    for kind, (start, end) in _boxes(data, meta[0] + 4, meta[1], budget):
        if kind == b"pitm":
            primary = _number(data, start + 4, 2 if data[start] == 0 else 4)
        elif kind == b"iref":
            alpha_items = _auxiliaries(data, start, end, budget)
        elif kind == b"iloc":
            places = _places(data, start)
        elif kind == b"iinf":
            first = start + (6 if data[start] == 0 else 8)
            coded = [_av1_item(data, a) for _, (a, _) in _boxes(data, first, end, budget)]
        elif kind == b"iprp":
            for inner, (a, b) in _boxes(data, start, end, budget):
                if inner == b"ipco":
                    properties = list(_boxes(data, a, b, budget))
                elif inner == b"ipma":
                    associations |= _associations(data, a, b)
    described = _described(data, primary, properties, associations, alpha_items)
    if any(item and item not in places for item in coded):
        raise Damaged
    frames = [largest_frame(places[item]) for item in coded if item]
    return replace(described, largest=max([described.largest, *(width * height for width, height in frames)]))


def shown_items(data: bytes) -> int:
    """Pictures of a HEIC or AVIF file that a viewer offers: no tiles, thumbnails, depth or gain maps. Damaged, struct.error."""
    budget = [MAX_BOXES]
    meta = next((body for kind, body in _boxes(data, 0, len(data), budget) if kind == b"meta"), None)
    if meta is None:
        return 1
    pictures: set[int] = set()
    beside: set[int] = set()
    for kind, (start, end) in _boxes(data, meta[0] + 4, meta[1], budget):
        if kind == b"iinf":
            first = start + (6 if data[start] == 0 else 8)
            for _, (a, _end) in _boxes(data, first, end, budget):
                size = 4 if data[a] >= 3 else 2
                is_hidden = data[a + 3] & 1
                if data[a + 6 + size : a + 10 + size] in _PICTURES and not is_hidden:
                    pictures.add(_number(data, a + 4, size))
        elif kind == b"iref":
            size = 2 if data[start] == 0 else 4
            for relation, (a, _end) in _boxes(data, start + 4, end, budget):
                if relation in (b"thmb", b"auxl"):
                    beside.add(_number(data, a, size))
                elif relation == b"dimg":  # tiles and layers, of which the picture is made
                    count = _number(data, a + size, 2)
                    beside |= {_number(data, a + size + 2 + i * size, size) for i in range(min(count, MAX_BOXES))}
    return len(pictures - beside)


def _described(
    data: bytes,
    primary: int,
    properties: list[tuple[bytes, tuple[int, int]]],
    associations: dict[int, list[int]],
    alpha_items: set[tuple[int, int]],
) -> BoxedPicture:
    def of(item: int) -> list[tuple[bytes, tuple[int, int]]]:
        return [properties[i - 1] for i in associations.get(item, []) if 0 < i <= len(properties)]

    size, bits, cropped = (0, 0), 8, False
    steps: list[tuple[str, int]] = []
    for kind, (start, end) in of(primary):
        if kind == b"ispe":
            size = struct.unpack_from(">II", data, start + 4)
        elif kind == b"irot":
            steps.append(("turn", data[start] & 3))
        elif kind == b"imir":
            steps.append(("mirror", data[start] & 1))
        elif kind == b"clap":
            cropped = True
        elif kind == b"pixi" and end > start + 5:
            bits = data[start + 5]
        elif kind == b"av1C" and end > start + 2:
            high, twelve = data[start + 2] >> 6 & 1, data[start + 2] >> 5 & 1
            bits = 12 if high and twelve else 10 if high else 8
    sizes = [struct.unpack_from(">II", data, start + 4) for kind, (start, _) in properties if kind == b"ispe"]
    alpha = any(
        item in [number for number, owner in alpha_items if owner == primary]
        and any(kind == b"auxC" and data[a + 4 : b].startswith(_ALPHA) for kind, (a, b) in of(item))
        for item in associations
    )
    largest = max((width * height for width, height in sizes), default=0)
    return BoxedPicture(size, largest, tuple(steps), bits, alpha, cropped)


def _boxes(data: bytes, start: int, end: int, budget: list[int]) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Kind of each box between two offsets, and where its content starts and ends."""
    at = start
    while at + 8 <= end:
        budget[0] -= 1
        if budget[0] < 0:
            raise Damaged
        length, head = _number(data, at, 4), 8
        if length == 1:
            length, head = _number(data, at + 8, 8), 16
        elif length == 0:  # to the end
            length = end - at
        if length < head or at + length > end:
            # What stands after the description may be cut off; the decoder finds that.
            if data[at + 4 : at + 8] == b"mdat":
                return
            raise Damaged
        yield data[at + 4 : at + 8], (at + head, at + length)
        at += length


def _associations(data: bytes, start: int, end: int) -> dict[int, list[int]]:
    """Numbers of the properties of each item, 1-based, in order."""
    version, wide = data[start], data[start + 3] & 1
    count, at = _number(data, start + 4, 4), start + 8
    found: dict[int, list[int]] = {}
    for _ in range(min(count, MAX_BOXES)):
        if at >= end:
            raise Damaged
        item = _number(data, at, 2 if version == 0 else 4)
        at += 2 if version == 0 else 4
        number = data[at]
        at += 1
        found[item] = [
            _number(data, at + i * (2 if wide else 1), 2 if wide else 1) & (0x7FFF if wide else 0x7F)
            for i in range(number)
        ]
        at += number * (2 if wide else 1)
    return found


def _av1_item(data: bytes, at: int) -> int:
    """Number of an item that holds AV1, 0 for another."""
    size = 4 if data[at] >= 3 else 2
    return _number(data, at + 4, size) if data[at + 6 + size : at + 10 + size] == b"av01" else 0


def _places(data: bytes, at: int) -> dict[int, bytes]:
    """Bytes of each item that lies in the file itself, its pieces put together as far as headers go (8.11.3)."""
    version, sizes = data[at], _number(data, at + 4, 2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    count, at = _number(data, at + 6, wide), at + 6 + wide
    found: dict[int, bytes] = {}
    for _ in range(min(count, MAX_BOXES)):
        item, at = _number(data, at, wide), at + wide
        method = 0
        if version:
            method, at = _number(data, at, 2) & 15, at + 2
        base, at = _number(data, at + 2, base_size), at + 2 + base_size
        pieces, at = _number(data, at, 2), at + 2
        content = b""
        for _ in range(pieces):
            at += index_size
            start, at = base + _number(data, at, offset_size), at + offset_size
            length, at = _number(data, at, length_size), at + length_size
            if method == 0 and len(content) < _HEADERS:
                content += data[start : start + min(length, _HEADERS)] if length else data[start : start + _HEADERS]
        if method == 0:
            found[item] = content
    return found


def _auxiliaries(data: bytes, start: int, end: int, budget: list[int]) -> set[tuple[int, int]]:
    """Pairs (picture beside, picture it belongs to)."""
    size = 2 if data[start] == 0 else 4
    pairs: set[tuple[int, int]] = set()
    for kind, (a, _) in _boxes(data, start + 4, end, budget):
        if kind == b"auxl":
            count = _number(data, a + size, 2)
            pairs |= {
                (_number(data, a, size), _number(data, a + size + 2 + i * size, size)) for i in range(min(count, 64))
            }
    return pairs


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise Damaged
    return int.from_bytes(data[at : at + size], "big")
