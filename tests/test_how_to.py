"""The pages of docs/how-to: commands in `sh` blocks are run as they stand, and messages are those that the program has."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import torch
from foreign_torch import Small, exported

from edge_tl.cli import invoke as run
from edge_tl.data.surfaces import CLASSES, write_surfaces

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
FAILURES = ROOT / "docs" / "how-to" / "when-it-fails.md"

# What a page promises to leave behind.
LEFT = {
    "aim-the-camera": ["runs/door/model.onnx"],
    "photos-to-data-set": ["check.html", "runs/listed/model.safetensors"],
    "choose-a-recipe": ["runs/first/report.html", "recipes.html"],
    "quantize-without-losing-accuracy": ["exported/model.onnx", "exported/export.html", "exported/export.json"],
    "unknown-and-unsure": ["empty"],
    "raspberry-pi": ["runs/mine/model.tune.json", "status.json", "results.jsonl"],
    "watch-a-camera": ["status.json"],
    "notice-drift": ["drift.json", "status.json"],
    "adopt-a-model": ["ours.onnx", "attack-ours/robustness.html"],
    "harden": ["hard/model.onnx", "hardened.html", "before/robustness.html", "after/robustness.html"],
    "measure-a-fleet": ["bench.pack", "results/pi-01.json", "results/pi-02.json", "fleet.html"],
    "read-a-robustness-page": ["attacked/robustness.html"],
    "plugin": [],
    "offline": ["sets/surfaces/train", "runs/surfaces/model.safetensors"],
}


def commands(page: Path) -> list[str]:
    return [line for block in BLOCK.findall(page.read_text("utf-8")) for line in block.splitlines() if line]


RUN = [page for page in PAGES if commands(page)]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """What a reader has when a page begins: photos, a list of them, a run with its file, and a stranger's ONNX file."""
    folder = tmp_path_factory.mktemp("workshop")
    photos = write_surfaces(folder / "photos", train=12, val=6)
    rows = [f"{path.relative_to(folder)},{path.parent.name},{path.parts[-3]}" for path in sorted(photos.rglob("*.jpg"))]
    (folder / "photos.csv").write_text("\n".join(["path,label,split", *rows]) + "\n", "utf-8")
    exported(folder / "theirs.onnx", Small())
    (folder / "labels.txt").write_text("\n".join(CLASSES), "utf-8")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(shlex.split("train photos --recipe probe --size 96 -o runs/mine")) == 0
        assert run(shlex.split("export runs/mine")) == 0
        yield folder
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUN, ids=[page.stem for page in RUN])
def test_the_commands_of_a_page_lead_where_it_says(page, workshop, capfd):
    for line in commands(page):
        words = shlex.split(line)
        if words[0] != "edge-tl" and shutil.which(words[0]) is None:
            pytest.skip(f"{words[0]} is not installed here")
        # Commands of ours in this process, where PyTorch is loaded already.
        code = run(words[1:]) if words[0] == "edge-tl" else subprocess.run(words, check=False).returncode
        told = capfd.readouterr()
        assert code == 0, f"{line}\n{told.err[-2000:]}"
    for name in LEFT[page.stem]:
        assert (workshop / name).exists(), name


def test_every_page_that_runs_something_says_what_it_leaves():
    assert sorted(LEFT) == [page.stem for page in RUN]
    assert len(PAGES) == len(RUN) + 1


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts]
    missing = [str(path) for path in pages if f"({path})" not in index]
    assert missing == ["README.md"]


# Messages


@cache
def templates() -> tuple[str, ...]:
    """Every text in the source, with what is filled in as \\0."""
    found: list[str] = []
    for package in ("edge_tl", "export", "runtime"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (value.value if isinstance(value, ast.Constant) else "\0" for value in node.values)
                    found.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


def pattern(message: str) -> str:
    """`...` stands for what is filled in; a message may be shown without its end, and never without its beginning."""
    pieces = [re.escape(piece) for piece in message.split("...")]
    return ("" if message.startswith("...") else r"\A") + "(?s:.*?)".join(pieces)


def known(message: str) -> bool:
    """Whether some text of the source is this message."""
    # A reason that another text puts a name and a space before stands alone in the source.
    forms = {message, re.sub(r"^\.\.\. ", "...", message)}
    return any(
        re.search(pattern(form), text)
        for form in forms
        for text in templates()
        if all(piece in text for piece in form.split("..."))
    )


def messages(page: Path) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", page.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    "page", [FAILURES, FAILURES.with_name("quantize-without-losing-accuracy.md")], ids=lambda p: p.stem
)
def test_every_message_is_one_that_the_program_has(page):
    shown = [message for message in messages(page) if " " in message]
    assert len(shown) >= 5
    assert [message for message in shown if not known(message)] == []


def test_a_message_that_the_program_does_not_have_is_noticed():
    assert known("no model file at ...; make one with: edge-tl export RUN --quantize")
    assert not known("no model file in ...; make one with: edge-tl export RUN --quantize")
    assert not known("model file at ...; make one with: edge-tl export RUN --quantize")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("inspect nothing.onnx", 1, "no model file at ...; make one with: edge-tl export RUN --quantize"),
        ("inspect photos", 1, "... is a folder, not a model file; ..."),
        ("inspect noise.onnx", 1, "... is not an ONNX file, or it is truncated..."),
        (
            "inspect altered.onnx",
            1,
            "... was altered or damaged after export (its checksum does not match); copy it again",
        ),
        ("evaluate model.onnx nowhere", 1, "no folder at ...; check the path"),
        (
            "evaluate model.onnx photos/red --split all",
            1,
            "... in ... has no label: use a folder for each class, or ...",
        ),
        (
            "predict model.onnx photos --provider none",
            2,
            "execution provider ... is not installed here; there are: ...",
        ),
        (
            "run model.onnx --source photos --headless --smooth ema:1",
            2,
            "--smooth ...: photos do not follow each other in ...",
        ),
        ("run model.onnx --source photos --headless --labels cat", 2, "the model has no label ...; it has: ..."),
        ("bench model.onnx nothing.pack", 1, "no pack at ...; make one with: edge-tl pack MODEL DATA -o ..."),
        ("bench --verify noise.onnx", 2, "... is no result of `edge-tl bench` (...); ..."),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_the_program_says_it_in_one_line(
    color_model, color_photos, tmp_path, monkeypatch, capsys, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    data = color_model.read_bytes()
    for name, content in (
        ("model", data),
        ("altered", data.replace(b"mean-color", b"Mean-color")),
        ("noise", b"\xff" * 99),
    ):
        (tmp_path / f"{name}.onnx").write_bytes(content)
    assert run(shlex.split(arguments)) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert re.search(pattern(message), said[0].removeprefix("edge-tl: ")), said


def test_the_service_is_as_on_the_page_about_running():
    """Both pages hold a unit; whoever mends one mends the other."""
    units = [
        set(re.search(r"```ini\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)[1].splitlines())
        for page in ("run.md", "how-to/raspberry-pi.md")
    ]
    differing = units[0] ^ units[1]
    assert all(line.startswith(("#", "ExecStart=", "    --")) for line in differing), differing
