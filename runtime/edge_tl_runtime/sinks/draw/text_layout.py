"""Text of any script as a picture: order of reading, fonts, shaping by HarfBuzz, painting.

A line is cut into runs of one script and one direction, each is shaped in a font that has its letters, and the runs are set
from left to right in the order in which they are seen (the Unicode bidirectional algorithm, UAX 9, without its explicit marks).
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.sinks.draw.fonts import INSTALL, Font, engine, engine_obstacle, machine_fonts

_MARKS_OF_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINER = "\u200d"
_LETTERS = frozenset({"L", "M", "N"})

# Where fonts of a script come from, by the first word of its letters' names in Unicode; elsewhere from the system.
_FONTS = {
    **dict.fromkeys(("Thai", "Devanagari", "Latin", "Greek", "Cyrillic"), INSTALL),
    "Arabic": "pip install fontpkg-noto-sans-arabic",
    "Khmer": "pip install fontpkg-noto-sans-khmer",
    "Tamil": "pip install fontpkg-noto-sans-tamil",
    "Telugu": "pip install fontpkg-noto-sans-telugu",
    **dict.fromkeys(("Cjk", "Hiragana", "Katakana", "Hangul"), "sudo apt install fonts-noto-cjk"),
}
# First words of letters that are better shown than named.
_NO_SCRIPTS = frozenset({"Latin", "Combining", "Digit", "Fullwidth", "Halfwidth", "Mathematical", "Micro", "Modifier"})
_SYSTEM_FONTS = "sudo apt install fonts-noto-core"
_SIGNS = "sudo apt install fonts-symbola"


@dataclass(frozen=True, eq=False, slots=True)
class TextMask:
    """A line as it is painted.

    mask: uint8 (H, W), 0 nothing to 255 all ink, cut close, read-only; (0, 0) where there is no ink.
    left: columns from the pen to the mask's first one, below 0 where ink reaches back. ascent: rows of the mask above the
    baseline. advance: pixels from this pen to the next one's.
    """

    mask: NDArray[np.uint8]
    left: int
    ascent: int
    advance: float


@dataclass(frozen=True, slots=True)
class _Glyph:
    font: Font
    number: int
    x: float  # ems, from the pen at the line's left end
    y: float  # ems, up from the baseline


@dataclass(frozen=True, eq=False, slots=True)
class _Line:
    glyphs: tuple[_Glyph, ...]
    advance: float  # ems


@dataclass(frozen=True, slots=True)
class _Run:
    text: str
    level: int  # odd: read from right to left
    script: str | None


def text_mask(text: str, em_px: int) -> TextMask | None:
    """The text with an em of `em_px` >= 1 pixels; None where it cannot be drawn as it should be, `obstacle` says why."""
    return _text_mask(cleaned(text), em_px)


def advance(text: str) -> float | None:
    """Width of the text in ems; None where it cannot be drawn."""
    line = _line(cleaned(text))
    return None if line is None else line.advance


def obstacle(labels: Iterable[str]) -> str:
    """Why some label cannot be drawn and what to do, in one line; "" when all can. OpenCV itself draws ASCII."""
    rest = [text for text in map(cleaned, labels) if not text.isascii()]
    if not rest:
        return ""
    if engine_obstacle():
        letters = [letter for text in rest for letter in text if not letter.isascii()]
        return f"labels {_scripts(letters)[0]} cannot be drawn in pictures: {engine_obstacle()}; run: {INSTALL}"
    missing = [cluster for text in rest for cluster in _clusters(text) if machine_fonts().find(cluster) is None]
    if not missing:
        return ""
    shown = [cluster for cluster in missing if not cluster.isascii()] or missing
    what, where = _scripts([cluster[0] for cluster in shown])
    return f"labels {what} cannot be drawn in pictures: no font here has their letters; run: {where}"


def cleaned(text: str) -> str:
    """One line: accents composed, every kind of space and control one plain space, no marks of direction."""
    kept = (letter for letter in unicodedata.normalize("NFC", text) if letter not in _MARKS_OF_DIRECTION)
    return " ".join("".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in kept).split())


def _scripts(letters: Iterable[str]) -> tuple[str, str]:
    """What the letters are, at most three scripts and signs, and the command that brings fonts for the first of them."""
    scripts: dict[str, str] = {}
    signs: dict[str, str] = {}
    for letter in letters:
        name = unicodedata.name(letter, "").split(" ")[0].title()
        if unicodedata.category(letter)[0] not in _LETTERS or not name:
            signs.setdefault(letter if letter.isprintable() else f"U+{ord(letter):04X}", _SIGNS)
        elif name in _NO_SCRIPTS:
            signs.setdefault(letter, INSTALL)
        else:
            scripts.setdefault("Chinese characters" if name == "Cjk" else name, _FONTS.get(name, _SYSTEM_FONTS))
    what = [f"{word} {_listed(kinds)}" for word, kinds in (("in", scripts), ("with", signs)) if kinds]
    return " or ".join(what), next(iter([*scripts.values(), *signs.values()]))


def _listed(names: Iterable[str]) -> str:
    *most, last = list(names)[:3]
    return f"{', '.join(most)} and {last}" if most else last


# Setting a line


@functools.lru_cache(maxsize=128)
def _text_mask(text: str, em_px: int) -> TextMask | None:
    line = _line(text)
    if line is None:
        return None
    painter = engine().RasterDraw()
    for glyph in line.glyphs:
        scale = em_px / glyph.font.upem
        painter.transform = (scale, 0.0, 0.0, scale, glyph.x * em_px, glyph.y * em_px)
        painter.draw_glyph(glyph.font.shaper, glyph.number)
    image = painter.render()
    extents = None if image is None else image.extents
    mask: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)
    left = ascent = 0
    if extents is not None and extents.width and extents.height:
        rows = np.frombuffer(image.buffer, np.uint8).reshape(extents.height, extents.stride)
        mask = np.ascontiguousarray(rows[::-1, : extents.width])  # HarfBuzz stores the lowest row first
        left, ascent = extents.x_origin, extents.y_origin + extents.height
    mask.flags.writeable = False
    return TextMask(mask, left, ascent, line.advance * em_px)


@functools.lru_cache(maxsize=256)
def _line(text: str) -> _Line | None:
    """The glyphs of a cleaned text from left to right; None where some letter has no font."""
    if engine_obstacle() or any(machine_fonts().find(cluster) is None for cluster in _clusters(text)):
        return None
    glyphs: list[_Glyph] = []
    pen = 0.0
    for run in _in_order_of_sight(_runs(text)):
        pieces = _pieces(run.text)
        for piece, font in reversed(pieces) if run.level % 2 else pieces:
            pen = _shape(_Run(piece, run.level, run.script), font, pen, glyphs)
    return None if any(glyph.number == 0 for glyph in glyphs) else _Line(tuple(glyphs), pen)


def _shape(run: _Run, font: Font, pen: float, glyphs: list[_Glyph]) -> float:
    """Append the glyphs of a run, set from the pen on, in ems. Returns where the pen is then."""
    buffer = engine().Buffer()
    buffer.add_str(run.text)
    buffer.direction = "rtl" if run.level % 2 else "ltr"
    if run.script:
        buffer.script = run.script
    buffer.guess_segment_properties()
    engine().shape(font.shaper, buffer)
    for info, place in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
        x, y = pen + place.x_offset / font.upem, place.y_offset / font.upem
        glyphs.append(_Glyph(font, info.codepoint, x, y))
        pen += place.x_advance / font.upem
    return pen


def _pieces(text: str) -> list[tuple[str, Font]]:
    """Cut a run by font: one piece where a font has it all, else neighbours of the same font together."""
    clusters = _clusters(text)
    fonts = [font for font in map(machine_fonts().find, clusters) if font is not None]
    for font in dict.fromkeys(fonts):
        if font.covers(text):
            return [(text, font)]
    return [
        ("".join(cluster for cluster, _ in group), font)
        for font, group in itertools.groupby(zip(clusters, fonts, strict=True), key=lambda pair: pair[1])
    ]


def _clusters(text: str) -> list[str]:
    """Letters with the marks that sit on them, which one font must have together."""
    clusters: list[str] = []
    for letter in text:
        joins = unicodedata.category(letter) in ("Mn", "Mc", "Me", "Cf") or (clusters and clusters[-1][-1] == _JOINER)
        if clusters and joins:
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return clusters


def _runs(text: str) -> list[_Run]:
    """Runs of one script and level in the order of reading. What belongs to no script goes with its neighbour."""
    scripts = [_script(letter) for letter in text]
    last = next((script for script in scripts if script), None)
    for place, script in enumerate(scripts):
        last = scripts[place] = script or last
    keys = zip(_levels(text), scripts, text, strict=True)
    return [
        _Run("".join(letter for _, _, letter in group), level, script)
        for (level, script), group in itertools.groupby(keys, key=lambda key: key[:2])
    ]


@functools.lru_cache(maxsize=4096)
def _script(letter: str) -> str | None:
    buffer = engine().Buffer()
    buffer.add_str(letter)
    buffer.guess_segment_properties()
    script: str | None = buffer.script
    return script


# The bidirectional algorithm, UAX 9; the names of its rules are given


def _levels(text: str) -> list[int]:
    """The level of each letter: odd where it is read from right to left."""
    kinds = [unicodedata.bidirectional(letter) or "L" for letter in text]
    first = next((kind for kind in kinds if kind in ("L", "R", "AL")), "L")  # P2, P3
    base = "L" if first == "L" else "R"
    _resolve_weak(kinds, base)
    _resolve_neutral(kinds, base)
    levels = {"L": {"L": 0, "R": 1, "AN": 2, "EN": 2}, "R": {"L": 2, "R": 1, "AN": 2, "EN": 2}}  # I1, I2
    return [levels[base][kind] for kind in kinds]


def _resolve_weak(kinds: list[str], base: str) -> None:
    strong = previous = base
    for place, kind in enumerate(kinds):
        if kind in ("NSM", "BN"):  # W1; joiners, which X9 would remove, stay with their letter too
            kind = previous
        if kind in ("L", "R", "AL"):
            strong = kind
        elif kind == "EN" and strong == "AL":  # W2
            kind = "AN"
        kinds[place] = previous = kind
    kinds[:] = ["R" if kind == "AL" else kind for kind in kinds]  # W3
    for place in range(1, len(kinds) - 1):  # W4
        before, kind, after = kinds[place - 1 : place + 2]
        if before == after and ((kind == "ES" and before == "EN") or (kind == "CS" and before in ("EN", "AN"))):
            kinds[place] = before
    start = 0
    for kind, group in itertools.groupby(list(kinds)):  # W5
        end = start + len(list(group))
        if kind == "ET" and "EN" in (kinds[start - 1 : start] + kinds[end : end + 1]):
            kinds[start:end] = ["EN"] * (end - start)
        start = end
    strong = base
    for place, kind in enumerate(kinds):
        strong = kind if kind in ("L", "R") else strong
        if kind == "EN" and strong == "L":  # W7
            kinds[place] = "L"


def _resolve_neutral(kinds: list[str], base: str) -> None:
    """N1, N2: between letters of one direction go with them, else with the line. Brackets (N0) are neutrals like others."""
    sides = [{"L": "L", "R": "R", "EN": "R", "AN": "R"}.get(kind, "") for kind in kinds]  # W6: the rest is neutral
    start = 0
    for neutral, group in itertools.groupby(sides, key=lambda side: not side):
        end = start + len(list(group))
        if neutral:
            before = sides[start - 1] if start else base
            after = sides[end] if end < len(sides) else base
            kinds[start:end] = [before if before == after else base] * (end - start)
        start = end


def _in_order_of_sight(runs: Sequence[_Run]) -> list[_Run]:
    """L2: from the highest level down to the lowest odd one, reverse every stretch of runs at that level or above."""
    ordered = list(runs)
    for level in range(max((run.level for run in runs), default=0), 0, -1):
        start = 0
        for inside, group in itertools.groupby(list(ordered), key=lambda run: run.level >= level):
            end = start + len(list(group))
            if inside:
                ordered[start:end] = reversed(ordered[start:end])
            start = end
    return ordered
