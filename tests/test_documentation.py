"""What the documentation tells people to type: that the program takes it, and that the tutorial leads where it says."""

from __future__ import annotations

import re
import shlex
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documented import FENCE, fenced, found, inline, understood

from edge_tl.cli import COMMANDS
from edge_tl.cli import invoke as run

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("README*.md"), *(path for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts)]
)
LINKED = sorted(
    {*PAGES, *(path for name in ("docs", "examples") for path in (ROOT / name).rglob("*.md")), *ROOT.glob("*.md")}
)
"""Pages whose links are checked: decisions tell what was tried, so their commands may be of an earlier release."""
NAMES = {page: str(page.relative_to(ROOT)) for page in LINKED}
TUTORIAL = ROOT / "docs" / "tutorial.md"
SHORTER = {"dream": ("--steps", "24", "--frames", "8"), "export": ("--no-layers",)}
"""Options that the test adds to a command of the tutorial: it runs for real, but not for minutes."""
CODE = ("benchmarks", "edge_tl", "export", "runtime", "scripts")


def lines() -> list[tuple[str, str]]:
    return [(NAMES[page], line) for page in PAGES for line in fenced(page)]


@pytest.mark.parametrize(("page", "line"), lines(), ids=[f"{page}: {line[:60]}" for page, line in lines()])
def test_a_command_in_a_block_is_one_that_the_program_takes(page, line):
    understood(line)


@pytest.mark.parametrize("page", PAGES, ids=[NAMES[page] for page in PAGES])
def test_commands_in_the_text_exist_with_their_options(page):
    for line in inline(page):
        words = shlex.split(line)[1:]
        if words[0] == "COMMAND" or words[0].startswith("-"):
            continue
        command, arguments = found(words)
        shown = [one for one in command.params if not getattr(one, "hidden", False)]
        known = {name for parameter in shown for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in arguments:
            for option in re.findall(r"^-{1,2}[a-z][a-z-]*", word):
                assert option in known | {"--help", "-h"}, line


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"`edge-tl {name}" not in text] == []


@pytest.mark.parametrize("page", LINKED, ids=list(NAMES.values()))
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", FENCE.sub("", page.read_text("utf-8"))):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """Of the headings of a page: small letters, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=list(NAMES.values()))
def test_links_into_a_page_lead_to_a_heading(page):
    for target, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        if "://" not in target:
            assert anchor in anchors(page.parent / target if target else page), (target, anchor)


def test_scripts_that_a_page_names_are_there():
    """In pages, in comments and in docstrings; a script that is moved takes what is said of it along."""
    named = {
        (name, path)
        for path in [*LINKED, *(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))]
        for name in re.findall(r"benchmarks/((?:studies/)?[a-z_]+\.py)", path.read_text("utf-8"))
    }
    assert len(named) > 30
    assert [(name, str(path)) for name, path in sorted(named) if not (ROOT / "benchmarks" / name).is_file()] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("one_thread")
def test_the_tutorial_leads_where_it_says(data_dir, tmp_path, monkeypatch, capfd):
    """Every command of it in turn, on twelve photos of each class, with fewer steps where more only make a picture nicer, and
    without the noise of each layer, which the how-to of quantization measures."""
    for label in ("cat", "dog"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for photo in sorted((data_dir / "cats-dogs" / "train" / label).iterdir())[:12]:
            shutil.copy(photo, folder)
    blocks = [block for kind, block in FENCE.findall(TUTORIAL.read_text("utf-8")) if kind == "sh"]
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 15
    monkeypatch.chdir(tmp_path)
    for line in commands:
        # In this process, where PyTorch is loaded already: twenty starts take longer than the commands.
        words = shlex.split(line)[1:]
        code = run([*words, *SHORTER.get(words[0], ())])
        told = capfd.readouterr()
        assert code == 0, f"{line}\n{told.err[-2000:]}"
    for name in (
        *("check.html", "compared.html", "pi.html", "pi.json", "bench.pack"),
        *("dreams/0281-tabby.png", "attacked/robustness.html", "runs/tuned/model.onnx"),
    ):
        assert (tmp_path / name).stat().st_size > 100
    assert "What the model takes for each class" in (tmp_path / "attacked" / "robustness.html").read_text("utf-8")
    assert next((tmp_path / "dog-cat" / "adversarial").rglob("*.png"))


def python_blocks(page: Path) -> list[str]:
    return [block for kind, block in FENCE.findall(page.read_text("utf-8")) if kind == "python"]


def test_every_python_block_is_one_that_a_test_runs():
    """The reader in contract.md is run by test_contract.py, the other blocks here."""
    pages = {NAMES[page] for page in PAGES if python_blocks(page)}
    assert pages == {"README.md", "docs/attack.md", "docs/contract.md", "docs/python.md", "docs/run.md"}


def test_the_program_of_the_page_on_running_prints_the_frames_of_a_label(
    color_model, color_photos, monkeypatch, capsys
):
    """A folder of photos stands in for the camera, two of them red."""
    monkeypatch.chdir(color_photos.parent)
    shutil.copy(color_model, "model-int8.onnx")
    (program,) = python_blocks(ROOT / "docs" / "run.md")
    for shown, here in (('open_source("0")', 'open_source("photos/red")'), ('"bees"', '"red"')):
        assert shown in program
        program = program.replace(shown, here)
    exec(compile(program, "docs/run.md", "exec"), {})
    assert [line.split(" ", 1)[0] for line in capsys.readouterr().out.splitlines()] == ["0", "1"]


def test_the_program_of_the_page_on_attacks_attacks(color_model, tmp_path, monkeypatch):
    from edge_tl_runtime.inference.classifier import Classifier

    monkeypatch.chdir(tmp_path)
    shutil.copy(color_model, "model-int8.onnx")
    rule = Classifier(color_model).spec.resize
    pixels = np.full((2, rule.height, rule.width, 3), 128, np.uint8)
    pixels[..., 0] = 129  # barely red
    names: dict[str, Any] = {"pixels": pixels, "labels": np.zeros(2, np.int64)}
    (program,) = python_blocks(ROOT / "docs" / "attack.md")
    exec(compile(program, "docs/attack.md", "exec"), names)
    result = names["result"]
    assert result.fooled.all()
    assert np.abs(result.adversarial.astype(int) - pixels.astype(int)).max() <= 2
    assert result.complete.all()
    assert len(result.queries) == len(result.margins) == 2


@pytest.mark.slow
def test_the_program_of_the_readme_leads_to_a_label(tmp_path, monkeypatch, capsys):
    from edge_tl import EdgeTLWarning
    from edge_tl.data.surfaces import write_surfaces

    monkeypatch.chdir(tmp_path)
    photos = write_surfaces(Path("photos"), train=12, val=6)
    shutil.copy(next((photos / "val" / "grass").iterdir()), "bee.jpg")
    (program,) = python_blocks(ROOT / "README.md")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgeTLWarning)  # a busy machine may find INT8 too slow to be written
        exec(compile(program, "README.md", "exec"), {})
    accuracy, model, label = capsys.readouterr().out.splitlines()
    assert accuracy.startswith("top-1 ")
    assert model.startswith("<Model runs/mine/model")
    assert label in ("brick", "grass", "gravel")


@pytest.mark.slow
def test_the_page_on_python_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    """All its blocks in one program; photos stand in for the camera."""
    from edge_tl import EdgeTLWarning
    from edge_tl.data.surfaces import write_surfaces

    monkeypatch.chdir(tmp_path)
    write_surfaces(Path("photos"), train=16, val=8)
    program = "\n".join(python_blocks(ROOT / "docs" / "python.md"))
    assert "stream(0)" in program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EdgeTLWarning)  # a busy machine may find INT8 too slow to be written
        exec(compile(program.replace("stream(0)", 'stream("photos/val")'), "docs/python.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("top-1 ")
    assert sum(line.split()[0] in ("brick", "grass", "gravel") for line in lines) == 3 * 8
