"""Parts that other packages add: the example package is installed for real; broken packages are written by hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_photo
from schema_checks import assert_fits

from edge_tl.adversarial.attacks.registry import ATTACKS
from edge_tl.adversarial.settings import ATTACK_NAMES
from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.inference.providers import PROVIDERS, find_provider
from edge_tl_runtime.robustness.corruptions import corrupt, find_corruption, named_corruptions
from edge_tl_runtime.sinks.plugin_sinks import make_sink
from edge_tl_runtime.sources import is_live, open_source, source_kind

ROOT = Path(__file__).parents[1]
EXAMPLE = {"package": "edge-tl-example", "version": "0.1.0"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The example package, built and installed without a network."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(ROOT / "examples" / "plugin", folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    if subprocess.run([sys.executable, "-c", "import pip, setuptools"], capture_output=True).returncode:
        pytest.skip("pip and setuptools are not installed here")
    done = subprocess.run([*pip, "--target", folder / "site", source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def wrote(tmp_path, monkeypatch):
    """wrote(package, {group: "name = target"}, code): an installed package; the lists of plugins are read anew."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(package: str, entries: dict[str, str], code: str = "") -> Path:
        module = package.replace("-", "_")
        (folder / f"{module}.py").write_text(code, "utf-8")
        info = folder / f"{module}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n", "utf-8")
        lines = [f"[edge_tl.{group}]\n{line}\n" for group, line in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(lines), "utf-8")
        plugins.plugins.cache_clear()
        return folder

    yield write
    plugins.plugins.cache_clear()


def edge_tl(folder: Path, site: Path, *args: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(site), *sys.path])
    command = [sys.executable, "-m", "edge_tl", *map(str, args)]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_a_source_and_a_sink_of_a_package_serve_a_run(site, tmp_path, color_model):
    told = "run", color_model, "--source", "countdown:5", "--headless", "--json", "--status", "status.json"
    done = edge_tl(tmp_path, site, *told, "--sink", "lines:path=seen.txt,separator=;")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert results[-1]["frame"] == 4
    assert {result["source"] for result in results} == {"countdown:5"}
    seen = (tmp_path / "seen.txt").read_text("utf-8").splitlines()
    assert seen == [f"{result['label']};{result['confidence']:.3f}" for result in results]
    status = json.loads((tmp_path / "status.json").read_text("utf-8"))
    assert status["source_plugin"] == {"name": "countdown", **EXAMPLE}
    assert status["sinks"]["lines"]["plugin"] == {"name": "lines", **EXAMPLE}
    assert "edge-tl-example 0.1.0" in done.stderr


@pytest.mark.parametrize(
    ("source", "sink", "told"),
    [
        ("countdown:x", "lines:path=a", "number of frames"),
        ("countdown:5", "lines", "missing a required argument: 'path'; its options are: path, separator"),
        ("countdown:5", "lines:pth=a", "no option 'pth'; its options are: path, separator"),
        ("countdown:5", "lines:path", "no key=value"),
        ("countdown:5", "lines:path=a,path=b", "path is given twice"),
        ("countdown:5", "liness:path=a", "no installed package adds a sink 'liness'; there are: lines"),
        ("countdown:5", "lines:path=no/such/folder", "choose another path"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(site, tmp_path, color_model, source, sink, told):
    done = edge_tl(tmp_path, site, "run", color_model, "--source", source, "--sink", sink, "--headless")
    assert done.returncode in (1, 2)
    last = done.stderr.splitlines()[-1]
    assert told in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_an_attack_and_a_corruption_of_a_package_serve_an_evaluation(site, tmp_path, color_model, color_photos):
    told = "attack", color_model, color_photos, "-o", "out", "--attacks", "fgsm,random-sign", "--epsilons", "2,255"
    done = edge_tl(tmp_path, site, *told, "--split", "all", "--corruptions", "stripes")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out" / "robustness.json").read_text("utf-8"))
    lines = document["models_under_test"]["model"]["attacks"]
    assert {line["name"] for line in lines} <= {"fgsm", "random-sign", "noise"}
    plugin = next(line for line in lines if line["name"] == "random-sign")
    assert plugin["plugin"] == {"name": "random-sign", **EXAMPLE}
    assert plugin["kind"] == "black-box"
    assert all(line["plugin"] is None for line in lines if line["name"] != "random-sign")
    assert document["settings"]["attacks"] == "fgsm,random-sign"
    assert "stripes" in json.dumps(document["corruptions"])
    assert any("only the attacks named by --attacks" in note for note in document["notes"])


def test_doctor_and_help_list_what_is_installed(site, tmp_path):
    found = json.loads(edge_tl(tmp_path, site, "doctor", "--json").stdout)
    assert_fits("doctor", found)
    listed = found["plugins"]
    kinds = {"sources": "countdown", "sinks": "lines", "attacks": "random-sign", "corruptions": "stripes"}
    assert {item["kind"]: item["name"] for item in listed} == kinds
    assert all({key: item[key] for key in EXAMPLE} == EXAMPLE and item["problem"] == "" for item in listed)
    assert "lines" in edge_tl(tmp_path, site, "run", "--help").stdout.partition("--sink")[2].partition("--status")[0]
    assert "random-sign" in edge_tl(tmp_path, site, "attack", "--help").stdout


def test_attack_names_of_the_help_are_those_there_are():
    assert tuple(ATTACKS) == ATTACK_NAMES


BROKEN = {
    "raises": ("mine = broken:x", "raise RuntimeError('no luck\\nat all')", "RuntimeError: no luck"),
    "needs more": ("mine = broken:x", "import no_such_library", "no_such_library"),
    "no such name": ("mine = broken:x", "", "has no attribute 'x'"),
    "no such module": ("mine = nowhere:x", "", "nowhere"),
    "syntax": ("mine = broken:x", "def", "SyntaxError"),
    "exits": ("mine = broken:x", "raise SystemExit(3)", "SystemExit: 3"),
    "wrong type": ("mine = broken:x", "x = 3", "gives int"),
    "wrong class": ("mine = broken:x", "class x: pass", "x"),
}


@pytest.mark.parametrize(("entry", "code", "told"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("kind", ["sources", "sinks", "corruptions", "providers", "attacks", "backbones"])
def test_a_broken_package_is_named_in_one_line(wrote, monkeypatch, kind, entry, code, told):
    from edge_tl.adversarial.attacks.registry import added_attack
    from edge_tl.models import find_backbone

    monkeypatch.delitem(sys.modules, "broken", raising=False)
    wrote("broken", {kind: entry}, code)
    ask = {
        "sources": lambda name: open_source(f"{name}:x"),
        "sinks": make_sink,
        "corruptions": find_corruption,
        "providers": find_provider,
        "attacks": added_attack,
        "backbones": find_backbone,
    }[kind]
    with pytest.raises(UsageError) as caught:
        ask("mine")
    assert "broken 2.5" in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_package_hides_no_other(wrote):
    wrote("broken", {"corruptions": "mine = broken:x"}, "raise RuntimeError")
    wrote("fine", {"corruptions": "dim = fine:DIM"}, DIM)
    photo = np.full((40, 40, 3), 200, np.uint8)
    assert (corrupt(photo, "dim", 1, "key") == 100).all()
    assert named_corruptions("camera,dim")[-1] == "dim"


DIM = """
from edge_tl.plugins import Corruption
DIM = Corruption(name="dim", group="camera", source="a test", strengths=(0.5,) * 5, apply=lambda p, s, rng: p * s)
"""


def test_two_packages_with_one_name_are_refused_by_name(wrote):
    wrote("first", {"corruptions": "dim = first:DIM"}, DIM)
    wrote("second", {"corruptions": "dim = second:DIM"}, DIM)
    with pytest.raises(UsageError, match=r"first 2\.5 and second 2\.5 both add a corruption 'dim'"):
        find_corruption("dim")


def test_a_plugin_replaces_nothing(wrote):
    from edge_tl.plugins import found_plugins

    entries = {"corruptions": "fog = taker:DIM", "providers": "cpu = taker:DIM", "sources": "test = taker:DIM"}
    wrote("taker", entries, DIM)
    assert find_corruption("fog").name == "fog"
    assert find_provider("cpu") is PROVIDERS["cpu"]
    assert source_kind("test://bars") == "test pattern"
    problems = [found.problem for found in found_plugins()]
    assert len(problems) == 3
    assert all("never used" in problem and "taker 2.5" in problem for problem in problems)


def test_a_provider_is_known_by_the_plugins_name(wrote):
    code = "from edge_tl.plugins import Provider\ndef make(): return Provider(name='CPUExecutionProvider')"
    wrote("quick", {"providers": "quick = quick:make"}, code)
    assert find_provider("quick").name == "CPUExecutionProvider"


def test_a_backbone_of_a_package_is_made(wrote):
    import torch

    from edge_tl.models import WeightsSource, build_network, find_backbone, is_backbone

    wrote("tiny", {"backbones": "tiny = tiny:make"}, TINY)
    assert is_backbone("tiny")
    assert find_backbone("tiny").library == "tiny"
    network = build_network(find_backbone("tiny"), WeightsSource("none"))
    assert network.module(torch.zeros(2, 3, 32, 32)).shape[0] == 2


TINY = """
from torch import nn
from edge_tl.plugins import Backbone, Normalization
def create(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
def make():
    return Backbone("tiny", "tiny", create, Normalization(mean=(0, 0, 0), std=(1, 1, 1)), size=32)
"""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def open(self): raise ValueError('no lens')", "ValueError: no lens"),
        ("def open(self): return 3", "open() gives int"),
        ("def grab(self): raise ZeroDivisionError('grab')", "ZeroDivisionError: grab"),
        ("def retrieve(self, out): raise KeyError('retrieve')", "KeyError: 'retrieve'"),
    ],
)
def test_a_source_that_fails_in_the_capture_process_is_named(wrote, tmp_path, color_model, code, told):
    folder = wrote("shaky", {"sources": "shaky = shaky:Shaky"}, f"{SHAKY}\n    {code}\n")
    done = edge_tl(tmp_path, folder, "run", color_model, "--source", "shaky", "--headless", "--first-frame", "5")
    assert done.returncode == 1
    assert told in done.stderr
    assert "package shaky 2.5" in done.stderr
    assert "Traceback" not in done.stderr


SHAKY = """
import numpy as np
from edge_tl.plugins import Device, Opened
class Shaky(Device):
    def __init__(self, request): super().__init__()
    def open(self): return Opened()
    def grab(self): return True
    def retrieve(self, out): return np.zeros((8, 8, 3), np.uint8)
    def close(self): pass
"""


def test_names_of_files_and_addresses_look_up_no_plugins(tmp_path, monkeypatch):
    def asked(kind):
        raise AssertionError(f"the plugins of {kind} were looked up")

    monkeypatch.setattr(plugins, "plugins", asked)
    photo = write_photo(tmp_path / "a.png", cv2.cvtColor(np.zeros((8, 8), np.uint8), cv2.COLOR_GRAY2BGR))
    for name in (str(photo), "0", "-", "rtsp://a/b", "https://a/b.jpg", "test://bars", "rpicam:0", str(tmp_path)):
        source_kind(name)
    find_provider("cpu")
    named_corruptions("all")


def test_an_attack_that_leaves_the_ball_is_refused(wrote, tmp_path, color_model, color_photos):
    folder = wrote("cheat", {"attacks": "cheat = cheat:Cheat"}, CHEAT)
    told = "attack", color_model, color_photos, "-o", "out", "--attacks", "cheat", "--epsilons", "2", "--split", "all"
    done = edge_tl(tmp_path, folder, *told)
    assert done.returncode == 2
    assert "cheat changed a photo by" in done.stderr
    assert not (tmp_path / "out" / "robustness.json").exists()


CHEAT = """
from dataclasses import dataclass
from edge_tl.plugins import Attack
@dataclass(frozen=True, kw_only=True)
class Cheat(Attack):
    paper = "none"
    needs_gradients = False
    def _search(self, search, keys, stop):
        search.ask(search.active, 255 - search.clean[search.active])
"""


def test_a_live_plugin_counts_as_live(wrote):
    wrote("shaky", {"sources": "shaky = shaky:Shaky"}, SHAKY)
    assert is_live("shaky:anything")
    assert source_kind("shaky") == "plugin"
    assert source_kind("shaky2:x") != "plugin"
