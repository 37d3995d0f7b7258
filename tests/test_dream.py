"""Dreams: they climb, the file's own verdict on the written picture is what is reported, and a seed repeats them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from schema_checks import assert_fits

from edge_tl.adversarial.dreams.dream import DreamSettings, dream, total_variation
from edge_tl.cli.dream import command
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier

SHORT = DreamSettings(steps=40, learning_rate=0.05, frames=5, device="cpu")


@pytest.fixture
def made(color_model):
    classifier = Classifier(color_model)
    graph = DifferentiableGraph(color_model.read_bytes())
    return lambda settings, index=0: dream(graph, classifier.logits, classifier.spec, index, settings)


def test_total_variation_is_what_numpy_counts():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.float64)
    total = 0.0
    for y in range(5):
        for x in range(7):
            for ny, nx in ((y, x + 1), (y + 1, x)):
                if ny < 5 and nx < 7:
                    total += (((pixels[ny, nx] - pixels[y, x]) / 255) ** 2).sum()
    assert float(total_variation(torch.from_numpy(pixels))) == pytest.approx(total / pixels.size)


@pytest.mark.parametrize("basis", ["fourier", "pixels"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_dream_climbs_to_its_class(made, basis, index):
    found = made(DreamSettings(steps=40, learning_rate=0.05, frames=5, basis=basis, l2=0.0), index)
    assert found.evaluated.logit > found.start.logit + 1
    if basis == "pixels":  # the other moves all colours together first, as photos have them
        assert found.evaluated.rank == 1
        assert found.pixels.reshape(-1, 3).mean(0).argmax() == index
    assert found.rebuilt_logit == pytest.approx(found.evaluated.logit, abs=1e-3)
    assert len(found.frames) == len(found.trace) == 5


def test_the_same_seed_dreams_the_same(made):
    assert np.array_equal(made(SHORT).pixels, made(SHORT).pixels)


def test_what_is_held_to_pictures_is_smoother_than_its_control(made):
    held = DreamSettings(steps=40, learning_rate=0.05, frames=5, tv=2000.0)
    assert made(held).evaluated.tv < made(held.unheld()).evaluated.tv


@pytest.mark.parametrize("animation", ["gif", "mp4"])
def test_the_command_writes_what_the_runner_says_it_is(color_model, tmp_path, animation):
    out = tmp_path / "out"
    arguments = [str(color_model), "--class", "RED", "--class", "2", "-o", str(out), "--steps", "20", "--frames", "6"]
    result = CliRunner().invoke(command, [*arguments, "--animation", animation, "--learning-rate", "0.05", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads((out / "dream.json").read_text("utf-8"))
    assert_fits("dream", document)
    classifier = Classifier(color_model)
    for item in document["dreams"]:
        for name in ("dream", "control"):
            prediction = classifier.classify(read_photo(out / item[name]["picture"]))
            score = next(score for score in prediction.top if score.index == item["index"])
            assert score.confidence == pytest.approx(item[name]["confidence"], abs=1e-6)
        video = cv2.VideoCapture(str(out / item["animation"]))
        count = 0
        while video.read()[0]:
            count += 1
        assert count == 6


def test_a_class_that_is_not_there_is_refused(color_model, tmp_path):
    result = CliRunner().invoke(command, [str(color_model), "--class", "zebra", "-o", str(tmp_path / "x")])
    assert isinstance(result.exception, UsageError)
    assert "red" in str(result.exception)
    assert not (tmp_path / "x").exists()


def test_a_file_without_an_fp32_file_beside_it_has_no_gradients_of_it(color_model, tmp_path):
    arguments = [str(color_model), "--class", "red", "-o", str(tmp_path / "x"), "--gradients", "fp32-counterpart"]
    assert isinstance(CliRunner().invoke(command, arguments).exception, UsageError)
