"""The folders below a data set and the photos in each, looked at once; what they mean is decided elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edge_tl_runtime.images.junk import is_junk
from edge_tl_runtime.photos import Unreadable, foreign_files, photo_files, require_folder

_PAPERS = frozenset({
    ".txt", ".md", ".rst", ".xml", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".html", ".pdf", ".doc", ".docx",
    ".xls", ".xlsx", ".py", ".ipynb", ".m", ".mat", ".npy", ".npz", ".pkl", ".h5", ".hdf5", ".log", ".toml", ".names", ".cfg",
    ".ini", ".sh", ".lst", ".list", ".onnx", ".pt", ".pth", ".safetensors",
})  # fmt: skip
"""Files that come with photos and are none: lists, boxes, licences."""
SYSTEM = "left by the system, not a photo of yours"


@dataclass
class Folder:
    """own: photos that lie in the folder itself; count: those in it and below. only_papers: it holds files, all of them lists
    and the like. path: as it was reached, so that the path of a photo begins with it."""

    path: Path
    own: list[Path] = field(default_factory=list)
    children: list[Folder] = field(default_factory=list)
    count: int = 0
    files: int = 0
    only_papers: bool = True

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def filled(self) -> list[Folder]:
        """Sub-folders with photos in or below them."""
        return [child for child in self.children if child.count]

    @property
    def empty(self) -> list[Folder]:
        """Sub-folders without a photo that are not there for lists, boxes and other papers."""
        return [child for child in self.children if not child.count and not (child.files and child.only_papers)]

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
    require_folder(root)
    folders = _folders(root)
    passed = {item.path: item for item in foreign_files(root)}
    for photo in photo_files(root):
        folder = folders.get(os.path.dirname(photo) or ".")
        if folder is None or is_junk(photo.name):
            passed.setdefault(photo, Unreadable(photo, SYSTEM))
        else:
            folder.own.append(photo)
    top = folders[str(root)]
    _count(top)
    return Tree(top, tuple(passed.values()))


def _folders(root: Path) -> dict[str, Folder]:
    found = {str(root): Folder(root)}
    above: dict[str, Folder] = {}
    visited: set[str] = set()
    for path, names, files in os.walk(root, followlinks=True):
        place = str(Path(path))
        folder, real = found[place], os.path.realpath(path)
        if real in visited:  # a symbolic link back up the tree
            names.clear()
            above[place].children.remove(folder)
            continue
        visited.add(real)
        names[:] = sorted(name for name in names if not is_junk(name))
        kept = [name for name in files if not is_junk(name)]
        folder.files = len(kept)
        folder.only_papers = all(os.path.splitext(name)[1].lower() in _PAPERS for name in kept)
        for name in names:
            child = Folder(folder.path / name)
            found[str(child.path)], above[str(child.path)] = child, folder
            folder.children.append(child)
    return found


def _count(folder: Folder) -> None:
    for child in folder.children:
        _count(child)
        folder.files += child.files
        folder.only_papers &= child.only_papers
    folder.count = len(folder.own) + sum(child.count for child in folder.children)
