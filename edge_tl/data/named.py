"""Data sets by name. Adding one: an entry in DATA_SETS with its files, and a function that arranges them in class folders."""

from __future__ import annotations

import difflib
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tl.data.cache import cache_folder
from edge_tl.data.download import DownloadError, Remote, fetch
from edge_tl.data.surfaces import write_surfaces
from edge_tl_export import Stage
from edge_tl_runtime.core.errors import DataError, OutputError
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, split_photos

MIRROR_VARIABLE = "EDGE_TL_DATA_MIRROR"
"""Base URL that replaces scheme and host of data sets, for closed networks."""
_VAL_FRACTION = 0.2
_MOST_UNPACKED = 4
"""Times its download that a data set may take unpacked. Photos hardly shrink in an archive; one that grows by more is a bomb."""


@dataclass(frozen=True)
class DataSet:
    """arrange: turns the unpacked archives (first argument) into class folders (second). megabytes: to download, about.

    license: in the words of the publisher.
    """

    files: tuple[Remote, ...]
    arrange: Callable[[Path, Path], None]
    megabytes: int
    license: str


def _hymenoptera(unpacked: Path, target: Path) -> None:
    for part in ("train", "val"):
        shutil.move(unpacked / "hymenoptera_data" / part, target / part)


def _cats_dogs(unpacked: Path, target: Path) -> None:
    for label in ("Cat", "Dog"):
        shutil.move(unpacked / "PetImages" / label, target / label)


def _oxford_pets(unpacked: Path, target: Path) -> None:
    """The published test list is the test part; a fixed fifth of each breed of the trainval list is for validation."""
    test = _listed(unpacked / "annotations" / "test.txt")
    trainval = sorted(_listed(unpacked / "annotations" / "trainval.txt"))
    labels = tuple(sorted({name.rpartition("_")[0] for name in trainval}))
    paths = tuple(unpacked / "images" / f"{name}.jpg" for name in trainval)
    targets = tuple(labels.index(name.rpartition("_")[0]) for name in trainval)
    train, val = split_photos(LabelledPhotos(unpacked, labels, paths, targets), _VAL_FRACTION, seed=0)
    parts = {"train": train.paths, "val": val.paths, "test": [unpacked / "images" / f"{name}.jpg" for name in test]}
    for part, members in parts.items():
        for path in members:
            folder = target / part / path.stem.rpartition("_")[0]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(path, folder / path.name)


def _listed(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines() if line and not line.startswith("#")]


_PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data/"

DATA_SETS: dict[str, DataSet] = {
    "oxford-pets": DataSet(
        (
            Remote(_PETS + "images.tar.gz", "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Remote(_PETS + "annotations.tar.gz", "md5:95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
        _oxford_pets,
        811,
        "CC BY-SA 4.0",
    ),
    "cats-dogs": DataSet(
        (
            Remote(
                "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
                "sha256:b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
            ),
        ),
        _cats_dogs,
        825,
        "Microsoft Research Data License",
    ),
    # No checksum is published; the archive's own CRCs are checked as it is unpacked.
    "hymenoptera": DataSet(
        (Remote("https://download.pytorch.org/tutorial/hymenoptera_data.zip"),),
        _hymenoptera,
        47,
        "of the photos' authors",
    ),
}
SURFACES = "surfaces"
NAMES = (*DATA_SETS, SURFACES)


def resolve(data: str, stage: Stage, say: Callable[[str], None]) -> Path:
    """The folder that DATA means: a path that is there, or a data set by name, downloaded once. Other paths pass through.

    Raises DataError for a name that is nearly that of a data set, DownloadError, OutputError.
    """
    path = Path(data)
    if path.exists():
        return path
    if data in NAMES:
        return get(data, cache_folder("data"), stage, say)
    near = difflib.get_close_matches(data, NAMES, n=1)
    if near:
        raise DataError(f"no folder at {data}, and no data set of that name; did you mean {near[0]}?")
    return path


def get(name: str, parent: Path, stage: Stage, say: Callable[[str], None]) -> Path:
    """The folder `parent`/`name`, made when it is not there: whole, or not at all."""
    target = parent / name
    if target.is_dir():
        return target
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as temporary:
        made = Path(temporary) / name
        if name == SURFACES:
            write_surfaces(made)
        else:
            _build(DATA_SETS[name], name, made, stage, say)
        try:
            os.rename(made, target)
        except OSError:
            if not target.is_dir():  # another process was first otherwise
                raise
    return target


def _build(data_set: DataSet, name: str, made: Path, stage: Stage, say: Callable[[str], None]) -> None:
    remotes = [remote.mirrored(MIRROR_VARIABLE) for remote in data_set.files]
    folder = cache_folder("downloads")
    say(f"{name}: about {data_set.megabytes} MB to download, license: {data_set.license}")
    archives = []
    try:
        with stage(f"downloading {name}", data_set.megabytes * 1_000_000) as progress:
            for remote in remotes:
                archives.append(fetch(remote, folder / f"{name}-{remote.name}", progress))
    except DownloadError as error:
        raise DownloadError(
            f"{error}. Or fetch it by other means and give the folder instead of the name {name!r}"
        ) from None
    unpacked = made.parent / "unpacked"
    for archive in archives:
        _unpack(archive, unpacked, _MOST_UNPACKED * data_set.megabytes * 1_000_000)
    made.mkdir()
    try:
        data_set.arrange(unpacked, made)
    except OSError as error:
        _forget(archives)
        raise DownloadError(f"the archive of {name} holds other files than expected ({error}); try again") from None
    _forget(archives)


def _unpack(archive: Path, folder: Path, limit: int) -> None:
    """limit: bytes in all. Neither kind of archive gives more of a member than it says beforehand."""
    left = limit
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    left = _within(archive, left - info.file_size, limit)
                    zipped.extract(info, folder)  # takes absolute and upward paths for what they are
        else:
            with tarfile.open(archive) as tarred:
                for member in tarred:
                    left = _within(archive, left - member.size, limit)
                    _extract(tarred, member, folder)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        # ValueError: a name that no file can have.
        archive.unlink()
        raise DownloadError(f"{archive.name} is damaged ({error}) and was removed; try again") from None
    except OSError as error:
        raise OutputError(
            f"cannot unpack {archive.name}: {error.strerror or error}; free some space and try again"
        ) from None


def _extract(tarred: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a file below the folder; a link or a device, of which the published archives hold none, is left out.

    By hand: tarfile's own filters came to 3.10 and 3.11 in later releases than boards have (Debian 12's is 3.11.2).
    """
    content = tarred.extractfile(member) if member.isreg() else None
    if content is None:
        return
    target = (folder / member.name).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise tarfile.TarError(f"{member.name!r} is outside of it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("wb") as file:
        shutil.copyfileobj(content, file)


def _within(archive: Path, left: int, limit: int) -> int:
    if left < 0:
        archive.unlink()
        raise DownloadError(
            f"{archive.name} unpacks to more than {limit / 1e6:g} MB, so it is not the published file, and was removed; "
            f"try again, and look at {MIRROR_VARIABLE} if it is set"
        )
    return left


def _forget(archives: Sequence[Path]) -> None:
    for archive in archives:
        archive.unlink(missing_ok=True)
