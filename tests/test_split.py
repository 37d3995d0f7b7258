"""Encoded pictures on a pipe: each comes out whole, whatever the pipe's portions and whatever lies between."""

from __future__ import annotations

import io
import os
import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import BadImage, UsageError
from edge_tl_runtime.images.decode import decode_photo
from edge_tl_runtime.sources import StandardInput
from edge_tl_runtime.sources.picture_splitter import split_pictures

KINDS = (".jpg", ".png", ".webp", ".bmp")


def encoded(kind: str, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9 + seed % 5, 12, 3), np.uint8)
    return cv2.imencode(kind, pixels)[1].tobytes()


class Portions(io.RawIOBase):
    """A stream that gives `size` bytes at a time, like a slow pipe."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def fileno(self) -> int:
        raise OSError("not a file")

    def read(self, size: int = -1) -> bytes:
        return self._data.read(self._size)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 30)), max_size=6), st.integers(1, 400))
def test_pictures_come_out_as_they_went_in(wanted, portion):
    pictures = [encoded(kind, seed) for kind, seed in wanted]
    assert list(split_pictures(Portions(b"".join(pictures), portion))) == pictures


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 100))
def test_any_bytes_give_pictures_or_complaints(before, after, portion):
    for item in split_pictures(Portions(before + encoded(".jpg", 1) + after, portion)):
        assert isinstance(item, (bytes, BadImage))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("junk", [b"hello, this is no picture at all", b"\0" * 1000, b"BMBMBMBM" * 9, b"\xff\xd8"])
def test_junk_between_pictures_is_passed_over(kind, junk):
    first, second = encoded(kind, 1), encoded(kind, 2)
    found = [item for item in split_pictures(Portions(first + junk + second, 64)) if isinstance(item, bytes)]
    assert first in found
    assert second in found or junk == b"\xff\xd8"  # a beginning that never continues takes what follows with it


def test_a_jpeg_with_a_thumbnail_is_one_picture():
    inner = encoded(".jpg", 3)
    outer = encoded(".jpg", 4)
    segment = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    picture = outer[:2] + segment + outer[2:]
    assert list(split_pictures(Portions(picture * 2, 50))) == [picture, picture]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_off_is_told(kind):
    data = encoded(kind, 1)
    *whole, last = split_pictures(Portions(data + data[: len(data) // 2], 77))
    assert whole == [data]
    assert isinstance(last, BadImage)
    assert "ended within" in str(last)


def test_a_picture_that_claims_to_be_huge_is_not_waited_for():
    bomb = b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xf0IDAT" + b"\0" * 100
    items = list(split_pictures(Portions(bomb + encoded(".png", 1), 64)))
    assert isinstance(items[0], BadImage)
    assert encoded(".png", 1) in items


def test_each_picture_is_given_before_the_next_is_written():
    """Over a real pipe: the reader must not wait for more than the picture itself."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pipe:
        source = StandardInput("-", stream)
        records = iter(source)
        for seed in range(3):
            pipe.write(encoded(".png", seed))
            assert next(records).frame.tobytes() == decode_photo(encoded(".png", seed)).tobytes()
        threading.Timer(0.3, source.stop).start()
        assert next(records, None) is None  # a silent pipe can be left


def test_a_terminal_is_refused(monkeypatch):
    import sys

    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"buffer": io.BytesIO(), "isatty": lambda self: True})())
    with pytest.raises(UsageError, match="terminal"):
        StandardInput("-")
