"""Corruptions: strength by NumPy and OpenCV, the same bytes for ever, and accuracy under them counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_tl.cli.evaluate import command
from edge_tl_runtime.core.errors import BadFrame, UsageError
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.robustness.corrupted_accuracy import corrupted_accuracy
from edge_tl_runtime.robustness.corruptions import (
    CAMERA,
    CORRUPTIONS,
    IMAGENET_C,
    SEVERITIES,
    corrupt,
    named_corruptions,
)

# So they were published: the mildest elastic transforms move the corners farthest, and frost of severity 3 is the thickest.
UNEVEN = {"elastic_transform", "frost"}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth shapes with edges and texture, as photos have."""
    rng = np.random.default_rng(3)
    coarse = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (224, 224), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.integers(0, 80, (70, 70, 3), np.uint8), (224, 224), interpolation=cv2.INTER_LINEAR)
    return np.clip(coarse.astype(np.int16) * 2 // 3 + fine, 0, 255).astype(np.uint8)


def change(picture: np.ndarray, name: str, severity: int, keys: int = 4) -> float:
    moved = [
        np.abs(corrupt(picture, name, severity, str(key)).astype(np.int16) - picture).mean() for key in range(keys)
    ]
    return float(np.mean(moved))


def test_there_are_the_fifteen_of_imagenet_c_and_six_of_cameras():
    assert len(IMAGENET_C) == 15
    assert len(CAMERA) == 6
    assert named_corruptions("camera, fog") == (*CAMERA, "fog")
    assert named_corruptions("all") == tuple(CORRUPTIONS)
    with pytest.raises(UsageError, match="fog"):
        named_corruptions("fogg")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_the_same_bytes_again_and_leaves_its_input_alone(name, picture):
    before = picture.copy()
    first = corrupt(picture, name, 3, "bee.jpg")
    corrupt(picture, name, 5, "another")
    assert np.array_equal(first, corrupt(picture, name, 3, "bee.jpg"))
    assert np.array_equal(picture, before)
    assert first.dtype == np.uint8
    assert first.shape == picture.shape
    assert not np.array_equal(first, picture)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in UNEVEN])
def test_a_higher_severity_changes_no_less(name, picture):
    mild, middle, strong = (change(picture, name, severity) for severity in (1, 3, 5))
    assert mild <= 1.05 * middle
    assert mild < strong
    assert middle <= 1.05 * strong


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(32, 57, 3), (40, 33), (64, 48, 1)])
def test_any_size_and_grey_pictures_keep_their_shape(name, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for severity in (1, 5):
        assert corrupt(picture, name, severity, "x").shape == shape


def test_what_is_no_picture_is_refused():
    for bad in (np.zeros((31, 64, 3), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3), np.float32)):
        with pytest.raises(BadFrame):
            corrupt(bad, "fog", 1, "x")
    with pytest.raises(UsageError, match="severity 6"):
        corrupt(np.zeros((64, 64, 3), np.uint8), "fog", 6, "x")


def test_gaussian_noise_has_the_published_spread():
    grey = np.full((224, 224, 3), 128, np.uint8)
    for severity, spread in zip((1, 2), (0.08, 0.12), strict=True):
        assert corrupt(grey, "gaussian_noise", severity, "x").std() / 255 == pytest.approx(spread, rel=0.02)


def test_shot_noise_grows_with_the_root_of_brightness():
    dark, bright = (np.full((224, 224, 3), value, np.uint8) for value in (32, 128))
    ratio = corrupt(bright, "shot_noise", 1, "x").std() / corrupt(dark, "shot_noise", 1, "x").std()
    assert ratio == pytest.approx(2, rel=0.03)


def test_impulse_noise_makes_the_published_share_black_or_white():
    made = corrupt(np.full((224, 224, 3), 128, np.uint8), "impulse_noise", 4, "x")
    assert (made == 0).mean() == pytest.approx(0.085, abs=0.003)
    assert (made == 255).mean() == pytest.approx(0.085, abs=0.003)


def test_contrast_is_its_formula(picture):
    means = picture.astype(np.float64).mean((0, 1))
    expected = np.clip((picture - means) * 0.2 + means, 0, 255)
    assert np.abs(corrupt(picture, "contrast", 3, "x") - expected).max() <= 0.51


# How cameras and encoders halve colour: JPEG files both ways, MJPG along the rows.
COMPRESSED = {
    "jpeg_compression": ((25, 18, 15, 10, 7), cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
    "mjpg": ((90, 75, 60, 45, 30), cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compression_is_opencvs_at_the_same_quality(name, picture):
    qualities, chroma = COMPRESSED[name]
    for severity, quality in zip(SEVERITIES, qualities, strict=True):
        settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, chroma]
        _, data = cv2.imencode(".jpg", picture, settings)
        assert np.array_equal(corrupt(picture, name, severity, "x"), cv2.imdecode(data, cv2.IMREAD_COLOR))


def test_the_strongest_channel_swap_is_the_plain_mistake(picture):
    assert np.array_equal(corrupt(picture, "channel_swap", 5, "x"), picture[..., ::-1])


def test_blurs_keep_the_mean_of_an_even_picture():
    even = np.full((64, 64, 3), 99, np.uint8)
    for name in ("defocus_blur", "motion_blur", "zoom_blur", "glass_blur", "camera_motion"):
        assert np.abs(corrupt(even, name, 5, "x").astype(int) - 99).max() <= 1


def test_accuracy_under_a_swap_of_channels_is_that_of_green_alone(color_model: Path, color_photos: Path):
    classifier = Classifier(color_model)
    photos = load_labelled(color_photos, classifier.spec.labels, "all")
    found = corrupted_accuracy(classifier.logits, photos, classifier.spec.resize, ["channel_swap", "mjpg"], [1, 5])
    assert (found.clean.count, found.clean.n) == (6, 6)
    assert found.by["channel_swap"][5].count == 2
    assert found.by["channel_swap"][1].count == 6
    assert found.mean("channel_swap") == pytest.approx(2 / 3)
    assert found.mean_accuracy == pytest.approx(5 / 6)
    assert found.error_over_clean() == pytest.approx(1 / 6)
    assert found.complete


def test_a_stop_gives_what_was_judged_and_says_so(color_model: Path, color_photos: Path):
    classifier = Classifier(color_model)
    for number in range(4, 20):
        data = (color_photos / "red" / "0.png").read_bytes()
        (color_photos / "red" / f"{number}.png").write_bytes(data)
    photos = load_labelled(color_photos, classifier.spec.labels, "all")
    found = corrupted_accuracy(classifier.logits, photos, classifier.spec.resize, ["mjpg"], [1], stop=lambda: True)
    assert not found.complete
    assert 0 < found.clean.n < len(photos)


def test_evaluate_prints_the_table_and_the_json(color_model: Path, color_photos: Path):
    arguments = [str(color_model), str(color_photos), "--split", "all", "--corruptions", "camera"]
    text = CliRunner().invoke(command, arguments)
    assert text.exit_code == 0, text.output
    assert "channel_swap" in text.output
    assert "mean corrupted accuracy" in text.output
    result = CliRunner().invoke(command, [*arguments, "--severities", "1,5", "--json"])
    rows = json.loads(result.stdout)["corruptions"]["rows"]
    assert [row["name"] for row in rows] == list(CAMERA)
    assert set(rows[0]["by_severity"]) == {"1", "5"}


@pytest.mark.parametrize("severities", ["0-3", "a", "6", "2-9", ""])
def test_severities_that_are_none_are_refused(severities, color_model, color_photos):
    result = CliRunner().invoke(
        command, [str(color_model), str(color_photos), "--corruptions", "fog", "--severities", severities]
    )
    assert isinstance(result.exception, UsageError)
