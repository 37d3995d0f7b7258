"""Where one encoded picture ends and the next begins in a stream of bytes, whatever lies between them."""

from __future__ import annotations

import os
import re
import select
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.decode import MAX_FILE_BYTES
from edge_tl_runtime.sources.base import WAKE_S

_CHUNK = 65536
_PNG = b"\x89PNG\r\n\x1a\n"
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_STARTS = (b"\xff\xd8\xff", _PNG, b"RIFF", b"BM")
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
"""What ends coded data in a JPEG: anything but a stuffed byte, a restart, fill bytes."""
_MIN_JUNK = 4
"""Shorter runs between pictures (line ends, padding) are not worth a word."""


class NoPicture(BadImage):
    """Bytes between pictures, not a damaged picture."""


class _More(Exception):
    """The picture is not complete yet."""


class PictureSplitter:
    """The JPEG, PNG, WebP and BMP pictures in bytes that come in portions, as their own headers tell where they end.

    Lengths and boundaries that a protocol writes around them are not needed: wrong ones do no harm. A JPEG within which another
    one begins was cut off: it is given as a BadImage and the other one as a picture.
    """

    def __init__(self, max_bytes: int = MAX_FILE_BYTES) -> None:
        """max_bytes: a larger picture is passed over; so many bytes are held at most."""
        self._held = bytearray()
        self._searched = 0
        self._max_bytes = max_bytes
        self._coded = False
        """Whether `searched` lies in the coded data of a JPEG."""

    def feed(self, part: bytes) -> Iterator[bytes | BadImage]:
        """Take in more bytes; gives the pictures that are complete now, a BadImage for each that is damaged and a NoPicture
        for each run of other bytes."""
        self._held += part
        while self._held:
            junk = _junk(self._held)
            if junk:
                if junk >= _MIN_JUNK:
                    yield NoPicture(f"{junk} bytes that are no picture")
                self._drop(junk)
                continue
            try:
                size = self._length()
            except _More as more:
                self._searched = int(more.args[0]) if more.args else 0
                if len(self._held) > self._max_bytes:
                    yield BadImage(f"a picture of more than {self._max_bytes >> 20} MB")
                    self._drop(len(self._held))
                return
            except _CutOff as cut:
                yield BadImage("truncated JPEG (another one begins before its end)")
                self._drop(int(cut.args[0]))
                continue
            except BadImage as error:
                yield error
                self._drop(2)
                continue
            yield bytes(self._held[:size])
            self._drop(size)

    def rest(self) -> BadImage | None:
        """What the end of the bytes cut off."""
        return BadImage("the stream ended within a picture") if len(self._held) >= _MIN_JUNK else None

    def _drop(self, size: int) -> None:
        del self._held[:size]
        self._searched = 0
        self._coded = False

    def _length(self) -> int:
        """Bytes of the picture that the held bytes begin with. Raises _More(where to go on), _CutOff or BadImage."""
        held = self._held
        if held.startswith(_STARTS[0]):
            return self._jpeg()
        if held.startswith(_PNG):
            return _png(held, self._searched, self._max_bytes)
        if held.startswith(b"RIFF"):
            if len(held) < 12:
                raise _More
            if held[8:12] != b"WEBP":
                raise NoPicture("a RIFF file that is no picture")
            return self._complete(8 + struct.unpack_from("<I", held, 4)[0])
        if held.startswith(b"BM"):
            if len(held) < 18:
                raise _More
            size, reserved, _, header = struct.unpack_from("<IIII", held, 2)
            # Two letters are soon met by chance; the rest of the header is what makes them a picture.
            if not 26 <= size <= self._max_bytes or reserved or header not in _BMP_HEADERS:
                raise NoPicture("2 bytes that look like a BMP and are none")
            return self._complete(size)
        raise _More

    def _complete(self, size: int) -> int:
        if size > self._max_bytes:
            raise BadImage(f"a picture of more than {self._max_bytes >> 20} MB")
        if len(self._held) < size:
            raise _More
        return size

    def _jpeg(self) -> int:
        """ITU-T T.81, annex B: segments tell their length; in the coded data 0xFF is followed by 0 or a restart marker."""
        held = self._held
        at = max(2, self._searched)
        while at + 2 <= len(held):
            if self._coded:
                found = _MARKER.search(held, at)
                if found is None:
                    raise _More(len(held) - 1)
                at, self._coded = found.start(), False
            if held[at] != 0xFF or held[at + 1] == 0xD8:
                raise _CutOff(at)  # segments follow each other without a gap
            marker = held[at + 1]
            if marker == 0xD9:
                return at + 2
            if marker == 0xFF:
                at += 1
            elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:
                at += 2
            elif at + 4 > len(held):
                break
            else:
                self._coded = marker == 0xDA
                at += 2 + max(2, struct.unpack_from(">H", held, at + 2)[0])
        raise _More(at)


class _CutOff(Exception):
    """A JPEG ends before its end; the argument is how many bytes of it there are."""


def split_pictures(
    stream: BinaryIO, stopped: Callable[[], bool] = lambda: False, head: bytes = b""
) -> Iterator[bytes | BadImage]:
    """The pictures of a stream, see PictureSplitter, each as soon as it is complete; a silent stream is waited for.

    head: what was read from it already.
    """
    splitter = PictureSplitter()
    yield from splitter.feed(head)
    for part in _parts(stream, stopped):
        yield from splitter.feed(part)
    if not stopped() and (rest := splitter.rest()):
        yield rest


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


def _png(held: bytearray, searched: int, max_bytes: int) -> int:
    """PNG specification, section 5: chunks of length, type, data, checksum, up to IEND."""
    at = max(len(_PNG), searched)
    while at + 12 <= len(held):
        size = struct.unpack_from(">I", held, at)[0]
        if at + size > max_bytes:
            raise BadImage(f"a picture of more than {max_bytes >> 20} MB")
        end = int(at + 12 + size)
        if held[at + 4 : at + 8] == b"IEND":
            if len(held) < end:
                raise _More
            return end
        at = end
    raise _More(at)
