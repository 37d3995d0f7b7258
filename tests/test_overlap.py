"""No figure on photos that a model was trained on without saying so: in `evaluate`, `bench`, for older and foreign files."""

from __future__ import annotations

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scenes import files_of, scene

from edge_tl.cli import invoke as run
from edge_tl.data.surfaces import write_surfaces
from edge_tl.models.weights import CONTRACT_KEY
from edge_tl.training.run_folder import load_run
from edge_tl.training.seen import seen_by_weights
from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.evaluation.evaluate import PixelReader, evaluate_model
from edge_tl_runtime.evaluation.training_overlap import unseen
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled
from edge_tl_runtime.images.datasets.survey import photo_files
from edge_tl_runtime.images.fingerprint import SeenFiles, SeenPhotos, fingerprint_photos
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import parse_spec, read_spec, with_checksum
from edge_tl_runtime.modelfile.training_images import METHOD


def photo(path: Path, seed: int, channel: int, quality: int = 95, size: tuple[int, int] = (240, 180)) -> Path:
    """A picture in which one colour prevails, so that the model of mean colours gets its class right."""
    frame = scene(seed) // 2
    frame[..., channel] += 120
    buffer = io.BytesIO()
    Image.fromarray(frame[..., ::-1]).resize(size).save(buffer, "JPEG", quality=quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path


def photos_in(root: Path, seeds: range, labels: tuple[str, ...], quality: int = 95, wrong: int = 0) -> Path:
    """A folder for each class; the first `wrong` photos of each show another class's colour."""
    for place, label in enumerate(labels):
        for number, seed in enumerate(seeds):
            channel = 2 - (place + (number < wrong)) % 3
            photo(root / label / f"{seed}.jpg", 10 * seed + place, channel, quality)
    return root


@pytest.fixture(scope="module")
def labels(color_spec) -> tuple[str, ...]:
    return color_spec.labels


@pytest.fixture(scope="module")
def data(labels, tmp_path_factory) -> Path:
    """Six photos a class in train/, three in val/, of which the model gets one wrong; four strangers a class in new/."""
    root = tmp_path_factory.mktemp("data")
    photos_in(root / "set" / "train", range(6), labels)
    photos_in(root / "set" / "val", range(6, 9), labels, wrong=1)
    photos_in(root / "new", range(9, 13), labels, wrong=2)
    return root


@pytest.fixture(scope="module")
def model(data, color_graph, color_spec, tmp_path_factory) -> Path:
    images = fingerprint_photos(SeenFiles(files_of(data / "set" / "train"), files_of(data / "set" / "val")))
    spec = replace(
        color_spec,
        training_images=images,
        training={"data": "set", "train_photos": 18, "val_fraction": 0.2, "seed": 0},
    )
    path = tmp_path_factory.mktemp("taught") / "model.onnx"
    path.write_bytes(with_checksum(color_graph, spec))
    return path


def evaluated(capsys, model: Path, data: Path, *options: object) -> tuple[dict, str]:
    """The document and what was said beside it."""
    capsys.readouterr()
    assert run(["evaluate", str(model), str(data), "--json", *map(str, options)]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def refused(capsys, model: Path, data: Path, *options: object) -> str:
    capsys.readouterr()
    assert run(["evaluate", str(model), str(data), *map(str, options)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("photos: ")
    return lines[1]


def saved_again(source: Path, target: Path, labels: tuple[str, ...], **options: object) -> Path:
    for label in labels:
        for number, path in enumerate(photo_files(source / label)):
            (target / label).mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                size = options.get("size", image.size)
                image.resize(size).save(target / label / f"IMG_{number}.jpg", quality=options.get("quality", 95))
    return target


RENAMED = {
    "the folder": lambda data, target, labels: shutil.copytree(data / "set" / "train", target),
    "the files": lambda data, target, labels: [
        shutil.copy(
            path,
            (target / path.parent.name).mkdir(parents=True, exist_ok=True) or target / path.parent.name / f"{n}.jpg",
        )
        for n, path in enumerate(photo_files(data / "set" / "train"))
    ],
    "quality 85": lambda data, target, labels: saved_again(data / "set" / "train", target, labels, quality=85),
    "quality 40": lambda data, target, labels: saved_again(data / "set" / "train", target, labels, quality=40),
    "512 pixels": lambda data, target, labels: saved_again(data / "set" / "train", target, labels, size=(512, 384)),
    "half the size": lambda data, target, labels: saved_again(data / "set" / "train", target, labels, size=(120, 90)),
}


@pytest.mark.parametrize("kind", RENAMED)
def test_training_photos_are_refused_whatever_they_are_called(kind, model, data, labels, tmp_path, capsys):
    RENAMED[kind](data, tmp_path / "holiday", labels)
    said = refused(capsys, model, tmp_path / "holiday")
    assert "the model was trained on all 18 photos" in said
    assert "--split train" in said
    refused(capsys, model, tmp_path / "holiday", "--photos", 5)
    document, _ = evaluated(capsys, model, tmp_path / "holiday", "--split", "train")
    assert document["data"] == "all of holiday, TRAINING PHOTOS: 18 of 18"
    assert document["training_overlap"]["photos"] == {"trained_on": 18, "validation": 0, "new": 0}


def test_of_a_mixture_the_training_photos_are_left_out_and_named(model, data, labels, tmp_path, capsys):
    mixture = saved_again(data / "set" / "train", tmp_path / "mixture", labels, quality=85)
    for label in labels:
        for path in photo_files(data / "new" / label):
            shutil.copy(path, mixture / label / f"new_{path.name}")
    document, said = evaluated(capsys, model, mixture)
    alone, _ = evaluated(capsys, model, data / "new")
    assert document["n"] == alone["n"] == 12
    assert document["top1"] == alone["top1"] == 0.5
    assert document["data"] == "mixture without 18 photos the model was trained on"
    overlap = document["training_overlap"]
    assert (overlap["known"], overlap["left_out"], overlap["photos"]["new"]) == (True, 18, 12)
    assert sorted(overlap["left_out_names"]) == sorted(
        p.relative_to(mixture).as_posix() for p in mixture.rglob("IMG_*")
    )
    assert "left out 18 photos the model was trained on: " in said
    assert " and 15 more; --split all" in said
    everything, _ = evaluated(capsys, model, mixture, "--split", "all")
    assert everything["n"] == 30
    assert everything["training_overlap"]["top1"] == {"trained_on": 1.0, "validation": None, "new": 0.5}
    assert everything["data"] == "all of mixture, TRAINING PHOTOS: 18 of 30"


@pytest.mark.parametrize("count", [1, 5, 12, 29])
def test_so_many_photos_are_drawn_from_those_it_was_not_trained_on(count, model, data, labels, tmp_path, capsys):
    mixture = shutil.copytree(data / "set" / "train", tmp_path / "mixture")
    shutil.copytree(data / "new", mixture, dirs_exist_ok=True)
    document, _ = evaluated(capsys, model, mixture, "--photos", count)
    assert document["n"] == min(count, 12)
    assert document["training_overlap"]["photos"]["trained_on"] == 0
    photos = load_labelled(mixture, labels)
    new = [path for path in photos.paths if path.name in {"9.jpg", "10.jpg", "11.jpg", "12.jpg"}]
    chosen, _ = unseen(photos, read_spec(model), "val", lambda rest: rest.spread(count))
    if count <= 12:
        assert set(chosen.paths) <= set(new)
        assert len(chosen) == count


def test_validation_photos_stay_and_are_called_so(model, data, capsys):
    document, said = evaluated(capsys, model, data / "set")
    assert (document["n"], document["data"], said) == (9, "val of set", said)
    assert len(said.splitlines()) == 1
    assert said.startswith("photos: found 9 val of 3 classes")
    assert document["top1"] == pytest.approx(2 / 3, abs=1e-6)
    assert document["training_overlap"]["photos"] == {"trained_on": 0, "validation": 9, "new": 0}
    assert run(["evaluate", str(model), str(data / "set")]) == 0
    assert "all 9 are validation photos, which chose the model's recipe" in capsys.readouterr().out
    assert run(["evaluate", str(model), str(data / "new")]) == 0
    assert "validation photos" not in capsys.readouterr().out


def test_an_undivided_training_folder_is_divided_by_content(model, data, labels, tmp_path, capsys):
    """Also when photos were added to it, and when another folder has its name."""
    whole = shutil.copytree(data / "set" / "train", tmp_path / "set")
    for label in labels:
        for path in photo_files(data / "set" / "val" / label):
            shutil.copy(path, whole / label)
    document, _ = evaluated(capsys, model, whole)
    assert (document["n"], document["data"], document["training_overlap"]["left_out"]) == (9, "val of set", 18)
    shutil.copytree(data / "new", whole, dirs_exist_ok=True)
    document, _ = evaluated(capsys, model, whole)
    assert (document["n"], document["training_overlap"]["photos"]["new"]) == (21, 12)
    namesake = shutil.copytree(data / "new", tmp_path / "other" / "set")
    document, _ = evaluated(capsys, model, namesake)
    assert (document["n"], document["training_overlap"]["left_out"]) == (12, 0)


def test_corruptions_are_measured_on_the_same_photos(model, data, labels, tmp_path, capsys):
    mixture = shutil.copytree(data / "set" / "train", tmp_path / "mixture")
    shutil.copytree(data / "new", mixture, dirs_exist_ok=True)
    document, _ = evaluated(capsys, model, mixture, "--corruptions", "mjpg", "--severities", "1")
    assert document["corruptions"]["clean"]["n"] == document["n"] == 12
    assert document["corruptions"]["clean"]["rate"] == pytest.approx(document["top1"], abs=1e-6)


def without_list(model: Path, color_graph: bytes, target: Path, **changes: object) -> Path:
    spec = parse_spec(model.read_bytes(), "it")
    target.write_bytes(with_checksum(color_graph, replace(spec, training_images=None, **changes)))
    return target


def test_what_is_not_known_is_said(model, data, color_graph, tmp_path, capsys):
    old = without_list(model, color_graph, tmp_path / "old.onnx")
    foreign = without_list(model, color_graph, tmp_path / "foreign.onnx", training={})
    images = replace(read_spec(model).training_images, method="a method of tomorrow")
    later = tmp_path / "later.onnx"
    later.write_bytes(with_checksum(color_graph, replace(read_spec(model), training_images=images)))
    for path, why in ((old, "its file has no list"), (foreign, "not trained by edge-tl"), (later, "upgrade it")):
        document, _ = evaluated(capsys, path, data / "set" / "train", "--split", "val")
        assert document["n"] == 18
        overlap = document["training_overlap"]
        assert (overlap["known"], overlap["photos"]["new"]) == (False, None)
        assert why in overlap["why_unknown"]
        assert run(["evaluate", str(path), str(data / "new")]) == 0
        assert "nothing is known of the photos this model was trained on" in capsys.readouterr().out


def test_a_partial_list_says_how_much_it_can_tell(model, data, color_graph, color_spec, tmp_path, capsys):
    images = read_spec(model).training_images
    few = images.trained_on.file_keys()[:9]
    part = replace(images.trained_on, files=base64.b64encode(few.astype("<u4").tobytes()).decode(), pictures="")
    spec = replace(read_spec(model), training_images=replace(images, trained_on=part))
    path = tmp_path / "partial.onnx"
    path.write_bytes(with_checksum(color_graph, spec))
    assert run(["evaluate", str(path), str(data / "set" / "train")]) == 0
    said = capsys.readouterr()
    assert "left out 9 photos" in said.err
    assert "the model lists 67 % of its training photos, drawn by chance: 9 found, about 4 more" in said.out


def test_unreadable_files_are_still_listed(model, data, labels, tmp_path):
    mixture = shutil.copytree(data / "new", tmp_path / "mixture")
    (mixture / labels[0] / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    classifier = Classifier(model)
    photos = load_labelled(mixture, labels)
    result = evaluate_model(classifier.spec, classifier.logits, photos, "val", "mixture")
    assert [item.path.name for item in result.skipped] == ["broken.jpg"]
    assert result.n == 12
    chosen, _ = unseen(photos, classifier.spec, "val")
    assert len(chosen) == 13


def test_a_reader_without_a_list_gives_every_photo(model, data, labels):
    photos = load_labelled(data / "set" / "train", labels)
    spec = read_spec(model)
    assert sum(len(batch.indices) for batch in PixelReader(photos, spec.resize)) == 18
    with pytest.raises(DataError, match="trained on all 18"):
        list(PixelReader(photos, spec.resize, seen=SeenPhotos.of(spec.training_images)))


def test_a_choice_that_finds_nothing_among_the_rest_says_why(model, data, labels, tmp_path):
    mixture = shutil.copytree(data / "set" / "train", tmp_path / "mixture")
    shutil.copytree(data / "new" / labels[1], mixture / labels[1], dirs_exist_ok=True)

    def first_class(rest: LabelledPhotos) -> LabelledPhotos:
        places = [place for place, target in enumerate(rest.targets) if target == 0]
        if not places:
            raise DataError("no photo of that class")
        return rest.subset(places, rest.split)

    with pytest.raises(DataError, match="the model was trained on all"):
        unseen(load_labelled(mixture, labels), read_spec(model), "val", first_class)


def test_the_benchmark_leaves_training_photos_out_too(model, data, tmp_path, capsys):
    mixture = shutil.copytree(data / "set" / "train", tmp_path / "mixture")
    shutil.copytree(data / "new", mixture, dirs_exist_ok=True)
    target = tmp_path / "bench.json"
    options = ["--parts", "accuracy", "--photos", "6", "-o", str(target)]
    assert run(["bench", str(model), "--data", str(mixture), *options]) == 0
    document = json.loads(target.read_text("utf-8"))
    assert document["data"]["photos"] == 6
    assert document["data"]["training_overlap"]["photos"] == {"trained_on": 0, "validation": 0, "new": 6}
    assert "left out" in capsys.readouterr().err


@pytest.mark.slow
def test_training_lists_its_photos_and_the_file_carries_them(tmp_path, capsys):
    photos = write_surfaces(tmp_path / "surfaces", train=8, val=4)
    extra = tmp_path / "extra"
    shutil.copytree(photos / "val", extra)
    folder = tmp_path / "run"
    assert run(["train", str(photos), "-o", str(folder), "--recipe", "probe", "--device", "cpu"]) == 0
    assert run(["export", str(folder)]) == 0
    model = folder / "model.onnx"
    images = read_spec(model).training_images
    assert images.method == METHOD
    assert (images.trained_on.n, images.validation.n) == (24, 12)
    shutil.copytree(photos / "train", tmp_path / "renamed")
    for path in (model, folder):
        assert "trained on all 24 photos" in refused(capsys, path, tmp_path / "renamed")
        document, _ = evaluated(capsys, path, extra)
        assert document["training_overlap"]["photos"] == {"trained_on": 0, "validation": 12, "new": 0}
    assert run(["inspect", str(model)]) == 0
    out = capsys.readouterr().out
    assert "has seen   24 trained on, 12 for validation; copies are recognised" in out
    assert "contract   version 2" in out
    with safe_open(folder / "model.safetensors", framework="pt") as content:
        contract = json.loads(content.metadata()[CONTRACT_KEY])
    del contract["training_images"]
    old = {CONTRACT_KEY: json.dumps({**contract, "version": 1})}
    save_file(load_file(folder / "model.safetensors"), tmp_path / "old.safetensors", metadata=old)
    assert load_run(tmp_path / "old.safetensors").spec.version == 1
    document, _ = evaluated(capsys, tmp_path / "old.safetensors", tmp_path / "renamed")
    assert "made by an older release" in document["training_overlap"]["why_unknown"]
    for weights in (folder, folder / "model.safetensors"):
        assert seen_by_weights(weights) == images
    assert seen_by_weights(tmp_path) is None
