"""Photos of nothing choose how much a file calls unknown; they are no class, and never photos of one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from stripes import SPEC, Made, patches
from stripes import data as data

import edge_tl as et
from edge_tl.cli.console import silent
from edge_tl.data.surfaces import write_surfaces
from edge_tl.training.background import check_background
from edge_tl.training.settings import TrainSettings
from edge_tl_export import ExportSettings, export_model
from edge_tl_export.detection.background import BackgroundPhotos
from edge_tl_runtime.core.errors import BadModelError, DataError, UsageError
from edge_tl_runtime.images.datasets.dataset import load_labelled, load_splits, load_unlabelled
from edge_tl_runtime.images.datasets.grouping import NONE
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.inference.usual_keep import KEY, usual_keep

pytestmark = pytest.mark.usefixtures("one_thread")


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


def between(strength: float, count: int, seed: int) -> list[np.ndarray]:
    """Pictures from those of the classes, 0, to noise, 1."""
    rng = np.random.default_rng(seed)
    known = patches(count, seed + 100)[0].astype(float)
    noise = rng.integers(0, 256, known.shape)
    return list(np.clip((1 - strength) * known + strength * noise, 0, 255).astype(np.uint8)[..., ::-1])


@pytest.fixture(scope="module")
def export(stripes: Made, data, tmp_path_factory):
    parts = [load_labelled(data, SPEC.labels, part) for part in ("train", "val")]

    def export(background: Path | None):
        return export_model(
            stripes.network,
            replace(SPEC, training={"data": data.name}),
            tmp_path_factory.mktemp("exported"),
            ExportSettings(),
            calibration=parts[0],
            validation=parts[1],
            stage=silent,
            background=None if background is None else load_unlabelled(background),
        ).files[0]

    return export


def scores(file, frames):
    classifier = Classifier(file.path)
    found = []
    for frame in frames:
        classifier.frame_logits(frame)
        found.append(classifier.detector.scores(classifier.evidence[None])[0])
    return np.array(found)


@pytest.fixture(scope="module")
def near(export, tmp_path_factory):
    """Background photos between the two thresholds of the file, as its own scores say, and the folder they lie in."""
    file = export(None)
    frames = [frame for seed, strength in enumerate(np.linspace(0.02, 0.9, 60)) for frame in between(strength, 8, seed)]
    levels = Classifier(file.path).spec.ood_score.thresholds
    found = scores(file, frames)
    inside = [frame for frame, score in zip(frames, found, strict=True) if levels["0.99"] < score < levels["0.95"]]
    assert len(inside) >= 24, "the test's own pictures do not lie where they should"
    folder = tmp_path_factory.mktemp("near")
    for place, frame in enumerate(inside[:60]):
        write(folder / f"scene-{place}.png", frame)
    return folder


def test_photos_between_the_thresholds_choose_the_one_that_notices_them(export, near):
    file = export(near)
    trial = file.background
    assert (trial.keep, trial.usual) == (0.95, False)
    assert trial.chosen_by.noticed == trial.chosen_by.n
    assert trial.check.noticed == trial.check.n
    assert trial.chosen_by.n + trial.check.n == len(list(near.iterdir()))
    classifier = Classifier(file.path)
    assert classifier.keep(None) == 0.95
    assert classifier.keep(0.99) == 0.99
    assert classifier.keep(0) == 0
    frames = [cv2.imread(str(path)) for path in near.iterdir()]
    assert not any(classifier.classify(frame, keep=classifier.keep(None)).known for frame in frames)
    assert all(classifier.classify(frame, keep=0.99).known for frame in frames)
    assert classifier.spec.labels == SPEC.labels
    assert file.detection.keep == 0.95
    assert "this file's default now" in trial.describe()


def test_photos_that_are_noticed_anyway_change_nothing(export, tmp_path):
    rng = np.random.default_rng(0)
    for place in range(24):
        write(tmp_path / f"{place}.png", np.full((60, 60, 3), rng.integers(0, 256, 3), np.uint8))
    file = export(tmp_path)
    assert (file.background.keep, file.background.usual, file.background.caution) == (0.99, True, "")
    assert KEY not in Classifier(file.path).spec.ood_score.parameters


def test_photos_like_the_classes_are_said(export, tmp_path):
    for place, frame in enumerate(between(0, 30, 9)):
        write(tmp_path / f"{place}.png", frame)
    trial = export(tmp_path).background
    assert "background photos get a class all the same" in trial.caution


def test_photos_of_one_burst_are_parted_by_place_and_bursts_are_kept_whole(tmp_path):
    for place in range(24):
        write(tmp_path / "one" / f"20260131T1200{place:02d}-000.png", np.full((9, 9, 3), 10 * place, np.uint8))
        write(
            tmp_path / "two" / f"20260131T12{place % 4:02d}{place:02d}-000.png",
            np.full((9, 9, 3), 10 * place, np.uint8),
        )
    for folder, sizes in (("one", (12, 12)), ("two", (12, 12))):
        parts = list(BackgroundPhotos(load_unlabelled(tmp_path / folder), SPEC.resize)._parts())
        assert tuple(part.sum() for part in parts) == sizes
    minutes = np.arange(24) % 4
    names = [path.name for path in load_unlabelled(tmp_path / "two").paths]
    minutes = np.array([int(name[11:13]) for name in names])
    assert not set(minutes[parts[0]]) & set(minutes[parts[1]])


def test_a_usual_fraction_without_threshold_is_refused(export):
    spec = Classifier(export(None).path).spec
    assert usual_keep(spec, 0.99) == 0.99
    score = replace(spec.ood_score, parameters={**spec.ood_score.parameters, KEY: 0.5})
    with pytest.raises(BadModelError, match="has no threshold"):
        usual_keep(replace(spec, ood_score=score), 0.99)


def splits_of(folder):
    return load_splits(folder, val_fraction=0.2, test="", seed=0, group=NONE, find_alike=None)


def test_what_cannot_be_background_is_refused(data, tmp_path):
    splits = splits_of(data)
    few = tmp_path / "few"
    for place, frame in enumerate(between(1, 5, 0)):
        write(few / f"{place}.png", frame)
    with pytest.raises(DataError, match=r"5 background photos, and 20 are the least.*edge-tl collect --background"):
        check_background(splits, TrainSettings(background=str(few)), silent)
    with pytest.raises(UsageError, match="are photos of a class at the same time"):
        check_background(splits, TrainSettings(background=str(data / "train")), silent)
    mixed = tmp_path / "mixed"
    for place, frame in enumerate(between(1, 30, 0)):
        write(mixed / f"{place}.png", frame)
    copied = sorted((data / "val").rglob("*.png"))[0]
    shutil.copy(copied, mixed / "copy.png")
    with pytest.raises(DataError, match=rf"1 photo of .* are in a class too: copy.png is .*{copied.name}"):
        check_background(splits, TrainSettings(background=str(mixed)), silent)
    (mixed / "copy.png").unlink()
    (mixed / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    said = check_background(splits, TrainSettings(background=str(mixed)), silent)
    assert said[0] == "background: 30 photos of mixed, no class of its own"


def test_photos_saved_anew_are_found(tmp_path):
    folder = write_surfaces(tmp_path / "photos", train=6, val=3)
    nothing = tmp_path / "nothing"
    for place, frame in enumerate(between(1, 30, 0)):
        write(nothing / f"{place}.png", frame)
    photo = sorted((folder / "train").rglob("*.*"))[0]
    write(nothing / "again.jpg", cv2.resize(cv2.imread(str(photo)), (200, 200)))
    said = check_background(splits_of(folder), TrainSettings(background=str(nothing)), silent)
    assert any("1 background photo look like a photo of a class" in line for line in said), said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_remembers_its_background_photos_and_its_export_uses_them(tmp_path, capsys):
    write_surfaces(tmp_path / "photos", train=12, val=8)
    for place, frame in enumerate(between(1, 24, 0)):
        write(tmp_path / "empty" / f"{place}.png", frame)
    run = et.train(
        tmp_path / "photos", tmp_path / "run", recipe="probe", background=str(tmp_path / "empty"), progress=True
    )
    assert "background: 24 photos of empty, no class of its own" in capsys.readouterr().err
    without = et.train(tmp_path / "photos", tmp_path / "other", recipe="probe")
    assert run.labels == without.labels
    assert run.settings["background"] == str((tmp_path / "empty").resolve())
    assert run.spec.training["background"] == "empty"
    assert run.spec.data_fingerprint != without.spec.data_fingerprint
    assert run.spec.training_images.validation.n - without.spec.training_images.validation.n == 24
    found = run.export().report.files[0].background
    assert found.chosen_by.n + found.check.n == 24
    shutil.rmtree(tmp_path / "empty")
    assert run.export(progress=True).report.files[0].background is None
    assert "background photos are no longer at" in capsys.readouterr().err


def test_photos_that_cannot_choose_are_said(stripes: Made, data, near, tmp_path):
    report = export_model(
        stripes.network,
        SPEC,
        tmp_path,
        ExportSettings(),
        calibration=None,
        validation=None,
        stage=silent,
        background=load_unlabelled(near),
    )
    assert any(line.startswith("the background photos choose nothing") for line in report.warnings)
