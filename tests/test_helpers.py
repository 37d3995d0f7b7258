"""What test modules share is in conftest or in a module named for what it holds: a test module can be moved or split alone."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent


def imported(path: Path) -> set[str]:
    """Names of the modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_no_test_module_imports_another():
    found = {path.name: imported(path) for path in FOLDER.glob("*.py")}
    assert "conftest" in found["test_sources.py"]
    own = {path.stem for path in FOLDER.glob("test_*.py")}
    wrong = {name: sorted(names & own) for name, names in found.items() if names & own}
    assert wrong == {}


def test_helpers_are_imported_by_one_name():
    """As `tests.conftest` and `conftest` a module would be loaded twice, its fixtures and constants with it."""
    for path in FOLDER.glob("*.py"):
        assert not {name for name in imported(path) if name.split(".")[0] == "tests"}, path.name
