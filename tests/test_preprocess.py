"""Crop and resize: geometry, independence of threads and memory layout, and no aliasing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_tl_runtime.core.errors import BadFrame, BadModelError
from edge_tl_runtime.images.crop import DEFAULT_RESAMPLE, RESAMPLES, crop_resize, preprocess_batch
from edge_tl_runtime.modelfile.spec import ResizeRule


def rule(
    height: int = 224,
    width: int = 224,
    crop_pct: float = 0.875,
    color_order: str = "RGB",
    resample: str = DEFAULT_RESAMPLE,
) -> ResizeRule:
    return ResizeRule(height=height, width=width, crop_pct=crop_pct, resample=resample, color_order=color_order)


def photo(height: int, width: int) -> np.ndarray:
    """Smooth structure of several scales, uint8 BGR."""
    noise = np.random.default_rng(height * width).normal(0, 1, (height // 16 + 2, width // 16 + 2, 3))
    smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 50 * smooth, 0, 255).astype(np.uint8)


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    target=st.tuples(st.integers(1, 96), st.integers(1, 96)),
    crop=st.floats(0.05, 1.0),
)
@settings(max_examples=150)
def test_any_frame_becomes_the_target_size(height, width, target, crop):
    frame = np.full((height, width, 3), (10, 120, 250), np.uint8)
    result = crop_resize(frame, rule(*target, crop_pct=crop))
    assert result.shape == (*target, 3)
    assert (result == (250, 120, 10)).all()


def test_bgr_order_is_kept_when_the_network_wants_it():
    frame = np.full((50, 50, 3), (10, 120, 250), np.uint8)
    assert (crop_resize(frame, rule(color_order="BGR")) == (10, 120, 250)).all()


def test_the_crop_is_centred():
    frame = photo(480, 640)
    whole = crop_resize(frame, rule(420, 420))
    np.testing.assert_array_equal(whole, frame[30:450, 110:530, ::-1])


@pytest.mark.parametrize("shape", [(480, 640), (500, 375), (1080, 1920), (97, 1013), (600, 600)])
@pytest.mark.parametrize("resample", RESAMPLES)
def test_close_to_antialiased_pillow_on_smooth_photos(shape, resample):
    frame = photo(*shape)
    side = round(min(shape) * 0.875)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    crop = Image.fromarray(frame[top : top + side, left : left + side, ::-1])
    expected = np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC)).astype(int)
    difference = np.abs(crop_resize(frame, rule(resample=resample)).astype(int) - expected).mean()
    # Of 255; a swapped channel or a shifted crop gives over 20.
    assert difference < 3.5


def test_a_fine_pattern_does_not_alias_when_a_1080p_frame_shrinks():
    stripes = np.zeros((1080, 1920, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than 224 px can show: only its mean may remain
    assert crop_resize(stripes, rule()).std() < 12
    naive = cv2.resize(stripes[67:1012, 487:1432], (224, 224), interpolation=cv2.INTER_LINEAR)
    assert naive.std() > 3 * crop_resize(stripes, rule()).std()


@pytest.mark.parametrize("resample", RESAMPLES)
def test_thread_count_does_not_change_a_byte(resample):
    frame, before = photo(1080, 1920), cv2.getNumThreads()
    results = []
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            results.append(crop_resize(frame, rule(resample=resample)))
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_slices_and_flips_give_the_bytes_of_their_copies():
    frame = photo(480, 640)
    for view in (frame[10:400, 20:600], frame[::-1], frame[:, ::-1], frame[::2, ::3]):
        np.testing.assert_array_equal(crop_resize(view, rule()), crop_resize(view.copy(), rule()))


def test_out_is_filled_and_the_frame_untouched():
    frame = photo(300, 300)
    before = frame.copy()
    out = np.zeros((224, 224, 3), np.uint8)
    assert crop_resize(frame, rule(), out=out) is out
    np.testing.assert_array_equal(out, crop_resize(frame, rule()))
    np.testing.assert_array_equal(frame, before)


def test_a_batch_holds_the_same_bytes_as_single_frames():
    frames = [photo(200, 300), photo(300, 200)]
    batch = preprocess_batch(frames, rule())
    for frame, row in zip(frames, batch, strict=True):
        np.testing.assert_array_equal(row, crop_resize(frame, rule()))


@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 4)])
def test_grey_and_bgra_frames_are_converted(shape):
    assert (crop_resize(np.full(shape, 77, np.uint8), rule()) == 77).all()


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 5, 3), np.float32),
        np.zeros((5, 5, 2), np.uint8),
        np.zeros(5, np.uint8),
        None,
    ],
    ids=["empty", "float", "two channels", "one dimension", "none"],
)
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(BadFrame):
        crop_resize(frame, rule())


def test_an_unknown_resampling_rule_is_refused():
    other = ResizeRule(height=8, width=8, crop_pct=1.0, resample="from-the-future")
    with pytest.raises(BadModelError, match="from-the-future"):
        crop_resize(photo(20, 20), other)
