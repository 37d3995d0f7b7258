"""Adversarial training: steps by hand, the ball, the guard, resumption; noise and blur against NumPy and OpenCV."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_tl.cli.console import silent
from edge_tl.data.surfaces import write_surfaces
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training.finetune.adversarial_training import (
    Robust,
    RobustValidator,
    collapsed,
    kept_statistics,
    perturb,
    random_start,
)
from edge_tl.training.finetune.augment_noise import BLUR, NOISE, blur, disturb
from edge_tl.training.finetune.crops import Canvases, Views
from edge_tl.training.finetune.finetune import Finetuner
from edge_tl.training.finetune.optimize import snapshot
from edge_tl.training.run_folder import read_metrics
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.train import train
from edge_tl.training.validation import Validator
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.datasets.dataset import load_training

CPU = torch.device("cpu")
SMALL = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
    return write_surfaces(tmp_path_factory.mktemp("surfaces"), train=4, val=3)


def lively(module: torch.nn.Module) -> None:
    """Batch statistics of noise: with those of a new network nothing of the pixels would reach the scores."""
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = 1.0
    with torch.no_grad():
        module.train()(torch.randn(16, 3, 32, 32))


def tuner(surfaces, network=None, **settings) -> Finetuner:
    torch.manual_seed(0)
    backbone = find_backbone(SMALL).resized(32)
    if network is None:
        network = build_network(backbone, WeightsSource.parse("none", backbone))
        head = torch.nn.Linear(network.head.in_features, 3)
        network.set_head(head.weight, head.bias, ("brick", "grass", "gravel"))
        lively(network.module)
    train_photos, val = load_training(surfaces)
    chosen = {"epochs": 3, "batch_size": 6, "learning_rate": 1e-3, "adversarial": "fgsm", **settings}
    return Finetuner(
        network, train_photos, Validator(val, backbone.resize, ""), FinetuneSettings(**chosen), CPU, seed=1
    )


def same(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


# The attack


@given(eps=st.floats(0, 16), steps=st.integers(0, 4), relative=st.floats(0.1, 3), seed=st.integers(0, 1000))
def test_views_stay_in_the_ball_and_among_pixel_values(eps, steps, relative, seed):
    rng = np.random.default_rng(seed)
    clean = torch.from_numpy(rng.choice([0.0, 1.0, 128.0, 255.0], (2, 5, 4, 3)).astype(np.float32))
    loss_and_gradient = torch.from_numpy(rng.normal(size=clean.shape).astype(np.float32))
    views = perturb(
        lambda pixels: (pixels * loss_and_gradient).sum(),
        clean,
        random_start(clean, eps, rng),
        eps,
        steps,
        relative * eps,
    )
    assert (views - clean).abs().max() <= eps + 1e-4
    assert views.min() >= 0
    assert views.max() <= 255


def test_a_step_is_the_one_of_a_linear_model_by_hand():
    """The loss log(1 + exp(-w.x)) falls along w, so the attack goes against the signs of w whatever x is."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    weights[0, 0] = 0
    clean = rng.uniform(0, 255, (1, 4, 4, 3)).astype(np.float32)
    start = clean + rng.uniform(-2, 2, clean.shape).astype(np.float32)
    w = torch.from_numpy(weights)
    views = perturb(
        lambda pixels: torch.nn.functional.softplus(-(0.01 * w * pixels).sum()),
        torch.from_numpy(clean), torch.from_numpy(start), 2.0, 1, 2.5,
    )  # fmt: skip
    expected = np.clip(np.clip(np.clip(start, 0, 255) - 2.5 * np.sign(weights), clean - 2, clean + 2), 0, 255)
    np.testing.assert_allclose(views.numpy(), expected, atol=1e-4)


def test_more_steps_climb_higher_and_no_parameter_gets_a_gradient(surfaces):
    tuned = tuner(surfaces)
    model = tuned._model.eval()
    clean = tuned.views.batch(1, np.arange(6))
    labels = torch.from_numpy(tuned.targets[:6])

    def loss(pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(pixels), labels, reduction="sum")

    losses = [float(loss(perturb(loss, clean, clean.clone(), 8.0, steps, 0.02)).detach()) for steps in (0, 1, 4)]
    assert losses[0] < losses[1] < losses[2]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_random_starts_are_even_over_the_ball():
    clean = torch.full((4, 64, 64, 3), 100.0)
    drawn = (random_start(clean, 3.0, np.random.default_rng(0)) - clean).numpy()
    assert np.abs(drawn).max() <= 3.0
    assert abs(drawn.mean()) < 0.05
    assert drawn.std() == pytest.approx(6 / np.sqrt(12), rel=0.02)


def test_an_attack_leaves_batch_statistics_alone_even_while_they_are_learnt(surfaces):
    tuned = tuner(surfaces, freeze_bn=False)
    tuned._prepare(head_only=False)
    before = snapshot(tuned.network)
    views = tuned.views.batch(1, np.arange(6))
    tuned._attacked(views, np.arange(6), 1.0, np.random.default_rng(0))
    assert same(before, snapshot(tuned.network))
    layers = [m for m in tuned._model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(layer.training for layer in layers)
    with kept_statistics(tuned._model):
        assert not any(layer.training for layer in layers)


def test_eps_rises_over_the_first_half(surfaces, monkeypatch):
    tuned = tuner(surfaces)
    strengths = []
    attack = tuned.hardening.attack

    def listen(views, labels, strength, rng, arithmetic):
        strengths.append(strength)
        moved = attack(views, labels, strength, rng, arithmetic)
        assert 0 < (moved - views).abs().max() <= strength * 2.0 + 1e-4
        return moved

    monkeypatch.setattr(tuned.hardening, "attack", listen)
    list(tuned.epochs())
    assert strengths == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1])


# The watch


def right(correct: int, fgsm: int) -> Robust:
    return Robust(n=64, steps=10, correct=correct, loss=1.0, fgsm=fgsm)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (right(2, 44), True),
        (right(2, 60), True),
        (right(30, 36), False),  # both wobble
        (right(5, 8), False),  # both fall: a bad epoch, not a blind step
        (right(22, 42), False),  # less than half is lost
    ],
)
def test_a_collapse_is_pgd_falling_where_fgsm_stays(now, expected):
    assert collapsed(now, right(40, 42)) is expected
    assert not collapsed(right(0, 60), right(6, 50))


def plant(tuned: Finetuner, monkeypatch, *figures: Robust) -> None:
    coming = iter(figures)
    monkeypatch.setattr(tuned.hardening.robust, "watch", lambda: next(coming))


def test_a_collapse_brings_the_healthy_weights_back_and_pgd(surfaces, monkeypatch):
    tuned = tuner(surfaces, ema=0.9)
    plant(tuned, monkeypatch, right(40, 42), right(1, 50), right(41, 43))
    epochs = tuned.epochs()
    first = next(epochs)
    healthy = snapshot(tuned.network)
    second = next(epochs)
    assert same(healthy, snapshot(tuned.network))
    assert same({n: t for n, t in healthy.items() if n in tuned._ema}, tuned._ema)
    assert not tuned._optimizer.state
    assert (first.note, second.robust) == ("", first.robust)
    assert "back to the weights of the epoch before, on with PGD-3" in second.note
    assert second.val_loss == pytest.approx(first.val_loss)
    again = tuner(surfaces, ema=0.9)
    again.restore(torch.load(io.BytesIO(tuned.state()), weights_only=True))
    assert again.hardening.method == "pgd"
    assert again.hardening.notes == [second.note]
    plant(again, monkeypatch, right(41, 43))
    third = list(again.epochs())
    next(epochs)
    assert len(third) == 1
    assert same(snapshot(tuned.network), snapshot(again.network))
    assert not same(healthy, snapshot(again.network))


def test_the_healthy_weights_survive_an_interruption(surfaces, monkeypatch):
    tuned = tuner(surfaces)
    plant(tuned, monkeypatch, right(40, 42))
    next(tuned.epochs())
    healthy = snapshot(tuned.network)
    again = tuner(surfaces)
    again.restore(torch.load(io.BytesIO(tuned.state()), weights_only=True))
    plant(again, monkeypatch, right(1, 50))
    assert next(again.epochs()).note
    assert same(healthy, snapshot(again.network))


@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_a_restored_training_ends_with_the_same_weights(surfaces, method):
    asked = {"adversarial": method, "adversarial_steps": 2, "disturb": "both", "epochs": 2}
    whole, first, second = (tuner(surfaces, **asked) for _ in range(3))
    figures = list(whole.epochs())
    next(first.epochs())
    second.restore(torch.load(io.BytesIO(first.state()), weights_only=True))
    torch.manual_seed(99)
    assert next(second.epochs()).robust == figures[1].robust
    assert same(snapshot(whole.network), snapshot(second.network))


def test_the_judge_counts_as_numpy_does_without_an_attack(surfaces):
    tuned = tuner(surfaces)
    robust = RobustValidator(tuned._model, tuned.evaluator, 0.0, CPU, 0).choose()
    evaluation, loss = tuned.evaluator(tuned.infer)
    assert (robust.n, robust.correct) == (evaluation.n, evaluation.correct)
    assert robust.loss == pytest.approx(loss, rel=1e-4)
    assert RobustValidator(tuned._model, tuned.evaluator, 8.0, CPU, 0).choose().loss > loss


def test_patience_listens_to_the_loss_under_attack(surfaces, monkeypatch):
    tuned = tuner(surfaces, epochs=9, patience=1)
    plant(tuned, monkeypatch, right(40, 42), right(40, 42), right(40, 42))
    assert len(list(tuned.epochs())) == 2


# Whole trainings


@pytest.mark.parametrize(
    "asked",
    [
        {"recipe": "probe"},
        {"teacher": "resnet50"},
        {"mixup": 0.2},
        {"cutmix": 1.0},
        {"eps": -1.0},
        {"adversarial_steps": 0},
        {"adversarial": "trades"},
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(surfaces, tmp_path, asked):
    tuning = {"adversarial": "fgsm"} | {k: v for k, v in asked.items() if k not in ("recipe", "teacher")}
    outer = {k: v for k, v in asked.items() if k in ("recipe", "teacher")}
    with pytest.raises(UsageError, match=r"eps|adversarial"):
        train(surfaces, tmp_path, TrainSettings(**outer, finetune=FinetuneSettings(**tuning)), silent, print)
    assert not list(tmp_path.iterdir())


def test_a_run_tells_how_robust_it_is_and_auto_fine_tunes(surfaces, tmp_path):
    lines: list[str] = []
    tuning = FinetuneSettings(epochs=2, batch_size=6, adversarial="fgsm", eps=1.0)
    settings = TrainSettings(arch=SMALL, weights="none", size=32, device="cpu", finetune=tuning)
    train(surfaces, tmp_path / "run", settings, silent, lines.append)
    records = read_metrics(tmp_path / "run")
    epochs = [r for r in records if r["stage"] == "finetune"]
    assert [r["robust_n"] for r in epochs] == [9, 9]
    assert all(0 <= r["robust_top1"] <= 1 and "fgsm_top1" in r for r in epochs)
    candidates = [r for r in records if r["stage"] == "candidate"]
    spec = json.loads((tmp_path / "run" / "spec.json").read_text())["training"]
    kept = min(candidates, key=lambda r: r["robust_loss"])["name"]
    assert spec["best"] == kept
    assert "every weight is trained" in spec["decisions"][0]
    told = spec["hardening"]
    assert (told["adversarial"], told["eps"], told["attack"], told["robust_n"]) == ("fgsm", 1.0, "PGD-10", 9)
    assert any("under PGD-10" in line for line in lines)
    assert any("choosing by the validation loss under PGD-5" in line for line in lines)


@pytest.mark.slow
def test_hardening_withstands_what_plain_training_does_not(surfaces):
    figures = {}
    for method in ("none", "pgd"):
        tuned = tuner(surfaces, adversarial=method, eps=6.0, epochs=40, learning_rate=2e-3, adversarial_steps=3)
        list(tuned.epochs())
        figures[method] = RobustValidator(tuned._model, tuned.evaluator, 6.0, CPU, 0).choose(10)
    assert figures["pgd"].loss < 0.7 * figures["none"].loss


# Noise and blur


def test_noise_has_the_strength_that_was_drawn():
    views = torch.full((3, 128, 128, 3), 127.0)
    noisy = disturb(views, "noise", [np.random.default_rng(i) for i in range(3)]).numpy()
    for place, view in enumerate(noisy):
        expected = np.random.default_rng(place).uniform() * NOISE
        assert view.std() == pytest.approx(expected, rel=0.02)
        assert abs(view.mean() - 127) < 1
    dark = disturb(torch.zeros(1, 32, 32, 3), "noise", [np.random.default_rng(0)])
    assert dark.min() == 0
    assert dark.max() > 0


def test_blur_is_opencvs():
    rng = np.random.default_rng(0)
    views = rng.uniform(0, 255, (3, 40, 60, 3)).astype(np.float32)
    sigmas = np.asarray([0.0, 0.8, 2.0], np.float32)
    ours = blur(torch.from_numpy(views), sigmas).numpy()
    np.testing.assert_allclose(ours[0], views[0], atol=1e-3)
    for place in (1, 2):
        expected = cv2.GaussianBlur(views[place], (13, 13), float(sigmas[place]), borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(ours[place], expected, atol=0.05)


def test_both_blur_before_they_add_noise():
    rng = np.random.default_rng(1)
    views = torch.from_numpy(rng.uniform(50, 200, (1, 100, 100, 3)).astype(np.float32))
    both = disturb(views, "both", [np.random.default_rng(5)])
    drawn = np.random.default_rng(5)
    lens = blur(views, np.asarray([drawn.uniform() * BLUR * 100], np.float32))
    sensor = drawn.uniform() * NOISE
    assert float((both - lens).std()) == pytest.approx(sensor, rel=0.03)


@pytest.mark.parametrize("kind", ["noise", "blur", "both"])
def test_disturbed_views_depend_on_seed_epoch_and_photo_alone(surfaces, kind):
    rule = find_backbone(SMALL).resized(32).resize
    paths = load_training(surfaces)[0].paths
    plain, forth = (
        Views(Canvases(paths, rule, CPU), "crop", 0.35, 1),
        Views(Canvases(paths, rule, CPU), "crop", 0.35, 1, kind),
    )
    order = np.arange(5)
    torch.testing.assert_close(forth.batch(3, order), forth.batch(3, order[::-1].copy()).flip(0), atol=1e-3, rtol=0)
    moved = [(forth.batch(e, order) - plain.batch(e, order)).abs().mean() for e in (3, 4)]
    assert min(moved) > 0.005
    assert moved[0] != moved[1]
