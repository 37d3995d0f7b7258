"""Pixels of photos that are not ordinary: transparent, of few bits in 16, turned. Against Pillow and NumPy by hand."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hostile import encoded as encode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.decode import decode_noted, decode_photo
from edge_tl_runtime.images.formats.pixels import COMPOSED, DARK, GREY, eight_bits, found_range, over_grey


def scene(height: int = 40, width: int = 60) -> np.ndarray:
    """RGB that differs in all four corners, from black to white."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 128 + 127 * np.sin(x / 9)], 2)
    return rgb.astype(np.uint8)


def rgb(data: bytes) -> np.ndarray:
    return decode_photo(data)[:, :, ::-1].astype(int)


def over(image: Image.Image) -> np.ndarray:
    """Composed by Pillow, which rounds in its own way: off by one."""
    behind = Image.new("RGBA", image.size, (GREY, GREY, GREY, 255))
    return np.asarray(Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")).astype(int)


ALPHA = (np.mgrid[:40, :60][1] * 4).astype(np.uint8)
RGBA = Image.fromarray(np.dstack([scene(), ALPHA]))
TRANSPARENT = {
    "PNG RGBA": (RGBA, "PNG", {}),
    "PNG LA": (RGBA.convert("LA"), "PNG", {}),
    "PNG palette, alpha for each colour": (
        RGBA.convert("RGB").quantize(16),
        "PNG",
        {"transparency": bytes(range(0, 256, 17))},
    ),
    "PNG palette, one colour": (RGBA.convert("RGB").quantize(16), "PNG", {"transparency": 3}),
    "PNG RGB, one colour": (RGBA.convert("RGB"), "PNG", {"transparency": (0, 0, 128)}),
    "PNG grey, one value": (RGBA.convert("RGB").convert("L"), "PNG", {"transparency": 70}),
    "PNG bitmap, one value": (RGBA.convert("RGB").convert("1"), "PNG", {"transparency": 0}),
    "WebP lossless": (RGBA, "WEBP", {"lossless": True, "exact": True}),
    "WebP": (RGBA, "WEBP", {"quality": 100, "alpha_quality": 100}),
    "TIFF": (RGBA, "TIFF", {}),
    "TIFF LZW": (RGBA, "TIFF", {"compression": "tiff_lzw"}),
    "AVIF": (RGBA, "AVIF", {"quality": 100, "subsampling": "4:4:4"}),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparent_photos_are_composed_over_grey_as_pillow_does(kind):
    image, format, options = TRANSPARENT[kind]
    data = encode(image, format, **options)
    decoded = decode_noted(data)
    assert decoded.notes == (COMPOSED,)
    opened = Image.open(io.BytesIO(data))
    difference = np.abs(decoded.frame[:, :, ::-1] - over(opened))
    # OpenCV and Pillow upsample the colour of a lossy WebP differently.
    assert difference.mean() < 3 if kind == "WebP" else difference.max() <= 1 + (kind == "AVIF")


def test_colours_below_full_transparency_do_not_reach_the_frame():
    hidden = np.dstack([np.full((8, 8, 3), (255, 0, 255), np.uint8), np.zeros((8, 8), np.uint8)])
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        assert (decode_photo(encode(Image.fromarray(hidden), format, **options)) == GREY).all()


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_an_alpha_of_255_everywhere_changes_nothing(format):
    options = {"lossless": True} if format == "WEBP" else {}
    plain = decode_noted(encode(Image.fromarray(scene()), format, **options))
    opaque = decode_noted(encode(Image.fromarray(scene()).convert("RGBA"), format, **options))
    assert opaque.notes == plain.notes == ()
    np.testing.assert_array_equal(opaque.frame, plain.frame)


@given(pixels=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(4))))
def test_composing_is_that_of_real_numbers(pixels):
    alpha = pixels[:, :, 3:] / 255
    expected = np.rint(pixels[:, :, :3] * alpha + GREY * (1 - alpha))
    assert np.abs(over_grey(pixels, False).frame - expected).max() <= (0 if alpha.min() == 1 else 1)
    stored = np.rint(pixels[:, :, :3] * alpha).astype(np.uint8)
    composed = over_grey(np.dstack([stored, pixels[:, :, 3:]]), True).frame
    assert np.abs(composed - expected).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_transparent_photos_are_turned_as_opaque_ones_are(format, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(
        format, {}
    )
    data = encode(RGBA, format, exif=exif, **options)
    expected = over(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    got = rgb(data)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2


def tiff(values: np.ndarray, bits: int, photometric: int, *more: tuple[int, int], data: bytes | None = None) -> bytes:
    """An uncompressed TIFF of one strip, by hand."""
    height, width, samples = (*values.shape, 1)[:3]
    data = values.tobytes() if data is None else data
    tags = [
        (256, width),
        (257, height),
        (259, 1),
        (262, photometric),
        (277, samples),
        (278, height),
        (279, len(data)),
        *more,
    ]
    at = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags += [(258, at if samples > 2 else bits), (273, at + 2 * samples)]
    entries = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, samples if tag == 258 else 1, value)
        for tag, value in sorted(tags)
    )
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
        + struct.pack(f"<{samples}H", *[bits] * samples)
        + data
    )


WORDS = scene().astype(np.uint16) * 257


@pytest.mark.parametrize(("extra", "premultiplied"), [(1, True), (2, False)])
def test_alpha_in_a_tiff_of_16_bits_may_be_multiplied_in(extra, premultiplied):
    alpha = ALPHA.astype(np.uint16)[..., None] * 257
    colours = (WORDS * (alpha / 65535)).astype(np.uint16) if premultiplied else WORDS
    data = tiff(np.dstack([colours, alpha]), 16, 2, (338, extra))
    decoded = decode_noted(data)
    assert decoded.notes == (COMPOSED,)
    assert np.abs(decoded.frame[:, :, ::-1] - over(RGBA)).max() <= 2


def test_a_fourth_sample_that_is_not_called_alpha_is_none():
    data = tiff(np.dstack([scene(), ALPHA]), 8, 2, (338, 0))
    np.testing.assert_array_equal(rgb(data), scene())


def test_a_grey_tiff_with_alpha_is_named():
    with pytest.raises(BadImage, match="grey TIFF with transparency"):
        decode_photo(encode(RGBA.convert("LA"), "TIFF"))


def test_white_may_be_zero():
    for bits, grey in ((8, scene()[..., 0]), (16, WORDS[..., 0])):
        np.testing.assert_array_equal(rgb(tiff(grey, bits, 0))[..., 0], 255 - scene()[..., 0])


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_samples_fill_the_range(bits):
    values = np.arange(40 * 64).reshape(40, 64) * ((1 << bits) - 1) // (40 * 64 - 1)
    rows = b"".join(
        int("".join(f"{value:0{bits}b}" for value in row), 2).to_bytes(64 * bits // 8, "big") for row in values
    )
    decoded = decode_noted(tiff(values, bits, 1, data=rows))
    assert decoded.notes == ()
    assert np.abs(decoded.frame[..., 0] - values * 255 / ((1 << bits) - 1)).max() <= 1


def png16(values: np.ndarray, sbit: int = 0) -> bytes:
    """With the bits that count in sBIT, which OpenCV does not write."""
    data = cv2.imencode(".png", values[:, :, ::-1] if values.ndim == 3 else values)[1].tobytes()
    if not sbit:
        return data
    body = b"sBIT" + bytes([sbit] * (3 if values.ndim == 3 else 1))
    return data[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[33:]


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("container", ["PNG", "TIFF"])
@pytest.mark.parametrize("how", ["shifted up from 8", "whole range"])
def test_fewer_bits_in_16_are_found_by_their_ceiling(bits, container, how):
    top = (1 << bits) - 1
    values = scene().astype(np.uint16) << (bits - 8) if how == "shifted up from 8" else np.rint(scene() / 255 * top)
    data = png16(values.astype(np.uint16)) if container == "PNG" else tiff(values.astype(np.uint16), 16, 2)
    decoded = decode_noted(data)
    assert [f"{bits} bits in 16" in note for note in decoded.notes] == [True]
    assert np.abs(decoded.frame[:, :, ::-1] - values * (255 / top)).max() <= 0.5
    assert np.abs(decoded.frame[:, :, ::-1] - scene().astype(int)).max() <= 1


@pytest.mark.parametrize("factor", [0.2, 0.1, 1 / 30, 1 / 100])
def test_a_dark_photo_in_true_16_bits_stays_dark(factor):
    """Real numbers in between, as a raw converter writes them: its brightest value is no ceiling."""
    values = (WORDS * factor).astype(np.uint16)
    decoded = decode_noted(png16(values))
    assert decoded.notes == (DARK,)
    assert np.abs(decoded.frame[:, :, ::-1] - values // 256).max() == 0


def test_what_was_done_to_a_photo_is_told_to_the_data_check(tmp_path):
    pictures = pytest.importorskip("edge_tl.data.pictures", reason="the extra train is not installed")
    (tmp_path / "x.png").write_bytes(encode(RGBA, "PNG"))
    (tmp_path / "y.png").write_bytes(encode(Image.fromarray(scene()), "PNG"))
    assert pictures.look_at(tmp_path / "x.png").notes == (COMPOSED,)
    assert pictures.look_at(tmp_path / "y.png").notes == ()


def test_eight_bits_spread_over_16_stay_dark():
    values = np.minimum(scene(), 15).astype(np.uint16) * 257
    assert values.max() == 3855  # would pass for the ceiling of 12 bits
    assert decode_noted(png16(values)).notes == (DARK,)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_what_the_file_says_of_its_bits_is_believed(bits):
    """An underexposed photo touches no ceiling."""
    values = (WORDS * 0.6).astype(np.uint16) >> (16 - bits)
    for data in (tiff(values, 16, 2, (281, (1 << bits) - 1)), png16(values, sbit=bits)):
        decoded = decode_noted(data)
        assert "as its tag says" in decoded.notes[0]
        assert np.abs(decoded.frame[:, :, ::-1] - values * (255 / ((1 << bits) - 1))).max() <= 0.5


def test_a_tag_of_values_that_were_moved_up_scales_nothing():
    """PNG asks for it: sBIT tells how many of the upper bits count."""
    dark = (WORDS >> 4 << 4) // 8 >> 4 << 4
    assert "scaled" not in "".join(decode_noted(png16(dark.astype(np.uint16), sbit=12)).notes)
    full = WORDS >> 4 << 4
    np.testing.assert_array_equal(rgb(png16(full, sbit=12)), full >> 8)


def test_the_brightest_value_of_a_tiff_as_a_statistic_scales_nothing():
    values = (WORDS * 0.1).astype(np.uint16)
    assert decode_noted(tiff(values, 16, 2, (281, int(values.max())))).notes == (DARK,)


@given(values=arrays(np.uint16, st.tuples(st.integers(1, 6), st.integers(1, 6))), declared=st.integers(0, 20))
def test_no_value_is_above_the_range_that_is_found(values, declared):
    largest, _ = found_range(values, declared, shifted=False)
    assert values.max() <= largest
    eight, _ = eight_bits(values, declared)
    order = np.argsort(values, axis=None)
    assert (np.diff(eight.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize("number", [4, 5, 6])
@pytest.mark.parametrize("comment", ["", "# made by hand\n"])
def test_netpbm_files_decode_as_pillow_does(number, comment):
    image = Image.fromarray(scene()).convert({4: "1", 5: "L", 6: "RGB"}[number])
    pixels = np.asarray(image)
    stored = np.packbits(~pixels, axis=1) if number == 4 else pixels
    data = f"P{number}\n{comment}60 40\n".encode() + (b"" if number == 4 else b"255\n") + stored.tobytes()
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    np.testing.assert_array_equal(rgb(data), expected)
    with pytest.raises(BadImage, match="truncated PNM"):
        decode_photo(data[:-10])


@pytest.mark.parametrize("largest", [1, 15, 254, 255, 1023, 4095, 65534, 65535])
def test_netpbm_files_say_what_white_is(largest):
    values = np.rint(scene() / 255 * largest).astype(">u2" if largest > 255 else np.uint8)
    data = f"P6 60 40 {largest}\n".encode() + values.tobytes()
    assert np.abs(rgb(data) - values * (255 / largest)).max() <= (1 if largest == 65535 else 0.5)


def bmp32(mask: int, pixels: np.ndarray) -> bytes:
    """BITMAPV4HEADER, rows from the bottom."""
    height, width = pixels.shape[:2]
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, mask)
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, pixels.nbytes, 0, 0, 0, 0) + masks + bytes(52)
    return b"BM" + struct.pack("<IHHI", 122 + pixels.nbytes, 0, 0, 122) + head + pixels[::-1, :, [2, 1, 0, 3]].tobytes()


def test_a_bitmap_is_transparent_where_its_mask_says_so():
    pixels = np.dstack([scene(), ALPHA])
    assert np.abs(rgb(bmp32(0xFF000000, pixels)) - over(RGBA)).max() <= 1
    np.testing.assert_array_equal(rgb(bmp32(0, pixels)), scene())
    unused = np.dstack([scene(), np.zeros_like(ALPHA)])
    np.testing.assert_array_equal(rgb(bmp32(0xFF000000, unused)), scene())


@pytest.mark.parametrize(
    ("kind", "bits", "format", "words"),
    [
        (np.float32, 32, 3, "floating"),
        (np.int16, 16, 2, "signed"),
        (np.uint32, 32, 1, "32 bits"),
        (np.float16, 16, 3, "floating"),
    ],
)
def test_samples_that_do_not_say_what_white_is_are_named(kind, bits, format, words):
    with pytest.raises(BadImage, match=words):
        decode_photo(tiff(np.zeros((40, 60), kind), bits, 1, (339, format)))


@settings(max_examples=40)
@given(st.data())
def test_a_big_tiff_decodes_as_the_small_one(data):
    """The same directory with offsets of 64 bits."""
    width, height = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    pixels = np.ascontiguousarray(scene(41, 41)[:height, :width])
    tags = [
        (256, width),
        (257, height),
        (258, 8 | 8 << 16 | 8 << 32),
        (259, 1),
        (262, 2),
        (277, 3),
        (278, height),
        (279, pixels.nbytes),
    ]
    start = 16 + 8 + 20 * 9 + 8
    entries = b"".join(
        struct.pack("<HHQQ", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value)
        for tag, value in sorted([*tags, (273, start)])
    )
    big = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + struct.pack("<Q", 9) + entries + bytes(8) + pixels.tobytes()
    np.testing.assert_array_equal(rgb(big), pixels)


@pytest.mark.parametrize(
    ("marker", "bits", "said"),
    [
        (0xC1, 12, "JPEG of 12 bits a sample"),
        (0xC3, 16, "lossless JPEG of 16 bits a sample"),
        (0xC5, 8, "hierarchical JPEG"),
        (0xC0, 8, "damaged JPEG"),
    ],
)
def test_a_jpeg_of_an_unusual_kind_is_named_and_not_called_damaged(marker: int, bits: int, said: str):
    """Of an ordinary JPEG with another frame header: what decoders of 8 bits refuse before they look further."""
    data = bytearray(cv2.imencode(".jpg", np.full((16, 16, 3), 90, np.uint8))[1].tobytes())
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    if said.startswith("damaged"):
        data[frame + 9] = 9  # so many colours has no photo
    with pytest.raises(BadImage, match=said):
        decode_photo(bytes(data))
