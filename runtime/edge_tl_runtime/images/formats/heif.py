"""HEIC and AVIF to pixels: HEIC by pillow-heif (an extra, imported when such a file is met), AVIF by OpenCV."""

from __future__ import annotations

import importlib.util
import re
from functools import cache

import cv2
import numpy as np

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.formats.isobmff import BoxedPicture
from edge_tl_runtime.images.formats.pixels import Decoded, as_opencv_reads, eight_bits, over_grey, turned

HEIC_EXTRA = "HEIC needs an extra: pip install 'edge-tl[heic]'"
AVIF_EXTRA = "AVIF needs a newer OpenCV: pip install 'opencv-python>=4.12'"
CROPPED = "AVIF that shows a part of its pixels (clean aperture), which is not read here; save it as JPEG or PNG"


@cache
def heic_lacks() -> str:
    """What must be installed before HEIC is read; "" when it is. Nothing is imported."""
    return "" if importlib.util.find_spec("pillow_heif") else HEIC_EXTRA


@cache
def avif_lacks() -> str:
    """What must be installed before AVIF is read; "" when OpenCV was built with it (4.12 and later are)."""
    return "" if re.search(r"^\s*AVIF:\s+(?!NO\b)\S", cv2.getBuildInformation(), re.MULTILINE) else AVIF_EXTRA


def decode_heic(data: bytes) -> Decoded:
    """Decode the main picture. libheif applies turn, mirror and crop. Raises BadImage."""
    if heic_lacks():
        raise BadImage(heic_lacks())
    import pillow_heif

    try:
        picture = pillow_heif.open_heif(data, convert_hdr_to_8bit=True, bgr_mode=True)
        pixels = np.asarray(picture)
        mode = str(picture.mode)
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError, MemoryError) as error:
        raise BadImage(f"damaged HEIC ({' '.join(str(error).split())[:200] or 'decoder error'})") from None
    if pixels.dtype != np.uint8:  # grey of more than 8 bits, which pillow-heif moves up to fill 16
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.shape[2] == 2:
        pixels = np.dstack([pixels[:, :, :1]] * 3 + [pixels[:, :, 1:]])
    if pixels.shape[2] == 4:
        return over_grey(pixels, mode.endswith("a"))
    return Decoded(np.ascontiguousarray(pixels))


def decode_avif(data: bytes, picture: BoxedPicture) -> Decoded:
    """Decode the main picture, then turn and mirror it as its boxes say, which OpenCV does not. Raises BadImage, cv2.error."""
    if avif_lacks():
        raise BadImage(avif_lacks())
    if picture.cropped:
        raise BadImage(CROPPED)
    flags = cv2.IMREAD_UNCHANGED if picture.alpha else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    frame = as_opencv_reads(data, flags, "AVIF")
    if frame.dtype != np.uint8:
        frame, _ = eight_bits(np.asarray(frame, np.uint16), declared=picture.bits)
    if frame.ndim == 2:
        frame = np.repeat(frame[:, :, None], 3, axis=2)
    decoded = over_grey(frame, False) if frame.shape[2] == 4 else Decoded(frame)
    return Decoded(turned(decoded.frame, picture.steps), decoded.notes)
