"""Pictures made to break their reader: a frame or one line, soon and in bounded memory."""

from __future__ import annotations

import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile import checked, encoded, measured, mutated, refused, scene, within
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.decode import MAX_DECODE_BYTES, MAX_MEGAPIXELS, decode_photo, read_photo
from edge_tl_runtime.images.headers import picture_header


def png(width: int, height: int, *chunks: tuple[bytes, bytes], idat: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = zlib.compress(idat or (b"\0" + bytes(3 * min(width, 64))) * min(height, 64))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(chunk(*item) for item in chunks)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int, frame: int = 0xC0, components: int = 3, scanned: int = 3) -> bytes:
    """The headers of a JPEG that claims a size, with nothing to decode."""
    parts = b"".join(bytes([i, 0x11, 0]) for i in range(1, components + 1))
    start = bytes([0xFF, frame]) + struct.pack(">HBHHB", 8 + 3 * components, 8, height, width, components) + parts
    scan = b"\xff\xda" + struct.pack(">HB", 6 + 2 * scanned, scanned) + bytes([1, 0] * scanned) + b"\0\x3f\0"
    return b"\xff\xd8" + start + scan + b"\0" * 100 + b"\xff\xd9"


def tiff(*tags: tuple[int, int], body: bytes = bytes(400)) -> bytes:
    """Little-endian, one directory; the value -1 is where the body starts."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if value == -1 else value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + body


def tiff_of(width: int, height: int, *more: tuple[int, int]) -> bytes:
    plain = ((256, width), (257, height), (258, 8), (259, 1), (262, 2), (273, -1), (277, 3), (278, height), (279, 300))
    return tiff(*(tag for tag in plain if tag[0] not in dict(more)), *more)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(6)


def webp(chunk: bytes, content: bytes) -> bytes:
    body = b"WEBP" + chunk + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_extended(width: int, height: int, flags: int = 0) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", bytes([flags, 0, 0, 0]) + size)


BOMBS = {
    "PNG": png(60_000, 60_000),
    "PNG of 2**31": png(2**31 - 1, 2**31 - 1),
    "JPEG": jpeg(65_535, 65_535),
    "progressive JPEG": jpeg(9_000, 9_000, frame=0xC2),
    "JPEG of single components": jpeg(9_000, 9_000, scanned=1),
    "JPEG of two frame headers": jpeg(65_535, 65_535)[:21] + jpeg(65_535, 65_535)[2:],
    "TIFF": tiff_of(60_000, 60_000),
    "TIFF of 2**32": tiff_of(2**32 - 1, 2**32 - 1),
    "TIFF of one strip": tiff_of(9_000, 9_000, (277, 4), (258, 16)),
    "TIFF of a large tile": tiff_of(10, 10, (322, 16_384), (323, 16_384), (324, -1), (325, 100)),
    "TIFF of many samples": tiff_of(5_000, 5_000, (277, 65_535)),
    "TIFF of huge samples": tiff_of(5_000, 5_000, (258, 2**32 - 1)),
    "BMP": bmp(60_000, 60_000),
    "BMP of 2**31": bmp(2**31 - 1, -(2**31)),
    "WebP": webp(b"VP8 ", bytes(6) + struct.pack("<HH", 16_383, 16_383)),
    "lossless WebP": webp(b"VP8L", b"\x2f" + struct.pack("<I", 2**28 - 1)),
    "extended WebP": webp_extended(2**24, 2**24),
    "animated WebP": webp_extended(9_000, 9_000, flags=2),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_picture_that_would_take_too_much_memory_is_refused_by_its_header(kind):
    message = refused(BadImage, lambda: decode_photo(BOMBS[kind]))
    assert "megapixels" in message or "MB to decode" in message


def test_two_sizes_in_one_tiff_are_refused():
    """Decoders differ in which of them they believe."""
    for order in ((60_000, 10), (10, 60_000)):
        data = tiff((256, order[0]), (257, 10), (256, order[1]), (258, 8))
        assert "damaged TIFF header" in refused(BadImage, lambda d=data: decode_photo(d))


def test_a_small_canvas_does_not_hide_a_large_picture():
    inner = encoded(Image.new("RGB", (9000, 9000)), "WEBP", method=0, quality=1)[12:]
    extended = webp_extended(10, 10)[12:]
    body = b"WEBP" + extended + inner
    refused(BadImage, lambda: decode_photo(b"RIFF" + struct.pack("<I", len(body)) + body))


def test_scans_without_number_are_refused():
    good = encoded(scene(), "JPEG", progressive=True)
    last = good.rindex(b"\xff\xda")
    bomb = good[:-2] + good[last:-2] * 5000 + b"\xff\xd9"
    assert "scans" in refused(BadImage, lambda: decode_photo(bomb))
    assert decode_photo(good).shape == (24, 32, 3)


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xd0", b"\xff\x01", b"\xff\xe1\x00\x02", b"\xff\xe1\x00\x00"])
def test_markers_without_number_are_refused_soon(filling):
    data = b"\xff\xd8\xff" + filling * (80_000_000 // len(filling))
    refused(BadImage, lambda: decode_photo(data), seconds=1.5)


def zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    block = bytes(2**20)
    return b"".join([packer.compress(block) for _ in range(megabytes)]) + packer.flush()


def test_text_and_profiles_inside_a_png_do_not_take_memory(tmp_path):
    packed = zeros(300)
    profile = struct.pack(">I", 300 << 20) + b"lcms" + bytes(120)
    packer = zlib.compressobj(1)
    profile = packer.compress(profile) + b"".join([packer.compress(bytes(2**20)) for _ in range(300)]) + packer.flush()
    cases = {
        "zTXt": png(24, 24, (b"zTXt", b"key\0\0" + packed)),
        "iTXt": png(24, 24, (b"iTXt", b"key\0\1\0\0\0" + packed)),
        "iCCP": png(24, 24, (b"iCCP", b"name\0\0" + profile)),
        "acTL": png(24, 24, (b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "idat": png(24, 24, idat=bytes(100_000_000)),
        "many": png(24, 24, *[(b"tEXt", b"key\0value")] * 100_000),
    }
    paths = [tmp_path / f"{name}.png" for name in cases]
    for path, content in zip(paths, cases.values(), strict=True):
        path.write_bytes(content)
    *lines, rise = measured("for path in sys.argv[1:]: attempt(lambda: read_photo(path))", *paths)
    assert {line.split()[0] for line in lines} <= {"read", "BadImage"}
    assert len(lines) == len(cases)
    assert int(rise) < 100


def _largest(kind: str) -> bytes:
    """The largest square picture of a kind that is decoded, and its memory's share of what is allowed."""
    per_pixel = {"progressive": 9, "animated": 12, "alpha": 11}.get(kind, 6)
    side = int((MAX_DECODE_BYTES / per_pixel) ** 0.5) - 1
    if kind == "TIFF strip":
        side = int((MAX_DECODE_BYTES / 10) ** 0.5) - 1
        return encoded(Image.new("RGB", (side, side)), "TIFF", tiffinfo={278: side}, strip_size=2**31 - 1)
    image = Image.new("RGBA" if kind == "alpha" else "RGB", (side, side), (9, 9, 9))
    turned = Image.Exif()
    turned[0x112] = 6
    return {
        "turned": lambda: encoded(image, "JPEG", exif=turned),
        "progressive": lambda: encoded(image, "JPEG", progressive=True, subsampling=0),
        "animated": lambda: encoded(
            image, "WEBP", save_all=True, append_images=[Image.new("RGB", image.size)], method=0
        ),
        "alpha": lambda: encoded(image, "WEBP", method=0),
        "PNG": lambda: encoded(image, "PNG", compress_level=1),
    }[kind]()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["turned", "progressive", "animated", "alpha", "PNG", "TIFF strip"])
def test_the_largest_picture_of_each_kind_keeps_to_the_memory_it_may_take(kind, tmp_path):
    path = tmp_path / "x.img"
    path.write_bytes(_largest(kind))
    outcome, rise = measured("attempt(lambda: read_photo(sys.argv[1]))", path)
    assert outcome == "read"
    assert int(rise) * 2**20 < 1.05 * MAX_DECODE_BYTES + path.stat().st_size


def test_the_sensor_of_a_large_phone_is_within_the_limit():
    assert MAX_MEGAPIXELS * 1e6 >= 12_000 * 9_000


GOOD = {
    "JPEG": encoded(scene(), "JPEG", quality=90),
    "progressive": encoded(scene(), "JPEG", progressive=True),
    "EXIF": encoded(scene(), "JPEG", exif=bytes.fromhex("45786966000049492a00080000000100120103000100000006000000")),
    "CMYK": encoded(scene().convert("CMYK"), "JPEG"),
    "PNG": encoded(scene(), "PNG"),
    "palette": encoded(scene().convert("P"), "PNG"),
    "WebP": encoded(scene(), "WEBP", quality=80),
    "lossless": encoded(scene().convert("RGBA"), "WEBP", lossless=True),
    "animated": encoded(scene(), "WEBP", save_all=True, append_images=[scene().rotate(180)]),
    "APNG": encoded(scene(), "PNG", save_all=True, append_images=[scene().rotate(180)]),
    "BMP": encoded(scene(), "BMP"),
    "TIFF": encoded(scene(), "TIFF"),
    "LZW": encoded(scene(), "TIFF", compression="tiff_lzw"),
    "pages": encoded(scene(), "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 5))]),
    "16 bits": encoded(Image.fromarray(np.full((24, 32), 40_000, np.uint16)), "TIFF"),
}


def frame_or_refusal(data: bytes) -> None:
    try:
        frame = decode_photo(data)
    except BadImage as error:
        checked(error)
        return
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.shape[2] == 3
    assert frame.size > 0


@pytest.mark.parametrize("kind", GOOD)
def test_animations_and_pages_give_their_first_picture(kind):
    frame = decode_photo(GOOD[kind])
    assert sorted(frame.shape[:2]) == [24, 32]
    if kind in ("animated", "APNG", "pages"):
        assert np.abs(frame[..., ::-1].astype(int) - np.asarray(scene())).mean() < 6


@pytest.mark.parametrize("kind", GOOD)
def test_a_picture_cut_anywhere_is_a_frame_or_refused(kind):
    data = GOOD[kind]
    with within(5):
        for length in [*range(min(len(data), 300)), *range(300, len(data), 7)]:
            frame_or_refusal(data[:length])


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.data())
@settings(max_examples=60)
def test_a_damaged_picture_is_a_frame_or_refused(kind, data):
    frame_or_refusal(mutated(data, GOOD[kind]))


@given(data=st.data())
@settings(max_examples=600)
def test_headers_of_any_bytes_give_a_size_or_are_refused(data):
    content = data.draw(st.binary(max_size=64) | st.sampled_from(list(GOOD.values())).map(lambda good: good[:200]))
    content = mutated(data, content)
    try:
        kind, (width, height) = picture_header(content)
    except BadImage as error:
        checked(error)
        return
    assert kind in ("JPEG", "PNG", "WebP", "BMP", "TIFF", "PNM", "HEIC", "AVIF")
    assert width > 0
    assert height > 0


def exif_of(entries: bytes, count: int, after: int = 0) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + struct.pack("<I", after)


EXIF = {
    "next directory is this one": exif_of(struct.pack("<HHII", 0x112, 3, 1, 1), 1, after=8),
    "directory inside is this one": exif_of(struct.pack("<HHII", 0x8769, 4, 1, 8), 1, after=8),
    "entries without number": exif_of(b"", 65_535),
    "orientation of another kind": exif_of(struct.pack("<HHII", 0x112, 2, 2**32 - 1, 2**32 - 1), 1),
    "orientation beyond eight": exif_of(struct.pack("<HHII", 0x112, 3, 1, 77), 1),
    "directory beyond the end": b"Exif\0\0II*\0" + struct.pack("<I", 2**32 - 1),
    "directory before the start": b"Exif\0\0MM\0*" + struct.pack(">i", -8),
    "nothing": b"Exif\0\0",
    "noise": b"Exif\0\0" + random.Random(0).randbytes(5000),
}


@pytest.mark.parametrize("kind", EXIF)
def test_damaged_exif_does_not_turn_or_lose_the_photo(kind):
    data = encoded(scene(), "JPEG", exif=EXIF[kind], quality=90)
    with within(2):
        np.testing.assert_array_equal(decode_photo(data), decode_photo(GOOD["JPEG"]))


def test_floats_in_a_tiff_are_refused_or_read():
    for kind in (np.float32, np.int32):
        refused(BadImage, lambda k=kind: decode_photo(encoded(Image.fromarray(np.zeros((24, 32), k)), "TIFF")))


@pytest.mark.parametrize("kind", GOOD)
def test_the_name_says_nothing_about_the_content(kind, tmp_path):
    for name in (b"x.png", b"x.jpg", b"\xff\xfe\x80.tif", b"x"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.write_bytes(GOOD[kind])
        np.testing.assert_array_equal(read_photo(path), decode_photo(GOOD[kind]))
