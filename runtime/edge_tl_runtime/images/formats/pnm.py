"""The header of netpbm's binary formats PBM, PGM and PPM."""

from __future__ import annotations

import re

_PNM = re.compile(rb"P([456])" + 2 * rb"\s+(?:#[^\n]*\n\s*)*(\d+)" + rb"(?:\s+(?:#[^\n]*\n\s*)*(\d+))?\s")


def pnm_header(data: bytes) -> tuple[int, int, int, int, int]:
    """Number after the P, width, height, largest value, and where the pixels start; zeros when it is none."""
    found = _PNM.match(data[:4096])
    if found is None or any(len(number or b"") > 9 for number in found.groups()):
        return 0, 0, 0, 0, 0
    number = int(found[1])
    # A bitmap has no largest value: what may look like one are its pixels.
    bitmap = re.match(rb"P4" + 2 * rb"\s+(?:#[^\n]*\n\s*)*(\d+)" + rb"\s", data[:4096]) if number == 4 else None
    if bitmap:
        return 4, int(bitmap[1]), int(bitmap[2]), 1, bitmap.end()
    return number, int(found[2]), int(found[3]), int(found[4] or 0), found.end()
