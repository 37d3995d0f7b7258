"""Photos that belong together stay on one side of a split, and the same split is found again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import photo

from edge_tl.cli.console import silent
from edge_tl.data.grouping import finder
from edge_tl.data.surfaces import write_surfaces
from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, load_splits, split_photos
from edge_tl_runtime.images.datasets.grouping import MAX_MARKS, Grouping, joined, mark
from edge_tl_runtime.images.datasets.origins import origin, origins
from edge_tl_runtime.images.datasets.splitting import split_places
from edge_tl_runtime.images.decode import read_photo

ORIGINS = {
    # frames
    "video3_frame_0012.jpg": "video3", "scene-04-0003.png": "scene-04", "clip12_000123.jpg": "clip12", "cam2 frame 7.jpg": "cam2",
    "00000012_003.png": "00000012", "person1_virus_6.jpeg": "person1_virus", "GOPR0012_000345.jpg": "GOPR0012",
    "drive-2019.0001.jpg": "drive-2019", "MVI_0040_img00012.jpg": "MVI_0040", "v1frame003.jpg": "v1",
    # copies
    "IMG_0012 (1).jpg": "IMG_0012", "IMG_0012 (12).jpg": "IMG_0012", "IMG_0012 copy.jpg": "IMG_0012",
    "IMG_0012 copy 2.jpg": "IMG_0012",
    "IMG_0012 - Copy.jpg": "IMG_0012", "IMG_0012-edited.jpg": "IMG_0012", "IMG_0012~2.jpg": "IMG_0012",
    "IMG_0012_aug_3.png": "IMG_0012",
    "IMG_0012_jpg.rf.4f3a2b1c9d8e7f60.jpg": "IMG_0012_jpg", "img12_flip.png": "img12", "img12_rot90.png": "img12",
    # bursts
    "IMG_20240501_123301_BURST001.jpg": "IMG_20240501_1233", "00002IMG_00002_BURST20240501123301123.jpg": "20240501123301",
    "00000IMG_00000_BURST20240501123301_COVER.jpg": "20240501123301", "IMG_20240501_123301.jpg": "IMG_20240501_1233",
    "PXL_20240501_123301123.jpg": "PXL_20240501_1233", "2024-05-01 12.33.07.jpg": "2024-05-01 12.33",
    # a folder that says it
    "clip 2/0001.jpg": "clip 2", "video_7/frame_0001.jpg": "video_7", "session3/IMG_0012 (1).jpg": "session3/IMG_0012",
    # names that say nothing
    "IMG_0012.jpg": "IMG_0012", "cat.17.jpg": "cat.17", "ants01.jpg": "ants01", "cat (3).jpg": "cat (3)", "0001.jpg": "0001",
    "10308379_1b6c72e180.jpg": "10308379_1b6c72e180", "DSC_0001.jpg": "DSC_0001", "brick_000.jpg": "brick_000",
    "IMG-20240501-WA0012.jpg": "IMG-20240501-WA0012", "great_pyrenees_105.jpg": "great_pyrenees_105", "spring/0001.jpg": "0001",
    "แมว_12.jpg": "แมว_12", "0007": "0007", ".jpg": ".jpg",
}  # fmt: skip


@pytest.mark.parametrize("name", ORIGINS)
def test_what_a_name_says_of_its_origin(name):
    assert origin(name) == ORIGINS[name]


def test_a_name_that_only_repeats_the_class_says_nothing():
    names = [f"n02099601_{n}.jpg" for n in range(3)] + [f"n02088364_{n}.jpg" for n in range(3)]
    assert origins(names, [0] * 3 + [1] * 3, ["golden", "beagle"]) == names
    names = ["type1_01.jpg", "type1_02.jpg", "video2_01.jpg", "video2_02.jpg", "other.jpg"]
    assert origins(names, [0, 0, 1, 1, 1], ["Type 1", "rest"]) == [
        *names[:2],
        "video2",
        "video2",
        "other.jpg".removesuffix(".jpg"),
    ]


GROUPED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=8, max_size=120)


@settings(max_examples=150)
@given(photos=GROUPED, fraction=st.floats(0.05, 0.6), test=st.sampled_from([0.0, 0.2]), seed=st.integers(0, 9))
def test_groups_stay_together_and_everything_is_used_once(photos, fraction, test, seed):
    targets = [target for target, _ in photos]
    groups = [f"g{group}" for _, group in photos]
    names = [f"{target}/{place}.jpg" for place, target in enumerate(targets)]
    parts = split_places(names, targets, groups, (fraction, test), seed)
    assert sorted(parts.train + parts.val + parts.test) == list(range(len(photos)))
    sides = [{groups[place] for place in part} for part in parts]
    assert len(set.union(*sides)) == sum(map(len, sides))
    assert parts == split_places(names, targets, groups, (fraction, test), seed)
    assert parts.val == split_places(names, targets, groups, (fraction, 0.0), seed).val  # a test part never moves it


@pytest.mark.parametrize("count", [3, 8, 40])
def test_groups_of_one_size_are_stratified(count):
    targets = [label for label in range(3) for _ in range(count) for _ in range(8)]
    groups = [f"{label}-{group}" for label in range(3) for group in range(count) for _ in range(8)]
    parts = split_places(groups, targets, groups, (0.25, 0.0), 0)
    wanted = round(0.25 * 8 * count)
    for label in range(3):
        assert abs([targets[place] for place in parts.val].count(label) - wanted) <= 4


def test_without_groups_the_split_is_that_of_older_runs(tmp_path):
    """By hand, as it was from the first release on: the first of each class by SHA-256 of seed and name."""
    import hashlib

    names = [f"{label}/{number:03d}.jpg" for label in ("ant", "bee") for number in range(25)]
    photos = LabelledPhotos(tmp_path, ("ant", "bee"), tuple(tmp_path / name for name in names), (0,) * 25 + (1,) * 25)
    expected = []
    for label in ("ant", "bee"):
        own = [name for name in names if name.startswith(label)]
        expected += sorted(own, key=lambda name: hashlib.sha256(f"7:{name}".encode()).digest())[:5]
    assert sorted(split_photos(photos, 0.2, 7)[1].names) == sorted(expected)


def bursts(root: Path, classes: tuple[str, ...] = ("ants", "bees"), count: int = 6, length: int = 8) -> Path:
    """Frames of videos, `count` of each class."""
    number = 0
    for label in classes:
        (root / label).mkdir(parents=True)
        for video in range(count):
            for frame in range(length):
                number += 1
                (root / label / f"{label}-video{video}_frame_{frame:04d}.jpg").write_bytes(photo(number))
    return root


def videos(photos: LabelledPhotos) -> set[str]:
    return {path.name.split("_frame")[0] for path in photos.paths}


def test_frames_of_a_video_are_on_one_side_and_the_groups_are_said(tmp_path):
    root = bursts(tmp_path / "data")
    plain, grouped = load_splits(root), load_splits(root, group="by-name")
    assert videos(plain.train) & videos(plain.val)
    assert not videos(grouped.train) & videos(grouped.val)
    assert Counter(grouped.val.targets) == {0: 8, 1: 8}
    assert "; 12 groups by name are kept together" in grouped.describe()
    # The groups stay with the photos, so that folds keep them whole too.
    for part in (grouped.train, grouped.val):
        assert len(set(part.groups)) == len(videos(part))
        assert len(set(zip(part.groups, (path.name.split("_frame")[0] for path in part.paths), strict=True))) == len(
            videos(part)
        )
    assert plain.train.groups == ()
    again = load_labelled(root, grouped.train.labels, "val", val_fraction=0.2, grouping=Grouping("by-name"))
    assert again.paths == grouped.val.paths
    tested = load_splits(root, group="by-name", test=0.2)
    assert tested.val.paths == grouped.val.paths
    assert not videos(tested.test) & (videos(tested.val) | videos(tested.train))


def test_groups_in_both_of_two_given_parts_are_said(tmp_path):
    root = bursts(tmp_path / "data")
    for number, path in enumerate(sorted(root.rglob("*.jpg"))):
        part = "val" if number % 8 == 0 and number < 32 else "train"
        (root / part / path.parent.name).mkdir(parents=True, exist_ok=True)
        path.rename(root / part / path.parent.name / path.name)
    for label in ("ants", "bees"):
        (root / label).rmdir()
        (root / "val" / label).mkdir(exist_ok=True)
        (root / "val" / label / "0001.jpg").write_bytes(photo(7))
        (root / "train" / label / "0001.jpg").write_bytes(photo(8))  # a name that says nothing
    assert (
        "; 4 groups lie in both train and val by name, such as ants-video0, so the figure flatters: move each to one side"
        in load_splits(root, group="by-name").describe()
    )
    assert "groups" not in load_splits(root).describe()


def test_a_class_of_one_group_is_refused_with_what_to_do(tmp_path):
    root = bursts(tmp_path / "data")
    for frame in range(20):
        (root / "wasps").mkdir(exist_ok=True)
        (root / "wasps" / f"hive-3_frame_{frame:04d}.jpg").write_bytes(photo(1000 + frame))
    with pytest.raises(
        DataError, match=r"20 photos of class 'wasps' .* one group \(hive-3\).*another origin.*--group none"
    ):
        load_splits(root, group="by-name")
    assert len(load_splits(root, group="none").train.labels) == 3


def test_a_column_of_a_list_groups(tmp_path):
    root = bursts(tmp_path / "data")
    lines = ["path,label,hive"]
    for path in sorted(root.rglob("*.jpg")):
        lines.append(f"{path.relative_to(tmp_path)},{path.parent.name},h{int(path.stem[10]) % 3}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    splits = load_splits(tmp_path / "list.csv", group="hive")
    assert not set(splits.train.groups) & set(splits.val.groups)
    assert "3 groups by the column hive are kept together" in splits.describe()
    again = load_labelled(
        tmp_path / "list.csv", splits.train.labels, val_fraction=0.2, grouping=Grouping.of({"group": "hive"})
    )
    assert again.paths == splits.val.paths
    with pytest.raises(DataError, match="no column 'nest' to group by; it has path, label, hive"):
        load_splits(tmp_path / "list.csv", group="nest")
    with pytest.raises(DataError, match="has no column 'hive' to group by; --group takes"):
        load_splits(root, group="hive")


def test_photos_that_look_alike_are_found_and_the_split_is_found_again_without_looking(tmp_path):
    root = write_surfaces(tmp_path / "data", train=10, val=1) / "train"
    twins = {}
    for path in sorted(root.rglob("*.*"))[::4]:
        counterpart = path.with_name(f"zz{len(twins)}.png")
        counterpart.write_bytes(cv2.imencode(".png", np.ascontiguousarray(read_photo(path)[:, ::-1]))[1].tobytes())
        twins[path] = counterpart
    splits = load_splits(root, group="auto", find_alike=finder(silent))
    for path, counterpart in twins.items():
        assert (path in splits.val.paths) == (counterpart in splits.val.paths)
    assert f"{30} groups by name and by what they look like are kept together" in splits.describe()
    record = Grouping("auto").record(splits.val.names)
    again = load_labelled(root, splits.train.labels, val_fraction=0.2, grouping=Grouping.of(record))
    assert again.paths == splits.val.paths
    rest = load_labelled(root, splits.train.labels, "train", val_fraction=0.2, grouping=Grouping.of(record))
    assert rest.paths == splits.train.paths


def test_a_split_that_cannot_be_found_again_is_refused_by_name(tmp_path):
    root = bursts(tmp_path / "data")
    record = Grouping("auto").record(f"{n}.jpg" for n in range(MAX_MARKS + 1))
    assert record == {"group": "auto"}
    for training, message in ((record, "holds no record of it"), ({"group": "auto", "held_out": "?"}, "damaged")):
        with pytest.raises(DataError, match=message):
            load_labelled(root, ("ants", "bees"), val_fraction=0.2, grouping=Grouping.of(training))
    with pytest.raises(DataError, match="none of the photos that were held out"):
        load_labelled(root, ("ants", "bees"), val_fraction=0.2, grouping=Grouping("auto", frozenset({mark("x.jpg")})))


def test_a_model_from_before_groups_is_split_without():
    assert Grouping.of({"seed": 0, "val_fraction": 0.2}) == Grouping("none")


@given(pairs=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), min_size=1, max_size=30))
def test_keys_join_through_others(pairs):
    """Against a graph walked by hand."""
    keys = joined([a for a, _ in pairs], [b for _, b in pairs])
    for start, (first, second) in enumerate(pairs):
        reached, open_ = {start}, [start]
        while open_:
            here = open_.pop()
            for place, pair in enumerate(pairs):
                if place not in reached and (pair[0] == pairs[here][0] or pair[1] == pairs[here][1]):
                    reached.add(place)
                    open_.append(place)
        assert reached == {place for place, key in enumerate(keys) if key == keys[start]}, (first, second)
