"""Reading photos, with Pillow as the independent decoder, and every kind of file that is none."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.survey import photo_files, survey
from edge_tl_runtime.images.decode import decode_photo, read_photo
from edge_tl_runtime.images.headers import picture_header


def scene(height: int = 60, width: int = 90) -> Image.Image:
    """Smooth colours that differ in all four corners, so that a turn or a swap of channels shows."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([255 * x / width, 255 * y / height, 128 + 127 * np.sin(x / 15)], 2)
    return Image.fromarray(rgb.astype(np.uint8))


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def rgb(data: bytes) -> np.ndarray:
    return decode_photo(data)[:, :, ::-1].astype(int)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_formats_decode_as_pillow_does(format):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(scene(), format, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(rgb(data) - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(scene(), "JPEG", exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    got = rgb(data)
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK", "LA"])
def test_other_pixel_kinds_become_three_channels(mode):
    image = scene().convert(mode)
    format = "JPEG" if mode == "CMYK" else "PNG"
    data = encode(image, format, **({"quality": 95} if mode == "CMYK" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    got = rgb(data)
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < 6


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(format):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = encode(Image.fromarray(ramp), format)
    assert np.abs(rgb(data) - (ramp // 257)[..., None].astype(int)).max() <= 1


def test_progressive_jpeg_decodes():
    data = encode(scene(), "JPEG", progressive=True)
    assert np.abs(rgb(data) - np.asarray(Image.open(io.BytesIO(data))).astype(int)).max() <= 4


def test_one_pixel_is_a_photo():
    assert decode_photo(encode(scene(1, 1), "PNG")).shape == (1, 1, 3)


@pytest.mark.slow
def test_a_hundred_megapixels_decode():
    assert decode_photo(encode(Image.new("RGB", (10_000, 10_000), (9, 9, 9)), "JPEG")).shape == (10_000, 10_000, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_photo_does_not_pass(format, part):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8))
    data = encode(noise, format)
    with pytest.raises(BadImage):
        decode_photo(data[: int(part * len(data))])


def test_a_truncated_jpeg_with_a_whole_thumbnail_does_not_pass():
    exif = Image.Exif()
    thumbnail = encode(scene(30, 40), "JPEG")
    data = encode(scene(), "JPEG", exif=exif.tobytes() + thumbnail)
    assert data.count(b"\xff\xd9") >= 2
    with pytest.raises(BadImage, match="truncated"):
        decode_photo(data[: int(0.9 * len(data))])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, world", "not a photo"),
        (encode(scene(), "GIF"), "GIF"),
        (b"\xff\xd8\xff", "JPEG"),
    ],
    ids=["empty", "text", "gif", "three bytes"],
)
def test_what_is_no_photo_says_why(data, reason):
    with pytest.raises(BadImage, match=reason):
        decode_photo(data)


def test_a_huge_claim_is_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\0\0IEND\xaeB`\x82"
    )
    with pytest.raises(BadImage, match="60000x60000"):
        decode_photo(png)


MAGICS = [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\x00", b"MM\x00*", b"RIFF\x10\x00\x00\x00WEBP"]


@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=300))
@settings(max_examples=300)
def test_hostile_bytes_are_refused_or_decoded(magic, rest):
    try:
        frame = decode_photo(magic + rest)
    except BadImage:
        return
    assert frame.dtype == np.uint8
    assert frame.ndim == 3


@given(data=st.data())
@settings(max_examples=100)
def test_photos_with_flipped_bytes_are_refused_or_decoded(data):
    good = bytearray(encode(scene(24, 24), data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP"]))))
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BadImage):
        decode_photo(bytes(good))


def test_a_folder_gives_photos_and_nothing_else(tmp_path):
    inner = tmp_path / "แมว กับ หมา"
    inner.mkdir()
    kept = [tmp_path / "b.JPG", tmp_path / "new\nline.jpg", inner / "ภาพ.png", inner / "no suffix", inner / "x.txt"]
    for path in [*kept, tmp_path / "._a.jpg", tmp_path / "Thumbs.db"]:
        path.write_bytes(encode(scene(), "PNG"))
    (tmp_path / "note.txt").write_text("of cats")
    (tmp_path / "x.gif").write_bytes(encode(scene(), "GIF"))
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.jpg")
    found = photo_files(tmp_path)
    assert set(found) == set(kept)
    names = [item.path.name for item in survey(tmp_path).passed_over]
    assert names == ["._a.jpg", "Thumbs.db", "loop", "note.txt", "pipe.jpg", "x.gif"]
    with pytest.raises(BadImage, match="not a regular file"):
        read_photo(tmp_path / "pipe.jpg")


def test_a_name_that_is_not_utf8_can_be_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    path.write_bytes(encode(scene(), "PNG"))
    assert photo_files(tmp_path) == [path]
    assert read_photo(path).shape == (60, 90, 3)


def test_map_in_order_keeps_the_order_and_raises_where_the_item_is():
    assert list(map_in_order(lambda x: x * x, range(50), workers=3)) == [x * x for x in range(50)]

    def fail(x: int) -> int:
        if x == 5:
            raise ValueError(x)
        return x

    taken = []
    with pytest.raises(ValueError, match="5"):
        taken.extend(map_in_order(fail, range(20), workers=2))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (640, 480), (4000, 3)])
def test_sizes_are_read_from_headers_as_pillow_reads_them(format, size):
    variants: list[dict[str, object]] = [{}]
    if format == "WEBP":
        variants = [{"lossless": True}, {"quality": 50}, {"exif": Image.Exif().tobytes() + b"x", "quality": 50}]
    elif format == "JPEG":
        variants = [{}, {"progressive": True}]
    for options in variants:
        kind, found = picture_header(encode(Image.new("RGB", size), format, **options))
        assert kind.upper() == format
        assert found == size


def test_big_endian_tiff_and_bmp_from_the_top_are_read():
    tiff = (
        b"MM\x00*\x00\x00\x00\x08\x00\x02"
        + struct.pack(">HHIHH", 256, 3, 1, 90, 0)
        + struct.pack(">HHII", 257, 4, 1, 60)
    )
    assert picture_header(tiff) == ("TIFF", (90, 60))
    bmp = bytearray(encode(scene(), "BMP"))
    bmp[22:26] = struct.pack("<i", -60)
    assert picture_header(bytes(bmp)) == ("BMP", (90, 60))
