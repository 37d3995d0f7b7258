"""docs/reference is what the program is now, on every terminal, and a page that is not is noticed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_tl.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look themselves up by the module's name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(importlib.import_module("sys").modules, "reference", module)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_pages_are_what_would_be_written(reference, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    result = CliRunner().invoke(reference.main, ["--check"])
    assert (result.exit_code, result.output) == (0, "")


def test_a_stale_or_missing_page_is_named_and_mended(reference, monkeypatch, tmp_path):
    shutil.copytree(PAGES, tmp_path / "docs" / "reference")
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "docs" / "reference")
    page = tmp_path / "docs" / "reference" / "commands.md"
    page.write_text(page.read_text("utf-8").replace("--top-k", "--top", 1), "utf-8")
    (page.parent / "python.md").unlink()
    result = CliRunner().invoke(reference.main, ["--check"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"docs/reference/{name} is stale; run: python scripts/reference.py" for name in ("commands.md", "python.md")
    ]
    assert CliRunner().invoke(reference.main, []).exit_code == 0
    assert page.read_bytes() == (PAGES / "commands.md").read_bytes()


def test_every_option_of_every_command_is_there():
    text = (PAGES / "commands.md").read_text("utf-8")
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert f"\n## edge-tl {name}\n" in text
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        section = text.split(f"\n## edge-tl {name}\n", 1)[1].split("\n## ", 1)[0]
        for option in (param for item in inner for param in item.params if isinstance(param, click.Option)):
            assert re.search(rf"^\| `[^`]*{option.opts[0]}\b", section, re.MULTILINE), (name, option.opts)


def test_every_name_can_be_imported_and_every_signature_is_python():
    text = (PAGES / "python.md").read_text("utf-8")
    imports = re.findall(r"^`from (\S+) import (\w+)`$", text, re.MULTILINE)
    assert len(imports) > 100
    for module, name in imports:
        assert hasattr(importlib.import_module(module), name), (module, name)
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if not block.startswith(">>>"):
            ast.parse(block)
