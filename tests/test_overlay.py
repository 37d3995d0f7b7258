"""What is drawn on a frame stays readable at any size and never invents a label."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THAI
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.sinks.draw import overlay, text_layout
from edge_tl_runtime.sinks.draw.fonts import FontCollection
from edge_tl_runtime.sinks.draw.overlay import Overlay, drawable

STATUS = "29.8 fps · LIVE"
LABELS = ("bee", THAI, "قطة", "Crème brûlée", "a label that is much longer than a small frame is wide")


def gray(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine with HarfBuzz and no font at all."""
    empty = FontCollection([])
    monkeypatch.setattr(text_layout, "machine_fonts", lambda: empty)
    caches = (text_layout._line, text_layout._text_mask, overlay._ink)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def check_panel(size: tuple[int, int], label: str) -> None:
    frame = gray(*size)
    drawn = Overlay([label]).draw(frame, label, 7, 0.934, STATUS)
    assert drawn is frame
    if min(size) > 100:
        bright = np.argwhere(drawn.max(2) > 150)
        assert len(bright) > 100
        assert bright[:, 0].max() < 0.3 * size[0]
        assert bright[:, 1].max() < size[1] - 1
        assert (drawn[-1] == 100).all()


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 300), (300, 1), (48, 64), (120, 160), (480, 640), (640, 360), (2160, 3840)]
)
@pytest.mark.parametrize("label", LABELS)
def test_text_is_drawn_in_a_panel_above_the_picture(size, label):
    check_panel(size, label)


@pytest.mark.parametrize("size", [(1, 1), (48, 64), (480, 640), (640, 360)])
@pytest.mark.parametrize("label", LABELS)
def test_without_fonts_opencv_draws(size, label, no_fonts):
    check_panel(size, label)


def test_without_fonts_a_label_of_another_script_is_shown_by_number(no_fonts):
    assert drawable("bee", 7) == "bee"
    assert drawable(THAI, 7) == "class 7"
    assert drawable(THAI, -1) == "unknown"
    assert "labels in Thai" in Overlay(["bee", THAI]).obstacle
    by_name, by_number = gray(200, 300), gray(200, 300)
    drawing = Overlay([THAI])
    assert (drawing.draw(by_name, THAI, 7, 0.5, "") == drawing.draw(by_number, "class 7", 7, 0.5, "")).all()


def test_a_label_with_a_letter_that_no_font_has_is_shown_by_number():
    assert drawable("bee \u0378", 3) == "class 3"
    assert drawable("", 3) == drawable(" \n", 3) == "class 3"


def test_the_label_is_larger_than_the_status_and_the_number_is_right_of_it():
    drawing = Overlay(["HHH"])
    with_status, without = (drawing.draw(gray(480, 640), "HHH", 0, 1.0, status) for status in ("HHH", ""))
    rows = np.flatnonzero((with_status.max(2) > 150).any(1))
    first, second = np.split(rows, np.flatnonzero(np.diff(rows) > 1)[:1] + 1)
    assert len(first) > 1.4 * len(second)
    few, many = (
        np.flatnonzero((drawing.draw(gray(480, 640), "H" * n, 0, 1.0, "").max(2) > 150).any(0)).max() for n in (3, 6)
    )
    assert many > few
    assert (without[-200:] == 100).all()


def test_the_size_does_not_tremble_with_the_confidence():
    label = "a label that has to be shrunk to fit the width"
    heights = set()
    for confidence in (0.01, 0.5, 1.0):
        drawn = Overlay([label]).draw(gray(480, 320), label, 0, confidence, STATUS)
        heights.add(int((drawn[:, -1, 0] != 100).sum()))
    assert len(heights) == 1


@pytest.mark.parametrize("width", [1, 40, 64, 200])
@pytest.mark.parametrize("label", ["blackgram_healthy", THAI * 9, "قطة سوداء " * 5])
def test_a_label_without_room_is_cut_and_its_number_stays(width, label):
    drawing = Overlay([label])
    low, high = (drawing.draw(gray(60, width), label, 0, confidence, "") for confidence in (0.11, 0.99))
    if width >= 64:
        changed = np.flatnonzero((low != high).any((0, 2)))
        assert len(changed) > 3
        assert changed.max() < width - 1
        assert (low[:, : changed.min()].max(2) > 90).any()


def test_a_frame_drawn_again_renders_nothing_anew():
    drawing, frame = Overlay(LABELS), gray(480, 640)
    drawing.draw(frame, "bee", 0, 0.97, STATUS)
    before = overlay._ink.cache_info()
    drawing.draw(frame, "bee", 0, 0.97, STATUS)
    after = overlay._ink.cache_info()
    assert after.misses == before.misses
    assert after.hits == before.hits + 3  # label, number, status


def test_a_view_of_a_larger_picture_is_drawn_on_in_place():
    whole = gray(480, 1280)
    whole[:, ::2] = 90
    expected = Overlay([]).draw(np.ascontiguousarray(whole[:, ::-2]), "bee", 0, 0.5, STATUS)
    Overlay([]).draw(whole[:, ::-2], "bee", 0, 0.5, STATUS)
    assert (whole[:, ::-2] == expected).all()
    assert (whole[:, ::2] == 90).all()


@given(
    st.text(), st.text(max_size=40), st.floats(0, 1), st.integers(-1, 1000), st.integers(1, 120), st.integers(1, 160)
)
def test_any_text_is_drawn_inside_the_frame(label, status, confidence, index, height, width):
    around = gray(height + 40, width + 40)
    frame = around[20:-20, 20:-20]
    Overlay([label]).draw(frame, label, index, confidence, status)
    inside = np.zeros(around.shape[:2], bool)
    inside[20:-20, 20:-20] = True
    assert (around[~inside] == 100).all()


@pytest.mark.parametrize(
    "label", ["bee 🐝", "🐝", "👩‍🌾", "漢字", "a\tb\nc", "x" * 5000, "ผ" * 5000, "é" + "\u0301" * 300]
)
def test_odd_labels_are_drawn(label):
    frame = gray(240, 320)
    Overlay([label]).draw(frame, label, 3, 0.5, STATUS)
    assert (frame.max(2) > 150).any()
    assert (frame[-40:] == 100).all()
