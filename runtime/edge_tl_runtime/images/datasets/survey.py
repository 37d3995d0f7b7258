"""What a folder holds: every file below it is a photo or is passed over with the reason. One walk, 512 bytes of each file."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.text import one_line, plural
from edge_tl_runtime.images.datasets.junk import is_junk
from edge_tl_runtime.images.formats.kinds import (
    AVIF,
    GIF,
    HEAD,
    HEIC,
    RAW,
    SYSTEM,
    TIFF,
    Damaged,
    FileGroup,
    Kind,
    kind_of,
)

if TYPE_CHECKING:
    from edge_tl_runtime.images.documents import SkippedDocument

RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".pef", ".rwl",
    ".sr2", ".srf", ".srw",
})  # fmt: skip
"""Of camera raw that looks like a TIFF. The content decides first; where it says TIFF, these names say which kind."""
PICTURE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif",
    ".pnm", ".pgm", ".ppm", ".pbm",
})  # fmt: skip
"""Names that promise a photo: a file called so that is none deserves more words than one called notes.txt."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that was passed over, and why. plain: it is only something else than a photo, and nothing is to be done."""

    path: Path
    reason: str
    group: FileGroup = FileGroup.UNREADABLE
    plain: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    def to_dict(self) -> SkippedDocument:
        return {"path": str(self.path), "reason": self.reason, "group": self.group.value}


class Survey(NamedTuple):
    """Every regular file below a folder is in exactly one of the two, and so is every link that leads nowhere, pipe, socket,
    device, and folder that cannot be listed. Both are sorted by path."""

    photos: tuple[Path, ...]
    passed_over: tuple[Unreadable, ...]


def require_folder(root: Path) -> Path:
    """Raises DataError unless `root` is a folder that can be listed."""
    if not root.exists():
        raise DataError(f"no folder at {root}; check the path")
    if not root.is_dir():
        raise DataError(f"{root} is a file; give the folder that holds one sub-folder of photos for each class")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"cannot list the folder {root}: permission denied")
    return root


def survey(root: Path) -> Survey:
    """Look at every file below `root`. Nothing is decoded: a photo may still turn out to be damaged.

    Links are followed once: a folder that can be reached in two ways is read where it lies, or by the first link to it.
    """
    photos: list[Path] = []
    passed_over: list[Unreadable] = []
    for path, found in _walk(root):
        item = found if isinstance(found, Unreadable) else look(path)
        if item is None:
            photos.append(path)
        else:
            passed_over.append(item)
    return Survey(tuple(sorted(photos)), tuple(sorted(passed_over, key=lambda item: item.path)))


def look(path: Path) -> Unreadable | None:
    """None for a file whose content is a photo that is read here, else why it is passed over. Never waits for a pipe."""
    kind = file_kind(path)
    if isinstance(kind, Unreadable):
        return kind
    lacks = _lacks(kind)
    if lacks:
        return Unreadable(path, lacks, FileGroup.EXTRA)
    if kind.group is FileGroup.PHOTO:
        return None
    reason, suffix = kind.reason, path.suffix.lower()
    if kind.plain and suffix in PICTURE_SUFFIXES:
        return Unreadable(path, f"{reason}, though it is named {suffix}; fetch it again", kind.group)
    return Unreadable(path, reason, kind.group, kind.plain)


def file_kind(path: Path) -> Kind | Unreadable:
    """Kind of a regular file by its first bytes; Unreadable for what cannot be opened or is no regular file."""
    try:
        # Asked before opening: to open a device can have effects.
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return Unreadable(
                path, f"not a regular file ({_SORTS.get(stat.S_IFMT(mode), 'special')})", FileGroup.SPECIAL
            )
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        return _unopened(path, error)
    try:
        kind = kind_of(os.read(handle, HEAD))
        if kind is TIFF and (path.suffix.lower() in RAW_SUFFIXES or _is_raw(handle)):
            return RAW
        return kind
    except OSError as error:
        return Unreadable(path, error.strerror or str(error))
    finally:
        os.close(handle)


def is_still(path: Path) -> bool:
    """Whether a file is to be read as a photo, if only to say why that fails: by its content, else by its name. Not so GIFs and
    pipes, which may be videos."""
    kind = file_kind(path)
    if isinstance(kind, Unreadable):
        return kind.group is not FileGroup.SPECIAL and path.suffix.lower() in PICTURE_SUFFIXES
    if kind.group in (FileGroup.PHOTO, FileGroup.OTHER_PICTURE):
        return kind is not GIF
    return kind.group is not FileGroup.VIDEO and path.suffix.lower() in PICTURE_SUFFIXES


def count_reasons(items: Iterable[Unreadable]) -> list[tuple[str, list[Unreadable]]]:
    """Files by the reason for which they were passed over: what a person can mend first, systems' files last."""
    grouped: dict[str, list[Unreadable]] = {}
    for item in items:
        grouped.setdefault(item.reason, []).append(item)
    return sorted(grouped.items(), key=lambda pair: (_rank(pair[1][0]), -len(pair[1])))


def _rank(item: Unreadable) -> int:
    return 2 if item.group is FileGroup.SYSTEM else int(item.plain)


def why_none_of(passed_over: Sequence[Unreadable]) -> str:
    """For the end of a sentence that says that a folder holds no photos: what it holds instead, what to do; "" when nothing."""
    reasons = count_reasons(passed_over)
    if not reasons:
        return ""
    reason, items = reasons[0]
    others = len(passed_over) - len(items)
    rest = f", and {plural(others, 'other')}" if others else ""
    return f" ({plural(len(items), 'file')}, such as {one_line(items[0].path.name)}{rest}: {reason})"


_SORTS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _lacks(kind: Kind) -> str:
    if kind is not HEIC and kind is not AVIF:
        return ""
    from edge_tl_runtime.images.formats.heif import avif_lacks, heic_lacks

    return heic_lacks() if kind is HEIC else avif_lacks()


def _is_raw(handle: int) -> bool:
    """A TIFF's directory may stand anywhere in the file."""
    import mmap

    from edge_tl_runtime.images.formats.tiff import first_directory

    try:
        with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as data:
            return first_directory(data).is_raw
    except (Damaged, struct.error, ValueError, OverflowError):
        return False


def _unopened(path: Path, error: OSError | ValueError) -> Unreadable:
    if isinstance(error, ValueError):
        return Unreadable(path, "not a name that a file can have")
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)
        circle = "in a circle" if isinstance(error, OSError) and error.errno == errno.ELOOP else f"nowhere ({target})"
        return Unreadable(path, f"a link that leads {circle}", FileGroup.LINK)
    if isinstance(error, FileNotFoundError):
        return Unreadable(path, "no such file")
    return Unreadable(path, error.strerror or str(error))


def _walk(root: Path) -> Iterator[tuple[Path, Unreadable | None]]:
    """Files below `root`, with the reason where the name or the place alone says that a file is passed over."""
    visited: set[tuple[int, int]] = set()
    waiting: list[tuple[Path, bool]] = [(root, False)]
    links: list[tuple[Path, bool]] = []
    while waiting or links:
        # What lies in the tree comes first, so that a link never takes a folder away from its own place.
        by_link = not waiting
        folder, junk = waiting.pop() if waiting else links.pop(0)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:
                if by_link:
                    yield folder, Unreadable(folder, "a link to a folder that is read already", FileGroup.LINK)
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield folder, Unreadable(folder, f"a folder that cannot be listed: {error.strerror}", FileGroup.FOLDER)
            continue
        for entry in entries:
            path = Path(folder, entry.name)
            system = junk or is_junk(entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((path, system))
            elif _is_folder(entry):
                links.append((path, system))
            else:
                yield path, Unreadable(path, SYSTEM.reason, FileGroup.SYSTEM) if system else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def photo_files(root: Path) -> list[Path]:
    """The files below `root` whose content is a photo, sorted by path; see `survey`, which also gives the others."""
    return list(survey(root).photos)
