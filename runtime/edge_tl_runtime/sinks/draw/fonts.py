"""Font files of this machine, and which of them has the letters of a text.

HarfBuzz (the package uharfbuzz of the extra `text`) answers what a font has; it is imported when first asked.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INSTALL = "pip install 'edge-tl[text]'"
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
ENDINGS = frozenset({".ttf", ".otf", ".ttc", ".otc"})
MAX_FILES = 2000  # of a walk through the folders
MAX_ANSWERS = 24  # of fontconfig, best first
FONTCONFIG_TIMEOUT_S = 5.0  # the first call after an installation reads every font
SEARCH_S = 8.0  # of a process, in all: labels that need more are drawn by number

_FANCY = re.compile(
    "italic|oblique|bold|black|heavy|thin|extralight|light|condensed|narrow|mono|typewriter|typo|serif|math|display|hand|script"
)


@dataclass(frozen=True, slots=True)
class FontFile:
    """A face: the file and its place in a collection (0 elsewhere)."""

    path: Path
    index: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Font:
    """An open face. shaper: HarfBuzz's font at a scale of one design unit, of which `upem` make an em."""

    file: FontFile
    shaper: Any
    upem: int

    def covers(self, letters: str) -> bool:
        """Whether HarfBuzz finds a glyph for all of it; also by composing or decomposing accents."""
        buffer = engine().Buffer()
        buffer.add_str(letters)
        buffer.guess_segment_properties()
        engine().shape(self.shaper, buffer)
        return all(info.codepoint != 0 for info in buffer.glyph_infos)


def engine() -> Any:
    """The module uharfbuzz. Only after `engine_obstacle()` was ""."""
    return _import()[0]


def engine_obstacle() -> str:
    """Why texts cannot be shaped here, or ""."""
    return _import()[1]


@functools.cache
def _import() -> tuple[Any, str]:
    try:
        module = importlib.import_module("uharfbuzz")
    except ImportError:
        return None, "HarfBuzz is not installed"
    if not hasattr(module, "RasterDraw"):  # 0.54 is the first that paints outlines
        return None, f"uharfbuzz {getattr(module, '__version__', '')} is too old"
    return module, ""


def packaged_fonts(letters: str) -> Sequence[FontFile]:
    """Fonts that came by pip as fontpkg-* packages, the plain ones first, whatever the letters."""
    return _packaged_fonts()


@functools.cache
def _packaged_fonts() -> Sequence[FontFile]:
    from importlib.metadata import entry_points

    paths: list[Path] = []
    for family in entry_points(group="fontpkg.family"):
        # The file list rather than the module: nothing foreign is run to find a font.
        files = (family.dist.files if family.dist else None) or []
        paths += [Path(str(file.locate())) for file in files if Path(file.name).suffix.lower() in ENDINGS]
    return [FontFile(path) for path in sorted(paths, key=_plainness)]


def fontconfig_fonts(letters: str) -> Sequence[FontFile]:
    """What fontconfig would take for these letters in a plain sans, best first; nothing where it is not installed."""
    program = shutil.which("fc-match")
    if program is None:
        return []
    charset = " ".join(f"{ord(letter):x}" for letter in sorted(set(letters)))
    pattern = f"sans-serif:style=Regular:weight=80:slant=0:charset={charset}"
    try:
        answer = subprocess.run(
            [program, "--sort", "--format", "%{file}\t%{index}\n", pattern],
            capture_output=True,
            timeout=FONTCONFIG_TIMEOUT_S,
            check=True,
        ).stdout.decode("utf-8", "surrogateescape")
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in answer.splitlines()[:MAX_ANSWERS]:
        name, _, index = line.partition("\t")
        if Path(name).suffix.lower() in ENDINGS:
            # The upper half of the number names an instance of a variable font, which we set ourselves.
            found.append(FontFile(Path(name), int(index) & 0xFFFF if index.isdigit() else 0))
    return found


def folder_fonts(letters: str) -> Sequence[FontFile]:
    """Files in the usual folders, the plain ones first; nothing where fontconfig is there, which knows these folders."""
    return [] if shutil.which("fc-match") else _walk(FOLDERS)


@functools.cache
def _walk(folders: Sequence[str]) -> Sequence[FontFile]:
    paths: list[Path] = []
    for folder in folders:
        for parent, _, names in os.walk(os.path.expanduser(folder)):
            paths += [Path(parent, name) for name in names if Path(name).suffix.lower() in ENDINGS]
            if len(paths) >= MAX_FILES:
                break
    return [FontFile(path) for path in sorted(paths[:MAX_FILES], key=_plainness)]


def _plainness(path: Path) -> tuple[int, bool, int, str]:
    """Sorts a plain sans first, then the shorter name: "NotoSans" before "NotoSansThai"."""
    name = path.stem.lower()
    return len(_FANCY.findall(name)), "sans" not in name, len(name), str(path)


Source = Callable[[str], Iterable[FontFile]]
SOURCES: tuple[Source, ...] = (packaged_fonts, fontconfig_fonts, folder_fonts)


class FontCollection:
    """Finds a font for letters and remembers the answer; `sources` are asked in turn.

    A search that has used up `search_s` seconds in all looks only at fonts that were of use before.
    """

    def __init__(self, sources: Sequence[Source] = SOURCES, search_s: float = SEARCH_S) -> None:
        self._sources = sources
        self._left_s = search_s
        self._open: dict[FontFile, Font | None] = {}
        self._used: list[Font] = []
        self._answers: dict[str, Font | None] = {}

    def find(self, letters: str) -> Font | None:
        """The preferred font that has all the letters, or None; None for everything without HarfBuzz."""
        if letters not in self._answers:
            # Any surrogate is half a letter, which no font has and HarfBuzz does not take.
            sound = not engine_obstacle() and not any("\ud800" <= letter <= "\udfff" for letter in letters)
            self._answers[letters] = self._search(letters) if sound else None
        return self._answers[letters]

    def _search(self, letters: str) -> Font | None:
        for font in self._used:
            if font.covers(letters):
                return font
        started = time.monotonic()
        try:
            for source in self._sources:
                for file in source(letters) if self._left_s > 0 else ():
                    if time.monotonic() - started > self._left_s:
                        return None
                    font_or_none = self._opened(file)
                    if font_or_none is not None and font_or_none.covers(letters):
                        self._used.append(font_or_none)
                        return font_or_none
        finally:
            self._left_s -= time.monotonic() - started
        return None

    def _opened(self, file: FontFile) -> Font | None:
        if file not in self._open:
            self._open[file] = open_font(file)
        return self._open[file]


def open_font(file: FontFile) -> Font | None:
    """The face in a regular weight; None for a file that is no font, is gone, or has pictures in place of outlines."""
    hb = engine()
    try:
        face = hb.Face(hb.Blob.from_file_path(str(file.path)), file.index)
    except (OSError, ValueError, hb.HarfBuzzError):
        return None
    outlines = {"glyf", "CFF ", "CFF2"} & set(face.table_tags)
    if not outlines or not face.glyph_count or {"COLR", "CBDT", "sbix", "SVG "} & set(face.table_tags):
        return None
    shaper = hb.Font(face)
    shaper.scale = (face.upem, face.upem)
    if "fvar" in face.table_tags:
        shaper.set_variations({"wght": 400.0, "wdth": 100.0})
    return Font(file, shaper, face.upem)


@functools.cache
def machine_fonts() -> FontCollection:
    """The fonts of this machine, shared by all that draws."""
    return FontCollection()
