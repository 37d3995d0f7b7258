"""Fine-tuning: views, mixing and schedules by hand, resumption bit for bit, two processes as one."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stopwatch import HANGING

from edge_tl.cli.console import silent
from edge_tl.data.surfaces import write_surfaces
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training.finetune.choices import default_epochs
from edge_tl.training.finetune.crops import Canvases, Views, sample
from edge_tl.training.finetune.distill import Teacher
from edge_tl.training.finetune.finetune import Finetuner
from edge_tl.training.finetune.mixing import UNLABELLED, Targets, hard_loss, mix, taught_loss
from edge_tl.training.finetune.optimize import blend, make_optimizer, rate_factor, snapshot
from edge_tl.training.run_folder import load_run, read_metrics
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.train import resume, train
from edge_tl.training.validation import Validator
from edge_tl_runtime.core.errors import DataError, EdgeTLError, UsageError
from edge_tl_runtime.core.settings import check as check_settings
from edge_tl_runtime.images.datasets.dataset import load_training
from edge_tl_runtime.modelfile.spec import ResizeRule

CPU = torch.device("cpu")
RULE = ResizeRule(height=64, width=64, crop_pct=1.0, resample="area-cubic")
SMALL = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> Path:
    return write_surfaces(tmp_path_factory.mktemp("surfaces"), train=8, val=4)


def small_network(size: int = 64):
    torch.manual_seed(0)
    backbone = find_backbone(SMALL).resized(size)
    network = build_network(backbone, WeightsSource.parse("none", backbone))
    head = torch.nn.Linear(network.head.in_features, 3)
    network.set_head(head.weight, head.bias, ("brick", "grass", "gravel"))
    return network


def tuner(surfaces, seed=0, network=None, **settings) -> Finetuner:
    train_photos, val = load_training(surfaces)
    network = network or small_network()
    settings = FinetuneSettings(**{"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **settings})
    return Finetuner(network, train_photos, Validator(val, network.backbone.resize, ""), settings, CPU, seed=seed)


def weights(tuner: Finetuner) -> dict[str, torch.Tensor]:
    return snapshot(tuner.network)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


# Views


def test_a_box_is_cut_as_opencv_cuts_it():
    rng = np.random.default_rng(0)
    canvas = cv2.GaussianBlur(rng.integers(0, 255, (90, 90, 3), np.uint8), (0, 0), 3)
    boxes = torch.tensor([[0.1, 0.2, 0.1 + 64 / 90, 0.2 + 64 / 90]])
    left, top = 0.1 * 90, 0.2 * 90
    shift = np.float32([[1, 0, -left], [0, 1, -top]])
    expected = cv2.warpAffine(canvas, shift, (64, 64), flags=cv2.INTER_LINEAR).astype(np.float32)
    ours = sample(torch.from_numpy(canvas[None]), boxes, RULE)[0].numpy()
    assert np.abs(ours - expected)[1:-1, 1:-1].max() < 1.5
    mirrored = sample(torch.from_numpy(canvas[None]), boxes[:, [2, 1, 0, 3]], RULE)[0].numpy()
    np.testing.assert_allclose(mirrored, ours[:, ::-1], atol=0.02)


def test_views_depend_on_seed_epoch_and_photo_alone(surfaces):
    paths = load_training(surfaces)[0].paths
    for policy in ("crop", "trivial", "rand"):
        forth = Views(Canvases(paths, RULE, CPU), policy, 0.35, seed=1)
        back = Views(Canvases(paths, RULE, CPU), policy, 0.35, seed=1)
        order = np.arange(6)
        one, other = forth.batch(3, order), back.batch(3, order[::-1].copy())
        assert torch.equal(one, other.flip(0))
        assert not torch.equal(one, forth.batch(4, order))


def test_a_prefetched_batch_is_the_batch(surfaces):
    paths = load_training(surfaces)[0].paths
    canvases, plain = Canvases(paths, RULE, CPU), Canvases(paths, RULE, CPU)
    canvases.prefetch(np.array([3, 1]))
    assert torch.equal(canvases.batch(np.array([3, 1])), plain.batch(np.array([3, 1])))


def test_photos_beyond_the_memory_share_are_decoded_each_time(surfaces, monkeypatch):
    paths = load_training(surfaces)[0].paths
    roomy = Canvases(paths, RULE, CPU)
    monkeypatch.setattr("edge_tl.training.finetune.crops._memory", lambda: 4 * 3 * roomy.side**2 * 3)
    tight = Canvases(paths, RULE, CPU)
    assert len(tight._kept) == 3
    places = np.arange(len(paths))
    for _ in range(2):
        assert torch.equal(tight.batch(places), roomy.batch(places))


def test_a_photo_that_vanished_is_named(surfaces):
    canvases = Canvases([*load_training(surfaces)[0].paths[:1], Path("gone.jpg")], RULE, CPU)
    with pytest.raises(DataError, match=r"gone\.jpg could be read before"):
        canvases.batch(np.array([0, 1]))


# Losses, schedules and averages against formulas by hand


@given(st.floats(0.01, 0.5), st.integers(1, 300))
def test_the_rate_rises_and_falls(warmup, steps):
    factors = [rate_factor(step, steps, warmup) for step in range(steps)]
    assert max(factors) == pytest.approx(1.0)
    peak = factors.index(max(factors))
    assert all(a <= b for a, b in itertools.pairwise(factors[: peak + 1]))
    assert all(a >= b for a, b in itertools.pairwise(factors[peak:]))
    assert all(0 < factor <= 1 for factor in factors)


def test_losses_are_what_numpy_says():
    rng = np.random.default_rng(0)
    logits, taught = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(5, 4)).astype(np.float32)
    first, second, share, smoothing = np.array([0, 1, 2, 3, 0]), np.array([1, 1, 0, 2, 3]), 0.3, 0.1

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    hot = share * np.eye(4)[first] + (1 - share) * np.eye(4)[second]
    expected = -((1 - smoothing) * hot + smoothing / 4) * log_softmax(logits)
    targets = Targets(torch.from_numpy(first), torch.from_numpy(second), share)
    ours = hard_loss(torch.from_numpy(logits), targets, smoothing, None)
    assert float(ours) == pytest.approx(expected.sum(), rel=1e-5)
    p, q = log_softmax(taught / 2), log_softmax(logits / 2)
    divergence = 4 * (np.exp(p) * (p - q)).sum()
    assert float(taught_loss(torch.from_numpy(logits), torch.from_numpy(taught), 2.0)) == pytest.approx(
        divergence, rel=1e-5
    )
    unlabelled = torch.full((5,), UNLABELLED)
    assert float(hard_loss(torch.from_numpy(logits), Targets(unlabelled, unlabelled), smoothing, None)) == 0.0


@pytest.mark.parametrize("method", ["mixup", "cutmix"])
def test_mixing_shares_pixels_as_it_shares_labels(method):
    views = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 32, 32, 3).contiguous()
    labels = torch.arange(4)
    mixed, targets = mix(views, labels, float(method == "mixup"), float(method == "cutmix"), np.random.default_rng(3))
    expected = targets.share * targets.first + (1 - targets.share) * targets.second
    torch.testing.assert_close(mixed.mean((1, 2, 3)), expected.float(), atol=1e-4, rtol=1e-4)
    assert 0 < targets.share < 1


def test_norms_and_biases_do_not_decay_and_depth_sets_the_rate():
    network = small_network()
    optimizer = make_optimizer(
        network, FinetuneSettings(layer_decay=0.5, head_rate=3.0, learning_rate=1.0, weight_decay=0.01)
    )
    place = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    named = dict(network.module.named_parameters())
    assert {id(p) for p in named.values()} == set(place)
    for name, parameter in named.items():
        group = place[id(parameter)]
        assert (group["weight_decay"] > 0) == (parameter.ndim > 1)
        if name.startswith(network.head_path):
            assert group["peak"] == 3.0
    first = next(iter(named.values()))
    assert place[id(first)]["peak"] == pytest.approx(0.5, rel=0.02)


def test_blending_meets_its_ends():
    one, other = snapshot(small_network()), snapshot(small_network())
    other = {name: t + 1 if t.is_floating_point() else t for name, t in other.items()}
    assert same(blend(one, other, 0.0), one)
    half = blend(one, other, 0.5)
    assert all(torch.allclose(half[n], t + 0.5, atol=1e-6) for n, t in one.items() if t.is_floating_point())


def test_settings_out_of_bounds_are_refused():
    for changed in ({"optimizer": "lion"}, {"label_smoothing": 1.5}, {"batch_size": 0}):
        with pytest.raises(UsageError, match=next(iter(changed))):
            check_settings(TrainSettings(finetune=FinetuneSettings(**changed)))
    check_settings(TrainSettings())
    assert TrainSettings.from_dict(dataclasses.asdict(TrainSettings())) == TrainSettings()
    with pytest.raises(UsageError, match="another release"):
        TrainSettings.from_dict({"no_such": 1})


@given(st.integers(1, 100000))
def test_fewer_photos_are_seen_more_often(photos):
    assert 4 <= default_epochs(photos) <= 6
    assert default_epochs(photos) >= default_epochs(photos + 1000)


# Training


def test_every_option_trains(surfaces):
    cases = [
        {"optimizer": "sgd", "clip": 0.0},
        {"mixup": 0.2, "cutmix": 1.0, "ema": 0.9},
        {"balance": "weights", "dropout": 0.3, "augment": "none"},
        {"balance": "sampling", "average": "swa", "freeze_bn": False},
        {"head_epochs": 1, "head_init": "random", "epochs": 1},
        {"precision": "bf16", "augment": "trivial", "min_area": 1.0},
    ]
    for settings in cases:
        trained = tuner(surfaces, **settings)
        start = weights(trained)
        epochs = list(trained.epochs())
        assert len(epochs) == trained.total
        assert all(np.isfinite(epoch.loss) for epoch in epochs)
        assert not same(start, weights(trained))
        assert trained.candidates()


def test_the_first_phase_trains_the_head_alone(surfaces):
    trained = tuner(surfaces, head_epochs=1, epochs=1)
    start = weights(trained)
    next(trained.epochs())
    changed = {name for name, tensor in weights(trained).items() if not torch.equal(tensor, start[name])}
    assert changed == {f"{trained.network.head_path}.weight", f"{trained.network.head_path}.bias"}


def test_frozen_statistics_stay(surfaces):
    for freeze in (True, False):
        trained = tuner(surfaces, epochs=1, freeze_bn=freeze)
        before = weights(trained)
        list(trained.epochs())
        moved = any(not torch.equal(t, before[n]) for n, t in weights(trained).items() if "running_mean" in n)
        assert moved == (not freeze)


def test_each_photo_is_seen_once_an_epoch(surfaces):
    trained = tuner(surfaces)
    for number in (1, 2):
        seen = np.concatenate(trained._order(number))
        assert sorted(seen) == list(range(len(trained.targets)))
    assert not np.array_equal(np.concatenate(trained._order(1)), np.concatenate(trained._order(2)))


def test_balanced_sampling_evens_classes(surfaces):
    trained = tuner(surfaces, balance="sampling")
    trained.targets = np.array([0] * 900 + [1] * 90 + [2] * 10)
    counts = np.bincount(trained.targets[np.concatenate(trained._order(1))])
    assert counts.min() > 250


def test_patience_ends_the_training(surfaces):
    trained = tuner(surfaces, epochs=50, patience=1, learning_rate=1e-9)
    trained._best_loss = -1.0
    assert len(list(trained.epochs())) == 1


def test_the_rate_search_leaves_a_curve_and_a_sane_rate(surfaces):
    curve = tuner(surfaces, learning_rate=1.0, epochs=1).range_test()
    assert len(curve.points) >= 10
    assert 1e-7 <= curve.suggestion <= 0.1


def test_a_restored_training_ends_with_the_same_weights(surfaces):
    whole = tuner(surfaces, epochs=3, dropout=0.2, ema=0.9, mixup=0.2)
    list(whole.epochs())
    first = tuner(surfaces, epochs=3, dropout=0.2, ema=0.9, mixup=0.2)
    next(first.epochs())
    torch.manual_seed(99)  # another process has another generator
    second = tuner(surfaces, epochs=3, dropout=0.2, ema=0.9, mixup=0.2)
    second.restore(torch.load(io.BytesIO(first.state()), weights_only=True))
    list(second.epochs())
    assert same(weights(whole), weights(second))
    assert same(whole.candidates()[-1].state, second.candidates()[-1].state)


def test_a_student_learns_its_teachers_answers(surfaces):
    train_photos, val = load_training(surfaces)
    torch.manual_seed(5)
    other = small_network()
    teacher = Teacher(other, CPU, [0, 1, 2])
    student = small_network()
    with torch.no_grad():
        student.head.weight.mul_(0.1)
    judge = Validator(val, student.backbone.resize, "")
    settings = FinetuneSettings(
        epochs=3, batch_size=8, learning_rate=2e-3, distill_weight=1.0, head_rate=5.0, average="last"
    )
    trained = Finetuner(student, train_photos, judge, settings, CPU, teacher=teacher, unlabelled=train_photos)
    losses = [epoch.loss for epoch in trained.epochs()]
    assert losses[-1] < 0.7 * losses[0]
    assert len(trained.targets) == 2 * len(train_photos)


# Whole trainings, interrupted and spread over processes

ARGUMENTS = ["--recipe", "finetune", "--size", "64", "--set", "finetune.average=last"]
ARGUMENTS += ["--set", "finetune.label_smoothing=0", "--batch-size", "8", "--device", "cpu"]


def start(*arguments: str, launcher: tuple[str, ...] = ("-m",)) -> subprocess.Popen:
    command = [sys.executable, *launcher, "edge_tl", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finished(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=20 * HANGING)
    assert process.returncode == 0, output
    return output


def await_epoch(process: subprocess.Popen, checkpoint: Path) -> None:
    """Until an epoch more is kept, or the process has ended: on a busy machine too, a kill then falls into training."""

    def kept() -> int:
        try:
            return checkpoint.stat().st_mtime_ns
        except OSError:
            return 0

    before, limit = kept(), time.monotonic() + 20 * HANGING
    while kept() == before and process.poll() is None:
        assert time.monotonic() < limit, "no epoch is done"
        time.sleep(0.01)


@pytest.mark.slow
def test_kills_at_any_moment_change_nothing(surfaces, tmp_path):
    finished(start("train", str(surfaces), "-o", str(tmp_path / "whole"), *ARGUMENTS, "--epochs", "24"))
    chance = random.Random(0)
    process = start("train", str(surfaces), "-o", str(tmp_path / "cut"), *ARGUMENTS, "--epochs", "24")
    kills, interrupted = 0, 0
    while kills < 6:
        if kills:
            await_epoch(process, tmp_path / "cut" / "checkpoint.pt")
        time.sleep(chance.uniform(0.0, 0.5 if kills else 4.0))
        if process.poll() is not None and process.returncode == 0:
            break
        process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        output = process.communicate()[0]
        begun = (tmp_path / "cut" / "resume.json").exists()
        assert not begun or "Traceback" not in output
        if not begun and (tmp_path / "cut" / "model.safetensors").exists():
            break
        kills += 1
        interrupted += begun
        arguments = (
            ["--resume", str(tmp_path / "cut")] if begun else [str(surfaces), "-o", str(tmp_path / "cut"), *ARGUMENTS]
        )
        process = start("train", *arguments, *([] if begun else ["--epochs", "24"]))
    if process.returncode is None:
        finished(process)
    assert kills >= 2
    assert interrupted >= 2
    whole, cut = (load_run(tmp_path / name).network.module.state_dict() for name in ("whole", "cut"))
    assert same(whole, cut)
    epochs = [r["epoch"] for r in read_metrics(tmp_path / "cut") if r["stage"] == "finetune"]
    assert epochs == list(range(1, 25))
    left = {path.name for path in (tmp_path / "cut").iterdir()}
    assert not left & {"resume.json", "checkpoint.pt"}
    assert not [name for name in left if name.endswith(".partial")]


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(surfaces, tmp_path):
    both = (*ARGUMENTS, "--epochs", "3", "--set", "finetune.dropout=0")
    finished(start("train", str(surfaces), "-o", str(tmp_path / "one"), *both))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    output = finished(start("train", str(surfaces), "-o", str(tmp_path / "two"), *both, launcher=launcher))
    assert output.count("next: edge-tl export") == 1
    one, two = ([r for r in read_metrics(tmp_path / name) if r["stage"] == "finetune"] for name in ("one", "two"))
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], rel=2e-3)
    assert [r["val_loss"] for r in two] == pytest.approx([r["val_loss"] for r in one], rel=2e-2)
    assert json.loads((tmp_path / "two" / "settings.json").read_text())["processes"] == 2


def test_there_is_nothing_to_resume(surfaces, tmp_path):
    with pytest.raises(UsageError, match="holds no interrupted training"):
        resume(tmp_path, silent, print)
    train(surfaces, tmp_path / "run", TrainSettings(recipe="probe", device="cpu"), silent, print)
    with pytest.raises(UsageError, match="is complete"):
        resume(tmp_path / "run", silent, print)


def test_a_teacher_needs_fine_tuning_and_unlabelled_photos_a_teacher(surfaces, tmp_path):
    for settings in (TrainSettings(recipe="probe", teacher="resnet50"), TrainSettings(unlabelled="x")):
        with pytest.raises(UsageError, match="teacher"):
            train(surfaces, tmp_path, settings, silent, print)
    assert not list(tmp_path.iterdir())


def test_test_photos_choose_nothing_and_are_judged_once(surfaces, tmp_path):
    settings = TrainSettings(recipe="probe", device="cpu", test="0.25")
    result = train(surfaces, tmp_path / "run", settings, silent, print)
    assert result.test.n == 6
    assert result.photos == (18, 12)
    assert load_run(tmp_path / "run").spec.training["test"]["n"] == 6
    plain = train(surfaces, tmp_path / "plain", TrainSettings(recipe="probe", device="cpu"), silent, print)
    assert plain.test is None


def test_a_full_disk_stops_in_one_line_and_keeps_the_last_checkpoint(surfaces, tmp_path, monkeypatch):
    from edge_tl.training import run_folder as runs
    from edge_tl_runtime.core.errors import OutputError
    from edge_tl_runtime.core.files import write_bytes

    written = []

    def fill_up(target: Path, data: bytes) -> None:
        if target.name == "checkpoint.pt" and written:
            raise OutputError(f"cannot write {target}: No space left on device; free some space and try again")
        write_bytes(target, data)
        written.append(target.name) if target.name == "checkpoint.pt" else None

    monkeypatch.setattr(runs, "write_bytes", fill_up)
    tuning = FinetuneSettings(epochs=3, batch_size=8)
    settings = TrainSettings(arch=SMALL, weights="none", recipe="finetune", size=64, device="cpu", finetune=tuning)
    with pytest.raises(OutputError, match="No space left"):
        train(surfaces, tmp_path / "run", settings, silent, print)
    monkeypatch.undo()
    assert runs.read_checkpoint(tmp_path / "run")["epoch"] == 1
    assert resume(tmp_path / "run", silent, print) is not None


def test_a_loss_that_is_no_number_ends_it_in_one_line(surfaces):
    with pytest.raises(EdgeTLError, match=r"diverged in epoch 1.*--learning-rate"):
        list(tuner(surfaces, learning_rate=1e30, clip=0.0, warmup=0.0).epochs())
