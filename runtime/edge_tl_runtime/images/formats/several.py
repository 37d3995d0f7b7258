"""How many pictures a picture file holds: animations, pages, JPEGs one after the other. Nothing is decoded."""

from __future__ import annotations

import re
import struct

from edge_tl_runtime.images.formats.isobmff import shown_items
from edge_tl_runtime.images.formats.kinds import Damaged

SEVERAL = "an animation, or several pages in one file: the first picture is used"
"""The note of a photo whose file holds more pictures than the one that is taken."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PNM = re.compile(rb"P([56])\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s+(\d{1,5})\s")
_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Markers of a frame header (ITU-T T.81, table B.1)."""
_NEXT_JPEG = 64
"""So close after its end the next picture begins in a stream of pictures."""
MAX_COUNTED = 1_000_000
_GAIN_MAPS = (b"hdrgm:", b"HDRGainMap", b"urn:iso:std:iso:ts:21496")
"""Words in the metadata of a JPEG whose second picture only says how bright the first is."""
_THUMBNAILS = 0x01
"""First byte of the type of large thumbnails among the pictures of an MPO (CIPA DC-007, 5.2.3.3)."""


def several_note(data: bytes) -> str:
    """`SEVERAL` for a file of more than one picture a person would look at, "" for all others. From headers alone.

    Unlike `picture_count`, which asks what can be played, this counts the pages of HEIC and the pictures of an MPO too.
    """
    try:
        boxed = data[4:8] == b"ftyp"
        several = (
            _count(data, 2) > 1 or (boxed and shown_items(data) > 1) or (data[:2] == b"\xff\xd8" and _is_mpo(data))
        )
    except (struct.error, IndexError, Damaged):
        return ""
    return SEVERAL if several else ""


def _is_mpo(data: bytes) -> bool:
    """Whether a JPEG says that other pictures of its own size, no thumbnails and no gain maps, follow it."""
    size, (index, order) = _jpeg(data, 0)[0], _mp_index(data)
    if index < 0 or any(word in data for word in _GAIN_MAPS):
        return False
    (first,) = struct.unpack_from(order + "I", data, index + 4)
    (entries,) = struct.unpack_from(order + "H", data, index + first)
    for number in range(entries):
        tag, _, length, at = struct.unpack_from(order + "HHII", data, index + first + 2 + 12 * number)
        if tag == 0xB002:
            pictures = [
                struct.unpack_from(order + "III", data, index + at + 16 * i) for i in range(1, min(length // 16, 100))
            ]
            return any(
                kind >> 16 & 0xFF != _THUMBNAILS and offset and _jpeg(data, index + offset)[0] == size
                for kind, _, offset in pictures
            )
    return False


def _mp_index(data: bytes) -> tuple[int, str]:
    """Where the index of a JPEG's other pictures begins, -1 without one, and its byte order."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xE2 and data[at + 4 : at + 8] == b"MPF\0":
            return at + 8, "<" if data[at + 8 : at + 10] == b"II" else ">"
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1, ">"


def picture_count(data: bytes, most: int = MAX_COUNTED) -> int:
    """Pictures in the bytes of a file, 1 where there is one or where that cannot be told; no more than `most` are counted.

    What belongs to one photo does not count: thumbnails, gain maps, the parts of a stereo photo (MPF), smaller copies of a page.
    """
    try:
        return max(1, min(most, _count(data, most)))
    except (struct.error, IndexError):
        return 1  # damaged: whoever decodes it says so


def _count(data: bytes, most: int) -> int:
    if data[:3] == b"\xff\xd8\xff":
        return _jpegs(data, most)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _png_frames(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_frames(data, most)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_pages(data, most)
    if data[4:8] == b"ftyp":
        return _track_samples(data)
    if data[:2] in (b"P5", b"P6"):
        return _pnm_pictures(data, most)
    return 1


def _jpegs(data: bytes, most: int) -> int:
    """JPEGs of one size, one right after the other: a raw MJPEG recording, whatever it is called."""
    if not _joined(data):
        return 1  # all photos but the odd one; far faster than to look at each marker
    count, at, first = 0, 0, b""
    while count < most and data[at : at + 3] == b"\xff\xd8\xff":
        size, end, is_part = _jpeg(data, at)
        if is_part or (count and size != first):
            break
        count, first = count + 1, size
        if end < 0:
            break
        at = data.find(b"\xff\xd8\xff", end, end + _NEXT_JPEG)
        if at < 0:
            break
    return count


def _joined(data: bytes) -> bool:
    """Whether a JPEG begins right after the end of another."""
    end = data.find(b"\xff\xd9")
    while end >= 0:
        if data.find(b"\xff\xd8\xff", end + 2, end + 5 + _NEXT_JPEG) >= 0:
            return True
        end = data.find(b"\xff\xd9", end + 2)
    return False


def _jpeg(data: bytes, at: int) -> tuple[bytes, int, bool]:
    """Height and width as coded, where the picture ends (-1: nowhere), and whether it is one of several of a single photo."""
    size, is_part, at = b"", False, at + 2
    while (found := _MARKER.search(data, at)) is not None:
        kind, at = found[0][1], found.end()
        if kind == 0xD9:
            return size, at, is_part
        if kind in (0x01, 0xD8):
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if kind in _SIZES:
            size = data[at + 3 : at + 7]
        if kind == 0xE2 and data[at + 2 : at + 6] == b"MPF\0":
            is_part = True
        at += length
    return size, -1, is_part


def _png_frames(data: bytes) -> int:
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            return int(struct.unpack_from(">I", data, at + 8)[0])
        if kind == b"IDAT":
            return 1
        at += length + 12
    return 1


def _webp_frames(data: bytes, most: int) -> int:
    count, at = 0, 12
    while at + 8 <= len(data) and count < most:
        kind, length = struct.unpack_from("<4sI", data, at)
        count += kind == b"ANMF"
        at += 8 + length + length % 2
    return count


def _tiff_pages(data: bytes, most: int) -> int:
    """Directories of the chain that are no smaller copy of another (tag 254, bit 0) and no mask (bit 2)."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    count, seen = 0, set[int]()
    while at and at not in seen and count < most:
        seen.add(at)
        (entries,) = struct.unpack_from(order + "H", data, at)
        flags = 0
        for number in range(entries):
            tag, kind = struct.unpack_from(order + "HH", data, at + 2 + 12 * number)
            if tag == 254:
                flags = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 10 + 12 * number)[0]
        count += not flags & 5
        (at,) = struct.unpack_from(order + "I", data, at + 2 + 12 * entries)
    return count


def _track_samples(data: bytes) -> int:
    """Of AVIF and HEIC sequences: samples of the largest track (ISO/IEC 14496-12, box stsz)."""
    if not any(brand in data[8:64] for brand in (b"avis", b"msf1", b"hevc", b"hevx")):
        return 1
    counts = [int(struct.unpack_from(">I", data, found.end() + 8)[0]) for found in re.finditer(b"stsz", data)]
    return max((count for count in counts if count < len(data)), default=1)


def _pnm_pictures(data: bytes, most: int) -> int:
    """Grey and colour PNM files may stand one after the other, each with its own header."""
    count, at = 0, 0
    while count < most and at < len(data):
        found = _PNM.match(data, at)
        if found is None:
            break
        width, height = int(found[2]), int(found[3])
        size = width * height * (3 if found[1] == b"6" else 1) * (2 if int(found[4]) > 255 else 1)
        count, at = count + 1, found.end() + size
    return count
