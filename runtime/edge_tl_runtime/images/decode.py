"""From a photo file, or its bytes, to a frame.

Every stage reads photos here, so training, calibration, prediction and attacks see the same bytes: 8 bits, three channels,
orientation applied, nothing transparent.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.images.formats.kinds import Damaged
from edge_tl_runtime.images.formats.pixels import Decoded, as_opencv_reads
from edge_tl_runtime.images.formats.several import several_note
from edge_tl_runtime.images.headers import decoder_bytes, jpeg_segments, picture_header, unusual_jpeg

Frame = NDArray[np.uint8]
"""uint8 (H, W, 3), BGR."""

MAX_MEGAPIXELS = 108.0
"""The largest photo: what phones' largest sensors give. Decoding takes 648 MB, since OpenCV's binding copies the picture."""
MAX_DECODE_BYTES = round(6e6 * MAX_MEGAPIXELS)
MAX_SCANS = 100
"""Passes over a progressive JPEG; encoders make about ten. Each costs time, and a few bytes make one."""
MAX_FILE_BYTES = 512 * 2**20


def read_photo(path: str | os.PathLike[str]) -> Frame:
    """Decode one photo file. Raises BadImage with the reason."""
    return decode_photo(read_file(Path(path)))


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of at most MAX_FILE_BYTES. Raises BadImage."""
    try:
        return read_regular(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise BadImage("no such file") from None
    except IsADirectoryError:
        raise BadImage("not a regular file") from None
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from None


def decode_photo(data: bytes) -> Frame:
    """Decode the bytes of a photo to uint8 (H, W, 3), BGR.

    Orientation is applied; grey becomes three channels; CMYK JPEGs are converted; transparent photos are composed over mid grey;
    16 bits become 8, and fewer bits in 16 are scaled where that is certain. The size in the header is checked before decoding.
    Raises BadImage with the reason.
    """
    return _decoded(data).frame


def decode_noted(data: bytes) -> Decoded:
    """As `decode_photo`, with what was done to the pixels of a photo that is not ordinary, in words, and whether its file holds
    other pictures too."""
    decoded, several = _decoded(data), several_note(data)
    return Decoded(decoded.frame, (*decoded.notes, several)) if several else decoded


def _decoded(data: bytes) -> Decoded:
    kind, (width, height) = picture_header(data)
    if width * height > MAX_MEGAPIXELS * 1e6:
        raise BadImage(f"{width}x{height} px is more than {MAX_MEGAPIXELS:.0f} megapixels")
    needed = decoder_bytes(data, kind, (width, height))
    if needed > MAX_DECODE_BYTES:
        raise BadImage(
            f"{width}x{height} px in this kind of {kind} take {needed / 1e6:.0f} MB to decode, "
            f"more than {MAX_DECODE_BYTES / 1e6:.0f}; save it as a plain JPEG or smaller"
        )
    if kind == "JPEG":
        _check_scans(data)
    if kind == "PNG" and b"IEND" not in data[-64:]:
        raise BadImage("truncated PNG (its end is missing)")
    try:
        if kind == "JPEG":
            return _decoded_jpeg(data)
        # What other kinds need is not loaded where there are only JPEGs.
        from edge_tl_runtime.images.formats.decoders import decode

        return decode(data, kind)
    except (cv2.error, MemoryError) as error:
        # `err` is there only when OpenCV itself threw; a library below it may throw anything, of several lines.
        reason = " ".join(str(getattr(error, "err", "")).split())[:200]
        raise BadImage(f"damaged {kind} ({reason or 'decoder error'})") from None
    except (struct.error, IndexError, ValueError, Damaged):
        raise BadImage(f"damaged {kind} (its parts do not fit together)") from None


def _decoded_jpeg(data: bytes) -> Decoded:
    """What the decoder refuses is named where the header says that it is a JPEG of an unusual kind, and no damaged one."""
    try:
        return Decoded(as_opencv_reads(data, cv2.IMREAD_COLOR, "JPEG"))
    except (BadImage, cv2.error):
        unusual = unusual_jpeg(data)
        if unusual:
            raise BadImage(f"{unusual}, which is not read here; save it as a plain JPEG or a PNG") from None
        raise


def _check_scans(data: bytes) -> None:
    """Raises BadImage unless an end-of-image marker follows the picture's own scans, of which there are not too many.

    Thumbnails inside EXIF carry end markers too; entropy-coded data never contains one (ITU-T T.81, B.1.1.5).
    """
    _, scan = jpeg_segments(data)
    end = data.find(b"\xff\xd9", scan) if scan else -1
    if end == -1:
        raise BadImage("truncated JPEG (its end is missing)")
    scans = data.count(b"\xff\xda", scan, end)
    if scans > MAX_SCANS:
        raise BadImage(f"JPEG of {scans} scans, more than {MAX_SCANS}; save it again")
