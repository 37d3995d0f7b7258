"""HEIC and AVIF beside Pillow and libheif: the same pixels, turned once, composed, and damaged files refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hostile import checked, mutated, scene, within
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.decode import decode_noted, decode_photo, read_photo
from edge_tl_runtime.images.formats import heif
from edge_tl_runtime.images.formats.isobmff import boxed_picture
from edge_tl_runtime.images.formats.pixels import COMPOSED, GREY

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
pillow_heif.register_heif_opener()

COLOURS = np.stack([*np.meshgrid(np.arange(96) * 2.6, np.arange(64) * 3.9), np.full((64, 96), 90)], 2).astype(np.uint8)
ALPHA = np.clip(np.arange(96) * 4, 0, 255).astype(np.uint8)[None].repeat(64, 0)
RGBA = Image.fromarray(np.dstack([COLOURS, ALPHA]))


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **{"quality": 95, **options})
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (GREY, GREY, GREY, 255)), image.convert("RGBA"))
    return np.asarray(image.convert("RGB")).astype(int)


def rgb(data: bytes) -> np.ndarray:
    return decode_photo(data)[:, :, ::-1].astype(int)


@pytest.mark.parametrize("format", ["HEIF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_pixels_are_those_of_pillow(format, mode):
    data = encode(RGBA.convert(mode), format)
    got = rgb(data)
    assert np.abs(got - by_pillow(data)).max() <= 2
    assert decode_noted(data).notes == ((COMPOSED,) if "A" in mode else ())


def exif(orientation: int) -> Image.Exif:
    """A new one each time: Pillow takes the orientation out of it when it writes AVIF."""
    made = Image.Exif()
    made[0x112] = orientation
    return made


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_as_its_boxes_say(orientation):
    """Pillow writes the orientation as turn and mirror; what it means is told by Pillow's own reading of EXIF."""
    data = encode(RGBA, "AVIF", exif=exif(orientation))
    turned = RGBA.copy()
    turned.getexif()[0x112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(turned).convert("RGBA"))
    opaque = expected[:, :, 3] == 255
    got = rgb(data)
    assert got.shape[:2] == expected.shape[:2]
    assert np.abs(got - expected[:, :, :3])[opaque].mean() < 3
    assert np.abs(got - by_pillow(data)).max() <= 2


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [None, 0, 1])
def test_a_heic_is_turned_as_its_boxes_say(turns, mirror):
    """The boxes of colour and of bits become turn and mirror, or a second turn by nothing, in their place and length."""
    data = encode(Image.fromarray(COLOURS), "HEIF")
    for old, new, value in ((b"colr", b"irot", turns), (b"pixi", b"irot" if mirror is None else b"imir", mirror or 0)):
        at = data.index(old)
        size = int.from_bytes(data[at - 4 : at], "big")
        data = data[:at] + new + bytes([value]) + bytes(size - 9) + data[at - 4 + size :]
    expected = np.rot90(COLOURS, turns)
    if mirror is not None:
        expected = np.flip(expected, mirror)
    got = rgb(data)
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < 8  # the box of colour, which is gone, told how colours are coded


def test_exif_turns_no_heic():
    """Phones write the turn into the boxes and into EXIF: the boxes count (ISO/IEC 23008-12)."""
    assert b"Exif" in encode(Image.fromarray(COLOURS), "HEIF", exif=exif(6))
    assert rgb(encode(Image.fromarray(COLOURS), "HEIF", exif=exif(6))).shape == COLOURS.shape


def test_ten_bits_become_eight():
    words = COLOURS.astype(np.uint16) * 257
    file = pillow_heif.from_bytes("RGB;16", (96, 64), words.tobytes())
    buffer = io.BytesIO()
    file.save(buffer, quality=95, chroma=444)
    assert boxed_picture(buffer.getvalue()).bits == 10
    assert np.abs(rgb(buffer.getvalue()) - COLOURS).mean() < 2


def test_one_file_gives_one_set_of_bytes(tmp_path):
    for format, name in (("HEIF", "x.HEIC"), ("AVIF", "x.avif")):
        path = tmp_path / name
        path.write_bytes(encode(RGBA, format))
        np.testing.assert_array_equal(read_photo(path), decode_photo(path.read_bytes()))
        np.testing.assert_array_equal(read_photo(path), read_photo(path))


GOOD = {format: encode(scene().resize((64, 48)), format) for format in ("HEIF", "AVIF")}


def with_size(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"ispe")
    return data[: at + 8] + struct.pack(">II", width, height) + data[at + 16 :]


@pytest.mark.parametrize("format", GOOD)
@pytest.mark.parametrize("size", [(60_000, 60_000), (2**32 - 1, 2**32 - 1), (10_200, 10_200)])
def test_a_huge_claim_is_refused_before_decoding(format, size):
    with within(1), pytest.raises(BadImage, match=r"megapixels|MB to decode"):
        decode_photo(with_size(GOOD[format], *size))


def test_the_size_inside_an_avif_counts_too():
    """The box may claim less than the picture makes its decoder allocate."""
    for size in ((1000, 30), (7, 900), (64, 64)):
        for options in ({}, {"subsampling": "4:4:4"}, {"speed": 10}):
            data = encode(Image.new("RGB", size), "AVIF", **options)
            assert boxed_picture(data).largest == size[0] * size[1]
            assert boxed_picture(with_size(data, 5, 5)).largest == size[0] * size[1]


def test_an_animated_avif_is_named():
    data = encode(Image.fromarray(COLOURS), "AVIF", save_all=True, append_images=[Image.fromarray(COLOURS[::-1])])
    with pytest.raises(BadImage, match="animation"):
        decode_photo(data)


@pytest.mark.parametrize("format", GOOD)
def test_a_file_that_ends_too_soon_is_refused(format):
    data = GOOD[format]
    for part in (0.1, 0.4, 0.7, 0.9):
        with pytest.raises(BadImage):
            decode_photo(data[: int(part * len(data))])


@pytest.mark.parametrize("format", GOOD)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_a_frame_or_refused(format, data):
    try:
        frame = decode_photo(mutated(data, GOOD[format]))
    except BadImage as error:
        checked(error)
        return
    assert frame.dtype == np.uint8
    assert frame.shape[2] == 3


def test_without_the_extra_a_photo_says_what_to_install(monkeypatch):
    monkeypatch.setattr(heif, "heic_lacks", lambda: heif.HEIC_EXTRA)
    monkeypatch.setattr(heif, "avif_lacks", lambda: heif.AVIF_EXTRA)
    with pytest.raises(BadImage, match=r"pip install 'edge-tl\[heic\]'"):
        decode_photo(GOOD["HEIF"])
    with pytest.raises(BadImage, match="pip install 'opencv-python>="):
        decode_photo(GOOD["AVIF"])
