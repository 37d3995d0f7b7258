"""What the folders of a data set mean: which are parts (train, validation, test), which are classes, and what is neither.

A name alone decides nothing where the folders speak against it: a class may be called "train". What cannot be told is refused.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.datasets.labels import clean_label
from edge_tl_runtime.images.datasets.parts import FOLD, PARTS, part_of
from edge_tl_runtime.images.datasets.survey import Unreadable, why_none_of
from edge_tl_runtime.images.datasets.tree import Folder, Tree, read_tree

_PLAIN = frozenset({
    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pics", "jpg", "jpeg", "png", "original",
    "originals", "raw",
})  # fmt: skip
"""Names of sub-folders that hold the photos of a class and could be no classes themselves."""
_UNLABELLED = frozenset({
    "unlabelled", "unlabeled", "unsorted", "pred", "predict", "prediction", "predictions", "inference",
})  # fmt: skip
_LIKE_A_CLASS = "train"
"""The one word for a part that is a thing on photos, too."""


@dataclass(frozen=True)
class FolderPart:
    """folder: its sub-folders are the classes. title: its path below the root, "" for the root itself. area: the folder that is
    called as a part, perhaps around it."""

    folder: Folder
    title: str
    area: Path


@dataclass
class Layout:
    """parts: by "train", "val", "test"; a folder without parts is "all". left: photos that belong to no part or class. notes:
    what a person should know, in words. stands_in: whether the test folder is "val" for want of one."""

    root: Path
    tree: Tree
    parts: dict[str, FolderPart]
    left: list[Unreadable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stands_in: bool = False

    def describe(self) -> str:
        """The folders, in a few words."""
        if "all" in self.parts:
            title = self.parts["all"].title
            where = f"a folder for each class{' in ' + title if title else ''}"
        else:
            titles = [part.title for part in self.parts.values()]
            where = f"folder{'s' if len(titles) > 1 else ''} {', '.join(titles)}"
        return "; ".join([where, *self.notes])

    def passed_over(self, name: str) -> tuple[Unreadable, ...]:
        """Files in the area of a part that are no photos we take."""
        area = os.path.join(self.parts[name].area, "")
        return tuple(item for item in self.tree.passed_over if str(item.path).startswith(area))

    def beside(self) -> tuple[Unreadable, ...]:
        """Photos that belong to no part or class, as far as classes were looked at, and other files in the area of no part."""
        areas = tuple(os.path.join(part.area, "") for part in self.parts.values())
        if Path(".") in [part.area for part in self.parts.values()]:
            return tuple(self.left)
        return (*self.left, *(item for item in self.tree.passed_over if not str(item.path).startswith(areas)))


def find_layout(root: Path, known: Collection[str] = ()) -> Layout:
    """known: labels of a model; a folder named as one of them is a class and nothing else.

    Raises DataError for what cannot be listed and for folders that can be read in two ways.
    """
    tree = read_tree(root)
    layout = Layout(root, tree, {})
    node = _unwrapped(tree.top, known, layout)
    if not _found_parts(layout, node, known):
        layout.parts = {"all": FolderPart(node, _title(root, node), root)}
    return layout


def class_folders(layout: Layout, part: FolderPart, known: Collection[str] = ()) -> list[Folder]:
    """The folders of a part that are classes; photos beside them are added to `layout.left`. [] where there are no folders.

    Raises DataError for an empty one, and for folders that look like parts or copies instead.
    """
    node = part.folder
    classes = node.filled
    if not classes:
        return []
    where = "the class folders" if not part.title else f"the class folders of {part.title}"
    classes = _without_tests(layout, classes, known)
    _leave(layout, node.own, f"beside {where}, so it has no label; put it into one of them")
    if not _all_known(classes, known):
        _refuse_siblings(node, classes)
        classes = _without_copies(layout, classes)
    for child in node.empty:
        name = one_line(child.name)
        if child.files:
            inside = os.path.join(child.path, "")
            why = why_none_of([item for item in layout.tree.passed_over if str(item.path).startswith(inside)])
            raise DataError(
                f"class {name!r} in {node.path} holds {child.files} files and none is a photo{why}; add some or remove the folder"
            )
        raise DataError(f"class {name!r} in {node.path} holds no photos; add some or remove the folder")
    _note_depth(layout, node, classes)
    return classes


def _unwrapped(node: Folder, known: Collection[str], layout: Layout | None, part: str | None = None) -> Folder:
    """Below folders that only wrap others (`archive/PetImages/`, `seg_train/seg_train/`). part: what the outer one is called."""
    while len(node.filled) == 1 and not node.empty:
        child = node.filled[0]
        says = part_of(child.name)
        if not child.filled or clean_label(child.name) in known or says not in (None, part):
            break
        if layout is not None:
            _leave(layout, node.own, f"beside the folder {one_line(child.name)}, so it has no label")
        node = child
    return node


def _found_parts(layout: Layout, node: Folder, known: Collection[str]) -> bool:
    """Fill in the parts where the folders of `node` are some; what lies beside them is left."""
    children = node.filled
    named = {child.name: part_of(child.name) for child in children if clean_label(child.name) not in known}
    labelled: dict[str, list[Folder]] = {}
    for child in children:
        part = named.get(child.name)
        if part and _unwrapped(child, known, None, part).filled:
            labelled.setdefault(part, []).append(child)
    others = [child for child in children if not named.get(child.name)]
    if not labelled:
        if not named or others or not all(named.values()):
            return False
        if not known:
            raise DataError(_without_labels(node, children))
        for child in children:  # photos that are named by the index of their class
            labelled.setdefault(named[child.name] or "", []).append(child)
    if len(labelled) == 1 and not _a_lone_part(layout, node, next(iter(labelled.values())), others, known):
        return False
    for part, folders in labelled.items():
        if len(folders) > 1:
            names = " and ".join(one_line(folder.name) for folder in folders)
            raise DataError(f"{node.path} has {names}, which both say {part}; keep one, or put them together")
    for part in PARTS:
        if part in labelled:
            base = _unwrapped(labelled[part][0], known, layout, part)
            layout.parts[part] = FolderPart(base, _title(layout.root, base), labelled[part][0].path)
    _leave_beside(layout, node, labelled)
    void = [child for child in node.empty if part_of(child.name)]
    layout.notes += [f"{one_line(child.name)} holds no photos" for child in void]
    _note_partners(layout, "val" in [part_of(child.name) for child in void])
    return True


def _a_lone_part(
    layout: Layout, node: Folder, folders: Sequence[Folder], others: Sequence[Folder], known: Collection[str]
) -> bool:
    """Whether the only folder that is called as a part, and has sub-folders, is one: else it is a class. Raises DataError where
    that cannot be told."""
    one = folders[0]
    inside = {clean_label(child.name) for child in _unwrapped(one, known, None, part_of(one.name)).filled}
    beside = [folder for folder in others if folder.own]
    repeated = sorted(inside & {clean_label(folder.name) for folder in beside})
    name, says = one_line(one.name), part_of(one.name)
    if repeated:
        raise DataError(
            f"{name} in {node.path} holds folders that lie beside it too ({', '.join(repeated[:3])}); give {one.path} alone, or "
            f"move the others away: nobody can tell which of the photos are to train"
        )
    if not beside:
        return True
    if len(beside) > 1 and one.name.lower() == _LIKE_A_CLASS:
        return False
    raise DataError(
        f"{node.path} holds {name}, which has sub-folders as a {says} part has ({', '.join(sorted(inside)[:3])}), beside "
        f"{', '.join(one_line(folder.name) for folder in beside[:3])} with photos. If {name} is a part, give {one.path} or move "
        "the others away; if it is a class, give it another name"
    )


def _without_labels(node: Folder, children: Sequence[Folder]) -> str:
    names = [one_line(child.name) for child in children]
    starts = Counter(
        path.name.split(".")[0].rstrip("0123456789_- ").lower() for child in children for path in child.own
    )
    likely = [start for start, count in starts.most_common(4) if start and count > 1]
    hint = f" (their names begin with {', '.join(likely)})" if 2 <= len(likely) <= 3 else ""
    verb = "hold" if len(names) > 1 else "holds"
    return (
        f"{' and '.join(names[:3])} in {node.path} {verb} photos but no class folders, so the photos have no labels{hint}; put "
        "the photos of each class in a sub-folder named after the class, or list them in a CSV with the columns path and label"
    )


def _without_tests(layout: Layout, classes: Sequence[Folder], known: Collection[str]) -> list[Folder]:
    """Loose photos in a folder called test, test1, unlabelled beside class folders are to be answered, not learned."""
    kept = []
    for folder in classes:
        unlabelled = part_of(folder.name) == "test" or folder.name.lower() in _UNLABELLED
        if unlabelled and not folder.filled and clean_label(folder.name) not in known:
            count = _leave(
                layout, folder.photos(), f"in {one_line(folder.name)}, which has no class folders, so no label"
            )
            layout.notes.append(f"{one_line(folder.name)} has no class folders and is left out, {count} photos")
        else:
            kept.append(folder)
    return kept


def _refuse_siblings(node: Folder, classes: Sequence[Folder]) -> None:
    """Raises DataError where folders hold the same sub-folders: they are parts, sessions or copies, and no classes."""
    holders: dict[str, list[int]] = {}
    inside = [{clean_label(child.name).lower() for child in folder.filled} for folder in classes]
    for place, names in enumerate(inside):
        for name in names:
            holders.setdefault(name, []).append(place)
    for place, names in enumerate(inside):
        shared = sorted(name for name in names if len(holders[name]) > 1)
        class_names = [name for name in shared if name not in _PLAIN]
        whole = (
            bool(class_names) and len(shared) == len(names) and any(len(inside[p]) > 1 for p in holders[class_names[0]])
        )
        if len(shared) < 2 and not whole:
            continue
        alike = [one_line(classes[p].name) for p in holders[(class_names or shared)[0]]]
        alike = sorted({*alike, one_line(classes[place].name)})
        what = ", ".join(alike[:4]) + (", ..." if len(alike) > 4 else "")
        same = ", ".join(shared[:4]) + (", ..." if len(shared) > 4 else "")
        if all(FOLD.match(name) for name in alike):
            advice = (
                "they are folds of a cross-validation; put all but one together in train and that one in val, or list "
            )
            advice += "the photos in a CSV with the columns path, label and split"
        else:
            advice = "call them train and val if they are parts; put the photos of each class in one folder if these are to be "
            advice += "its parts; or give one of them alone"
        raise DataError(f"{what} in {node.path} hold the same sub-folders ({same}), so they are no classes: {advice}")


def _without_copies(layout: Layout, classes: Sequence[Folder]) -> list[Folder]:
    """Without a folder in which the photos of the others lie once more (`all_images`): names and sizes, then some whole files."""
    if len(classes) < 3:
        return list(classes)
    holders: dict[str, list[int]] = {}
    for place, folder in enumerate(classes):
        for photo in folder.photos():
            holders.setdefault(photo.name, []).append(place)
    kept = []
    for place, folder in enumerate(classes):
        photos = list(folder.photos())
        # Nearly all names occur in exactly one other folder, or this is no copy; only then files are looked at.
        elsewhere = [{p for p in holders[photo.name] if p != place} for photo in photos]
        others = [min(places) for places in elsewhere if len(places) == 1]
        if (
            len(others) >= 0.9 * len(photos)
            and len(set(others)) > 1
            and _copied(folder, [classes[p] for p in set(others)])
        ):
            name = one_line(folder.name)
            count = _leave(layout, photos, f"in {name}, which holds copies of the photos of other folders")
            layout.notes.append(f"{name} holds copies of the others and is left out, {count} photos")
        else:
            kept.append(folder)
    return kept


def _copied(folder: Folder, others: Iterable[Folder]) -> bool:
    """Whether files of the same name hold the same bytes, for up to eight of them spread over the folder."""
    where = {photo.name: photo for other in others for photo in other.photos()}
    pairs = [(photo, where[photo.name]) for photo in folder.photos() if photo.name in where]
    some = pairs[:: max(1, len(pairs) // 8)][:8]
    try:
        return all(a.stat().st_size == b.stat().st_size and a.read_bytes() == b.read_bytes() for a, b in some)
    except OSError:
        return False


def _leave_beside(layout: Layout, node: Folder, labelled: dict[str, list[Folder]]) -> None:
    """Name what lies beside the parts."""
    parts = [folder for folders in labelled.values() for folder in folders]
    _leave(layout, node.own, "beside the parts of the data set, so it has no label")
    for child in node.filled:
        if child in parts:
            continue
        name, count = one_line(child.name), child.count
        reason = f"in {name}, which is no part of the data set"
        if part_of(child.name):
            reason = f"in {name}, which has no class folders, so no label"
            layout.notes.append(f"{name} has no class folders and is left out, {count} photos")
        else:
            layout.notes.append(f"{name} is beside the parts and is left out, {count} photos")
        _leave(layout, child.photos(), reason)


def _note_partners(layout: Layout, told: bool) -> None:
    """told: that the val folder is empty."""
    parts = layout.parts
    if "val" not in parts and "train" in parts and "test" in parts:
        parts["val"] = parts.pop("test")
        layout.stands_in = True
        layout.notes.append(f"{parts['val'].title} validates, since there is no val folder")
    elif list(parts) == ["train"] and not told:
        layout.notes.append("no val folder beside it")
    elif "train" not in parts:
        layout.notes.append("no train folder beside it" if len(parts) == 1 else "no train folder beside them")


def _note_depth(layout: Layout, node: Folder, classes: Sequence[Folder]) -> None:
    """Say which level became the class, where there is more than one."""
    deep = next((folder for folder in classes if folder.filled), None)
    note = (
        ""
        if deep is None
        else f"sub-folders belong to their class, as {one_line(deep.name)}/{one_line(deep.filled[0].name)}"
    )
    if note and not any(known.startswith("sub-folders belong") for known in layout.notes):
        layout.notes.append(note)


def _leave(layout: Layout, photos: Iterable[Path], reason: str) -> int:
    before = len(layout.left)
    layout.left += [Unreadable(photo, reason) for photo in photos]
    return len(layout.left) - before


def _all_known(classes: Sequence[Folder], known: Collection[str]) -> bool:
    return bool(known) and all(clean_label(folder.name) in known for folder in classes)


def _title(root: Path, folder: Folder) -> str:
    return "" if folder.path == root else one_line(os.path.relpath(folder.path, root).replace(os.sep, "/"))
