"""The largest picture that a piece of AV1 asks its decoder for: the sequence header alone (AV1 specification, 5.3 and 5.5).

An AVIF says its size twice, in a box and here. A decoder allocates by this one, so a file that lies in its box is found out.
"""

from __future__ import annotations

from edge_tl_runtime.images.formats.kinds import Damaged


def largest_frame(data: bytes) -> tuple[int, int]:
    """Width and height of the largest sequence header among the OBUs of `data`. Raises Damaged."""
    at, found = 0, (0, 0)
    for _ in range(1000):
        if at >= len(data):
            break
        head = data[at]
        at += 2 if head & 4 else 1
        length = len(data) - at
        if head & 2:
            length, at = _leb128(data, at)
        if head >> 3 & 15 == 1:
            found = max(found, _sequence(data[at : at + length]), key=lambda size: size[0] * size[1])
        at += length
    if found == (0, 0):
        raise Damaged
    return found


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        if at + i >= len(data):
            raise Damaged
        value |= (data[at + i] & 0x7F) << 7 * i
        if not data[at + i] & 0x80:
            return value, at + i + 1
    raise Damaged


class _Bits:
    """Bits of the first bytes of a header, the highest first."""

    def __init__(self, data: bytes) -> None:
        self._all = data[:256]
        self._at = 0

    def take(self, count: int) -> int:
        end = self._at + count
        if end > 8 * len(self._all):
            raise Damaged
        value = int.from_bytes(self._all[: -(-end // 8)], "big") >> -end % 8
        self._at = end
        return value & ((1 << count) - 1)


def _sequence(data: bytes) -> tuple[int, int]:
    bits = _Bits(data)
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced header of a still picture: a level and nothing else
        bits.take(5)
    else:
        _operating_points(bits)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(wide) + 1, bits.take(high) + 1


def _operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            zeros = 0
            while not bits.take(1):
                zeros += 1
            bits.take(min(zeros, 32))
        if bits.take(1):  # decoder model
            delay_bits = bits.take(5) + 1
            bits.take(42)
    displayed = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if displayed and bits.take(1):
            bits.take(4)
