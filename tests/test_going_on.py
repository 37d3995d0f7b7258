"""Trainings that stop halfway: batches of one, options beside --resume, more epochs, mirrors, and what is refused at once."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from stopwatch import HANGING
from torch import nn

from edge_tl.cli import cli
from edge_tl.cli.console import silent
from edge_tl.data.surfaces import write_surfaces
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training import distributed
from edge_tl.training import run_folder as run
from edge_tl.training.finetune import further
from edge_tl.training.finetune.batch_norm import accept_single_values
from edge_tl.training.finetune.crops import Canvases, Views
from edge_tl.training.finetune.finetune import Finetuner
from edge_tl.training.finetune.mirror import look_alike, mirrored_pairs
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.train import resume, train
from edge_tl.training.validation import Validator
from edge_tl_runtime.core.errors import DataError, OutputError, PeerFailed, UsageError
from edge_tl_runtime.images.datasets.dataset import load_training
from edge_tl_runtime.modelfile.spec import ResizeRule

CPU = torch.device("cpu")
RULE = ResizeRule(height=64, width=64, crop_pct=1.0, resample="area-cubic")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> Path:
    return write_surfaces(tmp_path_factory.mktemp("surfaces"), train=3, val=2)


class Pooled(nn.Module):
    """Like timm's mobilenetv4: batch normalisation after the global pooling sees one value per channel of a single photo."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.conv(pixels).mean((2, 3), keepdim=True)).flatten(1))


def test_one_value_per_channel_trains_and_others_are_as_ever():
    torch.manual_seed(0)
    model, plain = Pooled().train(), Pooled().train()
    plain.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="more than 1 value"):
        plain(torch.rand(1, 3, 8, 8))
    plain.load_state_dict(model.state_dict())
    accept_single_values(model)
    several = torch.rand(5, 3, 8, 8)
    assert torch.equal(model(several), plain(several))
    assert torch.equal(model.norm.running_mean, plain.norm.running_mean)
    before = model.norm.running_mean.clone()
    single = torch.rand(1, 3, 8, 8)
    model(single).sum().backward()
    value = model.conv(single).mean((2, 3))[0]
    assert torch.allclose(model.norm.running_mean, before.lerp(value, 0.1), atol=1e-6)
    assert model.norm.training
    assert torch.isfinite(model.conv.weight.grad).all()


def test_statistics_of_single_values_become_those_of_all():
    model = nn.Sequential(nn.BatchNorm1d(2)).train()
    accept_single_values(model)
    rng = torch.Generator().manual_seed(0)
    for _ in range(4000):
        model(torch.randn(1, 2, generator=rng) * torch.tensor([3.0, 0.5]) + torch.tensor([1.0, -2.0]))
    mean, variance = model[0].running_mean, model[0].running_var
    assert mean.numpy() == pytest.approx([1, -2], abs=2.0)
    assert 3 < float(variance[0]) < 27
    assert 0.05 < float(variance[1]) < 0.8


@pytest.mark.parametrize(
    ("photos", "size"), [(9, 8), (9, 4), (9, 1), (9, 2), (9, 64), (9, 3)], ids=lambda value: str(value)
)
def test_no_batch_is_left_with_one_photo(surfaces, photos, size):
    tuner = small_tuner(surfaces, batch_size=size)
    batches = tuner._order(1)
    assert sorted(np.concatenate(batches)) == list(range(photos))
    assert min(map(len, batches)) > 1 or size == 1
    assert len(batches) == tuner.steps


def small_tuner(data: Path, **settings: object) -> Finetuner:
    torch.manual_seed(0)
    backbone = find_backbone("mobilenet_v3_small").resized(64)
    network = build_network(backbone, WeightsSource.parse("none", backbone))
    head = torch.nn.Linear(network.head.in_features, 3)
    network.set_head(head.weight, head.bias, ("brick", "grass", "gravel"))
    photos, val = load_training(data)
    chosen = FinetuneSettings(**{"epochs": 1, "batch_size": 8, **settings})
    return Finetuner(network, photos, Validator(val, backbone.resize, ""), chosen, CPU)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"mixup": 0.5, "ema": 0.9}, {"cutmix": 1.0, "average": "swa"}], ids=str)
@pytest.mark.parametrize("size", [1, 2, 8])
def test_every_batch_size_trains_a_network_that_pools_before_it_normalises(surfaces, tmp_path, size, more):
    tuning = FinetuneSettings(epochs=1, batch_size=size, **more)
    settings = TrainSettings(
        arch="timm/mobilenetv4_conv_small", weights="none", recipe="finetune", size=64, device="cpu", finetune=tuning
    )
    assert train(surfaces, tmp_path / "run", settings, silent, print) is not None


# Going on


STORED = TrainSettings(seed=3, finetune=FinetuneSettings(epochs=4, freeze_bn=True))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"arch": "resnet18"}, "--arch resnet18 (it was efficientnet_lite0)"),
        ({"seed": 4}, "--seed 4 (it was 3)"),
        ({"freeze_bn": False}, "--set finetune.freeze_bn=false (it was on)"),
        ({"mirror": True}, "--mirror (it was not given)"),
        ({"teacher": "resnet50"}, "--teacher resnet50 (it was not given)"),
        ({"learning_rate": 0.5, "epochs": 9}, "--learning-rate 0.5"),
        ({"balance": "none"}, "--balance none"),
        ({"size": 64}, "--size 64"),
        ({"val_fraction": 0.5}, "--val-fraction 0.5"),
        ({"recipe": "probe"}, "--recipe probe"),
        ({"batch_size": 2}, "--batch-size 2"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_would_be_another_training_are_refused_by_name(changes, named):
    with pytest.raises(UsageError) as refused:
        further.changed(STORED, changes)
    assert named in str(refused.value)


def test_options_that_make_sense_are_honoured_and_those_that_say_the_same_are_no_change():
    changed = further.changed(STORED, {"epochs": 9, "device": "cpu", "seed": 3, "patience": 2})
    assert (changed.finetune.epochs, changed.finetune.patience, changed.device, changed.seed) == (9, 2, "cpu", 3)
    assert further.changed(STORED, {"seed": 3}) == STORED


TUNED = TrainSettings(
    arch="mobilenet_v3_small",
    weights="none",
    recipe="finetune",
    size=64,
    device="cpu",
    finetune=FinetuneSettings(epochs=1, batch_size=4),
)


def test_a_finished_run_says_so_and_takes_more_epochs(surfaces, tmp_path, capsys):
    folder = tmp_path / "run"
    train(surfaces, folder, TUNED, silent, print)
    for changes, found in (({}, "epochs so far: 1; for more"), ({"epochs": 1}, "--epochs 1 asks for no more")):
        with pytest.raises(UsageError, match="is complete") as refused:
            resume(folder, silent, print, changes)
        assert found in str(refused.value)
    with pytest.raises(UsageError, match="--seed 5"):
        resume(folder, silent, print, {"epochs": 3, "seed": 5})
    before = (folder / "log.txt").read_text().splitlines()
    result = resume(folder, silent, print, {"epochs": 3})
    assert [r["epoch"] for r in run.read_metrics(folder) if r["stage"] == "finetune"] == [1, 2, 3]
    assert (folder / "log.txt").read_text().splitlines()[: len(before)] == before
    assert json.loads((folder / "settings.json").read_text())["finetune"]["epochs"] == 3
    assert "epochs done: 1" in capsys.readouterr().out
    assert result.spec.resize.height == 64
    assert not (folder / "resume.json").exists()


def test_a_finished_probe_has_no_epochs_to_add(surfaces, tmp_path):
    train(surfaces, tmp_path / "run", TrainSettings(recipe="probe", device="cpu", size=64), silent, print)
    with pytest.raises(UsageError, match="fine-tuned nothing"):
        resume(tmp_path / "run", silent, print, {"epochs": 3})


def test_an_interruption_does_not_go_on_with_other_photos(surfaces, tmp_path):
    data, folder = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(surfaces, data)
    folder.mkdir()
    run.begin(folder, str(data), asdict(TUNED), "photos of then")
    with pytest.raises(DataError, match="are others than when"):
        resume(folder, silent, print)


def test_resume_names_what_it_cannot_take(tmp_path):
    result = CliRunner().invoke(cli, ["train", "photos", "--resume", str(tmp_path), "-o", "x"], standalone_mode=False)
    assert "cannot take photos, -o" in str(result.exception)


# Mirrors


def arrows(folder: Path, seed: int = 0) -> Path:
    """Arrows to the left and to the right on plates over blurred noise, in train/ and val/."""
    rng = np.random.default_rng(seed)
    for part, count in (("train", 24), ("val", 2)):
        for label in ("left", "right"):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                canvas = cv2.GaussianBlur(rng.integers(0, 255, (160, 160, 3), np.uint8), (0, 0), 5)
                x, y = (int(v) for v in rng.integers(65, 95, 2))
                cv2.circle(canvas, (x, y), 62, (240, 240, 240), -1)
                tail, head = (x - 42, y), (x + 42, y)
                tail, head = (head, tail) if label == "left" else (tail, head)
                cv2.arrowedLine(canvas, tail, head, (20, 20, 20), 11, tipLength=0.45)
                cv2.imwrite(str(folder / part / label / f"{number}.png"), canvas)
    return folder


def pretrained(size: int = 128):
    backbone = find_backbone("efficientnet_lite0").resized(size)
    return build_network(backbone, WeightsSource.parse("pretrained", backbone))


@pytest.mark.slow
def test_arrows_that_change_places_in_a_mirror_are_found(tmp_path):
    photos = load_training(arrows(tmp_path))[0]
    (pair,) = mirrored_pairs(pretrained(), photos, CPU)
    assert {pair.first, pair.second} == {"left", "right"}
    assert pair.swapped > 0.8 * pair.n


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hymenoptera", "cats-dogs", "pets37"])
def test_photos_without_a_direction_raise_no_alarm(data_dir, name):
    assert mirrored_pairs(pretrained(), load_training(data_dir / name)[0], CPU) == []


def test_chance_raises_no_alarm_and_one_class_alone_is_no_pair():
    labels, targets = [str(i) for i in range(10)], np.arange(200) % 10
    for seed in range(20):
        plain, mirrored = np.random.default_rng(seed).normal(size=(2, 200, 10)).astype(np.float32)
        assert look_alike(plain, mirrored, targets, labels) == []
    right = np.eye(10, dtype=np.float32)[targets]
    swapped = right[:, [1, 0, *range(2, 10)]]
    assert [(p.first, p.second, p.swapped, p.n) for p in look_alike(right, swapped, targets, labels)] == [
        ("0", "1", 40, 40)
    ]
    fallen = np.where(np.isin(targets, [0])[:, None], swapped, right)
    assert look_alike(right, fallen, targets, labels) == []


def test_without_a_mirror_every_view_is_the_same_crop_unmirrored(surfaces):
    paths = load_training(surfaces)[0].paths
    mirrored, plain = (
        Views(Canvases(paths, RULE, CPU), "crop", 0.35, seed=1, mirror=mirror).batch(2, np.arange(9))
        for mirror in (True, False)
    )
    turned = [not torch.equal(a, b) for a, b in zip(mirrored, plain, strict=True)]
    assert any(turned)
    assert not all(turned)
    for a, b, is_turned in zip(mirrored, plain, turned, strict=True):
        assert torch.allclose(a.flip(1) if is_turned else a, b, atol=0.02)


# Processes that wait for each other


def meetings(size: int) -> list[distributed.Meeting]:
    store = dist.HashStore()
    return [distributed.Meeting(store, rank, size) for rank in range(size)]


def test_processes_wait_for_one_that_is_late_and_go_on_together():
    here, late = meetings(2)
    passed = threading.Event()
    waiting = threading.Thread(target=lambda: (here(), passed.set()), daemon=True)
    waiting.start()
    assert not passed.wait(0.5)
    late()
    assert passed.wait(HANGING)
    here.close(), late.close()


def test_a_process_that_fails_or_falls_silent_ends_the_others(monkeypatch):
    here, failing = meetings(2)
    failing.fail()
    with pytest.raises(PeerFailed, match="process 1 of the training has failed") as told:
        here()
    assert told.value.told
    here.close(), failing.close()
    monkeypatch.setattr(distributed, "LOST", 0.3)
    here, silenced = meetings(2)
    silenced.close()
    with pytest.raises(PeerFailed, match="no sign of life") as untold:
        here()
    assert not untold.value.told
    here.close()


# Refused before time is spent


def refused(data: Path, folder: Path, **settings: object) -> str:
    """The error; nothing may have been computed, so no line about features may have been said."""
    said: list[str] = []
    with pytest.raises((UsageError, DataError)) as error:
        train(data, folder, TrainSettings(device="cpu", size=64, **settings), silent, said.append)
    assert not [line for line in said if "features" in line]
    return str(error.value)


def test_photos_that_cannot_serve_are_refused_at_once(surfaces, tmp_path):
    for part in ("train", "val"):
        data = tmp_path / part
        shutil.copytree(surfaces, data)
        for path in (data / part / "grass").iterdir():
            path.write_bytes(b"\xff\xd8\xff cut off")
        assert f"no photo of class 'grass' in the {part} part" in refused(data, tmp_path / "run")
    assert "unlabelled" in refused(
        surfaces, tmp_path / "run", unlabelled=str(tmp_path / "unlabelled"), teacher="resnet18"
    )


def test_a_teacher_of_other_classes_is_refused_at_once(surfaces, tmp_path):
    data = tmp_path / "photos"
    shutil.copytree(surfaces, data)
    train(surfaces, tmp_path / "teacher", TrainSettings(recipe="probe", device="cpu", size=64), silent, print)
    for part in ("train", "val"):
        (data / part / "grass").rename(data / part / "moss")
    assert "does not know the class 'moss'" in refused(data, tmp_path / "run", teacher=str(tmp_path / "teacher"))


def test_settings_that_contradict_each_other_are_refused_by_name(surfaces, tmp_path):
    tuning = FinetuneSettings(epochs=3, mixup=0.2)
    found = refused(surfaces, tmp_path / "run", recipe="probe", finetune=tuning)
    assert "--epochs, --set finetune.mixup" in found
    assert "seed" in refused(surfaces, tmp_path / "run", seed=-1)
    assert not (tmp_path / "run").exists()


def test_the_output_is_looked_at_before_photos_are_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_TL_DATA_MIRROR", "http://127.0.0.1:9")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        train("cats-dogs", tmp_path / "file", TrainSettings(device="cpu"), silent, print)


def test_a_disk_too_small_for_the_run_is_said_before_anything_is_computed(surfaces, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1_000_000))
    said: list[str] = []
    with pytest.raises(OutputError, match=r"needs up to \d+ MB below .* where 1 MB are free"):
        train(surfaces, tmp_path / "run", TUNED, silent, said.append)
    assert [line for line in said if not line.startswith("photos: ")] == []


def test_a_batch_larger_than_the_photos_is_said(surfaces, tmp_path):
    said: list[str] = []
    settings = replace(TUNED, finetune=FinetuneSettings(epochs=1, batch_size=64))
    train(surfaces, tmp_path / "run", settings, silent, said.append)
    assert any("a batch of 64 holds all 9 photos" in line for line in said)
