"""Edge-friendly variants: what is replaced, what a gate leaves behind, and that the name alone brings a variant back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge_tl.cli import invoke as run
from edge_tl.cli.console import silent
from edge_tl.data.surfaces import write_surfaces
from edge_tl.models import WeightsSource, build_network, find_backbone, is_backbone
from edge_tl.models.backbones import Backbone, friendly
from edge_tl.models.friendly import describe, fold_gates, is_gate, make_friendly, watch_gates
from edge_tl.models.network import build_origin
from edge_tl.training.finetune.adapt import adapt
from edge_tl.training.run_folder import load_run, open_run, read_metrics
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.train import resume, train
from edge_tl_runtime.core.errors import UsageError, WeightsError
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import load_training

CPU = torch.device("cpu")
SMALL = "mobilenet_v3_small"
VARIANT = SMALL + "+friendly"

# By backbone: what is replaced, and how many of its gates can live on as constants.
REPLACED = {
    "mobilenet_v3_small": ("19 Hardswish to ReLU6, 9 SqueezeExcitation removed", 9),
    "mobilenet_v3_large": ("21 Hardswish to ReLU6, 8 SqueezeExcitation removed", 8),
    "timm/mobilenetv3_small_050": ("19 Hardswish to ReLU6, 9 SqueezeExcite removed", 9),  # a convolution reads the gate
    "timm/seresnet18": ("8 SEModule removed", 8),  # a normalisation feeds it, an addition reads it
    "timm/rexnet_100": ("17 SiLU to ReLU6, 13 SEModule removed", 13),  # an activation reads it
    "timm/ese_vovnet19b_dw": ("4 EffectiveSEModule removed", 0),  # between an activation and an addition: no weights
    "timm/mobilevitv2_050": ("25 SiLU to ReLU6", 0),
}


def restless(arch: str) -> nn.Module:
    """A network in which nothing is the identity by chance, for evaluation."""
    torch.manual_seed(0)
    module = find_backbone(arch).create(10).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low, high in ((layer.running_var, 0.5, 2.0), (layer.weight, 0.5, 1.5), (layer.bias, -0.5, 0.5)):
                nn.init.uniform_(tensor, low, high)
    return module


@pytest.mark.parametrize("arch", REPLACED)
@torch.no_grad()
def test_constant_gates_live_on_in_the_weights_beside_them(arch):
    module = restless(arch)
    photos = torch.randn(2, 3, 64, 64)
    gates: dict[str, torch.Tensor] = {}

    def hold(path: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def constant(_, inputs, output):
            gates.setdefault(path, 0.1 + torch.rand(output.shape[1]))
            return inputs[0] * gates[path].view(1, -1, 1, 1)

        return layer.register_forward_hook(constant)

    gated = [(path, layer) for path, layer in module.named_modules() if is_gate(layer)]
    handles = [hold(path, layer) for path, layer in gated]
    with watch_gates(module) as meter:
        expected = module(photos)
    for handle in handles:
        handle.remove()
    constants = meter.constants()
    for path, gate in gates.items():
        seen = torch.as_tensor(meter.sums[path].square) > 0
        torch.testing.assert_close(constants[path][seen], gate[seen])
        assert (constants[path][~seen] == 1).all()
    folded = fold_gates(module, constants)
    assert len(folded) == REPLACED[arch][1]
    for path, layer in gated:
        layer.register_forward_hook(
            lambda _, inputs, output, path=path: (
                inputs[0] if path in folded else inputs[0] * gates[path].view(1, -1, 1, 1)
            )
        )
    torch.testing.assert_close(module(photos), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("arch", REPLACED)
@torch.no_grad()
def test_what_is_replaced_is_said_and_everything_else_keeps_its_name(arch):
    plain, module = (find_backbone(arch).create(10) for _ in range(2))
    changes = make_friendly(module)
    assert describe(changes) == REPLACED[arch][0]
    assert not any(isinstance(layer, nn.Hardswish | nn.SiLU) or is_gate(layer) for layer in module.modules())
    gates = tuple(change.path + "." for change in changes if change.now == "Identity")
    assert list(module.state_dict()) == [name for name in plain.state_dict() if not name.startswith(gates or "-")]
    assert module.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 10)
    assert make_friendly(module) == ()


@pytest.mark.parametrize("arch", ["resnet18", "efficientnet_lite0", "mobilenet_v2", "timm/mobilenetv4_conv_small"])
def test_a_backbone_with_nothing_to_replace_is_its_own_variant(arch):
    backbone = find_backbone(arch)
    assert friendly(backbone) is backbone
    assert find_backbone(arch + "+friendly").name == arch


@pytest.mark.parametrize("arch", [VARIANT, "timm/mobilenetv3_small_050+friendly"])
def test_a_variant_comes_back_by_its_name(arch):
    backbone = find_backbone(arch)
    assert backbone.name == arch
    assert is_backbone(arch)
    assert friendly(backbone) is backbone
    assert backbone.resized(96).origin.size == 96


@torch.no_grad()
def test_the_constant_is_the_best_in_the_least_squares():
    torch.manual_seed(0)
    gate = next(layer for layer in find_backbone(SMALL).create(10).modules() if is_gate(layer))
    photos = torch.rand(6, 16, 5, 5) * torch.rand(6, 16, 1, 1) * 10
    with watch_gates(gate) as meter:
        after = gate(photos)
    before, after = (x.transpose(0, 1).flatten(1).double().numpy() for x in (photos, after))
    best = [np.linalg.lstsq(x[:, None], y, rcond=None)[0][0] for x, y in zip(before, after, strict=True)]
    np.testing.assert_allclose(meter.constants()[""].numpy(), best, rtol=1e-5)


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> Path:
    return write_surfaces(tmp_path_factory.mktemp("surfaces"), train=8, val=4)


def quick_train(data: Path, folder: Path, say=print, **settings: object):
    own = {"arch": SMALL, "weights": "none", "recipe": "probe", "device": "cpu", "size": 64, **settings}
    tuning = FinetuneSettings() if own["recipe"] == "probe" else FinetuneSettings(epochs=2, batch_size=8)
    result = train(data, folder, TrainSettings(**own, finetune=tuning), silent, say)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def plain_run(surfaces, tmp_path_factory) -> Path:
    return quick_train(surfaces, tmp_path_factory.mktemp("plain") / "run").folder


@pytest.fixture(scope="module")
def friendly_run(surfaces, plain_run, tmp_path_factory):
    lines: list[str] = []
    folder = tmp_path_factory.mktemp("friendly") / "run"
    result = quick_train(surfaces, folder, lines.append, edge_friendly=True, weights=str(plain_run), recipe="auto")
    return result, lines


def test_a_variant_is_made_from_a_run_and_trained_whatever_auto_would_say(friendly_run):
    result, lines = friendly_run
    assert result.spec.arch == VARIANT
    assert any("made edge-friendly: 19 Hardswish to ReLU6, 9 SqueezeExcitation removed; 9 of 9" in x for x in lines)
    assert any("auto: every weight is trained" in line for line in lines)
    assert result.spec.training["decisions"] == list(result.decisions)
    assert json.loads((result.folder / "settings.json").read_text())["edge_friendly"] is True
    network = load_run(result.folder).network
    assert network.backbone.name == VARIANT
    assert not any(is_gate(layer) for layer in network.module.modules())


def test_an_interrupted_training_makes_the_variant_again(surfaces, plain_run, friendly_run, tmp_path):
    def stop(line: str) -> None:
        if line.startswith("epoch 2:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick_train(surfaces, tmp_path, stop, edge_friendly=True, weights=str(plain_run), recipe="auto")
    result = resume(tmp_path, silent, print)
    assert result is not None
    first, second = (load_run(folder).network.module.state_dict() for folder in (friendly_run[0].folder, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_two_processes_make_the_same_variant(surfaces, plain_run, friendly_run, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "edge_tl"]
    command += ["train", str(surfaces), "-o", str(tmp_path), "--arch", SMALL, "--edge-friendly", "--device", "cpu"]
    command += ["--weights", str(plain_run), "--size", "64", "--epochs", "2", "--batch-size", "8"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("made edge-friendly") == 1
    one, two = ([r for r in read_metrics(x) if r["stage"] == "finetune"] for x in (friendly_run[0].folder, tmp_path))
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], rel=2e-2)


@pytest.mark.slow
def test_a_variant_learns_from_a_teacher(surfaces, plain_run, friendly_run, tmp_path):
    for teacher in (plain_run, friendly_run[0].folder):
        result = quick_train(
            surfaces, tmp_path / "run", edge_friendly=True, weights=str(plain_run), recipe="auto", teacher=str(teacher)
        )
        assert result.spec.arch == VARIANT


def test_a_variant_goes_on_from_its_own_weights(surfaces, friendly_run, tmp_path):
    lines: list[str] = []
    before = friendly_run[0].folder
    result = quick_train(surfaces, tmp_path / "run", lines.append, edge_friendly=True, weights=str(before))
    assert not any("made edge-friendly" in line or "frozen" in line for line in lines)
    assert result.spec.arch == VARIANT
    first, second = (load_run(folder).network.module.state_dict() for folder in (before, result.folder))
    assert all(torch.equal(first[name], second[name]) for name in first if not name.startswith("classifier.3."))


def test_a_head_alone_on_changed_features_is_warned_of(surfaces, plain_run, tmp_path):
    lines: list[str] = []
    quick_train(surfaces, tmp_path / "run", lines.append, arch=VARIANT, weights=str(plain_run))
    assert any("frozen though" in line and "--recipe finetune" in line for line in lines)


def test_nothing_to_replace_is_a_line_and_no_error(surfaces, tmp_path):
    lines: list[str] = []
    result = quick_train(surfaces, tmp_path / "run", lines.append, arch="mobilenet_v2", edge_friendly=True)
    assert "mobilenet_v2 is edge-friendly already: it has no layer to replace" in lines
    assert result.spec.arch == "mobilenet_v2"


def test_statistics_are_those_of_the_photos(surfaces, plain_run):
    photos = load_training(surfaces)[0]
    target = find_backbone(VARIANT).resized(64)
    network = build_origin(target, WeightsSource.parse(str(plain_run), target))
    assert network.backbone.name == SMALL
    adapt(network, target, photos, CPU)
    assert network.backbone is target
    inputs: list[torch.Tensor] = []
    norm = next(layer for layer in network.module.modules() if isinstance(layer, nn.BatchNorm2d))
    norm.register_forward_hook(lambda _, given, output: inputs.append(given[0]))
    model = network.pixel_model(CPU)
    for batch in PixelReader(photos, target.resize, 64):
        model.infer(batch.pixels)
    torch.testing.assert_close(norm.running_mean, torch.cat(inputs).mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    assert norm.momentum is not None
    assert not any(layer.training for layer in network.module.modules())


def test_weights_of_either_kind_fit_a_variant(plain_run, friendly_run):
    target = find_backbone(VARIANT)
    for folder, origin in ((plain_run, SMALL), (friendly_run[0].folder, VARIANT)):
        source = WeightsSource.parse(str(folder), target)
        assert build_origin(target, source).backbone.name == origin
        network = build_network(target, source)
        assert network.backbone.name == VARIANT
        expected = load_run(folder).network.module.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in network.module.state_dict().items())
    with pytest.raises(WeightsError, match="does not fit"):
        build_network(find_backbone(SMALL), WeightsSource.parse(str(friendly_run[0].folder), target))


def test_without_gates_the_contract_tells_whose_weights_these_are(tmp_path, friendly_run):
    """Plain network and variant have the same tensors here."""
    from safetensors.torch import save_file

    def create(classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
        )

    plain = Backbone("tiny", "torch", create, find_backbone(SMALL).normalization)
    target = friendly(plain)
    spec = friendly_run[0].spec
    for arch, origin in (("tiny", "tiny"), ("tiny+friendly", "tiny+friendly"), ("", "tiny")):
        path = tmp_path / f"{arch}.safetensors"
        document = {"edge_tl.spec": re.sub(re.escape(VARIANT), arch, spec.to_json())} if arch else None
        save_file(create(3).state_dict(), path, metadata=document)
        assert build_origin(target, WeightsSource("file", path)).backbone.name == origin


def test_a_variant_has_no_published_weights():
    with pytest.raises(UsageError, match=f"--arch {SMALL} --edge-friendly"):
        open_run(VARIANT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--edge-friendly", "--diagnose"], "leave the edge-friendly variant out"),
        (["--arch", VARIANT, "--diagnose"], f"judges {SMALL} as it was published"),
        (["--arch", "mobilenet_v3_smal+friendly", "-o", "run"], "did you mean mobilenet_v3_small"),
        (["--arch", SMALL, "--edge-friendly", "--weights", "nowhere.pth", "-o", "run"], "no weights file"),
    ],
    ids=["diagnose", "diagnose by name", "typing error", "no file"],
)
def test_nonsense_is_one_line(surfaces, tmp_path, monkeypatch, arguments, message, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", str(surfaces), *arguments]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_help_lists_the_option_beside_the_backbone(capsys):
    assert run(["train", "--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(word) for word in ("Options:", "--arch", "--edge-friendly", "--weights", "Fine-tuning:")]
    assert places == sorted(places)
