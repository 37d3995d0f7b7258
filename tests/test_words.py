"""The code keeps the words of docs/glossary.md: one name for one thing, and no private vocabulary."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
PACKAGES = [ROOT / "edge_tl", ROOT / "export" / "edge_tl_export", ROOT / "runtime" / "edge_tl_runtime"]


def definitions() -> dict[str, list[str]]:
    """Names of classes, functions and methods to the modules that define them."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                    found[node.name].append(str(path.relative_to(ROOT)))
    return found


def rows() -> list[tuple[str, list[str], str]]:
    """Word, names in the code, and the word that is not used, of each row."""
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(word, re.findall(r"`(\w+)`", code), old) for word, _, code, old in cells]


def test_names_in_the_glossary_are_in_the_code():
    known = definitions()
    assert len(rows()) > 20
    missing = {name for _, names, _ in rows() for name in names} - set(known)
    assert not missing


def test_public_names_use_the_words_of_the_glossary():
    retired = {old for _, _, old in rows() if old}
    assert retired
    parts = {name: re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()) for name in definitions()}
    wrong = {name for name, words in parts.items() if not name.startswith("_") and retired & {*words}}
    assert not wrong


def test_a_class_name_is_one_class():
    classes: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in package.rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    classes[node.name].append(str(path.relative_to(ROOT)))
    assert not {name: places for name, places in classes.items() if len(places) > 1}


PAGES = sorted(
    [
        *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
        *(path for path in (ROOT / "docs").rglob("*.md") if path != GLOSSARY and "figures" not in path.parts),
    ]
)
PRIVATE = ("seal", "befriend", "familiarity", "unfamiliar", "judge", "judged", "amiss", "vouched", "vouches", "flatter")
"""Words that pages do not use: the field or school English has another one."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_the_words_of_the_glossary(page):
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))  # keys of documents keep their names
    assert not [word for word in PRIVATE if re.search(rf"\b{word}s?\b", text)]
