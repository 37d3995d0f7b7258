"""Pictures that follow each other over a connection, as MJPEG: the newest that is whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.decode import Frame, decode_photo
from edge_tl_runtime.sources.base import WAKE_S
from edge_tl_runtime.sources.picture_splitter import NoPicture, PictureSplitter

MAX_PICTURE_BYTES = 32 * 2**20
"""A part without an end is not held beyond this."""
DAMAGED = "damaged"
CUT_OFF = "cut off"
_CATCH_UP_S = 0.1
"""How long newer pictures are looked for while they keep coming."""


class PictureStream:
    """The newest of the pictures in bytes that arrive.

    rejections: pictures that were not given, by reason. missed: good ones that were passed over for the one that `next` gave.
    """

    def __init__(self, read: Callable[[float], bytes | None], rejections: Counter[str], head: bytes = b"") -> None:
        """read: gives what has arrived within a time, None when nothing did, b"" at the end. head: what was read before."""
        self._read, self.rejections = read, rejections
        self._splitter = PictureSplitter(MAX_PICTURE_BYTES)
        self._newest: bytes | None = None
        self.missed = 0
        self.ended = False
        self._take(head)

    def next(self, clock: Callable[[], float] = time.monotonic) -> bytes | None:
        """The newest whole picture, waited for WAKE_S; None when none came."""
        began = clock()
        while not self.ended:
            part = self._read(0.0 if self._newest else WAKE_S)
            if not part:
                self.ended = part == b""
                break
            self._take(part)
            if clock() - began > (_CATCH_UP_S if self._newest else WAKE_S):
                break
        newest, self._newest = self._newest, None
        return newest

    def _take(self, part: bytes) -> None:
        for item in self._splitter.feed(part):
            if isinstance(item, NoPicture):
                continue  # boundaries, heads of parts, line ends
            if isinstance(item, BadImage):
                self.rejections[CUT_OFF] += 1
                continue
            self.missed += self._newest is not None
            self._newest = item


def decoded(picture: bytes, rejections: Counter[str]) -> Frame | None:
    """uint8 (H, W, 3), BGR, as any photo is decoded; None, and counted, where it cannot be."""
    try:
        return decode_photo(picture)
    except BadImage:
        rejections[DAMAGED] += 1
        return None
