"""Labelled photos in folders or lists, and how one folder is split in parts for ever.

`images.datasets.layout` decides what folders mean, `csv_manifest` what a list means. The split depends on names and seed
alone, so a device that evaluates a model on the training folder leaves the training photos out exactly as the workstation did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.datasets.csv_manifest import Row, is_manifest, read_manifest, refuse_other_files
from edge_tl_runtime.images.datasets.grouping import NONE, Grouping, together
from edge_tl_runtime.images.datasets.labelled import LabelledPhotos, Splits
from edge_tl_runtime.images.datasets.labels import (
    clean_label,
    label_places,
    refuse_look_alikes,
    refuse_unusable,
    unknown_label,
)
from edge_tl_runtime.images.datasets.layout import FolderPart, Layout, class_folders, find_layout
from edge_tl_runtime.images.datasets.splitting import (
    Finder,
    group_keys,
    photo_origins,
    refuse_lacking,
    split_as_trained,
    split_photos,
    split_three,
    straddling,
)
from edge_tl_runtime.images.datasets.survey import require_folder, survey, why_none_of

__all__ = [
    "LabelledPhotos", "Splits", "load_labelled", "load_splits", "load_training", "load_unlabelled", "split_photos",
]  # fmt: skip

_INDEXED = re.compile(r"^(\d{3,6})_")


def load_splits(
    root: Path,
    *,
    val_fraction: float = 0.2,
    test: str | float = "",
    seed: int = 0,
    group: str = NONE,
    find_alike: Finder | None = None,
) -> Splits:
    """Photos of a folder with train/ and val/ (and test/), of one folder split stratified by `seed`, or of a list.

    test: "" takes test/ or the rows marked so where there are any, a fraction holds that share of each class out of the
    training photos, anything else is a folder of its own. group: what stays together where a folder is split: "none", "by-name",
    "auto" (needs find_alike), or a column of the list.
    Raises DataError for no images, an empty class, a single class, classes that differ between the parts, or one group a class.
    """
    fraction = _fraction(test)
    parts = _given_splits(root, group)
    held: LabelledPhotos | None = None
    if "val" not in parts or fraction:
        whole = parts["train"]
        keys, found = group_keys(whole, Grouping(group), find_alike)
        if group != NONE:
            # What kept photos on one side of the split keeps them in one fold later.
            whole = _with_groups(whole, keys)
        shares = (0.0 if "val" in parts else val_fraction, fraction)
        train, val, held = split_three(whole, keys, shares, seed)
        refuse_lacking(root, whole, (train, held) if "val" in parts else (train, val), keys, group)
        told = f"{100 * val_fraction:g} % of each class validates" if "val" not in parts else ""
        train = replace(train, how="; ".join(filter(None, (whole.how, told, found))))
        val = parts.get("val", val)
    else:
        told = straddling(parts["train"], parts["val"], Grouping(group))
        train, val = (_with_origins(parts[name], group) for name in ("train", "val"))
        train = replace(train, how="; ".join(filter(None, (train.how, told))))
    if fraction == 0.0 and test:
        held = replace(load_labelled(Path(str(test)), train.labels, "all"), split="test")
    if held is None or not len(held):
        held = parts.get("test")
    for part in (val, held):
        if part is not None:
            _refuse_other_classes(root, train, part)
    return Splits(train, val, held)


def _with_origins(part: LabelledPhotos, group: str) -> LabelledPhotos:
    """A given part with the groups that names tell, where photos are grouped and no column says it. What looks alike is not
    searched for in parts that are not split."""
    if group == NONE or part.groups:
        return part
    return _with_groups(part, photo_origins(part))


def _with_groups(photos: LabelledPhotos, keys: Sequence[str]) -> LabelledPhotos:
    """The photos with a group each, "" for a photo whose key no other has."""
    return replace(photos, groups=tuple(together(keys, [""] * len(keys))))


def load_training(root: Path, *, val_fraction: float = 0.2, seed: int = 0) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Train and validation photos alone, as `load_splits` finds them."""
    return load_splits(root, val_fraction=val_fraction, seed=seed)[:2]


def load_unlabelled(root: Path) -> LabelledPhotos:
    """Photos of any folder, whatever its sub-folders mean; every target is -1. Raises DataError where there are none."""
    files, passed_over = survey(require_folder(root))
    if not files:
        raise DataError(f"no photos in {root}{why_none_of(passed_over)}")
    return LabelledPhotos(root, (), files, (-1,) * len(files), "unlabelled", passed_over)


def load_labelled(
    root: Path,
    labels: Sequence[str],
    split: str = "val",
    *,
    val_fraction: float | None = None,
    seed: int = 0,
    grouping: Grouping = Grouping(),
) -> LabelledPhotos:
    """Photos to evaluate a model with `labels` on; targets index the model's labels.

    split: "val" takes val/ where there is one, "train" takes train/, "all" every photo. `val_fraction`: when the folder was
    split by `seed` and `grouping` for training, the same split is taken here; None takes the whole folder.
    Layouts: class folders named as the labels (a subset will do), or photos named `NNNN_anything` with the class index.
    Raises DataError for no images, a class the model does not know, or a split that cannot be found again.
    """
    if is_manifest(root):
        photos, whole = _listed_part(root, labels, split, grouping)
    else:
        photos, whole = _folder_part(root, labels, split)
    if not whole or split == "all" or val_fraction is None:
        return photos
    chosen = split_as_trained(photos, val_fraction, seed, grouping)[("train", "val").index(split)]
    return replace(chosen, how="; ".join(filter(None, (photos.how, f"the {split} photos of the training"))))


def _refuse_other_classes(root: Path, train: LabelledPhotos, part: LabelledPhotos) -> None:
    if set(part.labels) == set(train.labels):
        return
    refuse_look_alikes(
        dict.fromkeys(train.labels, "train")
        | {label: part.split for label in part.labels if label not in train.labels},
        str(root),
    )
    only = [
        f"{', '.join(sorted(has)[:5])} only in {name}"
        for has, name in (
            (set(train.labels) - set(part.labels), "train"),
            (set(part.labels) - set(train.labels), part.split),
        )
        if has
    ]
    raise DataError(
        f"train and {part.split} of {root} hold different classes: {'; '.join(only)}; give both parts the same class folders"
    )


def _fraction(test: str | float) -> float:
    try:
        fraction = float(test or 0.0)
    except ValueError:
        return 0.0
    if not 0.0 <= fraction < 0.9:
        raise DataError(f"the share of test photos is {fraction:g}; it must be below 0.9")
    return fraction


def _given_splits(root: Path, group: str) -> dict[str, LabelledPhotos]:
    """The parts that names or a list's column give; a whole without parts is called "train"."""
    if is_manifest(root):
        listing = read_manifest(root, group if Grouping(group).by_column else "")
        labels = tuple(sorted({row.label for row in listing.rows}))
        if len(labels) == 1:
            gone = f" ({len(listing.skipped)} passed over, the first: {listing.skipped[0]})" if listing.skipped else ""
            raise DataError(f"{root} holds a single class, {labels[0]!r}{gone}; a classifier needs at least two")
        names = {row.split or "train" for row in listing.rows}
        if "train" not in names:
            raise DataError(f"{root} marks no row as train")
        found = {
            name: _listed(root, [r for r in listing.rows if (r.split or "train") == name], labels, name)
            for name in names
        }
        found["train"] = replace(found["train"], skipped=listing.skipped, how=listing.how)
        return found
    refuse_other_files(root)
    layout = find_layout(root)
    if "all" in layout.parts:
        whole = _of_layout(layout, "all", None)
        return {"train": replace(whole, skipped=(*whole.skipped, *layout.beside()), how=layout.describe())}
    if "train" not in layout.parts:
        part = next(iter(layout.parts.values()))
        raise DataError(
            f"{root} has {part.title} and no train folder beside it; call the folder to learn from train, or give "
            f"{part.folder.path} itself to train on it"
        )
    found = {name: _of_layout(layout, name, None) for name in layout.parts}
    # What belongs to no part is told with the training photos, once all parts have been looked at.
    found["train"] = replace(found["train"], skipped=(*found["train"].skipped, *layout.beside()), how=layout.describe())
    return found


def _folder_part(root: Path, labels: Sequence[str], split: str) -> tuple[LabelledPhotos, bool]:
    """The photos of a folder for a model, and whether they are a whole that training may have split."""
    refuse_other_files(root)
    places = label_places(labels)
    layout = find_layout(root, places)
    parts = layout.parts
    if split == "all" or "all" in parts:
        loaded = [_of_layout(layout, name, labels) for name in parts]
        merged = LabelledPhotos(
            root,
            tuple(labels),
            sum((part.paths for part in loaded), ()),
            sum((part.targets for part in loaded), ()),
            "all",
            sum((part.skipped for part in loaded), ()) + layout.beside(),
            layout.describe(),
        )
        if "all" not in parts or split != "test":
            return merged, "all" in parts
    wanted = "val" if split == "test" and layout.stands_in else split
    if wanted == "val" and "val" not in parts and "train" in parts:
        wanted = "train"
    if wanted not in parts:
        raise DataError(
            f"{root} has no {split} folder; evaluate on another part with --split, or give the folder itself"
        )
    photos = _of_layout(layout, wanted, labels)
    name = "test" if split == "test" else wanted
    photos = replace(photos, split=name, skipped=(*photos.skipped, *layout.beside()), how=layout.describe())
    return photos, wanted == "train" and "val" not in parts


def _of_layout(layout: Layout, name: str, labels: Sequence[str] | None) -> LabelledPhotos:
    """The photos of one part. labels: of a model; None takes the folders' own, of which there must be two."""
    part = layout.parts[name]
    folders = class_folders(layout, part, () if labels is None else label_places(labels))
    for folder in folders:
        refuse_unusable(folder.name, f"in {part.folder.path}, the class folder")
    base = part.folder.path
    spelled = [folder.name for folder in folders]
    refuse_look_alikes(spelled, str(base))
    if labels is None:
        own = tuple(sorted(clean_label(name) for name in spelled))
        _require_two(layout, part, own)
        places = {label: place for place, label in enumerate(own)}
        labels = own
    else:
        places = label_places(labels)
        if not folders:
            return _by_index(layout, part, labels, name)
    paths: list[Path] = []
    targets: list[int] = []
    for folder in folders:
        place = places.get(clean_label(folder.name), places.get(folder.name))
        if place is None:
            raise unknown_label(folder.name, labels, str(base))
        photos = sorted(folder.photos())
        paths += photos
        targets += [place] * len(photos)
    return LabelledPhotos(
        layout.root, tuple(labels), tuple(paths), tuple(targets), name, layout.passed_over(name), layout.describe()
    )


def _require_two(layout: Layout, part: FolderPart, labels: Sequence[str]) -> None:
    base = part.folder.path
    if not labels:
        if part.folder.own:
            raise DataError(
                f"{base} holds {len(part.folder.own)} photos but no class folders; put the photos of each class in a sub-folder "
                "named after the class, or list them in a CSV with the columns path and label"
            )
        raise DataError(
            f"{base} holds no photos{why_none_of(layout.tree.passed_over)}; put the photos of each class in a sub-folder "
            "named after the class"
        )
    if len(labels) == 1:
        left = f" ({layout.notes[0]})" if layout.notes else ""
        raise DataError(
            f"{base} holds a single class, {labels[0]!r}{left}; a classifier needs at least two class folders"
        )


def _by_index(layout: Layout, part: FolderPart, labels: Sequence[str], split: str) -> LabelledPhotos:
    """Photos without class folders, named by the index of their class."""
    base, files = part.folder.path, part.folder.own
    if not files:
        raise DataError(
            f"no photos in {base}{why_none_of(layout.tree.passed_over)}; it needs class folders, or photos named by class index "
            "(0007_name.jpg)"
        )
    targets = []
    for path in files:
        match = _INDEXED.match(path.name)
        if match is None or int(match.group(1)) >= len(labels):
            raise DataError(
                f"{one_line(path.name)} in {base} has no label: use a folder for each class, or names that start with the class "
                f"index (0000_ to {len(labels) - 1:04d}_)"
            )
        targets.append(int(match.group(1)))
    how = "names begin with the class index"
    return LabelledPhotos(
        layout.root, tuple(labels), tuple(files), tuple(targets), split, layout.passed_over(split), how
    )


def _listed(manifest: Path, rows: Sequence[Row], labels: Sequence[str], split: str) -> LabelledPhotos:
    places = label_places(labels)
    unknown = next((row.label for row in rows if row.label not in places), None)
    if unknown is not None:
        raise unknown_label(unknown, labels, str(manifest))
    return LabelledPhotos(
        manifest.parent,
        tuple(labels),
        tuple(row.path for row in rows),
        tuple(places[row.label] for row in rows),
        split,
        groups=tuple(row.group for row in rows) if any(row.group for row in rows) else (),
    )


def _listed_part(manifest: Path, labels: Sequence[str], split: str, grouping: Grouping) -> tuple[LabelledPhotos, bool]:
    """The photos of a list for a model, and whether they are a whole that training may have split."""
    column = grouping.method if grouping.by_column else ""
    listing = read_manifest(manifest, column)
    whole = not any(row.split for row in listing.rows)
    if split == "all" or (whole and split != "test"):
        chosen, name = list(listing.rows), "all"
    else:
        chosen, name = [row for row in listing.rows if (row.split or "train") == split], split
        marked = {row.split or "train" for row in listing.rows}
        if not chosen and split == "val" and "train" in marked:
            # Training split the rows marked train itself.
            chosen, name, whole = [row for row in listing.rows if (row.split or "train") == "train"], "train", True
    if not chosen:
        raise DataError(f"{manifest} marks no row as {split}; evaluate on another part with --split")
    photos = _listed(manifest, chosen, labels, name)
    return replace(photos, skipped=listing.skipped, how=listing.how), whole
