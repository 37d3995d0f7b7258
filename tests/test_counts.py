"""Every command tells the same numbers of the same folder, and a photo that cannot be decoded is never called used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_tl.cli import invoke as edge_tl
from edge_tl.data.surfaces import write_surfaces

READABLE = 42
UNUSED = {"brick/brick_003.jpg", "grass/moving.gif", "gravel/notes.txt"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes in one folder: 42 photos that can be read, two of them not ordinary; a cut JPEG, a GIF and a text."""
    root = write_surfaces(tmp_path_factory.mktemp("counts") / "photos", train=14, val=0) / "train"
    root = root.rename(root.parent.parent / "surfaces")
    cut = root / "brick" / "brick_003.jpg"
    cut.write_bytes(cut.read_bytes()[:-2000])
    # Each beside photos of its own class, so that the classes stay told apart.
    grey = np.asarray(Image.open(root / "grass" / "grass_000.jpg").convert("L"))
    clear = np.dstack([grey, grey, grey, np.full_like(grey, 200)])
    Image.fromarray(clear).save(root / "grass" / "clear.png")
    twelve = (grey.astype(np.uint16) * 16).clip(0, 4095)
    twelve[0, 0] = 4095
    Image.fromarray(twelve).save(root / "gravel" / "twelve.png")
    Image.fromarray(grey).convert("P").save(root / "grass" / "grass_001.gif")
    (root / "grass" / "grass_001.gif").rename(root / "grass" / "moving.gif")
    (root / "gravel" / "notes.txt").write_text("a note")
    (root / "grass" / "grass_000.jpg").unlink()
    (root / "gravel" / "gravel_000.jpg").rename(root / "gravel" / "gravel_100.jpg")
    return root


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Runs a command and gives its standard output and its standard error."""

    def told(*words: object) -> tuple[str, str]:
        capfd.readouterr()
        code = edge_tl([str(word) for word in words])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out, err

    return told


def counts(text: str) -> tuple[int, int, set[str]]:
    """Photos used, files passed over, and the names of these, from the lines for a person; each may stand there once."""
    heads = re.findall(r"^used (\d+) photos?, passed over (\d+) files?:", text, re.MULTILINE)
    assert len(heads) == 1, text
    names = re.findall(r"^  1: .* \((\S+)\)$", text, re.MULTILINE)
    return int(heads[0][0]), int(heads[0][1]), set(names)


@pytest.mark.slow
def test_every_command_counts_the_same_photos(
    folder: Path, tmp_path: Path, tell: Callable[..., tuple[str, str]]
) -> None:
    right = READABLE, len(UNUSED), UNUSED
    page, run = tmp_path / "check.html", tmp_path / "run"

    out, err = tell("data", "check", folder, "-o", page)
    assert counts(out) == right
    assert "so far" in err
    text = page.read_text("utf-8")
    assert f"<b>{READABLE}</b><span>photos used</span>" in text
    table = text[text.index("Photos by class") :]
    assert sum(map(int, re.findall(r"<td>(\d+)</td>", table))) == READABLE
    assert str(folder) not in text[text.index("Files passed over") :]
    noted = [line for line in out.splitlines() if re.match(r"1 photo: ", line)]
    assert len(noted) == 2

    out, err = tell("train", folder, "-o", run, "--recipe", "probe")
    assert counts(err) == right
    assert [line for line in err.splitlines() if re.match(r"1 photo: ", line)] == noted
    record = json.loads((run / "spec.json").read_text("utf-8"))
    held_out = int(re.findall(r"val .*?\(\d+ of (\d+),", out)[0])
    assert record["training"]["train_photos"] + held_out == READABLE
    # A second time the features come from the cache, and nothing is lost of what was said.
    _, again = tell("train", folder, "-o", tmp_path / "again", "--recipe", "probe")
    assert counts(again) == right
    assert [line for line in again.splitlines() if re.match(r"1 photo: ", line)] == noted

    out, err = tell("evaluate", run, folder, "--split", "all")
    assert counts(err) == right
    assert [line for line in err.splitlines() if re.match(r"1 photo: ", line)] == noted
    found = json.loads(tell("evaluate", run, folder, "--split", "all", "--json")[0])
    assert found["n"] == READABLE
    assert sum(map(len, found["adjusted"].values())) == 2

    out, err = tell("export", run, "--json")
    assert f"\nevaluated on {held_out} photos that could be read" in err
    assert re.search(rf"all {held_out} are validation photos", err)
    shown = (run / "export.html").read_text("utf-8")
    assert f"evaluated on {held_out} photos" in shown
    model = run / "model.onnx"

    out, err = tell("predict", model, folder, "--json")
    assert counts(err) == right
    assert len(out.splitlines()) == READABLE
    out, err = tell("run", model, "--source", folder, "--headless", "--json")
    assert counts(err) == right
