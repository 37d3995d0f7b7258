"""One function per kind of picture: bytes whose header was found small enough, to a frame and what was done to make it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.formats.isobmff import boxed_picture
from edge_tl_runtime.images.formats.pixels import (
    Bytes,
    Decoded,
    Words,
    as_opencv_reads,
    eight_bits,
    oriented,
    over_grey,
    scaled,
)
from edge_tl_runtime.images.formats.pnm import pnm_header
from edge_tl_runtime.images.formats.several import several_note
from edge_tl_runtime.images.formats.tiff import MAX_VALUE, PHOTOMETRIC, first_directory, orientation

MAX_CHUNKS = 20_000
"""Parts of a PNG or WebP that are looked at for what stands before its pixels."""


def is_ordinary(data: bytes) -> bool:
    """Whether headers alone say that pixels are taken as they are stored, so that decoding would give no notes."""
    if several_note(data):
        return False
    if data.startswith(b"\xff\xd8"):
        return True
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 26:
        return False
    bits, colours = data[24], data[25]
    return bits < 16 and colours not in (4, 6) and all(kind != b"tRNS" for kind, _ in _png_chunks(data, b"IDAT"))


def decode(data: bytes, kind: str) -> Decoded:
    """Decode a picture of a kind that `picture_header` named. Raises BadImage, cv2.error, MemoryError."""
    if kind == "PNG":
        return _png(data)
    if kind == "WebP":
        return _webp(data)
    if kind == "TIFF":
        return _tiff(data)
    if kind == "BMP":
        return _bmp(data)
    if kind == "PNM":
        return _pnm(data)
    if kind == "HEIC":
        from edge_tl_runtime.images.formats.heif import decode_heic

        return decode_heic(data)
    if kind == "AVIF":
        from edge_tl_runtime.images.formats.heif import decode_avif

        return decode_avif(data, boxed_picture(data))
    raise BadImage(f"{kind} is not read here")


def _png(data: bytes) -> Decoded:
    """PNG specification, third edition: sBIT (11.3.2.6), tRNS (11.3.1.1), eXIf (11.3.4.4)."""
    bits, colours = data[24], data[25]
    chunks = dict(_png_chunks(data, b"IDAT"))
    transparent = colours in (4, 6) or b"tRNS" in chunks
    if bits < 16 and not transparent:
        return Decoded(as_opencv_reads(data, cv2.IMREAD_COLOR, "PNG"))
    pixels = as_opencv_reads(data, cv2.IMREAD_UNCHANGED, "PNG")
    alpha = None
    if colours == 0 and transparent:  # OpenCV drops the one grey that is transparent
        value = int.from_bytes(chunks[b"tRNS"][:2], "big")
        stored = (pixels if pixels.ndim == 2 else pixels[:, :, 0]).astype(np.uint16)
        alpha = np.where(stored == value * (1 if bits in (8, 16) else 255 // ((1 << bits) - 1)), 0, 255).astype(
            np.uint8
        )
    notes: tuple[str, ...] = ()
    if pixels.dtype != np.uint8:
        declared = min(chunks.get(b"sBIT", b"\x00")[: 1 if colours in (0, 4) else 3], default=0)
        pixels, notes = eight_bits(np.asarray(pixels, np.uint16), declared, shifted=True)
    return _finished(pixels, alpha, False, notes, orientation(dict(_png_chunks(data, b"IEND")).get(b"eXIf", b"")))


def _png_chunks(data: bytes, until: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Those before `until` that say what the pixels mean."""
    at = 8
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return
        length = struct.unpack_from(">I", data, at)[0]
        kind = data[at + 4 : at + 8]
        if kind == until:
            return
        if kind in (b"tRNS", b"sBIT", b"eXIf"):
            yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _webp(data: bytes) -> Decoded:
    """RFC 9649, sections 2.7 and 3.4: whether alpha is used; `EXIF` may stand after the picture."""
    extended = data[12:16] == b"VP8X"
    alpha = bool(data[20] & 0x10) if extended else data[12:16] == b"VP8L" and bool(data[24] & 0x10)
    if not alpha:
        return Decoded(as_opencv_reads(data, cv2.IMREAD_COLOR, "WebP"))
    exif, at = b"", 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        length = struct.unpack_from("<I", data, at + 4)[0]
        if data[at : at + 4] == b"EXIF":
            exif = data[at + 8 : at + 8 + length]
        at += 8 + length + (length & 1)
    return _finished(as_opencv_reads(data, cv2.IMREAD_UNCHANGED, "WebP"), None, False, (), orientation(exif))


def _tiff(data: bytes) -> Decoded:
    """Of 8 bits libtiff gives alpha that is multiplied in, and the picture turned; of 16 bits the samples as they are stored."""
    directory = first_directory(data)
    if directory.refusal():
        raise BadImage(directory.refusal())
    if directory.bits <= 8:
        if not directory.alpha:
            return Decoded(as_opencv_reads(data, cv2.IMREAD_COLOR, "TIFF"))
        pixels = as_opencv_reads(data, cv2.IMREAD_UNCHANGED, "TIFF")
        return over_grey(pixels, True) if pixels.shape[2:] == (4,) else Decoded(_three(pixels))
    pixels = as_opencv_reads(data, cv2.IMREAD_UNCHANGED, "TIFF")
    if pixels.dtype == np.uint8:
        return Decoded(_three(pixels[:, :, :3] if pixels.ndim == 3 else pixels))
    values = np.asarray(pixels, np.uint16)
    if directory.tags.get(PHOTOMETRIC) == 0:  # white is zero, which OpenCV leaves so
        values = 65535 - values if directory.bits < 16 else _inverted(values, directory.tags.get(MAX_VALUE, 0))
    if directory.bits < 16:  # OpenCV moves samples of 10, 12 and 14 bits up
        return _finished(np.asarray(values >> 8, np.uint8), None, directory.premultiplied, (), 1)
    # What the largest sample may be is told as 2**n - 1; other numbers are the brightest pixel, which says nothing.
    largest = directory.tags.get(MAX_VALUE, 0) + 1
    declared = largest.bit_length() - 1 if largest & (largest - 1) == 0 else 0
    eight, notes = eight_bits(values, declared)
    if eight.shape[2:] == (4,) and not directory.alpha:
        eight = eight[:, :, :3]
    return _finished(eight, None, directory.premultiplied, notes, 1)


def _inverted(values: Words, largest: int) -> Words:
    top = largest if 255 <= largest < 65535 and int(values.max(initial=0)) <= largest else 65535
    return np.asarray(top - values, np.uint16)


def _bmp(data: bytes) -> Decoded:
    """OpenCV drops the alpha of 32 bits, which counts only where the header has a mask for it."""
    header = struct.unpack_from("<I", data, 14)[0]
    bits, packed = struct.unpack_from("<HI", data, 28) if header >= 40 else (0, 0)
    mask = struct.unpack_from("<I", data, 66)[0] if header >= 56 and bits == 32 and packed == 3 else 0
    frame = as_opencv_reads(data, cv2.IMREAD_COLOR, "BMP")
    if mask not in (0xFF, 0xFF00, 0xFF0000, 0xFF000000):
        return Decoded(frame)
    height, width = frame.shape[:2]
    start = struct.unpack_from("<I", data, 10)[0]
    stored = np.frombuffer(data, np.uint8, 4 * width * height, start).reshape(height, width, 4)
    if struct.unpack_from("<i", data, 22)[0] > 0:
        stored = stored[::-1]
    alpha = stored[:, :, (mask.bit_length() - 1) // 8]
    # Programs write the mask and leave every alpha at 0: then nothing of it is meant.
    return over_grey(np.dstack([frame, alpha]), False) if alpha.any() else Decoded(frame)


def _pnm(data: bytes) -> Decoded:
    """netpbm's binary formats: PBM, PGM and PPM. The header says what white is."""
    number, width, height, largest, start = pnm_header(data)
    if not 0 < largest < 65536:
        raise BadImage("damaged PNM header (no largest value)")
    if number == 4:
        packed = _stored(data, np.uint8, (height, -(-width // 8)), start)
        return Decoded(_three(np.asarray(255 - 255 * np.unpackbits(packed, axis=1)[:, :width], np.uint8)))
    shape = (height, width) if number == 5 else (height, width, 3)
    values = _stored(data, np.dtype(">u2") if largest > 255 else np.uint8, shape, start)
    if largest == 65535:
        eight, notes = eight_bits(values.astype(np.uint16))
    else:
        eight, notes = (np.asarray(values, np.uint8) if largest == 255 else scaled(values, largest)), ()
    return Decoded(_three(eight if number == 5 else np.ascontiguousarray(eight[:, :, ::-1])), notes)


def _stored(data: bytes, kind: Any, shape: tuple[int, ...], start: int) -> NDArray[Any]:
    try:
        return np.frombuffer(data, kind, int(np.prod(shape)), start).reshape(shape)
    except ValueError:
        raise BadImage("truncated PNM (its end is missing)") from None


def _finished(pixels: Bytes, alpha: Bytes | None, premultiplied: bool, notes: tuple[str, ...], turn: int) -> Decoded:
    """Three channels, composed and turned. alpha: of a picture that was decoded without it."""
    if alpha is not None:
        pixels = np.dstack([_three(pixels), alpha])
    if pixels.shape[2:] == (4,):
        composed = over_grey(pixels, premultiplied)
        pixels, notes = composed.frame, notes + composed.notes
    return Decoded(oriented(_three(pixels), turn), notes)


def _three(pixels: Bytes) -> Bytes:
    """Grey as three equal channels."""
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2))
