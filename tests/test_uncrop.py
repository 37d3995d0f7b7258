"""A picture made by `uncrop`, cropped by the device's own rule, is the network's input again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.images.uncrop import canvas_size, uncrop
from edge_tl_runtime.modelfile.spec import ResizeRule

RULE = ResizeRule(height=32, width=32, crop_pct=0.875, resample="area-cubic")


def noise(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def rules(longest: int) -> st.SearchStrategy[ResizeRule]:
    sides = st.integers(1, longest)
    return st.builds(
        ResizeRule,
        height=sides,
        width=sides,
        crop_pct=st.floats(0.3, 1.0),
        resample=st.just("area-cubic"),
        color_order=st.sampled_from(["RGB", "BGR"]),
    )


@given(rules(400))
def test_the_crop_gives_every_pixel_back(rule: ResizeRule) -> None:
    pixels = noise(rule.height, rule.width)
    assert np.array_equal(crop_resize(uncrop(pixels, rule), rule), pixels)


@given(rules(90), st.integers(1, 300), st.integers(1, 300))
def test_so_it_does_with_the_surroundings_of_any_photo(rule: ResizeRule, rows: int, columns: int) -> None:
    pixels = noise(rule.height, rule.width)
    assert np.array_equal(crop_resize(uncrop(pixels, rule, noise(rows, columns, 1)), rule), pixels)


@given(rules(12))
def test_no_smaller_canvas_would_do(rule: ResizeRule) -> None:
    """Against trying every canvas with the device's crop, which shows each pixel of a picture of distinct colours."""
    rows, columns = canvas_size(rule)
    for r in range(1, rows + 1):
        for c in range(1, columns + 1):
            scale = min(r / rule.height, c / rule.width) * rule.crop_pct
            crop = min(r, max(1, round(scale * rule.height))), min(c, max(1, round(scale * rule.width)))
            assert (crop == (rule.height, rule.width)) == ((r, c) == (rows, columns)), (r, c)


@pytest.mark.parametrize("side", [1, 2, 224, 225, 299, 4096])
@pytest.mark.parametrize("crop_pct", [1.0, 0.999, 0.95, 0.875, 0.5, 0.42])
def test_usual_sizes(side: int, crop_pct: float) -> None:
    rule = dataclasses.replace(RULE, height=side, width=side, crop_pct=crop_pct)
    rows, columns = canvas_size(rule)
    assert rows == columns
    # Half a pixel of rounding, seen through the crop, and the whole pixel of a canvas.
    assert side == 1 or abs(rows - side / crop_pct) <= 0.5 / crop_pct + 1


def test_without_a_crop_there_is_no_border() -> None:
    rule = dataclasses.replace(RULE, crop_pct=1.0)
    pixels = noise(32, 32)
    assert np.array_equal(uncrop(pixels, rule), pixels[..., ::-1])


def test_a_canvas_larger_than_a_photo_is_refused() -> None:
    rule = dataclasses.replace(RULE, height=224, width=224, crop_pct=0.001)
    with pytest.raises(UsageError, match=r"looks at 0.1 % of a photo.*export"):
        canvas_size(rule)
    canvas_size(dataclasses.replace(RULE, height=4096, width=4096, crop_pct=0.4))


def test_the_border_repeats_the_edge() -> None:
    pixels = noise(32, 32)
    rows, columns = canvas_size(RULE)
    top, left = (rows - 32) // 2, (columns - 32) // 2
    expected = np.pad(pixels[..., ::-1], ((top, rows - 32 - top), (left, columns - 32 - left), (0, 0)), mode="edge")
    assert np.array_equal(uncrop(pixels, RULE), expected)


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (120, 640), (31, 47), (1080, 1080)])
def test_the_border_continues_the_photo(shape: tuple[int, int]) -> None:
    """Smooth waves of a photo go on through the border: nothing moves by more than a pixel."""
    rule = dataclasses.replace(RULE, height=96, width=96, crop_pct=0.8)
    waves = np.cos(np.arange(max(shape)) * 2 * np.pi / (0.5 * min(shape)))
    photo = np.empty((*shape, 3), np.uint8)
    photo[...] = (127 + 60 * waves[: shape[0], None] + 60 * waves[None, : shape[1]])[..., None].round()
    canvas = uncrop(crop_resize(photo, rule), rule, photo)
    rows, columns = canvas.shape[:2]
    # The whole canvas by another road: the largest centred rectangle of the photo, resized at once.
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    direct = cv2.resize(photo[top : top + side, left : left + side], (columns, rows), interpolation=cv2.INTER_AREA)
    # Two waves of 60, each of two periods a side: how much grey changes over one pixel of the canvas, or half one of the photo.
    pixel = 2 * 60 * 2 * np.pi * 2 * max(1 / rows, 0.5 / side)
    difference = np.abs(canvas.astype(int) - direct)
    assert difference.max() <= 1.5 * pixel
    assert difference.mean() <= 0.3 * pixel


def test_it_survives_a_png(tmp_path: Path) -> None:
    pixels = noise(32, 32)
    path = tmp_path / "uncropped.png"
    path.write_bytes(cv2.imencode(".png", uncrop(pixels, RULE, noise(100, 80)))[1].tobytes())
    assert np.array_equal(crop_resize(read_photo(path), RULE), pixels)


def test_pixels_of_another_size_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"\(32, 32, 3\)"):
        uncrop(noise(32, 31), RULE)
