"""Tables of the terminal: aligned by what letters take, at any width, with labels as they are."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import unicodedata

import pytest
from conftest import THAI

from edge_tl.cli.console import table

LABELS = ("ant", THAI, "蟻アリ", "[red]", "[/]", ":bee:", "a\\", "x" * 90, "two words " * 9)
COLUMNS = ("class", "photos in val", "drop, points")
ROWS = [[label, str(10**place), "-11.7 (-21.0 to 11.7)"] for place, label in enumerate(LABELS[:-1])]
SHOW = "from test_tables import *; table('[a title]', COLUMNS, ROWS)"


def cells(line: str) -> int:
    """Columns that a line takes, by Unicode's tables."""
    marks = sum(unicodedata.combining(letter) > 0 or unicodedata.category(letter) == "Mn" for letter in line)
    return len(line) + sum(unicodedata.east_asian_width(letter) in "WF" for letter in line) - marks


def lines_at(width: int | None) -> list[str]:
    """What a process prints on a terminal so wide; None: into a pipe."""
    command = [sys.executable, "-c", SHOW]
    here = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests", *sys.path]), "NO_COLOR": "1"}
    if width is None:
        return subprocess.run(command, env=here, check=True, capture_output=True, text=True).stdout.splitlines()
    ours, theirs = pty.openpty()
    here |= {"COLUMNS": str(width), "TERM": "xterm"}
    with subprocess.Popen(command, env=here, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        found = b""
        try:
            while piece := os.read(ours, 65536):
                found += piece
        except OSError:  # what Linux says where the other end is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return found.decode().replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("width", [None, 60, 80, 200])
def test_a_table_fits_and_its_figures_end_below_their_headings(width):
    lines = [line for line in lines_at(width) if line]
    assert lines[0] == "[a title]"
    assert all(cells(line) <= (width or 120) and line == line.rstrip() and "\x1b" not in line for line in lines)
    figures = [line for line in lines if "(-21.0 to 11.7)" in line]
    assert len(figures) == len(ROWS)
    assert {cells(line) for line in figures} == {cells(next(line for line in lines if line.endswith("points")))}
    text = "".join(re.sub(r"\d+ +-11.7.*", "", line).replace(" ", "") for line in lines)
    for label in LABELS[:-1]:
        assert label.replace(" ", "") in text


def test_a_heading_is_a_label_too(capsys):
    table("", ["", *LABELS[:6]], [["[red]", *"123456"]])
    shown = capsys.readouterr().out
    for label in LABELS[:6]:
        assert label in shown


def test_a_table_without_rows_is_its_headings(capsys):
    table("none", ["a", "b"], [])
    assert capsys.readouterr().out.split() == ["none", "a", "b", "────"]
