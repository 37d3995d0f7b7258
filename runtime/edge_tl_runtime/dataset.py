"""Labelled photos in folders: which layouts are understood, and how one folder is split in two for ever.

The split depends on names and seed alone, so a device that judges a model on the training folder leaves the training photos
out exactly as the workstation did.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from edge_tl_runtime.errors import UNPRINTABLE, DataError, one_line
from edge_tl_runtime.images.survey import survey, why_none, why_none_of
from edge_tl_runtime.manifest import Row, is_manifest, read_manifest
from edge_tl_runtime.photos import Unreadable, foreign_files, photo_files, require_folder

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation")
TEST_NAME = "test"
_INDEXED = re.compile(r"^(\d{3,6})_")


def evenly(total: int, count: int) -> list[int]:
    """`count` of `total` places, spread over all of them; every one where there are fewer or `count` is 0."""
    if not count or count >= total:
        return list(range(total))
    return [index * total // count for index in range(count)]


@dataclass(frozen=True, slots=True)
class LabelledPhotos:
    """paths[i] shows class labels[targets[i]]. `skipped` were passed over because of their kind.

    root: folder that was asked for, for messages and names. split: "train", "val" or "all".
    """

    root: Path
    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    targets: tuple[int, ...]
    split: str = "all"
    skipped: tuple[Unreadable, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The photo's path relative to the root, with forward slashes: its identity across machines."""
        path = self.paths[index]
        return (path.relative_to(self.root) if path.is_relative_to(self.root) else path).as_posix()

    def as_split(self, split: str) -> LabelledPhotos:
        """The same photos under another name."""
        return replace(self, split=split)

    def subset(self, indices: Sequence[int], split: str) -> LabelledPhotos:
        return LabelledPhotos(
            self.root,
            self.labels,
            tuple(self.paths[i] for i in indices),
            tuple(self.targets[i] for i in indices),
            split,
            self.skipped,
        )


class Splits(NamedTuple):
    """Photos that teach, photos that choose, and photos that only judge (None where none were kept apart)."""

    train: LabelledPhotos
    val: LabelledPhotos
    test: LabelledPhotos | None = None


def load_splits(root: Path, *, val_fraction: float = 0.2, test: str | float = "", seed: int = 0) -> Splits:
    """Photos of a folder with train/ and val/ (and test/), of one folder split stratified by `seed`, or of a manifest.

    test: "" takes test/ or the rows marked so where there are any, a fraction holds that share of each class out of the
    training photos, anything else is a folder of its own. Raises DataError for no images, an empty class, a single class,
    or classes that differ between the parts.
    """
    fraction = _fraction(test)
    parts = _given_splits(root)
    if parts.get("val") is None:
        whole = parts["train"]
        train, val, held = _split_three(whole, val_fraction, fraction, seed)
        for index, label in enumerate(whole.labels):
            if index not in train.targets or index not in val.targets:
                found = "only one photo" if whole.targets.count(index) == 1 else "too few photos"
                raise DataError(f"class {label!r} in {root} has {found}; training and validation need one each")
    else:
        train, val = parts["train"], parts["val"]
        train, _, held = _split_three(train, 0.0, fraction, seed) if fraction else (train, None, None)
    if fraction == 0.0 and test:
        held = load_labelled(Path(str(test)), train.labels, "all").as_split("test")
    if held is None or not len(held):
        held = parts.get("test")
    for part in (val, held):
        if part is not None and set(part.labels) != set(train.labels):
            odd = sorted(set(train.labels) ^ set(part.labels))
            raise DataError(f"train and {part.split} of {root} hold different classes: {', '.join(odd[:5])}")
    return Splits(train, val, held)


def load_training(root: Path, *, val_fraction: float = 0.2, seed: int = 0) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Train and validation photos alone, as `load_splits` finds them."""
    return load_splits(root, val_fraction=val_fraction, seed=seed)[:2]


def load_unlabelled(root: Path) -> LabelledPhotos:
    """Photos of any folder, whatever its sub-folders mean; every target is -1. Raises DataError where there are none."""
    files = photo_files(require_folder(root))
    if not files:
        raise DataError(f"no photos in {root}{why_none(root)}")
    return LabelledPhotos(root, (), tuple(files), (-1,) * len(files), "unlabelled", tuple(foreign_files(root)))


def _fraction(test: str | float) -> float:
    try:
        fraction = float(test or 0.0)
    except ValueError:
        return 0.0
    if not 0.0 <= fraction < 0.9:
        raise DataError(f"the share of test photos is {fraction:g}; it must be below 0.9")
    return fraction


def _given_splits(root: Path) -> dict[str, LabelledPhotos]:
    """The parts that names or a manifest's column give; a whole without parts is called "train"."""
    if is_manifest(root):
        rows = read_manifest(root)
        labels = tuple(sorted({row.label for row in rows}))
        if len(labels) == 1:
            raise DataError(f"{root} holds a single class, {labels[0]!r}; a classifier needs at least two")
        names = {row.split or "train" for row in rows}
        if "train" not in names:
            raise DataError(f"{root} marks no row as train")
        return {name: _listed(root, [r for r in rows if (r.split or "train") == name], labels, name) for name in names}
    train_root, val_root, test_root = _split_folders(root)
    if train_root is None or val_root is None:
        base = train_root or root
        return {"train": _class_folders(root, base, "all")}
    parts = {"train": _class_folders(root, train_root, "train"), "val": _class_folders(root, val_root, "val")}
    if test_root is not None:
        parts["test"] = _class_folders(root, test_root, "test")
    return parts


def _listed(manifest: Path, rows: Sequence[Row], labels: Sequence[str], split: str) -> LabelledPhotos:
    index = {label: place for place, label in enumerate(labels)}
    unknown = next((row.label for row in rows if row.label not in index), None)
    if unknown is not None:
        raise DataError(f"{manifest} holds class {unknown!r}, which the model does not know")
    return LabelledPhotos(
        manifest.parent,
        tuple(labels),
        tuple(row.path for row in rows),
        tuple(index[row.label] for row in rows),
        split,
    )


def load_labelled(
    root: Path, labels: Sequence[str], split: str = "val", *, val_fraction: float | None = None, seed: int = 0
) -> LabelledPhotos:
    """Photos to judge a model with `labels` on; targets index the model's labels.

    split: "val" takes val/ where there is one, "train" takes train/, "all" every photo. `val_fraction`: when the folder was
    split by `seed` for training, the same split is taken here; None takes the whole folder.
    Layouts: class folders named as the labels (a subset will do), or photos named `NNNN_anything` with the class index.
    Raises DataError for no images or a class the model does not know.
    """
    if is_manifest(root):
        return _judged_manifest(root, labels, split, val_fraction, seed)
    require_folder(root)
    train_root, val_root, test_root = _split_folders(root)
    if split == "test":
        if test_root is None:
            raise DataError(f"{root} has no test folder; judge on the val or train part, or give the folder itself")
        return _judged(root, test_root, labels, "test")
    if split == "val":
        base = val_root or train_root or root
    elif split == "train":
        base = train_root or root
    else:
        base = root
        if train_root is not None or val_root is not None:
            found = (train_root, val_root, test_root)
            parts = [_judged(root, part, labels, "all") for part in found if part is not None]
            return LabelledPhotos(
                root,
                tuple(labels),
                sum((part.paths for part in parts), ()),
                sum((part.targets for part in parts), ()),
                "all",
                sum((part.skipped for part in parts), ()),
            )
    photos = _judged(root, base, labels, split)
    if val_fraction is not None and split != "all" and (val_root is None or train_root is None):
        train, val = split_photos(photos, val_fraction, seed)
        return val if split == "val" else train
    if val_root is None and train_root is None:
        return photos.subset(range(len(photos)), "all")
    return photos


def split_photos(photos: LabelledPhotos, val_fraction: float, seed: int) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Split by class (stratified): of n photos of a class, max(1, round(n * val_fraction)) go to validation.

    The order is that of SHA-256 over seed and name: the same on every machine and Python, and adding a photo moves few others.
    A set with one photo a class (an index) is split as a whole.
    """
    train, val, _ = _split_three(photos, val_fraction, 0.0, seed)
    return train, val


def _split_three(photos: LabelledPhotos, val_fraction: float, test_fraction: float, seed: int) -> Splits:
    """The first of each class's order are for validation, the next for the test: a test part never moves the others."""
    counts: dict[int, list[int]] = {}
    for index, target in enumerate(photos.targets):
        counts.setdefault(target, []).append(index)
    groups = list(counts.values()) if max(map(len, counts.values())) > 1 else [list(range(len(photos)))]
    parts: tuple[list[int], list[int], list[int]] = [], [], []
    for group in groups:
        ranked = sorted(group, key=lambda i: hashlib.sha256(f"{seed}:{photos.name(i)}".encode()).digest())
        val = max(1, round(len(group) * val_fraction)) if val_fraction else 0
        test = max(1, round(len(group) * test_fraction)) if test_fraction else 0
        for part, chosen in zip(parts, (ranked[val + test :], ranked[:val], ranked[val : val + test]), strict=True):
            part += chosen
    train, held, judged = (
        photos.subset(sorted(part), name) for part, name in zip(parts, ("train", "val", "test"), strict=True)
    )
    return Splits(train, held, judged)


def _split_folders(root: Path) -> tuple[Path | None, Path | None, Path | None]:
    """train/, val/ and test/ below `root`; test/ stands in for a missing val/."""
    require_folder(root)
    folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), None)
    val = next((folders[name] for name in VAL_NAMES if name in folders), None)
    test = folders.get(TEST_NAME)
    if val is None:
        val, test = test, None
    if (train is None) != (val is None) and len([n for n in folders if not n.startswith(".")]) > 1:
        return None, None, None  # a class that happens to be called "train" or "test", beside other classes
    return train, val, test


def _judged_manifest(
    manifest: Path, labels: Sequence[str], split: str, val_fraction: float | None, seed: int
) -> LabelledPhotos:
    rows = read_manifest(manifest)
    if split == "all" or not any(row.split for row in rows):
        photos = _listed(manifest, rows, labels, "all")
        if split == "all" or val_fraction is None:
            return photos
        train, val = split_photos(photos, val_fraction, seed)
        return val if split == "val" else train
    chosen = [row for row in rows if (row.split or "train") == split]
    if not chosen:
        raise DataError(f"{manifest} marks no row as {split}")
    return _listed(manifest, chosen, labels, split)


def _class_names(base: Path) -> list[str]:
    """Raises DataError for a folder whose name could not be a label: better now than after the training."""
    names = sorted(path.name for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    for name in names:
        if UNPRINTABLE.search(name):
            raise DataError(
                f"the class folder {one_line(name)!r} in {base} has control characters, or a name that is not UTF-8; rename it"
            )
    return names


def _class_folders(root: Path, base: Path, split: str) -> LabelledPhotos:
    labels = _class_names(base)
    if not labels:
        loose = len(photo_files(base))
        found = f"{loose} photos but no class folders" if loose else f"no photos{why_none(base)}"
        raise DataError(f"{base} holds {found}; put the photos of each class in a sub-folder named after the class")
    if len(labels) == 1:
        raise DataError(f"{base} holds a single class, {labels[0]!r}; a classifier needs at least two class folders")
    return _collect(root, base, labels, labels, split)


def _judged(root: Path, base: Path, labels: Sequence[str], split: str) -> LabelledPhotos:
    names = _class_names(base)
    if names:
        unknown = [name for name in names if name not in labels]
        if unknown:
            known = ", ".join(list(labels)[:5]) + (", ..." if len(labels) > 5 else "")
            raise DataError(f"{base} holds class {unknown[0]!r}, which the model does not know (it knows {known})")
        return _collect(root, base, names, labels, split)
    files = photo_files(base)
    if not files:
        raise DataError(
            f"no photos in {base}{why_none(base)}; it needs class folders, or photos named by class index (0007_name.jpg)"
        )
    targets = []
    for path in files:
        match = _INDEXED.match(path.name)
        if match is None or int(match.group(1)) >= len(labels):
            raise DataError(
                f"{path.name} in {base} has no label: use a folder for each class, or names that start with the class index "
                f"(0000_ to {len(labels) - 1:04d}_)"
            )
        targets.append(int(match.group(1)))
    return LabelledPhotos(root, tuple(labels), tuple(files), tuple(targets), split, tuple(foreign_files(base)))


def _collect(root: Path, base: Path, names: Sequence[str], labels: Sequence[str], split: str) -> LabelledPhotos:
    index = {label: position for position, label in enumerate(labels)}
    paths: list[Path] = []
    targets: list[int] = []
    skipped: list[Unreadable] = []
    for name in names:
        found = survey(base / name)
        files, skipped = found.photos, skipped + list(found.passed_over)
        if not files:
            why = why_none_of(found.passed_over)
            raise DataError(f"class {name!r} in {base} holds no photos{why}; add some or remove the folder")
        paths += files
        targets += [index[name]] * len(files)
    return LabelledPhotos(root, tuple(labels), tuple(paths), tuple(targets), split, tuple(skipped))
