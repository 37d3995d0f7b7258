"""Whether a video file is complete: what its container says of its own size, and gaps between the times of its frames."""

from __future__ import annotations

import re
from array import array
from pathlib import Path
from typing import BinaryIO

import numpy as np

_UNKNOWN = -1
UNEVEN = 0.05
"""Where more of the steps from frame to frame than this are long ones, the pace is uneven, and a gap means nothing."""
_TOP_LEVEL = frozenset({0x1A45DFA3, 0x18538067})
_CLUSTER_LEVEL = frozenset(
    {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, 0xEC, 0xBF}
)
"""Matroska's elements below a segment, and the two that may stand anywhere (RFC 9559)."""


def cut_short(path: Path) -> str:
    """What is missing at the end of a file, by what it says of its size: "400 bytes or more are missing at its end"; "" where
    nothing is, or where that cannot be told (MPEG program streams, raw streams, a cut between two parts)."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(400)
            if head[:4] == b"\x1aE\xdf\xa3":
                return _said(_matroska_end(file, size), size)
            if head[:4] == b"RIFF":
                return _said(8 + int.from_bytes(head[4:8], "little"), size) if head[4:8] != bytes(4) else ""
            if head[4:8] in (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"wide", b"free"):
                return _said(_boxes_end(file, size), size)
            if head[:1] == b"\x47" and len(head) > 376 and head[188] == head[376] == 0x47:
                return "it ends in the middle of a packet" if size % 188 else ""
            if head[:3] == b"FLV":
                return _said(_flv_end(file, size), size)
            if head[:8] == b"\x89PNG\r\n\x1a\n":
                return "" if b"IEND" in _last(file, size) else "its end is missing"
            if head[:4] == b"GIF8":
                return "" if _last(file, size).rstrip(b"\0").endswith(b";") else "its end is missing"
    except OSError:
        pass
    return ""


def _said(told: int, size: int) -> str:
    return f"{told - size} bytes or more are missing at its end" if told > size else ""


def _last(file: BinaryIO, size: int) -> bytes:
    file.seek(max(0, size - 64))
    return file.read(64)


def _number(file: BinaryIO, keep_marker: bool) -> int:
    """A variable-length number of EBML (RFC 8794, 4); _UNKNOWN where all its bits are set."""
    first = file.read(1)
    if not first or not first[0]:
        raise EOFError
    length = 9 - first[0].bit_length()
    data = first + file.read(length - 1)
    if len(data) < length:
        raise EOFError
    value = int.from_bytes(data, "big")
    if keep_marker:
        return value
    value &= (1 << 7 * length) - 1
    return _UNKNOWN if value == (1 << 7 * length) - 1 else value


def _matroska_end(file: BinaryIO, size: int) -> int:
    """Where the file ends by what its segment says, or the last of its clusters where the segment does not say it."""
    at, end, inside = 0, 0, False
    while at < size:
        file.seek(at)
        try:
            name, length = _number(file, True), _number(file, False)
        except EOFError:
            return end
        start = file.tell()
        if name not in (_CLUSTER_LEVEL if inside else _TOP_LEVEL):
            return end  # damaged, or a cluster of unknown length
        if name == 0x18538067 and length == _UNKNOWN:
            at, inside = start, True
            continue
        if length == _UNKNOWN:
            return end
        at = end = start + length
    return end


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box of an MP4 file ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not head[4:8].isascii():
            return 0  # to the end of the file, or damaged
        at += length
    return at if at != size and at > size else 0


def _flv_end(file: BinaryIO, size: int) -> int:
    at = 13
    while at + 11 <= size:
        file.seek(at)
        head = file.read(4)
        if head[0] not in (8, 9, 18):
            return 0
        at += 11 + int.from_bytes(head[1:4], "big") + 4
    return at


_HASH = re.compile(rb"\x50\x01\x84[\x03\x05\x07\x0d\x11\x31]")


def has_hashes(packet: bytes) -> bool:
    """Whether a packet of H.265 brings a checksum of its picture (ITU-T H.265, D.2.19: suffix SEI 132), which tells damage."""
    return _HASH.search(packet) is not None


class Times:
    """Times of the packets of a track, in its own units: how many frames the gaps between them leave room for."""

    def __init__(self) -> None:
        self._times = array("q")

    def add(self, time: int | None) -> None:
        if time is not None:
            self._times.append(time)

    def missing(self, end: int | None = None) -> int:
        """Frames that are not there, about: between others and, up to the time `end` where the track says it, behind the last.

        0 where the pace is too uneven to tell.
        """
        times = np.unique(np.frombuffer(self._times, np.int64)) if len(self._times) else np.empty(0, np.int64)
        if len(times) < 8:
            return 0
        steps = np.diff(times)
        usual = float(np.median(steps))
        long = steps > 1.75 * usual
        if np.count_nonzero(long) > max(3, UNEVEN * len(steps)):
            return 0
        missing = float(np.sum(np.rint(steps[long] / usual) - 1))
        if end is not None:
            missing += max(0.0, np.rint((end - float(times[-1])) / usual) - 1)
        return int(missing)
