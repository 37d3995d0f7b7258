"""Labelled photos in folders: which layouts are understood, and how one folder is split in two for ever.

The split depends on names and seed alone, so a device that judges a model on the training folder leaves the training photos
out exactly as the workstation did.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tl_runtime.errors import DataError
from edge_tl_runtime.photos import Unreadable, foreign_files, photo_files, require_folder

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "valid", "validation", "test")
_INDEXED = re.compile(r"^(\d{3,6})_")


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
        return self.paths[index].relative_to(self.root).as_posix()

    def subset(self, indices: Sequence[int], split: str) -> LabelledPhotos:
        return LabelledPhotos(
            self.root,
            self.labels,
            tuple(self.paths[i] for i in indices),
            tuple(self.targets[i] for i in indices),
            split,
            self.skipped,
        )


def load_training(root: Path, *, val_fraction: float = 0.2, seed: int = 0) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Train and validation photos of a folder with train/ and val/, or of one folder split stratified by `seed`.

    Raises DataError for no images, an empty class, a single class, or classes that differ between the two folders.
    """
    train_root, val_root = _split_folders(root)
    if train_root is not None and val_root is not None:
        train, val = _class_folders(root, train_root, "train"), _class_folders(root, val_root, "val")
        if train.labels != val.labels:
            odd = sorted(set(train.labels) ^ set(val.labels))
            raise DataError(
                f"{train_root.name}/ and {val_root.name}/ of {root} hold different classes: {', '.join(odd[:5])}"
            )
        return train, val
    base = train_root or root
    whole = _class_folders(root, base, "all")
    train, val = split_photos(whole, val_fraction, seed)
    for label, index in zip(whole.labels, range(len(whole.labels)), strict=True):
        if index not in train.targets or index not in val.targets:
            raise DataError(f"class {label!r} in {base} has only one photo; training and validation need one each")
    return train, val


def load_labelled(
    root: Path, labels: Sequence[str], split: str = "val", *, val_fraction: float | None = None, seed: int = 0
) -> LabelledPhotos:
    """Photos to judge a model with `labels` on; targets index the model's labels.

    split: "val" takes val/ where there is one, "train" takes train/, "all" every photo. `val_fraction`: when the folder was
    split by `seed` for training, the same split is taken here; None takes the whole folder.
    Layouts: class folders named as the labels (a subset will do), or photos named `NNNN_anything` with the class index.
    Raises DataError for no images or a class the model does not know.
    """
    require_folder(root)
    train_root, val_root = _split_folders(root)
    if split == "val":
        base = val_root or train_root or root
    elif split == "train":
        base = train_root or root
    else:
        base = root
        if train_root is not None or val_root is not None:
            parts = [_judged(root, part, labels, "all") for part in (train_root, val_root) if part is not None]
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
    counts: dict[int, list[int]] = {}
    for index, target in enumerate(photos.targets):
        counts.setdefault(target, []).append(index)
    groups = list(counts.values()) if max(map(len, counts.values())) > 1 else [list(range(len(photos)))]
    val: set[int] = set()
    for group in groups:
        ranked = sorted(group, key=lambda i: hashlib.sha256(f"{seed}:{photos.name(i)}".encode()).digest())
        val.update(ranked[: max(1, round(len(group) * val_fraction))])
    everything = range(len(photos))
    return (
        photos.subset([i for i in everything if i not in val], "train"),
        photos.subset([i for i in everything if i in val], "val"),
    )


def _split_folders(root: Path) -> tuple[Path | None, Path | None]:
    require_folder(root)
    folders = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), None)
    val = next((folders[name] for name in VAL_NAMES if name in folders), None)
    if (train is None) != (val is None) and len([n for n in folders if not n.startswith(".")]) > 1:
        return None, None  # a class that happens to be called "train" or "test", beside other classes
    return train, val


def _class_names(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_folders(root: Path, base: Path, split: str) -> LabelledPhotos:
    labels = _class_names(base)
    if not labels:
        loose = len(photo_files(base))
        found = f"{loose} photos but no class folders" if loose else "no photos"
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
        raise DataError(f"no photos in {base}; it needs class folders, or photos named by class index (0007_name.jpg)")
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
        files = photo_files(base / name)
        skipped += foreign_files(base / name)
        if not files:
            raise DataError(f"class {name!r} in {base} holds no photos; add some or remove the folder")
        paths += files
        targets += [index[name]] * len(files)
    return LabelledPhotos(root, tuple(labels), tuple(paths), tuple(targets), split, tuple(skipped))
