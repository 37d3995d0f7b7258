"""The code keeps the words of docs/glossary.md: one name for one thing, and no private vocabulary."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from edge_tl.schemas import DOCUMENTS, schema

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


def keys_of(part: object) -> set[str]:
    """Keys of objects and words of lists of choices, at every depth of a schema."""
    if isinstance(part, list):
        return set().union(*map(keys_of, part))
    if not isinstance(part, dict):
        return set()
    own = {*part.get("properties", {}), *(word for word in part.get("enum", []) if isinstance(word, str))}
    return own.union(*map(keys_of, part.values()))


def test_documents_use_the_words_of_the_glossary():
    retired = {old for _, _, old in rows() if old} | {
        "unfamiliar",
        "judged",
        "twins",
        "subjects",
        "opinions",
        "engines",
        "swaps",
    }
    found = {key for name in DOCUMENTS for key in keys_of(schema(name))}
    assert len(found) > 300
    assert not {key for key in found if retired & {*re.findall(r"[a-z]+", key.lower())}}


def test_files_and_templates_use_the_words_of_the_glossary():
    retired = {old for _, _, old in rows() if old} | {"judged", "twin", "opinions"}
    earlier = {
        "judged.npz",
        "twin",
        "judged_by",
        "only_twin",
        "subject",
        "subjects",
        "familiarity",
    }  # that are still read
    texts = {path: path.read_text("utf-8") for package in PACKAGES for path in package.rglob("*.py")}
    literals = {
        node.value
        for text in texts.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.-]+", node.value)
    }
    wrong = {word for word in literals if retired & {*re.findall(r"[a-z]+", word.lower())}}
    assert wrong <= earlier
    pages = [
        path for package in PACKAGES for ending in ("j2", "css", "js", "html") for path in package.rglob(f"*.{ending}")
    ]
    assert len(pages) > 10
    words = {path: {*re.findall(r"[a-z]+", path.read_text("utf-8").lower())} - {"against", "effort"} for path in pages}
    assert not [path for path in pages if retired & words[path]]


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
