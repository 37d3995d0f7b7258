"""Training: the probe against SciPy, features once, fine-tuning that never loses, runs that are whole."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import torch
from schema_checks import assert_fits

from edge_tl.cli.console import silent
from edge_tl.data.surfaces import CLASSES, write_surfaces
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training import auto_recipe as recipe
from edge_tl.training.devices import pick_device
from edge_tl.training.probe.features import FeatureExtractor, fingerprint
from edge_tl.training.probe.probe import fit_probe
from edge_tl.training.run_folder import load_run, read_metrics
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.train import train
from edge_tl_runtime.core.errors import BadModelError, DataError, UsageError
from edge_tl_runtime.evaluation.evaluate import evaluate
from edge_tl_runtime.images.datasets.dataset import load_training

CPU = torch.device("cpu")
FINETUNE = {item.name for item in dataclasses.fields(FinetuneSettings)}


def quick_train(data: Path, folder: Path, **settings: object):
    tuning = FinetuneSettings(**{k: v for k, v in settings.items() if k in FINETUNE})
    own = {k: v for k, v in settings.items() if k not in FINETUNE}
    result = train(
        data, folder, TrainSettings(**{"recipe": "probe", "device": "cpu", "finetune": tuning, **own}), silent, print
    )
    assert result is not None
    return result


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> Path:
    return write_surfaces(tmp_path_factory.mktemp("surfaces"), train=12, val=6)


@pytest.fixture(scope="module")
def trained(surfaces, tmp_path_factory):
    return quick_train(surfaces, tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.parametrize(("n", "d"), [(60, 10), (30, 80)], ids=["more photos", "more features"])
def test_the_probe_reaches_the_minimum_that_scipy_finds(n, d):
    rng = np.random.default_rng(0)
    targets = np.arange(n) % 3
    features = (rng.normal(size=(n, d)) + rng.normal(size=(3, d))[targets]).astype(np.float32)
    probe = fit_probe(features, targets, [str(i) for i in range(n)], 3)
    deviation = features.std(0, dtype=np.float64)
    scale = np.sqrt(deviation * deviation.mean())
    standard = (features - features.mean(0, dtype=np.float64)) / scale

    def loss(flat: np.ndarray) -> float:
        weight, bias = flat[:-3].reshape(3, d), flat[-3:]
        scores = standard @ weight.T + bias
        chosen = scores[np.arange(n), targets]
        return (scipy.special.logsumexp(scores, 1) - chosen).mean() + probe.penalty / 2 * (weight**2).sum()

    bias = probe.bias + probe.weight @ features.mean(0, dtype=np.float64)
    ours = loss(np.concatenate([(probe.weight * scale).ravel(), bias]))
    best = scipy.optimize.minimize(
        loss, np.zeros(3 * d + 3), method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 10**6}
    )
    assert ours <= best.fun + 1e-6


def test_constant_features_and_single_photos_do_no_harm():
    features = np.ones((4, 6), np.float32)
    features[:, 0] = [0, 0, 1, 1]
    probe = fit_probe(features, np.array([0, 0, 1, 1]), list("abcd"), 2)
    assert (probe.logits(features).argmax(1) == [0, 0, 1, 1]).all()
    single = fit_probe(features[[0, 2]], np.array([0, 1]), ["a", "b"], 2)
    assert (single.logits(features).argmax(1) == [0, 0, 1, 1]).all()


def test_a_run_holds_what_is_promised(trained, surfaces):
    names = {path.name for path in trained.folder.iterdir()}
    assert names == {
        "model.safetensors",
        "spec.json",
        "settings.json",
        "settings.toml",
        "metrics.jsonl",
        "log.txt",
        "logits.npz",
    }
    run = load_run(trained.folder)
    assert run.spec == trained.spec
    assert run.spec.labels == CLASSES
    stages = [json.loads(line)["stage"] for line in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    assert stages == ["features", "probe", "cross-validation"]
    assert json.loads((trained.folder / "settings.json").read_text())["seed"] == 0
    assert trained.evaluation.top1 >= 0.85
    assert_fits("train", json.loads(json.dumps(trained.to_dict())))


def test_a_run_read_again_judges_as_training_did(trained, surfaces):
    run = load_run(trained.folder)
    val = load_training(surfaces)[1]
    again = evaluate(run.logits, val, run.spec.resize, "")
    assert (again.confusion == trained.evaluation.confusion).all()


def test_features_are_computed_once(surfaces, trained):
    backbone = find_backbone("efficientnet_lite0")
    network = build_network(backbone, WeightsSource.parse("pretrained", backbone))
    photos = load_training(surfaces)[0]
    cached = FeatureExtractor(network, CPU)(photos)
    assert cached.computed == 0
    with torch.no_grad():
        next(network.module.parameters()).mul_(1.01)
    other = FeatureExtractor(network, CPU)(photos)
    assert other.computed == len(photos)
    assert fingerprint(other) == fingerprint(cached)


def test_the_same_seed_gives_the_same_run(trained, surfaces, tmp_path):
    again = quick_train(surfaces, tmp_path / "again")
    first, second = (load_run(folder).network.module.state_dict() for folder in (trained.folder, again.folder))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.spec.data_fingerprint == trained.spec.data_fingerprint


@pytest.mark.slow
def test_auto_keeps_the_best_candidate_and_is_never_worse_than_the_probe(surfaces, tmp_path, trained, monkeypatch):
    monkeypatch.setattr(recipe, "ENOUGH", -1.0)  # the probe leaves too little to mend for auto to try
    monkeypatch.setattr(recipe, "PHOTOS_A_CLASS", 0)
    result = quick_train(surfaces, tmp_path / "fine", recipe="auto", size=224, epochs=2, batch_size=8)
    metrics = read_metrics(result.folder)
    candidates = [(line["val_top1"], -line["val_loss"]) for line in metrics if line["stage"] == "candidate"]
    probe = next((line["top1"], -line["val_loss"]) for line in metrics if line["stage"] == "probe")
    assert len(candidates) == 4
    assert (result.evaluation.top1, -result.loss) == pytest.approx(max([*candidates, probe]), abs=1e-6)
    assert result.evaluation.top1 >= trained.evaluation.top1
    run = load_run(result.folder)
    again = evaluate(run.logits, load_training(surfaces)[1], run.spec.resize, "")
    assert again.correct == result.evaluation.correct


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "timm/mobilenetv4_conv_small"])
def test_other_backbones_train_from_random_weights(arch, surfaces, tmp_path):
    result = quick_train(surfaces, tmp_path / "run", arch=arch, weights="none")
    assert load_run(result.folder).spec.arch == arch


def test_a_class_without_a_readable_photo_is_an_error_and_leaves_no_run(surfaces, tmp_path):
    root = write_surfaces(tmp_path / "data", train=2, val=1)
    for path in (root / "train" / "brick").iterdir():
        path.write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(DataError, match=r"no photo of class 'brick' in the train part .*could be read"):
        quick_train(root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_remains_of_an_interrupted_training_are_no_obstacle(surfaces, tmp_path):
    for name in ("metrics.jsonl.partial", "log.txt.partial"):
        (tmp_path / name).write_text("{}")
    quick_train(surfaces, tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_with_other_files_is_not_taken_for_a_run(surfaces, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds other files"):
        quick_train(surfaces, tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "no run", "foreign"])
def test_a_damaged_run_is_refused(trained, tmp_path, damage):
    data = (trained.folder / "model.safetensors").read_bytes()
    if damage == "truncated":
        (tmp_path / "model.safetensors").write_bytes(data[:1000])
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError if damage == "no run" else BadModelError):
        load_run(tmp_path)


def test_a_device_that_is_not_here_is_an_error():
    with pytest.raises(UsageError, match="no device called"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="not available"):
            pick_device("cuda")


def test_a_cache_that_cannot_be_written_does_not_stop_training(surfaces, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_TL_CACHE", str(tmp_path / "file"))
    quick_train(surfaces, tmp_path / "run")
    assert "set EDGE_TL_CACHE" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_kill_during_training_leaves_the_old_run(surfaces, tmp_path, number, code):
    folder = tmp_path / "run"
    first = quick_train(surfaces, folder)
    before = (first.folder / "model.safetensors").read_bytes()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "edge_tl",
            "train",
            str(surfaces),
            "-o",
            str(folder),
            "--recipe",
            "finetune",
            "--epochs",
            "50",
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    for line in process.stderr:
        if "linear probe" in line:
            break
    time.sleep(1)
    process.send_signal(number)
    errors = process.stderr.read()
    assert process.wait() == code
    assert "Traceback" not in errors
    assert (folder / "model.safetensors").read_bytes() == before
    assert json.loads((folder / "settings.json").read_text())["recipe"] == "probe"
    assert number == signal.SIGKILL or f"edge-tl train --resume {folder}" in errors
    load_run(folder)
