"""The base install alone: a Python that has the packages edge-tl requires without an extra, and no others."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import edge_tl
import edge_tl_export
import edge_tl_runtime

requirements = pytest.importorskip("packaging.requirements")
pytestmark = pytest.mark.slow

ALL_OF_A_DEVICE = """
import importlib.util, sys
import edge_tl as et
print([name for name in ("torch", "torchvision", "onnx", "matplotlib", "jinja2", "pytest") if importlib.util.find_spec(name)])
with et.load(sys.argv[1]) as model:
    photo = sys.argv[2] + "/red/0.png"
    print(model.predict(photo).label, model.evaluate(sys.argv[2]).top1, {r.label for r in model.stream(sys.argv[2] + "/red")})
    print(model.bench(output="b.json", parts="latency", seconds=0.1, calls=3).latency_ms > 0, model.tune(1).path.name)
"""


def base_install(folder: Path) -> Path:
    """Make the environment with links into this one, without a network; its Python."""
    try:
        distribution("edge-tl")
    except PackageNotFoundError:
        pytest.skip("edge-tl is not installed here, so nobody knows what it requires")
    venv.EnvBuilder(symlinks=True).create(folder)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in (edge_tl, edge_tl_export, edge_tl_runtime):
        (site / package.__name__).symlink_to(Path(str(package.__file__)).parent)
    wanted, known = ["edge-tl"], set[str]()
    while wanted:
        name = wanted.pop()
        if name in known:
            continue
        known.add(name)
        found = distribution(name)
        needed = map(requirements.Requirement, found.requires or ())
        wanted += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
        tops = {path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")}
        for top in tops if name != "edge-tl" else {top for top in tops if top.endswith("-info")}:
            (site / top).symlink_to(str(found.locate_file(top)))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    return base_install(tmp_path_factory.mktemp("device") / "env")


def ask(python: Path, *words: object) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(word) for word in (python, *words)]
    environment = {**kept, "PYTHONNOUSERSITE": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def test_everything_of_a_device_works_on_the_base_install(python, color_model, color_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("colors.onnx").write_bytes(color_model.read_bytes())
    done = ask(python, "-c", ALL_OF_A_DEVICE, "colors.onnx", color_photos)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[]", "red 1.0 {'red'}", "True colors.tune.json"]
    shown = ask(python, "-m", "edge_tl", "run", "colors.onnx", "--source", color_photos, "--headless", "--json")
    assert shown.returncode == 0, shown.stderr
    assert len([json.loads(line) for line in shown.stdout.splitlines()]) == 6
    assert ask(python, "-m", "edge_tl", "doctor", "colors.onnx").returncode == 0


@pytest.mark.parametrize(
    "words", [["train", "photos", "-o", "r"], ["export", "r"], ["adopt", "a.onnx", "-o", "b.onnx"]]
)
def test_a_command_of_the_workstation_names_what_to_install(python, words):
    done = ask(python, "-m", "edge_tl", *words)
    assert done.returncode == 2
    assert done.stderr.endswith("which is not installed here; run: pip install 'edge-tl[train]'\n")
