"""What folders mean: parts, classes, what lies beside them, and what cannot be told."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import photo

from edge_tl.cli import invoke as run
from edge_tl_export.adoption.labels import read_labels
from edge_tl_runtime.core.errors import DataError, UsageError
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, load_splits
from edge_tl_runtime.images.datasets.junk import is_junk

Tree = dict[str, int | str]
NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def make(root: Path, tree: Tree) -> Path:
    """Folders with so many photos, or files with a text."""
    number = 0
    for name, content in tree.items():
        path = root / name
        if isinstance(content, str):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            continue
        path.mkdir(parents=True, exist_ok=True)
        for place in range(content):
            number += 1
            (path / f"{place:03d}.jpg").write_bytes(photo(number))
    return root


def both(*tops: str, count: int = 4) -> Tree:
    return {f"{top}/{label}": count for top in tops for label in ("ants", "bees")}


UNDERSTOOD: dict[str, tuple[Tree, str] | tuple[Tree, str, int]] = {
    "Training, Testing": (
        both("Training", "Testing"),
        "8 train / 8 val of 2 classes: ants, bees (folders Training, Testing; Testing validates, since there is no val folder)",
    ),
    "capitals": (both("TRAIN", "VAL"), "8 train / 8 val of 2 classes: ants, bees (folders TRAIN, VAL)"),
    "_set": (both("train_set", "val_set"), "8 train / 8 val of 2 classes: ants, bees (folders train_set, val_set)"),
    "three parts": (
        both("train", "valid", "evaluation"),
        "8 train / 8 val / 8 test of 2 classes: ants, bees (folders train, valid, evaluation)",
    ),
    "each part in itself": (
        {**both("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred": 5},
        "8 train / 8 val of 2 classes: ants, bees (folders seg_train/seg_train, seg_test/seg_test; seg_pred is beside the parts "
        "and is left out, 5 photos; seg_test/seg_test validates, since there is no val folder)",
        5,
    ),
    "beside boxes": (
        {**both("images/train", "images/val"), "labels/train/0.txt": "0 1 1 1 1"},
        "8 train / 8 val of 2 classes: ants, bees (folders images/train, images/val)",
    ),
    "no partner": (
        both("train", count=10),
        "16 train / 4 val of 2 classes: ants, bees (folder train; no val folder beside it; 20 % of each class validates)",
    ),
    "an empty partner": (
        {**both("train", count=10), "val": 0},
        "16 train / 4 val of 2 classes: ants, bees (folder train; val holds no photos; 20 % of each class validates)",
    ),
    "photos to be answered": (
        {"ants": 10, "bees": 10, "test1": 7},
        "16 train / 4 val of 2 classes: ants, bees (a folder for each class; test1 has no class folders and is left out, 7 "
        "photos; 20 % of each class validates)",
        7,
    ),
    "photos to be answered, beside train": (
        {**both("train", count=10), "test1": 7},
        "16 train / 4 val of 2 classes: ants, bees (folder train; test1 has no class folders and is left out, 7 photos; no val "
        "folder beside it; 20 % of each class validates)",
        7,
    ),
    "wrapped": (
        {**both("archive/PetImages", count=10), "archive/readme.txt": "cats"},
        "16 train / 4 val of 2 classes: ants, bees (a folder for each class in archive/PetImages; 20 % of each class validates)",
    ),
    "parts wrapped": (
        both("archive/photos/train", "archive/photos/val"),
        "8 train / 8 val of 2 classes: ants, bees (folders archive/photos/train, archive/photos/val)",
    ),
    "sub-folders of a class": (
        {"cat/siamese": 5, "cat/persian": 5, "dog/poodle": 5, "dog/beagle": 5},
        "16 train / 4 val of 2 classes: cat, dog (a folder for each class; sub-folders belong to their class, as cat/persian; "
        "20 % of each class validates)",
    ),
    "images in each class": (
        {"ants/images": 10, "bees/images": 10},
        "16 train / 4 val of 2 classes: ants, bees (a folder for each class; sub-folders belong to their class, as ants/images; "
        "20 % of each class validates)",
    ),
    "a railway": (
        {"train": 10, "bus": 10, "tram": 10},
        "24 train / 6 val of 3 classes: bus, train, tram (a folder for each class; 20 % of each class validates)",
    ),
    "a railway by its kinds": (
        {"train/steam": 5, "train/diesel": 5, "bus": 10, "tram": 10},
        "24 train / 6 val of 3 classes: bus, train, tram (a folder for each class; sub-folders belong to their class, as "
        "train/diesel; 20 % of each class validates)",
    ),
    "a railway in parts": (
        {f"{part}/{label}": 5 for part in ("train", "val") for label in ("train", "bus")},
        "10 train / 10 val of 2 classes: bus, train (folders train, val)",
    ),
    "the whole beside its parts": (
        {**both("train", "val"), "ants": 8, "bees": 8},
        "8 train / 8 val of 2 classes: ants, bees (folders train, val; ants is beside the parts and is left out, 8 photos; bees "
        "is beside the parts and is left out, 8 photos)",
        16,
    ),
    "what systems leave": (
        {"ants": 10, "bees": 10, "@eaDir": 2, "bees/@eaDir": 1, "__MACOSX/ants": 2, ".ipynb_checkpoints": 0},
        "16 train / 4 val of 2 classes: ants, bees (a folder for each class; 20 % of each class validates)",
        5,
    ),
    "papers": (
        {"ants": 10, "bees": 10, "annotations/a.xml": "<a/>"},
        "16 train / 4 val of 2 classes: ants, bees (a folder for each class; 20 % of each class validates)",
    ),
    "loose photos": (
        {"ants": 10, "bees": 10, ".": 3},
        "16 train / 4 val of 2 classes: ants, bees (a folder for each class; 20 % of each class validates)",
        3,
    ),
    "one form of letters": (
        {f"train/{NFD}": 4, "train/tea": 4, f"val/{NFC}": 4, "val/tea": 4},
        f"8 train / 8 val of 2 classes: {NFC}, tea (folders train, val)",
    ),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_the_line_says_what_was_understood(tmp_path, name):
    tree, line, left = (*UNDERSTOOD[name], 0)[:3]
    splits = load_splits(make(tmp_path, tree))
    # Files that are no photos are counted too, by what looks for photos.
    found, number = re.fullmatch(r"(.*?)(?:; (\d+) passed over so far)?", splits.describe()).groups()
    assert found == f"photos: found {line}"
    assert int(number or 0) == len(splits.skipped) >= left


REFUSED: dict[str, tuple[Tree, str]] = {
    "siblings": (
        both("session1", "session2"),
        r"session1, session2 in .* hold the same sub-folders \(ants, bees\), so they are no",
    ),
    "siblings in capitals": ({"a/Ants": 2, "a/Bees": 2, "b/ants": 2, "b/bees": 2}, "so they are no classes"),
    "one sibling has fewer": ({**both("day"), "night/ants": 4}, r"day, night in .* \(ants\), so they are no classes"),
    "siblings within a part": (
        {f"{part}/{top}/{label}": 2 for part in ("train", "val") for top in ("x", "y") for label in ("ants", "bees")},
        r"x, y in .*train hold the same sub-folders",
    ),
    "years": (
        {f"{label}/{year}": 3 for label in ("ants", "bees") for year in (2024, 2025)},
        "ants, bees .*2024, 2025.*no classes",
    ),
    "folds": (
        both(*(f"fold{n}" for n in range(1, 6))),
        "fold1, fold2, fold3, fold4, ....*folds of a cross-validation; put all but",
    ),
    "masks": (
        {f"{label}/{kind}": 3 for label in ("covid", "normal") for kind in ("images", "masks")},
        r"\(images, masks\), so they",
    ),
    "val alone": (both("val"), "has val and no train folder beside it; call .* or give .*val itself"),
    "val and test": (both("val", "test"), "has val and no train folder"),
    "train beside one class": (
        {**both("train"), "misc": 5},
        "If train is a part, give .*train or move .*if it is a class, give it",
    ),
    "training beside classes": ({**both("training"), "bus": 5, "tram": 5}, "If training is a part"),
    "train beside its own classes": (
        {**both("train"), "ants": 5},
        r"train in .* holds folders that lie beside it too \(ants\)",
    ),
    "two of one part": ({**both("train", "val"), **both("validation")}, "has val and validation, which both say val"),
    "no class folders": ({"train": 10, "test": 10}, "test and train in .* hold photos but no class folders"),
    "an empty class": ({"ants": 4, "bees": 4, "wasps": 0}, "class 'wasps' .* holds no photos"),
    "a class of other files": (
        {"ants": 4, "bees": 4, "wasps/a.bin": "x"},
        "class 'wasps' .* holds 1 files and none is a photo",
    ),
    "an empty class in val": (
        {**both("train", "val"), "train/wasps": 3, "val/wasps": 0},
        "class 'wasps' in .*val holds no photos",
    ),
    "a class only in val": ({**both("train", "val"), "val/wasps": 3}, "wasps only in val"),
    "a class only in train": ({**both("train", "val"), "train/wasps": 3}, "wasps only in train"),
    "a class only in test": ({**both("train", "val", "test"), "test/wasps": 3}, "wasps only in test"),
    "case": ({"Cat": 4, "cat": 4, "dog": 4}, "'Cat' and 'cat', which differ only in upper and lower case"),
    "case between parts": (
        {"train/Cat": 4, "train/dog": 4, "val/cat": 4, "val/dog": 4},
        r"'Cat' and 'cat' \(train and val\)",
    ),
    "spaces": ({"cat": 4, "cat ": 4}, "'cat' and 'cat ', which differ only in spaces"),
    "invisible": ({"cat": 4, "ca\u200ct": 4}, r"'cat' and 'ca\\u200ct'|'ca\\u200ct' and 'cat'"),
    "invisible, for no shape of a word": ({"dog": 4, "ca\u200bt": 4}, r"'ca\\u200bt' has letters that are not seen"),
    "normalisation": ({NFC: 4, NFD: 4, "tea": 4}, r"'cafe\\u0301' and 'caf\\xe9'.*normalisation"),
    "only an invisible letter": ({"cat": 4, "\u200b": 4}, r"'\\u200b' has no letter that can be seen"),
    "names tell the labels": ({"train": 0, "train/cat.0.jpg": "", "train/dog.0.jpg": ""}, "no class folders|no photos"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_by_name(tmp_path, name):
    tree, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        load_splits(make(tmp_path, tree))
    assert "\n" not in str(caught.value)


def test_a_folder_of_copies_is_no_class(tmp_path):
    make(tmp_path, {"ants": 5, "bees": 5, "all_images": 0})
    for folder in ("ants", "bees"):
        for place in range(5):
            os.link(tmp_path / folder / f"{place:03d}.jpg", tmp_path / folder / f"{folder}{place}.jpg")
            os.link(tmp_path / folder / f"{place:03d}.jpg", tmp_path / "all_images" / f"{folder}{place}.jpg")
            (tmp_path / folder / f"{place:03d}.jpg").unlink()
    splits = load_splits(tmp_path)
    assert splits.train.labels == ("ants", "bees")
    assert "all_images holds copies of the others and is left out, 10 photos" in splits.describe()
    assert len(splits.skipped) == 10
    (tmp_path / "all_images" / "ants0.jpg").unlink()
    (tmp_path / "all_images" / "ants0.jpg").write_bytes(photo(99))  # a class whose photos are called alike is one
    assert load_splits(tmp_path).train.labels == ("all_images", "ants", "bees")


def test_labels_of_a_model_decide_what_names_cannot(tmp_path):
    root = make(tmp_path, {"train/steam": 3, "train/diesel": 3, "bus": 3, "test": 2})
    photos = load_labelled(root, ("bus", "test", "train"), "all")
    assert [photos.targets.count(target) for target in range(3)] == [3, 2, 6]
    years = make(tmp_path / "years", {f"{label}/{year}": 2 for label in ("ants", "bees") for year in (2024, 2025)})
    assert len(load_labelled(years, ("ants", "bees"), "all")) == 8
    one = make(tmp_path / "one", {"ants/2024": 2, "ants/2025": 2})
    assert load_labelled(one, ("ants", "bees"), "all").describe() == (
        "photos: found 4 of 1 of 2 classes: ants (a folder for each class; sub-folders belong to their class, as ants/2024)"
    )


def test_names_are_compared_in_one_form_with_a_model_s(tmp_path):
    root = make(tmp_path, {NFD: 2, "Tea": 2})
    assert sorted(load_labelled(root, (NFC, "Tea"), "all").targets) == [0, 0, 1, 1]
    with pytest.raises(DataError, match="it knows 'tea', which differs only in upper and lower case"):
        load_labelled(root, (NFC, "tea"), "all")


def test_each_part_says_what_it_is(tmp_path):
    root = make(tmp_path, {**both("Training", "Testing"), "extra": 2, ".": 1})
    labels = ("ants", "bees")
    lines = {split: load_labelled(root, labels, split).describe() for split in ("train", "val", "test", "all")}
    assert lines["val"].startswith(
        "photos: found 8 val of 2 classes: ants, bees (folders Training, Testing; extra is beside the parts"
    )
    assert lines["test"].startswith("photos: found 8 test of 2 classes")
    assert lines["train"].startswith("photos: found 8 train of 2 classes")
    assert lines["all"].startswith("photos: found 16 of 2 classes")
    assert all(line.endswith("; 3 passed over so far") for line in lines.values())
    with pytest.raises(DataError, match="has no train folder; evaluate on another part"):
        load_labelled(make(tmp_path / "v", both("val")), labels, "train")


LEAVES = st.integers(0, 3)
FOLDERS = st.sampled_from(
    [
        "train",
        "Training",
        "val",
        "Testing",
        "test1",
        "images",
        "ants",
        "bees",
        "Bees",
        "wasps",
        "fold1",
        "fold2",
        "@eaDir",
        "x",
        "pred",
    ]
)
TREES = st.dictionaries(
    st.lists(FOLDERS, min_size=0, max_size=4).map("/".join), st.tuples(LEAVES, st.booleans()), min_size=1, max_size=9
)


@settings(max_examples=250)
@given(tree=TREES)
def test_no_file_is_lost(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("data")
    for folder, (count, gif) in tree.items():
        make(root, {folder: count})
        if gif:
            (root / folder / "moving.gif").write_bytes(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;")
    everything = sorted(path for path in root.rglob("*") if path.is_file())
    photos = [path for path in everything if not any(is_junk(part) for part in path.relative_to(root).parts)]
    splits = _loaded(lambda: load_splits(root))
    if splits is not None:
        used = [path for part in splits if part is not None for path in part.paths]
        assert len(used) == len(set(used))
        assert not set(used) & {item.path for item in splits.skipped}
        assert set(photos) <= {*used, *(item.path for item in splits.skipped)} <= set(everything)
        assert all(item.reason for item in splits.skipped)
    known = ("ants", "bees", "Bees", "wasps")
    whole = _loaded(lambda: load_labelled(root, known, "all"))
    if whole is not None:
        assert set(photos) <= {*whole.paths, *(item.path for item in whole.skipped)} <= set(everything)
        assert not set(whole.paths) & {item.path for item in whole.skipped}


def _loaded(load):
    """None where the folder is refused, in one line that names it."""
    try:
        return load()
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert "data" in str(error)  # noqa: PT017
        return None


def test_a_name_that_is_no_text_keeps_its_place(tmp_path):
    root = make(tmp_path, {"ants": 10, "bees": 10})
    (root / "ants" / "000.jpg").rename(root / "ants" / os.fsdecode(b"caf\xe9.jpg"))
    splits = load_splits(root)
    assert len(splits.train) + len(splits.val) == 20


def test_the_working_folder_and_links(tmp_path, monkeypatch):
    root = make(tmp_path / "data", {"ants": 5, "bees": 5})
    (root / "bees" / "again").symlink_to(root, target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)
    monkeypatch.chdir(root)
    splits = load_splits(Path("."))
    assert splits.train.labels == ("ants", "bees")
    assert splits.val.names == load_splits(root).val.names


COMMANDS = {
    "evaluate": ["evaluate", "MODEL", "DATA", "--json"],
    "bench": ["bench", "MODEL", "--data", "DATA", "--parts", "accuracy", "--json"],
    "attack": [
        "attack",
        "MODEL",
        "DATA",
        "-o",
        "OUT",
        "--preset",
        "quick",
        "--photos",
        "2",
        "--time-limit",
        "0.01",
        "--json",
    ],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_understood(color_model, color_photos, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    places = {"MODEL": str(color_model), "DATA": str(color_photos), "OUT": str(tmp_path / "out")}
    assert run([places.get(word, word) for word in COMMANDS[command]]) == 0
    output = capsys.readouterr()
    json.loads(output.out)
    assert "photos: found 6 of 3 classes: red, green, ผึ้ง (a folder for each class)" in output.err


def test_photos_without_labels_are_described(tmp_path):
    photos = LabelledPhotos(tmp_path, (), (tmp_path / "a.jpg",), (-1,), "unlabelled")
    assert photos.describe() == f"photos: found 1 without labels ({tmp_path})"


def test_every_door_for_labels_has_one_rule_for_letters_that_are_not_seen(tmp_path):
    """Folders, lists and label files: dropped around a name, kept where words need them, refused elsewhere."""
    names = {
        "cat\u200b": "cat",
        "\ufeffcat": "cat",
        "\u061ccat\u200f": "cat",
        "\u2764\ufe0f": "\u2764\ufe0f",
        "ca\u200ct": "ca\u200ct",
    }
    refused = [
        "ca\u200bt",
        "ca\u00adt",
        "ca\u2060t",
        "ca\u3164t",
        "cat\U000e0041",
        "\u202ecat",
        "\u2066cat\u2069",
        "\u2800",
        "\u3164",
    ]
    for place, name in enumerate([*names, *refused]):
        root = tmp_path / str(place)
        for label in (name, "dog"):
            (root / "photos" / label).mkdir(parents=True)
            for number in range(3):
                (root / "photos" / label / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
        rows = [f"photos/{label}/{n}.jpg,{label}" for label in (name, "dog") for n in range(3)]
        (root / "list.csv").write_text("\n".join(["path,label", *rows]), "utf-8")
        (root / "labels.json").write_text(json.dumps([name, "dog"]), "utf-8")
        doors = [
            lambda: set(load_splits(root / "photos").train.labels),  # noqa: B023
            lambda: set(load_splits(root / "list.csv").train.labels),  # noqa: B023
            lambda: set(read_labels(root / "labels.json").labels),  # noqa: B023
        ]
        for door in doors:
            if name in refused:
                with pytest.raises((DataError, UsageError)) as caught:
                    door()
                assert name not in str(caught.value), "written out, for it would not be seen"
            else:
                assert door() == {names[name], "dog"}
