"""From what a decoder gives to 8 bits and three channels: fewer bits than 16 in 16, transparency, orientation."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadImage

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint16]

GREY = 127
"""What stands behind a transparent photo, of 255: the middle, which networks take as "nothing here" (decision 0011)."""
_ROWS = 256
"""Rows worked on at a time, so that memory stays that of the picture."""

COMPOSED = f"transparent: composed over mid grey ({GREY} of 255)"
_SCALED = "values of {} bits in 16, {}: scaled"
DARK = (
    "16 bits of which only the darkest part is used, less than a quarter: left dark; where a camera gives fewer bits, write how "
    "many into the file (PNG's sBIT, TIFF's MaxSampleValue) or scale them"
)


class Decoded(NamedTuple):
    """frame: uint8 (H, W, 3), BGR. notes: what was done to the pixels; () for an ordinary photo, equal for equal changes."""

    frame: Bytes
    notes: tuple[str, ...] = ()


def as_opencv_reads(data: bytes, flags: int, kind: str) -> Bytes:
    """What OpenCV decodes: uint8, or uint16 where `flags` allow it. Raises BadImage, cv2.error, MemoryError."""
    frame = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if frame is None or frame.size == 0:
        raise BadImage(f"damaged {kind} (the decoder gave no picture)")
    return np.asarray(frame)


def over_grey(pixels: Bytes, premultiplied: bool) -> Decoded:
    """Compose uint8 (H, W, 4), BGR and alpha, over GREY, rounded to the nearest value.

    premultiplied: the colours are already times alpha / 255. A photo that is opaque everywhere keeps its bytes, without a note.
    """
    alpha = pixels[:, :, 3]
    if int(alpha.min(initial=255)) == 255:
        return Decoded(np.ascontiguousarray(pixels[:, :, :3]))
    out = np.empty((*alpha.shape, 3), np.uint8)
    for top in range(0, len(out), _ROWS):
        rows = slice(top, top + _ROWS)
        opaque = alpha[rows, :, None].astype(np.uint16)
        colour = pixels[rows, :, :3].astype(np.uint16)
        behind = (255 - opaque) * GREY + 127
        if premultiplied:
            out[rows] = np.minimum(colour + behind // 255, 255)
        else:
            out[rows] = (colour * opaque + behind) // 255  # at most 255 * 255 + 127: no overflow
    return Decoded(out, (COMPOSED,))


def eight_bits(values: Words, declared: int = 0, shifted: bool = False) -> tuple[Bytes, tuple[str, ...]]:
    """uint16 (H, W) or (H, W, C) to uint8, by the range that the values are found to have (`found_range`).

    A fourth channel is alpha: it does not take part in finding the range, and is scaled like the colours where it fits.
    """
    colours = values[:, :, :3] if values.ndim == 3 else values
    largest, notes = found_range(colours, declared, shifted)
    out = np.empty(values.shape, np.uint8)
    scaled = _to_bytes(colours, largest)
    if colours is values:
        return scaled, notes
    out[:, :, :3] = scaled
    if values.shape[2] == 4:
        alpha = values[:, :, 3]
        out[:, :, 3] = _to_bytes(alpha, largest if int(alpha.max(initial=0)) <= largest else 65535)
    return out, notes


def found_range(values: Words, declared: int = 0, shifted: bool = False) -> tuple[int, tuple[str, ...]]:
    """The value that stands for white, 65535 or that of 8, 10, 12 or 14 bits, and what is to be said about it.

    declared: bits that the file's own tag gives, 0 for none. shifted: whether that tag means that values were moved up to fill 16
    bits (PNG's sBIT does), so that the tag alone says nothing.

    Without a tag the range is only believed where the brightest values touch its ceiling, as a photo's lights do: a dark photo
    in true 16 bits ends anywhere. Of 14 bits more is asked, since a photo four times too dark is nothing unusual.
    """
    brightest = int(values.max(initial=0))
    if 8 <= declared < 16 and brightest < 1 << declared:
        low_bits = (1 << (16 - declared)) - 1
        if not shifted or _touches(brightest, declared) or bool((values & low_bits).any()):
            return (1 << declared) - 1, (_SCALED.format(declared, "as its tag says"),)
    bits = next((bits for bits in (8, 10, 12, 14) if brightest < 1 << bits), 16)
    if bits == 16 or brightest == 0:
        return 65535, ()
    # Eight bits that were spread over sixteen (times 257) are true 16 bits, however dark.
    spread = brightest > 255 and np.array_equal(values >> 8, values & 255)
    if spread or not _touches(brightest, bits):
        return 65535, (DARK,)
    return (1 << bits) - 1, (_SCALED.format(bits, "whose ceiling they touch"),)


def oriented(frame: Bytes, orientation: int) -> Bytes:
    """Turn and mirror by an EXIF orientation, 1..8. Contiguous."""
    if orientation >= 5:
        frame = frame.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        frame = frame[::-1]
    if orientation in (2, 3, 6, 7):
        frame = frame[:, ::-1]
    return np.ascontiguousarray(frame)


def turned(frame: Bytes, steps: tuple[tuple[str, int], ...]) -> Bytes:
    """Turn and mirror by the steps of a `BoxedPicture`. Contiguous."""
    for step, value in steps:
        frame = np.rot90(frame, value) if step == "turn" else np.flip(frame, axis=value)
    return np.ascontiguousarray(frame)


def scaled(values: NDArray[np.unsignedinteger], largest: int) -> Bytes:
    """Values of 0..largest to 0..255, rounded to the nearest; what is above is white."""
    return np.asarray(_to_bytes(np.asarray(values, np.uint16), largest))


def _touches(brightest: int, bits: int) -> bool:
    """Whether the brightest value is as near the ceiling of `bits` bits as lights in a photo are, or 8 bits moved up."""
    ceiling = 1 << bits
    return brightest >= ceiling - ceiling // (64 if bits == 14 else 16)


def _to_bytes(values: Words, largest: int) -> Bytes:
    """Full 16 bits lose their lower 8, as OpenCV does it; fewer are scaled and rounded."""
    if largest == 65535:
        return np.asarray(values >> 8, np.uint8)
    out = np.empty(values.shape, np.uint8)
    for top in range(0, len(out), _ROWS):
        rows = np.minimum(values[top : top + _ROWS], largest).astype(np.uint32)
        out[top : top + _ROWS] = (rows * 255 + largest // 2) // largest
    return out
