"""Layouts, splits, and data that cannot make a classifier."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, load_training, split_photos

PHOTO = cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"


def make(root: Path, tree: dict[str, int]) -> Path:
    """Folders with so many photo files each."""
    for folder, count in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number:03d}.jpg").write_bytes(PHOTO)
    return root


def test_train_and_val_folders(tmp_path):
    root = make(tmp_path, {"train/ant": 3, "train/bee": 2, "val/ant": 1, "val/bee": 1})
    train, val = load_training(root)
    assert train.labels == val.labels == ("ant", "bee")
    assert train.targets == (0, 0, 0, 1, 1)
    assert [train.name(i) for i in range(2)] == ["train/ant/000.jpg", "train/ant/001.jpg"]
    assert len(val) == 2


def test_labels_in_any_script(tmp_path):
    root = make(tmp_path, {"แมว": 5, "собака": 5, "with space": 5})
    assert set(load_training(root)[0].labels) == {"แมว", "собака", "with space"}


@pytest.mark.parametrize("inner", ["train", "val"])
def test_a_class_may_be_called_like_a_part(tmp_path, inner):
    root = make(tmp_path, {inner: 5, "bus": 5, "tram": 5})
    assert load_training(root)[0].labels == tuple(sorted((inner, "bus", "tram")))


def test_photos_in_nested_and_linked_folders_belong_to_the_class(tmp_path):
    root = make(tmp_path / "data", {"ant/2024/spring": 4, "bee": 4})
    elsewhere = make(tmp_path / "elsewhere", {"wasps": 4}) / "wasps"
    (root / "wasp").symlink_to(elsewhere, target_is_directory=True)
    train, val = load_training(root)
    assert train.labels == ("ant", "bee", "wasp")
    assert len(train) + len(val) == 12


@given(counts=st.lists(st.integers(2, 30), min_size=2, max_size=5), fraction=st.floats(0.05, 0.9), seed=st.integers())
def test_a_split_is_stratified_disjoint_complete_and_repeatable(counts, fraction, seed):
    def photos(root: str) -> LabelledPhotos:
        paths = [Path(root) / str(c) / f"{i}.jpg" for c, count in enumerate(counts) for i in range(count)]
        targets = [c for c, count in enumerate(counts) for _ in range(count)]
        return LabelledPhotos(Path(root), tuple(map(str, range(len(counts)))), tuple(paths), tuple(targets))

    here, there = split_photos(photos("/a"), fraction, seed), split_photos(photos("/b/c"), fraction, seed)
    names = [{part.name(i) for i in range(len(part))} for part in here]
    assert names == [{part.name(i) for i in range(len(part))} for part in there]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == sum(counts)
    for target, count in enumerate(counts):
        assert here[1].targets.count(target) == max(1, round(count * fraction))


def test_another_seed_splits_differently(tmp_path):
    root = make(tmp_path, {"ant": 30, "bee": 30})
    assert load_training(root, seed=0)[1].paths != load_training(root, seed=1)[1].paths


def test_a_model_is_judged_on_what_training_held_out(tmp_path):
    root = make(tmp_path, {"ant": 20, "bee": 20})
    held_out = load_training(root, val_fraction=0.25, seed=3)[1]
    evaluated = load_labelled(root, ("ant", "bee"), "val", val_fraction=0.25, seed=3)
    assert evaluated.paths == held_out.paths


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "no photos"),
        ({".": 3}, "3 photos but no class folders"),
        ({"ant": 3}, "a single class, 'ant'"),
        ({"ant": 3, "bee": 0}, "class 'bee' .* holds no photos"),
        ({"ant": 3, "bee": 1}, "class 'bee' .* only one photo"),
        (
            {"train/ant": 2, "train/bee": 2, "val/ant": 2, "val/wasp": 2},
            "different classes: bee only in train; wasp only in val",
        ),
    ],
    ids=["no images", "loose photos", "single class", "empty class", "one photo", "other classes in val"],
)
def test_data_that_cannot_make_a_classifier_says_why(tmp_path, tree, message):
    with pytest.raises(DataError, match=message):
        load_training(make(tmp_path, tree))


def test_a_missing_folder_and_a_file_are_named(tmp_path):
    with pytest.raises(DataError, match="no folder at"):
        load_training(tmp_path / "nowhere")
    (tmp_path / "file.jpg").touch()
    with pytest.raises(DataError, match="is a file"):
        load_training(tmp_path / "file.jpg")


def test_photos_named_by_index_are_labelled(tmp_path):
    for name in ("0000_ant.jpg", "0002_wasp.jpg", "0001_bee.jpg"):
        (tmp_path / name).write_bytes(PHOTO)
    photos = load_labelled(tmp_path, ("ant", "bee", "wasp"))
    assert photos.targets == (0, 1, 2)
    (tmp_path / "0003_fly.jpg").write_bytes(PHOTO)
    with pytest.raises(DataError, match="0003_fly"):
        load_labelled(tmp_path, ("ant", "bee", "wasp"))


def test_judging_takes_a_subset_of_classes_and_refuses_an_unknown_one(tmp_path):
    root = make(tmp_path, {"val/bee": 2})
    photos = load_labelled(root, ("ant", "bee"))
    assert photos.targets == (1, 1)
    make(root, {"val/fly": 1})
    with pytest.raises(DataError, match="'fly', which the model does not know"):
        load_labelled(root, ("ant", "bee"))


def test_parts_can_be_chosen(tmp_path):
    root = make(tmp_path, {"train/ant": 3, "train/bee": 3, "val/ant": 1, "val/bee": 1})
    sizes = {split: len(load_labelled(root, ("ant", "bee"), split)) for split in ("train", "val", "all")}
    assert sizes == {"train": 6, "val": 2, "all": 8}


def test_gif_files_are_listed_as_skipped(tmp_path):
    root = make(tmp_path, {"train/ant": 2, "train/bee": 2, "val/ant": 1, "val/bee": 1})
    (root / "train/ant/x.gif").write_bytes(GIF)
    assert [item.path.name for item in load_training(root)[0].skipped] == ["x.gif"]


@pytest.mark.parametrize("name", ["red\x1b[2J", "two\nlines", os.fsdecode(b"caf\xe9")])
def test_a_class_folder_that_cannot_be_a_label_is_told_before_training(color_photos, name):
    (color_photos / "red").rename(color_photos / name)
    with pytest.raises(DataError, match="rename it") as caught:
        load_training(color_photos)
    assert str(caught.value).isprintable()
