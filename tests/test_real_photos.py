"""The whole path on real photographs, when the machine has them."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
import torch
from commands import edge_tl

from edge_tl.cli.console import silent
from edge_tl.deploy import deploy
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training.run_folder import load_run
from edge_tl.training.settings import TrainSettings
from edge_tl.training.train import train
from edge_tl_export import ExportSettings, PixelModel
from edge_tl_runtime.evaluation.evaluate import PixelReader, evaluate
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier


@pytest.fixture(scope="module")
def bees(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "bees"
    result = train(data_dir / "hymenoptera", folder, TrainSettings(recipe="probe", device="cpu"), silent, print)
    settings = ExportSettings(quantization="int8", layers=False)  # what each layer costs alone is for the page
    report = deploy(str(folder), None, settings, None, "pretrained", silent, print)
    return result, report


@pytest.mark.slow
def test_auto_takes_a_larger_input_where_it_pays_and_leaves_what_is_right_alone(data_dir, tmp_path):
    pets = train(data_dir / "pets37", tmp_path / "pets", TrainSettings(device="cpu"), silent, print)
    assert pets.spec.resize.height == 288
    assert pets.evaluation.top1 >= 0.88
    assert any("1.65 times the work" in line for line in pets.decisions)
    assert any("no fine-tuning" in line for line in pets.decisions)


@pytest.mark.slow
def test_ants_and_bees_reach_the_accuracy_of_the_literature(bees):
    result, _ = bees
    assert result.photos == (244, 153)
    assert [item.path.name for item in result.skipped] == ["imageNotFound.gif"]
    assert result.evaluation.top1 >= 0.94


@pytest.mark.slow
def test_int8_is_small_and_keeps_the_accuracy(bees):
    _, report = bees
    document = report.to_dict()
    assert document["parity"]["max_difference"] <= 1e-3
    assert document["size_ratio"] >= 3.5
    assert document["drop"] <= 1.0
    assert document["models"][1]["agreement"] >= 0.97


@pytest.mark.slow
def test_trainer_exporter_and_runner_see_the_same_bytes_and_give_the_same_scores(bees, data_dir):
    result, report = bees
    run, classifier = load_run(result.folder), Classifier(report.files[0].path)
    photos = load_labelled(data_dir / "hymenoptera", run.spec.labels)
    some = photos.subset(range(0, len(photos), 10), "val")
    for batch in PixelReader(some, run.spec.resize):
        for pixels, index in zip(batch.pixels, batch.indices, strict=True):
            frame = read_photo(some.paths[index])
            np.testing.assert_array_equal(crop_resize(frame, classifier.spec.resize), pixels)
            with torch.inference_mode():
                network = PixelModel(run.network.module.eval(), run.spec.normalization)
                expected = network(torch.from_numpy(pixels[None])).numpy()
            np.testing.assert_allclose(classifier.logits(pixels[None]), expected, atol=1e-3)
            probabilities = run.spec.scores.probabilities(expected[0])
            assert classifier.classify(frame).confidence == pytest.approx(probabilities.max(), abs=1e-4)


@pytest.mark.slow
def test_a_video_whose_second_half_shows_other_things_is_said_to_drift_with_pictures_of_them(bees, data_dir, tmp_path):
    """Bees and ants, then every second picture a cat or dog: seconds stand for days, 25 pictures each."""
    _, report = bees
    rng, known, other = np.random.default_rng(0), [], []
    for folder, found in (("hymenoptera", known), ("cats-dogs", other)):
        paths = sorted((data_dir / folder / "val").rglob("*.jpg"))[::2]
        found += [cv2.resize(read_photo(path), (320, 240)) for path in paths]
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    for frame in range(40 * 25):
        photos = other if frame >= 26 * 25 and rng.random() < 0.5 else known
        writer.write(photos[rng.integers(len(photos))])
    writer.release()
    done = edge_tl(
        "run", report.files[1].path, "--source", tmp_path / "clip.avi", "--headless", "--drift", tmp_path / "drift.json",
        "--drift-pictures", tmp_path / "nine", "--drift-day", "1s", "--drift-false-alarms", "1/hour",
        "--status", tmp_path / "status.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    drift = json.loads((tmp_path / "status.json").read_text())["drift"]
    found = re.search(r"since 0:2[5-8] of watching (\d+) % of events are unlike the training photos", drift["notice"])
    assert found is not None, done.stderr
    assert 15 <= int(found[1]) <= 60
    assert f"drift: {drift['notice']}" in done.stderr
    assert len(drift["pictures"]) == 9
    strange = [
        min(
            (np.abs(cv2.imread(path).astype(float) - photo).mean(), number >= len(known))
            for number, photo in enumerate(known + other)
        )
        for path in drift["pictures"]
    ]
    assert sum(is_other for _, is_other in strange) >= 8


@pytest.mark.slow
def test_the_file_reports_the_accuracy_that_evaluate_finds(bees, data_dir):
    _, report = bees
    for file in report.files:
        classifier = Classifier(file.path)
        photos = load_labelled(data_dir / "hymenoptera", classifier.spec.labels)
        found = evaluate(classifier.logits, photos, classifier.spec.resize, "")
        assert classifier.spec.validation.top1 == pytest.approx(found.top1, abs=1e-6)
        assert json.loads(json.dumps(found.to_dict()))["n"] == 153


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "floor"), [("efficientnet_lite0", 0.84), ("mobilenet_v2", 0.74)])
def test_published_weights_know_imagenet(data_dir, arch, floor):
    backbone = find_backbone(arch)
    weights = "pretrained" if arch == "efficientnet_lite0" else str(data_dir / "mobilenet_v2-imagenet-fp16.pth")
    network = build_network(backbone, WeightsSource.parse(weights, backbone))
    model = PixelModel(network.module.eval(), backbone.normalization)
    photos = load_labelled(data_dir / "imagenet-1k-sample", network.labels, "all")
    some = photos.subset(range(0, len(photos), 5), "all")

    def logits(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(pixels)).numpy()

    assert evaluate(logits, some, backbone.resize, "").top1 >= floor
