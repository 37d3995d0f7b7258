"""What `make` installs: asked of the real pip, at indexes in folders of the test."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "set_up.py"
VERSION = re.search(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)[1]  # type: ignore[index]
CUDA = ('cuda-toolkit[cublas,cudart]==13.0.3; platform_system == "Linux"', "nvidia-cudnn-cu13==9.20.0.48")

pytest.importorskip("pip", reason="this environment has no pip")


@pytest.fixture(scope="module")
def set_up() -> ModuleType:
    spec = importlib.util.spec_from_file_location("set_up", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["set_up"] = module
    spec.loader.exec_module(module)
    return module


def index(folder: Path, version: str, needs: tuple[str, ...] = ()) -> str:
    """An index that holds one PyTorch of a few bytes."""
    project = folder / "torch"
    project.mkdir(parents=True)
    wheel = project / f"torch-{version}-py3-none-any.whl"
    metadata = "".join(["Metadata-Version: 2.1\n", "Name: torch\n", f"Version: {version}\n"])
    metadata += "".join(f"Requires-Dist: {need}\n" for need in ("filelock", *needs))
    members = {
        f"torch-{version}.dist-info/METADATA": metadata,
        f"torch-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    members[f"torch-{version}.dist-info/RECORD"] = record + f"torch-{version}.dist-info/RECORD,,\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    (project / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>', "utf-8")
    return folder.as_uri()


@pytest.fixture
def usual(tmp_path, monkeypatch) -> str:
    """pip asks an index whose PyTorch brings CUDA, and nothing else of this machine."""
    address = index(tmp_path / "usual", VERSION, CUDA)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", address)
    return address


def test_a_pytorch_with_cuda_is_known_before_it_is_installed(set_up, usual):
    torch = set_up.chosen_torch([])
    assert (torch.version, torch.cuda) == (VERSION, True)
    line = set_up.advice(torch, "", gpu=False)
    assert "No NVIDIA GPU" in line
    assert "TORCH_INDEX=URL" in line
    assert "\n" not in line
    assert set_up.advice(torch, "", gpu=True) == ""


def test_an_index_of_cpu_wheels_wins_over_the_usual_one(set_up, usual, tmp_path):
    address = index(tmp_path / "cpu", f"{VERSION}+cpu")
    torch = set_up.chosen_torch(["--extra-index-url", address])
    assert (torch.version, torch.cuda) == (f"{VERSION}+cpu", False)
    assert set_up.advice(torch, address, gpu=False) == ""


@pytest.mark.parametrize("version", ["", "0.1+cpu"], ids=["nothing", "another release"])
def test_an_index_without_the_cpu_wheel_is_refused_before_anything_is_installed(usual, tmp_path, version):
    address = index(tmp_path / "other", version) if version else (tmp_path / "absent").as_uri()
    command = [sys.executable, str(SCRIPT), "train", "--torch-index", address]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"{address} has no CPU build of PyTorch for Python 3.")
    assert result.stderr.count("\n") == 1


def test_where_pip_does_not_say_nothing_is_said(set_up, usual, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "absent").as_uri())
    assert set_up.chosen_torch([]) is None
    assert set_up.advice(None, "", gpu=False) == ""


def dry(*arguments: str, folder: Path = ROOT) -> str:
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone in which nothing is set up; pip is there once a fixture's test has touched it."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "scripts/set_up.py"):
        target = tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
        os.utime(target, (1e9, 1e9))
    return tmp_path / "clone"


def test_the_demo_installs_what_trains_and_the_tests_add_the_rest(clone):
    demo, test = (dry(target, folder=clone) for target in ("demo", "test"))
    assert "scripts/set_up.py train" in demo
    assert "set_up.py dev" not in demo
    assert "scripts/set_up.py dev" in test
    assert "set_up.py train" not in test
    assert "--torch-index" not in demo + test
    assert "--torch-index 'https://wheels.example/cpu'" in dry(
        "demo", "TORCH_INDEX=https://wheels.example/cpu", folder=clone
    )


def test_nothing_is_installed_twice(clone):
    for name in ("bin/pip", ".demo-ready", ".ready"):
        path = clone / ".venv" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert "set_up.py" not in dry("demo", "test", folder=clone)
    (clone / ".venv" / ".ready").unlink()
    assert "set_up.py" not in dry("demo", folder=clone)
    assert "set_up.py dev" in dry("test", folder=clone)
    (clone / "pyproject.toml").touch()
    assert "set_up.py train" in dry("demo", folder=clone)


def test_a_half_made_environment_is_made_anew(clone):
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert "-m venv" in dry("demo", folder=clone)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """The source archive, unpacked; built from a copy of what git tracks."""
    if int(metadata.version("setuptools").split(".")[0]) < 77:  # imported it would trip over a distutils that is loaded
        pytest.skip("this environment has no setuptools that builds this project")
    folder = tmp_path_factory.mktemp("archive")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():  # not one that was just removed
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name).write_bytes((ROOT / name).read_bytes())
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    command = [sys.executable, "-c", build, str(folder)]
    result = subprocess.run(command, cwd=folder / "tree", capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as tar:
        tar.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def test_the_source_archive_holds_every_file_of_the_project(archive):
    tree = archive.parents[1] / "tree"
    files = [path.relative_to(tree) for path in tree.rglob("*") if path.is_file() and "egg-info" not in str(path)]
    assert len(files) > 300
    assert [str(path) for path in files if not (archive / path).is_file()] == [".gitignore"]
    for path in files:
        assert path == Path(".gitignore") or (archive / path).read_bytes() == (tree / path).read_bytes(), path


@pytest.mark.slow
def test_tests_pass_in_the_unpacked_source_archive(archive):
    path = os.pathsep.join(str(archive / name) for name in ("", "export", "runtime"))
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "tests/test_spec.py", "tests/test_examples.py"]
    environment = {**os.environ, "PYTHONPATH": path}
    result = subprocess.run(
        command, cwd=archive, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout or "100%" in result.stdout
