"""Lists of photos as spreadsheets, scripts and data platforms write them."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.images.datasets.csv_manifest import read_manifest
from edge_tl_runtime.images.datasets.dataset import load_labelled, load_splits
from edge_tl_runtime.images.datasets.parts import part_of

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Ten photos in img/, and a function that writes a list beside that folder."""
    (tmp_path / "img").mkdir()
    for number in range(10):
        data = cv2.imencode(".jpg", np.full((8, 8, 3), 20 * number, np.uint8))[1].tobytes()
        (tmp_path / "img" / f"{number}.jpg").write_bytes(data)

    def make(content: str | bytes, name: str = "list.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return path

    return make


def rows(header: str, mark: str = ",", folder: str = "img/", suffix: str = ".jpg") -> str:
    return "\n".join([header, *(f"{folder}{n}{suffix}{mark}{'cat' if n % 2 else 'dog'}" for n in range(10))]) + "\n"


HEADERS = [
    "path,label", "filepath,class", "image_path,class_name", "image_id,category", "file_name,breed", "filename,species",
    "img,target", "Image Path,Class Name", "imagePath,className", "FILE,LABELS", "image,tag", "id,breed",
    "image-id,category_name",
    '"path","label"', " path , label ", "img_name,kind", "name,type_label,label", "photo,diagnosis",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_columns_may_be_called_as_people_call_them(write, header):
    text = rows(header)
    if header.count(",") == 2:
        text = text.replace("dog", "x,dog").replace("cat", "x,cat").replace("x,x", "x")
    listing = read_manifest(write(text))
    assert [row.label for row in listing.rows] == ["dog", "cat"] * 5
    assert [row.path.name for row in listing.rows] == [f"{n}.jpg" for n in range(10)]


ENCODED = {
    "UTF-8": rows("path,label").encode(),
    "UTF-8 with a mark": rows("path,label").encode("utf-8-sig"),
    "UTF-16 with a mark": rows("path,label").encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + rows("path,label").encode("utf-16-be"),
    "UTF-16 without a mark": rows("path,label").encode("utf-16-le"),
    "line ends of Windows": rows("path,label").replace("\n", "\r\n").encode(),
    "line ends of old Macs": rows("path,label").replace("\n", "\r").encode(),
    "semicolons": rows("path;label", ";").encode(),
    "tabs": rows("path\tlabel", "\t").encode(),
    "bars": rows("path|label", "|").encode(),
    "sep=": b"sep=;\r\n" + rows("path;label", ";").encode(),
    "sep= and tabs": b"sep=\t\n" + rows("path\tlabel", "\t").encode(),
    "UTF-16 with tabs": rows("path\tlabel", "\t").encode("utf-16"),
    "quoted": rows("path,label").replace("img", '"img').replace(".jpg,", '.jpg",').encode(),
    "backslashes": rows("path,label", folder="img\\").encode(),
    "./": rows("path,label", folder="./img/").encode(),
    "without suffix": rows("image_id,label", suffix="").encode(),
    "below a folder": rows("image_id,label", folder="").encode(),
    "below a folder, without suffix": rows("image_id,label", folder="", suffix="").encode(),
    "blank lines": rows("path,label").replace("\n", "\n\n").encode(),
    "an index before": "\n".join(f",{row}" for row in rows("path,label").split("\n")[:-1]).encode(),
    "no header": rows("").lstrip("\n").encode(),
}


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
def test_a_list_is_read_as_it_comes(write, name, suffix):
    splits = load_splits(write(ENCODED[name], "list" + suffix))
    assert sorted([*splits.train.paths, *splits.val.paths]) == [
        write("").parent / "img" / f"{n}.jpg" for n in range(10)
    ]
    assert splits.train.labels == ("cat", "dog")
    assert all(
        (int(p.stem) % 2 == 0) == (t == 1) for p, t in zip(splits.train.paths, splits.train.targets, strict=True)
    )


def test_the_line_says_what_was_understood(write):
    assert load_splits(write(rows("image_id,breed", folder="", suffix=""))).describe() == (
        "photos: found 8 train / 2 val of 2 classes: cat, dog (list.csv, columns image_id, breed; photos below img; "
        "20 % of each class validates)"
    )
    assert "no header" in load_splits(write(rows("").lstrip("\n"))).describe()


REFUSED = {
    "one photo under two labels": (
        rows("path,label") + "img/3.jpg,dog\n",
        r"3.jpg under two labels, 'cat' in line 5 and 'dog' in"
        " line 12",
    ),
    "the same with another slash": (rows("path,label") + "img\\3.jpg,dog\n", "under two labels"),
    "the same by a detour": (rows("path,label") + "img/../img/3.jpg,dog\n", "under two labels"),
    "two parts": (
        "path,label,split\nimg/1.jpg,a,train\nimg/1.jpg,a,val\n",
        "in two parts, train in line 2 and val in line 3",
    ),
    "case": (rows("path,label").replace("9.jpg,cat", "9.jpg,Cat"), "'cat' and 'Cat'.*upper and lower case"),
    "spaces": ("path,label\nimg/1.jpg,a b\nimg/2.jpg,a  b\n", "'a b' and 'a  b'"),
    "no-break space": ("path,label\nimg/1.jpg,a b\nimg/2.jpg,a\u00a0b\n", "differ only in"),
    "invisible": ("path,label\nimg/1.jpg,ab\nimg/2.jpg,a\u200bb\n", r"a\\u200bb.*not seen"),
    "NFC and NFD": ("path,label\nimg/1.jpg,caf\u00e9\nimg/2.jpg,cafe\u0301\n", r"caf\\xe9.*cafe\\u0301.*normalisation"),
    "full width": ("path,label\nimg/1.jpg,cat\nimg/2.jpg,\uff43\uff41\uff54\n", "differ only in"),
    "several labels, bars": (rows("path,labels") + "img/0.jpg,cat|dog\n", "several labels, 'cat|dog'"),
    "several labels, a list": ("path,labels\nimg/1.jpg,\"['a', 'b']\"\nimg/2.jpg,a\n", "several labels"),
    "several labels, spaces": (
        "path,labels\nimg/1.jpg,scab\nimg/2.jpg,rust\nimg/3.jpg,scab rust\n",
        "line 4 .*several",
    ),
    "several labels, one-hot": (
        "path,cat,dog\nimg/1.jpg,1,0\nimg/2.jpg,1,1\n",
        r"line 3 .*several classes \(cat, dog\)",
    ),
    "no class, one-hot": ("path,cat,dog\nimg/1.jpg,1,0\nimg/2.jpg,0,0\n", "line 3 .*marks no class"),
    "two columns": (
        "path,species,breed\nimg/1.jpg,cat,siamese\nimg/2.jpg,dog,pug\nimg/3.jpg,dog,boxer\n",
        "species, breed",
    ),
    "a column twice": ("path,label,label\nimg/1.jpg,a,b\n", "'label' twice"),
    "a photo column twice": ("path,path,label\nimg/1.jpg,img/2.jpg,b\n", "'path' twice"),
    "addresses": ("url,label\nhttps://example.org/1.jpg,cat\n", "addresses on the web; download"),
    "no label column": ("path,width\nimg/1.jpg,300\n", r"no column 'label' \(path, width\)"),
    "all gone": (rows("path,label", folder="photos/"), r"none of the 10 .* looked for at .*/photos/0.jpg: there is no"),
    "all on Windows": (
        rows("path,label", folder="C:\\Users\\me\\"),
        r"C:\\Users\\me\\0.jpg: a path of another, Windows",
    ),
    "Windows's own letters": (
        "path,label\nimg/1.jpg,caf\u00e9\n".encode("cp1252"),
        "line 2 .*not UTF-8 .*'img/1.jpg,café'.*save",
    ),
    "an open quote": ('path,label\n"img/1.jpg,cat\n', "columns"),
    "empty": ("", "empty"),
    "only a header": ("path,label\n", "lists no photos"),
    "an unknown part": ("path,label,split\nimg/1.jpg,a,later\n", "'later'"),
    "control characters": ("path,label\nimg/1.jpg,a\x1b[2J\n", "control characters"),
    "an invisible label": ("path,label\nimg/1.jpg,\u200b\n", "no letter that can be seen"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_by_name(write, name):
    text, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as caught:
        load_splits(write(text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["photos.txt", "photos.json", "photos.jsonl", "photos.xlsx", "photos.parquet"])
def test_another_kind_of_list_is_told_what_is_taken(write, name):
    path = write(rows("path,label"), name)
    for load in (load_splits, lambda p: load_labelled(p, ("cat", "dog"))):
        with pytest.raises(DataError, match=r"listed in a \.csv or \.tsv file with the columns path and label"):
            load(path)


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar.gz"])
def test_an_archive_is_to_be_unpacked(write, name):
    with pytest.raises(DataError, match="unpack it"):
        load_splits(write(b"PK", name))


def test_a_photo_that_is_not_there_is_counted_and_named(write):
    splits = load_splits(write(rows("path,label") + "img/99.jpg,cat\nimg,cat\nhttps://example.org/1.jpg,dog\n"))
    assert len(splits.train) + len(splits.val) == 10
    assert [(item.path.name, item.reason.split(" (listed in list.csv)")[0]) for item in splits.skipped] == [
        ("99.jpg", "there is no such file"),
        ("img", "it is a folder"),
        ("1.jpg", "an address on the web; download the photo and name the file"),
    ]
    assert splits.describe().endswith("; 3 passed over so far")


def test_a_row_twice_counts_once_and_is_said(write):
    splits = load_splits(write(rows("path,label") + "img/3.jpg,cat\n"))
    assert len(splits.train) + len(splits.val) == 10
    assert "1 row repeated and counted once" in splits.describe()


def test_one_column_for_each_class(write):
    text = "image_id,cat,dog,fox\n" + "".join(
        f"{n},{int(n % 3 == 0)},{int(n % 3 == 1)},{int(n % 3 == 2)}\n" for n in range(10)
    )
    listing = read_manifest(write(text))
    assert [row.label for row in listing.rows] == [["cat", "dog", "fox"][n % 3] for n in range(10)]
    assert "a column for each class" in listing.how


def test_names_are_preferred_to_their_numbers(write):
    text = "path,label,class_name\n" + "".join(f"img/{n}.jpg,{n % 2},{['dog', 'cat'][n % 2]}\n" for n in range(10))
    listing = read_manifest(write(text))
    assert {row.label for row in listing.rows} == {"cat", "dog"}
    assert "label holds the numbers of the same classes" in listing.how
    text = "path,label,breed\n" + "".join(f"img/{n}.jpg,{['dog', 'cat'][n % 2]},b{n}\n" for n in range(10))
    listing = read_manifest(write(text))
    assert {row.label for row in listing.rows} == {"cat", "dog"}
    assert "not used: breed" in listing.how


def test_a_name_that_two_files_bear_is_not_guessed(write):
    path = write(rows("id,label", suffix=""))
    (path.parent / "img" / "3.png").write_bytes(cv2.imencode(".png", np.zeros((3, 3, 3), np.uint8))[1].tobytes())
    listing = read_manifest(path)
    assert [item.reason.split(" (")[0] for item in listing.skipped] == ["several files have this name: 3.jpg, 3.png"]


def test_rows_of_the_test_part_need_no_label(write):
    text = "path,label,split\n" + "".join(
        f"img/{n}.jpg,{'' if n > 7 else 'ab'[n % 2]},{'test' if n > 7 else 'train'}\n" for n in range(10)
    )
    splits = load_splits(write(text))
    assert (len(splits.train) + len(splits.val), splits.test) == (8, None)
    assert [item.reason for item in splits.skipped] == ["a test photo without a label, listed in list.csv"] * 2


@pytest.mark.parametrize(
    ("column", "yes", "no"), [("is_valid", "True", "False"), ("is_valid", "1", "0"), ("is_train", "no", "yes")]
)
def test_a_column_of_yes_and_no_splits(write, column, yes, no):
    text = f"path,label,{column}\n" + "".join(f"img/{n}.jpg,{'ab'[n % 2]},{yes if n < 4 else no}\n" for n in range(10))
    splits = load_splits(write(text))
    assert [path.stem for path in splits.val.paths] == ["0", "1", "2", "3"]


def test_a_list_without_parts_has_no_test_part(write):
    path = write(rows("path,label"))
    for fraction in (None, 0.2):
        with pytest.raises(DataError, match="marks no row as test; evaluate on another part with --split"):
            load_labelled(path, ("cat", "dog"), "test", val_fraction=fraction)


def test_labels_of_a_model_are_compared_in_one_form(write):
    path = write("path,label\nimg/1.jpg,cafe\u0301\nimg/2.jpg,tea \n")
    for labels in (("caf\u00e9", "tea"), ("cafe\u0301", "tea")):
        photos = load_labelled(path, labels, "all")
        assert (photos.labels, photos.targets) == (labels, (0, 1))
    with pytest.raises(DataError, match="it knows 'Tea', which differs only in upper and lower case"):
        load_labelled(path, ("caf\u00e9", "Tea"), "all")


def _error(path: Path) -> str:
    try:
        read_manifest(path)
    except DataError as error:
        return str(error)
    return ""


@settings(max_examples=60)
@given(
    labels=st.lists(
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), min_size=1, max_size=12),
        min_size=4,
        max_size=4,
    ),
    mark=st.sampled_from(",;\t"),
)
def test_what_python_s_csv_writes_is_read_or_refused_by_name(tmp_path_factory, labels, mark):
    folder = tmp_path_factory.mktemp("list")
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=mark)
    writer.writerow(["path", "label"])
    for number, label in enumerate(labels):
        (folder / f"{number}.jpg").write_bytes(b"\xff\xd8\xff\xe0")
        writer.writerow([f"{number}.jpg", label])
    (folder / "list.csv").write_text(buffer.getvalue(), "utf-8", newline="")
    error = _error(folder / "list.csv")
    if error:
        assert "list.csv" in error
        return
    listing = read_manifest(folder / "list.csv")
    assert [row.label for row in listing.rows] == [unicodedata.normalize("NFC", label).strip() for label in labels]


PART_NAMES = {
    "train": "train Train TRAIN training Training train_set trainset TrainSet training_data train-images seg_train train1 "
    "train_01 01_train imgs_train",
    "val": "val VAL valid Valid validation Validation validation_set dev Dev devset val_images ValImages images_val",
    "test": "test TEST testing Testing eval Evaluation test_set testset test1 Test_Images holdout seg_test hold_out",
    None: "trainer bus trains valley valve development_team tester testament seg cat.train.dog images data evaluator contest "
    "devil 1 _",
}


@pytest.mark.parametrize(
    ("name", "part"), [(name, part) for part, names in PART_NAMES.items() for name in names.split()]
)
def test_names_of_parts(name, part):
    assert part_of(name) == part
