"""Kind and size of a picture from the first bytes of its file, before anything is decoded.

Enough of each format to know how much memory a decoder would take. Written here because the libraries that do it import a web
client (25 ms of a device command's start) or a whole second decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.formats.kinds import HEAD, RAW, Damaged, FileGroup, kind_of

Size = tuple[int, int]
"""Width and height in pixels."""


def picture_header(data: bytes) -> tuple[str, Size]:
    """Kind ("JPEG", "PNG", "WebP", "BMP", "TIFF", "PNM", "HEIC", "AVIF") and size as stored, before any turn.

    Raises BadImage for anything else, with what it is, for a damaged header, and for samples that cannot become a photo.
    """
    found = kind_of(data[:HEAD])
    if found.group is not FileGroup.PHOTO:
        raise BadImage(found.reason)
    kind = found.name
    try:
        width, height = _SIZES[kind](data)
    except (struct.error, IndexError, Damaged, OverflowError):
        raise BadImage(f"damaged {kind} header") from None
    if width <= 0 or height <= 0:
        raise BadImage(f"damaged {kind} header (no picture size)")
    return kind, (width, height)


def decoder_bytes(data: bytes, kind: str, size: Size) -> int:
    """About how much memory OpenCV takes to decode, the result included, for a header that `picture_header` has read.

    The picture counts twice, since OpenCV's binding copies it. Then what each decoder holds beside it; measured with OpenCV 5.0
    on pictures of 177 megapixels.
    """
    pixels = size[0] * size[1]
    try:
        if kind == "TIFF":
            return _tiff_bytes(data, pixels)
        if kind in ("HEIC", "AVIF"):
            return _boxed_bytes(data, pixels, kind)
        return pixels * _BYTES_PER_PIXEL.get(kind, _six)(data)
    except (struct.error, IndexError, Damaged, OverflowError):
        raise BadImage(f"damaged {kind} header") from None


def jpeg_segments(data: bytes) -> tuple[Size, int]:
    """Size from the frame header, and the offset of the first start-of-scan, 0 when there is none (ITU-T T.81, annex B)."""
    frame, scan = _jpeg_frame(data)
    if frame == 0:
        return (0, 0), scan
    height, width = struct.unpack_from(">HH", data, frame + 5)
    return (width, height), scan


def unusual_jpeg(data: bytes) -> str:
    """What sets a JPEG apart from those that every decoder reads, such as `JPEG of 12 bits a sample`; "" where nothing does.

    By the frame header (ITU-T T.81, table B.1): the precision, and processes other than baseline, extended and progressive.
    """
    frame, _ = _jpeg_frame(data)
    if frame == 0:
        return ""
    marker, bits = data[frame + 1], data[frame + 4]
    if marker in (0xC3, 0xC7, 0xCB, 0xCF):
        return f"lossless JPEG of {bits} bits a sample"
    if bits != 8:
        return f"JPEG of {bits} bits a sample"
    if marker in (0xC5, 0xC6, 0xCD, 0xCE):
        return "hierarchical JPEG"
    return "JPEG with arithmetic coding" if marker in (0xC9, 0xCA) else ""


_PNG_START = 1 << 20
"""Where a PNG's tRNS stands: before its pixels, after profiles and texts."""
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
    """The frames of an animation are drawn over each other with alpha; 16 bits and alpha are decoded as stored, twice."""
    channels = {0: 1, 2: 3, 3: 3, 4: 4, 6: 4}.get(data[25], 4)
    transparent = channels == 4 or b"tRNS" in data[:_PNG_START]
    stored = (4 if transparent else channels) * (2 if data[24] == 16 else 1)
    plain = 2 * stored + 3 if transparent or data[24] == 16 else 6
    return max(14, plain) if b"acTL" in data else max(6, plain)


def _webp_bytes(data: bytes) -> int:
    animated = data[12:16] == b"VP8X" and data[20] & 2
    alpha = data[12:16] == b"VP8X" and data[20] & 16
    return 12 if animated else 11 if alpha else 7


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


# Of rarer kinds: what reads them is loaded when the first is met.


def _tiff(data: bytes) -> Size:
    from edge_tl_runtime.images.formats.tiff import first_directory

    directory = first_directory(data)
    if directory.is_raw:
        raise BadImage(RAW.reason)
    return directory.size


def _tiff_bytes(data: bytes, pixels: int) -> int:
    """Samples as they are stored, twice, where they are not made 8 bits by the decoder; and a tile."""
    from edge_tl_runtime.images.formats.tiff import first_directory

    directory = first_directory(data)
    narrow = 8 if directory.alpha else 6
    each = narrow if directory.bits <= 8 else 4 * min(4, max(1, directory.samples)) + 3
    return each * pixels + directory.tile_bytes()


def _pnm(data: bytes) -> Size:
    from edge_tl_runtime.images.formats.pnm import pnm_header

    _, width, height, _, _ = pnm_header(data)
    return width, height


def _boxed(data: bytes) -> Size:
    from edge_tl_runtime.images.formats.isobmff import boxed_picture

    return boxed_picture(data).size


def _boxed_bytes(data: bytes, pixels: int, kind: str) -> int:
    """Measured with pillow-heif 1.8 and OpenCV 5.0 on 7 megapixels of noise; the larger number with alpha or more than 8 bits."""
    from edge_tl_runtime.images.formats.isobmff import boxed_picture

    picture = boxed_picture(data)
    plain, more = (7, 12) if kind == "HEIC" else (19, 34)
    return max(pixels, picture.largest) * (more if picture.alpha or picture.bits > 8 else plain)


_SIZES: dict[str, Callable[[bytes], Size]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WebP": _webp,
    "BMP": _bmp,
    "TIFF": _tiff,
    "PNM": _pnm,
    "HEIC": _boxed,
    "AVIF": _boxed,
}
