"""Where a model looks: crop, rotation, flip and fit against NumPy slices and OpenCV's own turns, for any frame."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.asked_geometry import AskedGeometry, described, seeing, seen_in_words
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.images.geometry import (
    Box,
    before_turning,
    region_box,
    region_of,
    seen_box,
    turned,
    turned_back,
    turned_size,
)
from edge_tl_runtime.images.sizes import common_size, photo_size
from edge_tl_runtime.images.uncrop import uncrop
from edge_tl_runtime.modelfile.sections import FITS, FLIPS, TURNS, Geometry
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

RULE = ResizeRule(height=32, width=32, crop_pct=0.875, resample="area-linear", color_order="BGR")
WHOLE = Geometry(rotate=0, flip="none", crop=(0, 0, 1, 1), fit="crop")


def noise(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def by_hand(frame: np.ndarray, rotate: int, flip: str) -> np.ndarray:
    """NumPy alone: rot90 turns the other way round than degrees clockwise."""
    frame = np.rot90(frame, -rotate // 90)
    if flip in ("horizontal", "both"):
        frame = frame[:, ::-1]
    if flip in ("vertical", "both"):
        frame = frame[::-1]
    return frame


fractions = st.tuples(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.01, 1), st.floats(0.01, 1)).map(
    lambda v: (v[0], v[1], min(v[2], 1 - v[0]), min(v[3], 1 - v[1]))
)
geometries = st.builds(
    Geometry,
    rotate=st.sampled_from(TURNS),
    flip=st.sampled_from(FLIPS),
    crop=fractions,
    fit=st.sampled_from(FITS),
    fill=st.sampled_from([None, 0, 200]),
)
sizes = st.integers(1, 400)


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("rotate", TURNS)
def test_a_frame_is_turned_as_numpy_turns_it_and_back(rotate, flip):
    frame, geometry = noise(5, 7), replace(WHOLE, rotate=rotate, flip=flip)
    np.testing.assert_array_equal(turned(frame, geometry), by_hand(frame, rotate, flip))
    np.testing.assert_array_equal(turned_back(turned(frame, geometry), geometry), frame)
    assert turned(frame, geometry).shape[:2] == turned_size(5, 7, geometry)


@given(geometries, sizes, sizes)
def test_a_crop_is_never_empty_never_outside_and_what_is_cut_before_turning(geometry, rows, columns):
    frame = noise(rows, columns)
    whole = by_hand(frame, geometry.rotate, geometry.flip)
    box = region_box(*whole.shape[:2], geometry)
    assert box.width >= 1
    assert box.height >= 1
    assert 0 <= box.x <= box.x + box.width <= whole.shape[1]
    assert 0 <= box.y <= box.y + box.height <= whole.shape[0]
    np.testing.assert_array_equal(
        region_of(frame, geometry), whole[box.y : box.y + box.height, box.x :][:, : box.width]
    )
    back = before_turning(box, rows, columns, geometry)
    np.testing.assert_array_equal(by_hand(back.of(frame), geometry.rotate, geometry.flip), region_of(frame, geometry))


def test_pixels_are_those_of_a_numpy_slice():
    frame = noise(720, 1280)
    (region,) = AskedGeometry.parse("200,8,704,704").regions(RULE, 720, 1280)
    assert region.name == ""
    np.testing.assert_array_equal(region_of(frame, region.rule.geometry), frame[8:712, 200:904])
    part = frame[8:712, 200:904]
    np.testing.assert_array_equal(crop_resize(frame, region.rule), crop_resize(part, replace(RULE, crop_pct=1.0)))
    assert seen_in_words(region.rule, 720, 1280) == "704x704 px from x 200, y 8 of 1280x720"


@given(st.integers(16, 4000), st.integers(16, 4000), st.data())
def test_any_crop_in_pixels_is_exact(rows, columns, data):
    x, y = data.draw(st.integers(0, columns - 16)), data.draw(st.integers(0, rows - 16))
    width, height = data.draw(st.integers(16, columns - x)), data.draw(st.integers(16, rows - y))
    (region,) = AskedGeometry.parse(f"{x},{y},{width},{height}").regions(RULE, rows, columns)
    assert region_box(rows, columns, region.rule.geometry or WHOLE) == Box(x, y, width, height)


@given(geometries, sizes, sizes)
@settings(max_examples=60)
def test_the_network_gets_the_box_that_pictures_show(geometry, rows, columns):
    frame = noise(rows, columns)
    rule = replace(RULE, geometry=geometry)
    box = seen_box(*turned_size(rows, columns, geometry), rule)
    shown = box.of(by_hand(frame, geometry.rotate, geometry.flip))
    if geometry.fit == "letterbox":
        scale = min(32 / box.height, 32 / box.width)
        size = min(32, max(1, round(box.width * scale))), min(32, max(1, round(box.height * scale)))
        inner = crop_resize(
            shown, ResizeRule(height=size[1], width=size[0], crop_pct=1.0, resample="area-linear", color_order="BGR")
        )
        if inner.shape[0] / inner.shape[1] != box.height / box.width:
            inner = _stretched(shown, *size)
        expected = np.full((32, 32, 3), 114 if geometry.fill is None else geometry.fill, np.uint8)
        top, left = (32 - size[1]) // 2, (32 - size[0]) // 2
        expected[top : top + size[1], left : left + size[0]] = inner
    else:
        expected = _stretched(shown, 32, 32)
    np.testing.assert_array_equal(crop_resize(frame, rule), expected)


def _stretched(part: np.ndarray, width: int, height: int) -> np.ndarray:
    """docs/contract.md's rule by hand: blocks of k x k averaged, the rest by OpenCV's exact bilinear."""
    k = max(1, min(part.shape[0] // height, part.shape[1] // width))
    rows, columns = part.shape[0] // k, part.shape[1] // k
    top, left = (part.shape[0] - rows * k) // 2, (part.shape[1] - columns * k) // 2
    part = part[top : top + rows * k, left : left + columns * k]
    while k > 1:
        step = 2 if k % 2 == 0 else k
        part = cv2.resize(part, (part.shape[1] // step, part.shape[0] // step), interpolation=cv2.INTER_AREA)
        k //= step
    if part.shape[:2] == (height, width):
        return part
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def test_a_letterbox_by_hand():
    frame = np.full((20, 40, 3), 250, np.uint8)
    got = crop_resize(frame, replace(RULE, geometry=replace(WHOLE, fit="letterbox")))
    expected = np.full((32, 32, 3), 114, np.uint8)
    expected[8:24] = 250
    np.testing.assert_array_equal(got, expected)


@given(geometries, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1.0, 0.875]), st.booleans())
@settings(max_examples=60)
def test_a_picture_of_any_geometry_gives_its_pixels_back(geometry, height, width, crop_pct, with_photo):
    rule = ResizeRule(height=height, width=width, crop_pct=crop_pct, resample="area-linear", geometry=geometry)
    pixels = noise(height, width)
    made = uncrop(pixels, rule, noise(90, 130, 1) if with_photo else None)
    np.testing.assert_array_equal(crop_resize(made, rule), pixels)


def test_without_geometry_the_bytes_are_those_of_the_centre_crop():
    frame = noise(100, 150)
    scale = 100 / 32 * 0.875
    side = round(scale * 32)
    top, left = (100 - side) // 2, (150 - side) // 2
    expected = _stretched(frame[top : top + side, left : left + side], 32, 32)
    for rule in (RULE, replace(RULE, geometry=WHOLE)):
        np.testing.assert_array_equal(crop_resize(frame, rule), expected)


@pytest.mark.parametrize(
    ("crop", "reason"),
    [
        ("1,2", "give x,y,w,h: pixels such as 200,0,720,720, or fractions such as 0,0,0.5,1"),
        ("a,b,c,d", "give x,y,w,h"),
        ("nan,0,1,1", "give x,y,w,h"),
        ("0,0,inf,100", "give x,y,w,h"),
        ("0,0,0,0", "width and height above 0"),
        ("-1,0,100,100", "x and y are at least 0"),
        ("0.5,0,0.6,1", "are fractions that leave the frame"),
        ("0.5,0,200,300", "mixes pixels and fractions"),
        ("0,0,5,5", "is 5x5 px; give at least 16x16"),
        ("0,0,0.004,1", "is less than 1 % of a side"),
        ("a b=0,0,1,1", "is no name of a region"),
        ("door/x=0,0,1,1", "is no name of a region"),
        (("0,0,0.5,1", "0.5,0,0.5,1"), "name each region"),
        (("a=0,0,0.5,1", "a=0.5,0,0.5,1"), "two regions are called 'a'"),
        (tuple(f"r{n}=0,0,1,1" for n in range(17)), "17 regions; there can be 16"),
        ((0, 0, 0.5), "give x,y,w,h"),
        (7, "give x,y,w,h"),
        ({"": (0, 0, 1, 1)}, "is no name of a region"),
    ],
    ids=str,
)
def test_a_crop_that_cannot_be_is_refused_before_there_is_a_frame(crop, reason):
    with pytest.raises(UsageError, match=reason):
        AskedGeometry.parse(crop)


@pytest.mark.parametrize(("name", "value"), [("rotate", 45), ("rotate", True), ("flip", "up"), ("fit", "squeeze")])
def test_a_turn_that_there_is_not_is_refused(name, value):
    with pytest.raises(UsageError, match=rf"{name} is .*; there are"):
        AskedGeometry.parse(**{name: value})


@pytest.mark.parametrize(
    ("crop", "size", "reason"),
    [
        ("1200,0,200,720", (720, 1280), "leaves the frame, which is 1280x720 px"),
        ("0,0,720,1000", (720, 1280), "leaves the frame, which is 1280x720 px"),
        ("0,0,0.02,0.5", (480, 640), "is 13x240 px of a frame of 640x480"),
    ],
)
def test_a_crop_that_does_not_fit_the_frame_is_refused(crop, size, reason):
    with pytest.raises(UsageError, match=reason):
        AskedGeometry.parse(crop).regions(RULE, *size)


def test_pixels_are_of_the_rotated_frame():
    asked = AskedGeometry.parse("0,1000,720,280", rotate=90)
    (region,) = asked.regions(RULE, 720, 1280)
    assert region_box(1280, 720, region.rule.geometry) == Box(0, 1000, 720, 280)
    with pytest.raises(UsageError, match="which is 1280x720 px"):
        replace(asked, rotate=None).regions(RULE, 720, 1280)


def test_four_numbers_of_at_most_one_are_fractions_and_it_is_said():
    asked = AskedGeometry.parse("0,0,1,1")
    assert asked.describe(RULE) == "--crop 0,0,1,1 (fractions of the frame); the file was trained without a crop"
    assert AskedGeometry.parse("0,0,16,16").describe(RULE).startswith("--crop 0,0,16,16 (pixels)")
    assert asked == AskedGeometry.parse((0, 0, 1, 1))
    # All of the picture is asked for: the central part that the file takes by default is not.
    assert asked.rule(RULE) == replace(RULE, crop_pct=1.0)


def test_what_is_not_asked_for_stays_as_the_file_was_trained():
    own = replace(RULE, crop_pct=1.0, geometry=Geometry(rotate=90, flip="none", crop=(0, 0, 0.5, 1), fit="letterbox"))
    rule = AskedGeometry.parse("0.5,0,0.5,1", flip="vertical").rule(own)
    assert rule.geometry == Geometry(rotate=90, flip="vertical", crop=(0.5, 0, 0.5, 1), fit="letterbox")
    said = AskedGeometry.parse("0.5,0,0.5,1").describe(own)
    assert said.endswith("the file was trained with crop 0,0,0.5,1, rotated by 90 degrees, letterbox")
    assert AskedGeometry.parse(rotate=0).rule(own).geometry.crop == (0, 0, 0.5, 1)
    assert described(replace(WHOLE, flip="both")) == "flipped both ways"
    assert not AskedGeometry.parse()
    assert AskedGeometry().rule(own) is own


def test_the_contract_carries_a_geometry_and_asks_readers_to_obey_it():
    spec = ModelSpec(
        labels=("a", "b"), resize=RULE, normalization=Normalization(mean=(0, 0, 0), std=(1, 1, 1)), arch="x"
    )
    made = seeing(spec, AskedGeometry.parse("0,0,0.5,1", rotate=180, fit="letterbox").rule(RULE))
    assert made.needs == ("geometry",)
    document = made.to_dict()
    assert "geometry" not in document["resize"]
    assert document["geometry"] == {"rotate": 180, "flip": "none", "crop": [0, 0, 0.5, 1], "fit": "letterbox"}
    again = ModelSpec.from_json(made.to_json())
    assert again == made
    assert again.resize.geometry == made.geometry
    assert again.unused() == []
    assert seeing(made, RULE) == spec
    assert "geometry" not in spec.to_dict()


def test_sizes_of_files_are_those_of_decoded_photos(tmp_path):
    frame = noise(40, 60)
    names = {"a.jpg": cv2.imencode(".jpg", frame)[1].tobytes(), "b.png": cv2.imencode(".png", frame)[1].tobytes()}
    turned_jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    names["c.jpg"] = turned_jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + turned_jpeg[2:]
    paths = []
    for name, data in names.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    assert [photo_size(path) for path in paths] == [read_photo(path).shape[:2] for path in paths]
    assert photo_size(paths[2]) == (60, 40)
    (tmp_path / "no.jpg").write_bytes(b"no photo")
    assert common_size([*paths[:2], tmp_path / "no.jpg"], "") == (40, 60)
    with pytest.raises(
        UsageError, match=r"0,0,20,20 is in pixels, and the photos differ in size: .*a.jpg is 60x40 px, .*c"
    ):
        common_size(paths, "0,0,20,20")
