"""The folders below a data set and the photos in each, looked at once; what they mean is decided elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_tl_runtime.images.datasets.junk import is_junk
from edge_tl_runtime.images.datasets.survey import Unreadable, require_folder, survey
from edge_tl_runtime.images.formats.kinds import FileGroup

_SIDE_FILES = frozenset({
    ".txt", ".md", ".rst", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".html", ".pdf", ".doc", ".docx",
    ".xls", ".xlsx", ".py", ".ipynb", ".m", ".mat", ".npy", ".npz", ".pkl", ".h5", ".hdf5", ".log", ".toml", ".names", ".cfg",
    ".ini", ".sh", ".lst", ".list", ".onnx", ".pt", ".pth", ".safetensors",
})  # fmt: skip
"""Files that come with photos and are none: lists, boxes, licences."""


@dataclass
class Folder:
    """own: photos that lie in the folder itself; count: those in it and below. only_side_files: it holds files, all of them lists
    and the like. path: as it was reached, so that the path of a photo begins with it."""

    path: Path
    own: list[Path] = field(default_factory=list)
    children: list[Folder] = field(default_factory=list)
    count: int = 0
    files: int = 0
    only_side_files: bool = True

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def filled(self) -> list[Folder]:
        """Sub-folders with photos in or below them."""
        return [child for child in self.children if child.count]

    @property
    def empty(self) -> list[Folder]:
        """Sub-folders without a photo, except those that hold lists, boxes and other side files alone."""
        return [child for child in self.children if not child.count and not (child.files and child.only_side_files)]

    def add_file(self, path: Path) -> None:
        self.files += 1
        self.only_side_files &= path.suffix.lower() in _SIDE_FILES

    def photos(self) -> Iterator[Path]:
        """All photos in it and below, folder by folder."""
        yield from self.own
        for child in self.children:
            yield from child.photos()


@dataclass(frozen=True)
class Tree:
    """passed_over: files that are no photos we take, with the reason."""

    top: Folder
    passed_over: tuple[Unreadable, ...]


def read_tree(root: Path) -> Tree:
    """Raises DataError unless `root` is a folder that can be listed. Links are followed once, folders of systems left out."""
    found = survey(require_folder(root))
    folders = {str(root): Folder(root)}

    def at(path: str) -> Folder:
        """The folder of this path, made with those above it."""
        if path not in folders:
            folders[path] = Folder(Path(path))
            at(_above(path)).children.append(folders[path])
        return folders[path]

    for path, names, _ in os.walk(root):
        names[:] = [name for name in names if not (is_junk(name) or os.path.islink(os.path.join(path, name)))]
        for name in names:
            at(str(Path(path, name)))  # an empty one holds no file that the survey could name
    for photo in found.photos:
        folder = at(_above(str(photo)))
        folder.own.append(photo)
        folder.add_file(photo)
    for item in found.passed_over:
        if item.group is not FileGroup.SYSTEM and str(item.path) not in folders:
            at(_above(str(item.path))).add_file(item.path)
    _count(folders[str(root)])
    return Tree(folders[str(root)], found.passed_over)


def _above(path: str) -> str:
    return os.path.dirname(path) or "."


def _count(folder: Folder) -> None:
    folder.children.sort(key=lambda child: child.path)
    for child in folder.children:
        _count(child)
        folder.files += child.files
        folder.only_side_files &= child.only_side_files
    folder.count = len(folder.own) + sum(child.count for child in folder.children)
