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
    except (struct.error, IndexError, _Damaged):
        raise BadImage(f"damaged {kind} header") from None
    if width <= 0 or height <= 0:
        raise BadImage(f"damaged {kind} header (no picture size)")
    return kind, (width, height)


GIF = "GIF holds a palette or an animation, not a photo; save a PNG or JPEG"


def decoder_bytes(data: bytes, kind: str, size: Size) -> int:
    """About how much memory OpenCV takes to decode, the result included, for a header that `picture_header` has read.

    The picture counts twice, since OpenCV's binding copies it. Then what each decoder holds beside it; measured with OpenCV 5.0
    on pictures of 177 megapixels.
    """
    pixels = size[0] * size[1]
    try:
        if kind == "TIFF":
            return 6 * pixels + _tiff_tile_bytes(data)
        return pixels * _BYTES_PER_PIXEL.get(kind, _six)(data)
    except (struct.error, IndexError, _Damaged):
        raise BadImage(f"damaged {kind} header") from None


def jpeg_segments(data: bytes) -> tuple[Size, int]:
    """Size from the frame header, and the offset of the first start-of-scan, 0 when there is none (ITU-T T.81, annex B)."""
    frame, scan = _jpeg_frame(data)
    if frame == 0:
        return (0, 0), scan
    height, width = struct.unpack_from(">HH", data, frame + 5)
    return (width, height), scan


class _Damaged(Exception):
    pass


MAX_SEGMENTS = 20_000
"""Markers before a JPEG's picture: twice what 512 MB of metadata need, of 64 KB each."""


def _jpeg_frame(data: bytes) -> tuple[int, int]:
    """Offsets of the frame header and of the first start-of-scan; 0 for one that is not there."""
    frame, at = 0, 2
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0xDA:
            return frame, at
        elif 0xD0 <= marker <= 0xD9 or marker == 0x01:  # markers without content
            at += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                frame = at
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return frame, 0


def _jpeg(data: bytes) -> Size:
    return jpeg_segments(data)[0]


def _six(data: bytes) -> int:
    return 6


def _jpeg_bytes(data: bytes) -> int:
    """A JPEG whose scans do not hold all components at once is collected in coefficients of 2 bytes before it is drawn."""
    frame, scan = _jpeg_frame(data)
    components = data[frame + 9]
    progressive = data[frame + 1] & 0b11 == 2
    several_scans = scan > 0 and data[scan + 4] < components
    return max(6, 3 + 2 * components) if progressive or several_scans else 6


def _png_bytes(data: bytes) -> int:
    """The frames of an animation are drawn over each other with alpha."""
    return 14 if b"acTL" in data else 6


def _webp_bytes(data: bytes) -> int:
    animated = data[12:16] == b"VP8X" and data[20] & 2
    return 12 if animated else 7  # alpha is the seventh


_BYTES_PER_PIXEL: dict[str, Callable[[bytes], int]] = {"JPEG": _jpeg_bytes, "PNG": _png_bytes, "WebP": _webp_bytes}


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


_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ROWS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 277, 278, 322, 323


def _tiff(data: bytes) -> Size:
    tags = _tiff_tags(data)
    return tags.get(_WIDTH, 0), tags.get(_HEIGHT, 0)


def _tiff_tile_bytes(data: bytes) -> int:
    """One tile or strip, which is decoded at a time: as it is stored, or as RGBA if that is more."""
    tags = _tiff_tags(data)
    width, height = tags[_WIDTH], tags[_HEIGHT]
    rows = min(tags.get(_ROWS, height), height)
    pixels = max(width * rows, tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0))
    return pixels * max(4, -(-tags.get(_SAMPLES, 1) * tags.get(_BITS, 8) // 8))


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Numbers of the first directory that say how large it decodes (TIFF 6.0, section 2)."""
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack_from(order + "I", data, 4)[0]
    count = struct.unpack_from(order + "H", data, at)[0]
    found: dict[int, int] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, entry)
        if tag not in (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ROWS, _TILE_WIDTH, _TILE_HEIGHT):
            continue
        # Readers differ in which of two they believe, and in numbers of other kinds than SHORT and LONG.
        if tag in found or kind not in (3, 4) or values < 1:
            raise _Damaged
        place = entry + 8
        if values * (2 if kind == 3 else 4) > 4:  # the entry says where the numbers are
            place = struct.unpack_from(order + "I", data, place)[0]
        found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, place)[0]
    return found


# First bytes, their offset, name, and what reads the size.
_FORMATS: tuple[tuple[bytes, int, str, Callable[[bytes], Size]], ...] = (
    (b"\xff\xd8\xff", 0, "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG", _png),
    (b"WEBP", 8, "WebP", _webp),
    (b"BM", 0, "BMP", _bmp),
    (b"II*\x00", 0, "TIFF", _tiff),
    (b"MM\x00*", 0, "TIFF", _tiff),
)
