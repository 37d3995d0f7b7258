"""Text of any script is shaped, ordered and painted as other libraries do it, or refused with a reason."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import THAI
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, features

from edge_tl_runtime.sinks.draw import fonts, text_layout
from edge_tl_runtime.sinks.draw.fonts import (
    FontCollection,
    FontFile,
    engine_obstacle,
    machine_fonts,
    open_font,
    packaged_fonts,
)
from edge_tl_runtime.sinks.draw.text_layout import advance, obstacle, text_mask

ARABIC, HEBREW, HINDI = "قطة", "שלום", "क्षत्रिय"
UNKNOWN = "\U000e0fff\u0378"  # code points that stand for nothing

needs_harfbuzz = pytest.mark.skipif(bool(engine_obstacle()), reason=f"pip install 'edge-tl[text]': {engine_obstacle()}")


def needs_fonts(text: str) -> None:
    reason = engine_obstacle() or obstacle([text])
    if reason:
        pytest.skip(reason)


@pytest.fixture
def only_fonts(monkeypatch):
    """only_fonts(files): text is drawn with these fonts and no others."""

    def use(*files: FontFile) -> None:
        shelf_of_test = FontCollection([lambda letters: files])
        monkeypatch.setattr(text_layout, "machine_fonts", lambda: shelf_of_test)
        text_layout._line.cache_clear()
        text_layout._text_mask.cache_clear()

    yield use
    text_layout._line.cache_clear()
    text_layout._text_mask.cache_clear()


def bands(text: str, em: int = 200) -> list[tuple[int, int]]:
    """First and last row above the baseline of every connected piece of ink, left to right."""
    line = text_mask(text, em)
    assert line is not None
    _, _, stats, _ = cv2.connectedComponentsWithStats((line.mask > 127).astype(np.uint8))
    boxes = sorted(stats[1:].tolist())
    return [(line.ascent - top, line.ascent - top - height) for _, top, _, height, _ in boxes]


def test_the_tone_mark_stands_above_the_vowel_and_touches_nothing():
    needs_fonts(THAI)
    unshaped = max(top for top, _ in bands("อ้"))  # where the mark sits on a letter without a vowel
    consonant, vowel, mark = (sorted(bands(THAI), key=lambda band: band[1])[place] for place in (0, -2, -1))
    assert mark[1] > vowel[1]
    assert mark[0] > vowel[0] > consonant[0]
    assert mark[0] > unshaped + 5


@pytest.mark.parametrize("text", [THAI, "น้ำ ปู่", HINDI, ARABIC, HEBREW, "Crème brûlée", "แมว cat 3", f"{ARABIC} 12 b-7"])
def test_the_picture_is_that_of_pillow_with_raqm(text, only_fonts):
    if not features.check("raqm"):
        pytest.skip("this Pillow has no raqm, which shapes text")
    needs_fonts(text)
    font = next((font for font in machine_fonts()._used if font.covers(text)), None)
    if font is None:
        pytest.skip("no single font has all of it")
    only_fonts(font.file)
    em = 100
    mine = text_mask(text, em)
    assert mine is not None
    theirs = Image.new("L", (mine.mask.shape[1] + 80, 300))
    ImageDraw.Draw(theirs).text((40, 150), text, 255, ImageFont.truetype(str(font.file.path), em), anchor="ls")
    canvas = np.zeros((300, theirs.width), np.uint8)
    top, left = 150 - mine.ascent, 40 + mine.left
    canvas[top : top + mine.mask.shape[0], left : left + mine.mask.shape[1]] = mine.mask
    # FreeType moves outlines to whole pixels (hinting) and advances with them, HarfBuzz does not.
    mine_ink, their_ink = (np.argwhere(picture > 127) for picture in (canvas, np.asarray(theirs)))
    assert np.abs(mine_ink.min(0) - their_ink.min(0)).max() <= 3
    assert np.abs(mine_ink.max(0) - their_ink.max(0)).max() <= 6
    columns = [(picture > 127).sum(0) for picture in (canvas, np.asarray(theirs))]
    smooth = [np.convolve(column, np.ones(9) / 9, "same") for column in columns]
    assert np.corrcoef(*smooth)[0, 1] > 0.9


@pytest.mark.parametrize("text", [THAI, HINDI, ARABIC, "Crème brûlée", "แมว cat", f"{ARABIC} cat 12", "a\u200db"])
def test_no_letter_is_the_box_of_a_missing_one(text):
    needs_fonts(text)
    line = text_layout._line(text)
    assert line is not None
    assert all(glyph.number for glyph in line.glyphs)


@needs_harfbuzz
def test_accents_that_were_typed_apart_look_as_those_in_one():
    needs_fonts("é")
    apart, together = text_mask("cafe\u0301", 40), text_mask("café", 40)
    assert apart is together


def order(text: str) -> str:
    """The text from left to right as it is seen."""
    levels = text_layout._levels(text)
    runs = [text_layout._Run(letter, level, None) for letter, level in zip(text, levels, strict=True)]
    return "".join(run.text for run in text_layout._in_order_of_sight(runs))


# The answers of python-bidi 0.6 (get_display), with which 20,000 random texts of these letters agree too.
@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("cat 12", "cat 12"),
        ("אבג", "גבא"),
        ("אב 12", "12 בא"),
        ("אב 1.5%", "1.5% בא"),
        ("cat אב 12 dog", "cat 12 בא dog"),
        ("אב cat 12", "cat 12 בא"),
        ("قط 12-34", "34-12 طق"),
        ("قط 1,5 cat", "cat 1,5 طق"),
        ("אב-גד", "דג-בא"),
        ("a-ב, ג.", "a-ג ,ב."),
    ],
)
def test_letters_are_seen_in_the_order_of_the_bidirectional_algorithm(text, seen):
    assert order(text) == seen


@given(st.text())
def test_the_order_loses_no_letter(text):
    assert sorted(order(text)) == sorted(text)


@needs_harfbuzz
def test_arabic_letters_join():
    needs_fonts(ARABIC)
    joined, apart = text_mask("ببب", 60), advance("ب")
    assert joined is not None
    assert apart is not None
    assert joined.advance < 0.95 * 3 * apart * 60
    stroke_and_three_dots = 4
    assert cv2.connectedComponents((joined.mask > 127).astype(np.uint8))[0] - 1 == stroke_and_three_dots


@needs_harfbuzz
@given(st.text(max_size=30), st.integers(1, 60))
def test_any_text_is_drawn_or_refused_with_a_reason(text, em):
    line = text_mask(text, em)
    if line is None:
        assert not text_layout.cleaned(text) or text_layout.cleaned(text).isascii() or obstacle([text])
    else:
        assert line.mask.dtype == np.uint8
        assert line.mask.ndim == 2
        assert not line.mask.flags.writeable
    assert len(obstacle([text]).splitlines()) <= 1


@needs_harfbuzz
def test_a_text_drawn_again_is_the_same_object():
    needs_fonts("bee")
    assert text_mask("bee", 33) is text_mask("  bee ", 33)


@needs_harfbuzz
def test_what_is_no_letter_is_refused():
    for text in (UNKNOWN, "\ud800", "bee \udc80"):
        assert text_mask(text, 20) is None
        assert "cannot be drawn" in obstacle(["bee", text])


@needs_harfbuzz
def test_without_fonts_the_reason_names_the_scripts_and_what_to_run(only_fonts, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font at all")
    only_fonts(FontFile(tmp_path / "broken.ttf"), FontFile(tmp_path / "gone.ttf"))
    assert obstacle(["bee", "cat"]) == ""
    assert text_mask("bee", 20) is None
    assert obstacle(["bee", THAI]) == (
        "labels in Thai cannot be drawn in pictures: no font here has their letters; run: pip install 'edge-tl[text]'"
    )
    assert "in Arabic and Thai cannot" in obstacle([ARABIC, THAI])
    assert "run: pip install fontpkg-noto-sans-arabic" in obstacle([ARABIC])
    assert "run: sudo apt install fonts-noto-cjk" in obstacle(["蜂"])
    assert "labels with 🐱 cannot" in obstacle(["🐱"])
    assert "labels with é cannot" in obstacle(["café"])


@needs_harfbuzz
def test_each_run_finds_its_own_font(only_fonts):
    thai = [file for file in packaged_fonts("") if "Thai" in file.path.name]
    other = [file for file in packaged_fonts("") if file.path.name.startswith("NotoSans[")]
    if not thai or not other:
        pytest.skip("pip install 'edge-tl[text]'")
    only_fonts(*other, *thai)
    line = text_layout._line(f"Größe {THAI}")
    assert line is not None
    assert [glyph.font.file for glyph in line.glyphs][:5] == [other[0]] * 5
    assert line.glyphs[-1].font.file == thai[0]
    only_fonts(*other)
    assert text_layout._line(f"Größe {THAI}") is None


@needs_harfbuzz
def test_a_search_without_time_left_finds_nothing_and_does_not_hang():
    assert FontCollection(search_s=0).find("a") is None


@needs_harfbuzz
def test_fonts_of_folders_are_found_without_fontconfig(monkeypatch, tmp_path):
    source = next(iter(packaged_fonts("")), None)
    if source is None:
        pytest.skip("pip install 'edge-tl[text]'")
    (tmp_path / "deep").mkdir()
    for name in ("Some-BoldItalic.ttf", "SomeSans-Regular.ttf"):
        (tmp_path / "deep" / name).symlink_to(source.path)
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path), str(tmp_path / "none")))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = FontCollection([fonts.folder_fonts]).find("a")
    assert found is not None
    assert found.file.path.name == "SomeSans-Regular.ttf"


@needs_harfbuzz
def test_a_fontconfig_that_hangs_is_given_up(monkeypatch, tmp_path):
    program = tmp_path / "fc-match"
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(fonts, "FONTCONFIG_TIMEOUT_S", 0.2)
    assert FontCollection([fonts.fontconfig_fonts]).find("a") is None


@needs_harfbuzz
def test_a_folder_in_place_of_a_font_is_passed_over(tmp_path):
    assert open_font(FontFile(tmp_path)) is None


WITHOUT = """
import sys
sys.modules["uharfbuzz"] = None  # import raises ImportError
import numpy as np
from edge_tl_runtime.sinks.draw import text_layout
from edge_tl_runtime.sinks.draw.overlay import Overlay, drawable
assert text_layout.text_mask("bee", 20) is None and text_layout.advance("bee") is None
assert Overlay(["bee", "cat"]).obstacle == ""
print(Overlay(["bee", "ผึ้ง", "café"]).obstacle)
print(drawable("bee", 1), drawable("ผึ้ง", 7), drawable("ผึ้ง", -1), sep="|")
frame = np.full((480, 640, 3), 100, np.uint8)
Overlay(["bee"]).draw(frame, "bee", 0, 0.97, "29.8 fps · LIVE")
assert frame.max() > 200 and (frame[-1] == 100).all()
"""


def test_without_harfbuzz_ascii_is_drawn_and_the_rest_has_a_reason():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "labels in Thai or with é cannot be drawn in pictures: HarfBuzz is not installed; run: pip install 'edge-tl[text]'",
        "bee|class 7|unknown",
    ]


def test_harfbuzz_is_not_loaded_before_a_label_needs_it():
    code = (
        "import sys, edge_tl_runtime.sinks.draw.overlay as o; o.Overlay(['bee']); sys.exit('uharfbuzz' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
