"""Where one encoded picture ends and the next begins in a stream of bytes."""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from edge_tl_runtime.errors import BadImage
from edge_tl_runtime.photos import MAX_FILE_BYTES
from edge_tl_runtime.sources.base import WAKE_S

_CHUNK = 65536
_PNG = b"\x89PNG\r\n\x1a\n"
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_STARTS = (b"\xff\xd8\xff", _PNG, b"RIFF", b"BM")


class _More(Exception):
    """The picture is not complete yet."""


def split_pictures(stream: BinaryIO, stopped: Callable[[], bool] = lambda: False) -> Iterator[bytes | BadImage]:
    """The JPEG, PNG, WebP and BMP pictures of a stream, as their own headers tell where they end.

    Bytes between pictures are passed over, and each run of them is given once as a BadImage; so is a picture that is cut off
    by the end of the stream. A picture larger than MAX_FILE_BYTES is passed over likewise.
    """
    held = bytearray()
    searched = 0
    for part in _parts(stream, stopped):
        held += part
        while held:
            junk = _junk(held)
            if junk:
                if junk > 3:
                    yield BadImage(f"{junk} bytes that are no picture")
                del held[:junk]
                searched = 0
                continue
            try:
                size = _length(held, searched)
            except _More as more:
                searched = int(more.args[0]) if more.args else 0
                if len(held) > MAX_FILE_BYTES:
                    yield BadImage(f"a picture of more than {MAX_FILE_BYTES >> 20} MB")
                    held.clear()
                break
            except BadImage as error:
                yield error
                del held[:2]
                searched = 0
                continue
            yield bytes(held[:size])
            del held[:size]
            searched = 0
    if len(held) > 3 and not stopped():
        yield BadImage("the stream ended within a picture")


def _parts(stream: BinaryIO, stopped: Callable[[], bool]) -> Iterator[bytes]:
    """What the stream gives, as soon as it gives it; a silent one is waited for in steps of WAKE_S."""
    try:
        handle = stream.fileno()
    except (OSError, AttributeError):
        while not stopped() and (part := stream.read(_CHUNK)):
            yield part
        return
    while not stopped():
        if select.select([handle], [], [], WAKE_S)[0]:
            part = os.read(handle, _CHUNK)
            if not part:
                return
            yield part


def _junk(held: bytearray) -> int:
    """How many bytes stand before the first that may begin a picture; a beginning that is cut off is kept."""
    if any(held.startswith(start[: len(held)]) for start in _STARTS):
        return 0
    found = [at for start in _STARTS if (at := held.find(start)) > 0]
    return min(found) if found else max(1, len(held) - len(_PNG) + 1)


def _length(held: bytearray, searched: int) -> int:
    """Bytes of the picture that `held` begins with. Raises _More(where to go on) or BadImage."""
    if held.startswith(_STARTS[0]):
        return _jpeg(held, searched)
    if held.startswith(_PNG):
        return _png(held, searched)
    if held.startswith(b"RIFF"):
        if len(held) < 12:
            raise _More
        if held[8:12] != b"WEBP":
            raise BadImage("a RIFF file that is no picture")
        return _complete(held, 8 + struct.unpack_from("<I", held, 4)[0])
    if held.startswith(b"BM"):
        if len(held) < 18:
            raise _More
        size, reserved, _, header = struct.unpack_from("<IIII", held, 2)
        # Two letters are soon met by chance; the rest of the header is what makes them a picture.
        if not 26 <= size <= MAX_FILE_BYTES or reserved or header not in _BMP_HEADERS:
            raise BadImage("2 bytes that look like a BMP and are none")
        return _complete(held, size)
    raise _More


def _complete(held: bytearray, size: int) -> int:
    if size > MAX_FILE_BYTES:
        raise BadImage(f"a picture of more than {MAX_FILE_BYTES >> 20} MB")
    if len(held) < size:
        raise _More
    return size


def _jpeg(held: bytearray, searched: int) -> int:
    """ITU-T T.81, annex B: segments tell their length; in the coded data 0xFF is followed by 0 or a restart marker."""
    at = max(2, searched)
    while at + 4 <= len(held):
        if held[at] != 0xFF:  # coded data
            at = held.find(b"\xff", at)
            if at < 0:
                raise _More(len(held))
            continue
        marker = held[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker == 0xFF:
            at += 1
        elif marker == 0x00 or 0xD0 <= marker <= 0xD8 or marker == 0x01:
            at += 2
        else:
            at += 2 + max(2, struct.unpack_from(">H", held, at + 2)[0])
    if len(held) >= at + 2 and held[at : at + 2] == b"\xff\xd9":
        return at + 2
    raise _More(at)


def _png(held: bytearray, searched: int) -> int:
    """PNG specification, section 5: chunks of length, type, data, checksum, up to IEND."""
    at = max(len(_PNG), searched)
    while at + 12 <= len(held):
        size = struct.unpack_from(">I", held, at)[0]
        if at + size > MAX_FILE_BYTES:
            raise BadImage(f"a picture of more than {MAX_FILE_BYTES >> 20} MB")
        end = at + 12 + size
        if held[at + 4 : at + 8] == b"IEND":
            return _complete(held, end)
        at = end
    raise _More(at)
