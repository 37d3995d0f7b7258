"""Kind and size of a picture from the first bytes of its file, before anything is decoded.

Enough of each format to know how much memory a decoder would take. Written here because the libraries that do it import a web
client (25 ms of a device command's start) or a whole second decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from edge_tl_runtime.errors import BadImage

Size = tuple[int, int]
"""Width and height in pixels."""


def picture_header(data: bytes) -> tuple[str, Size]:
    """Kind ("JPEG", "PNG", "WebP", "BMP", "TIFF") and size. Raises BadImage for anything else or a damaged header."""
    if not data:
        raise BadImage("empty file")
    found = next(((kind, read) for magic, offset, kind, read in _FORMATS if data.startswith(magic, offset)), None)
    if found is None:
        raise BadImage(
            GIF if data.startswith(b"GIF8") else "not a photo (its content is no JPEG, PNG, WebP, BMP or TIFF)"
        )
    kind, read = found
    try:
        width, height = read(data)
    except (struct.error, IndexError):
        raise BadImage(f"damaged {kind} header") from None
    if width <= 0 or height <= 0:
        raise BadImage(f"damaged {kind} header (no picture size)")
    return kind, (width, height)


GIF = "GIF holds a palette or an animation, not a photo; save a PNG or JPEG"


def jpeg_segments(data: bytes) -> tuple[Size, int]:
    """Size from the frame header, and the offset of the first start-of-scan, 0 when there is none (ITU-T T.81, annex B)."""
    size, at = (0, 0), 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0xDA:
            return size, at
        elif 0xD0 <= marker <= 0xD9 or marker == 0x01:  # markers without content
            at += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack_from(">HH", data, at + 5)
                size = width, height
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return size, 0


def _jpeg(data: bytes) -> Size:
    return jpeg_segments(data)[0]


def _png(data: bytes) -> Size:
    width, height = struct.unpack_from(">II", data, 16)
    return (width, height) if data[12:16] == b"IHDR" else (0, 0)


def _bmp(data: bytes) -> Size:
    if struct.unpack_from("<I", data, 14)[0] == 12:  # OS/2 header
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)  # negative: rows from the top


def _webp(data: bytes) -> Size:
    """RFC 9649, section 2."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _tiff(data: bytes) -> Size:
    """TIFF 6.0, section 2: tags 256 and 257 of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, at)[0]
    found = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257):
            found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)[0]
    return found.get(256, 0), found.get(257, 0)


# First bytes, their offset, name, and what reads the size.
_FORMATS: tuple[tuple[bytes, int, str, Callable[[bytes], Size]], ...] = (
    (b"\xff\xd8\xff", 0, "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG", _png),
    (b"WEBP", 8, "WebP", _webp),
    (b"BM", 0, "BMP", _bmp),
    (b"II*\x00", 0, "TIFF", _tiff),
    (b"MM\x00*", 0, "TIFF", _tiff),
)
