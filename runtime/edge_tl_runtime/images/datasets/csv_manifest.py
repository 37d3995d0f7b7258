"""Labelled photos listed in a CSV or TSV file: a column for the photo, one for the label, and one for the part where wanted.

Paths are relative to the file's folder, or absolute. `images.datasets.tables` reads how lists come (encodings, separators, names
of columns); what a row means is decided here. What was understood is said, what is not there is counted, and a list that says two
things of one photo is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.text import one_line, plural
from edge_tl_runtime.images.datasets.labels import clean_label, refuse_look_alikes, refuse_unusable
from edge_tl_runtime.images.datasets.parts import part_of
from edge_tl_runtime.images.datasets.survey import PICTURE_SUFFIXES, Unreadable
from edge_tl_runtime.images.datasets.tables import SUFFIXES, Columns, TableLine, find_columns, read_lines

_MANY = re.compile(r"\s*[|;]\s*")
_SOME = re.compile(r"\s*[,/&+]\s*|\s+")
_LIST = re.compile(r"^[\[({].*[\])}]$")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_LISTS = (
    ".txt", ".json", ".jsonl", ".ndjson", ".xlsx", ".xls", ".ods", ".parquet", ".xml", ".yaml", ".yml", ".lst", ".dat",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One photo of a list. split: "train", "val", "test" or "" where there is no such column. group: of its origin, or ""."""

    path: Path
    label: str
    split: str
    group: str
    line: int


@dataclass(frozen=True)
class Listing:
    """rows: of files that are there. skipped: those that are not. how: what was understood, in words."""

    rows: tuple[Row, ...]
    skipped: tuple[Unreadable, ...]
    how: str


def is_manifest(path: Path) -> bool:
    """Whether a path is a file named as a list of photos is."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def refuse_other_files(path: Path) -> None:
    """Raises DataError for a file that holds or lists photos in a way that is not taken."""
    if not path.is_file():
        return
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES:
        raise DataError(f"{path} is a file, an archive; unpack it and give the folder")
    if suffix in _LISTS:
        raise DataError(
            f"{path} is a file of a kind that is not read; photos come as a folder with a sub-folder for each class, or listed "
            "in a .csv or .tsv file with the columns path and label"
        )


def read_manifest(path: Path, group: str = "") -> Listing:
    """group: the column that says which photos belong together, "" for none.

    Raises DataError with the line that is wrong: no such column, an empty label, an unknown part, one photo under two labels; and
    where none of the photos is there.
    """
    table = read_lines(path)
    columns = find_columns(path, table, group)
    finder = _Finder(
        path.parent, [line.cells[columns.path] for line in columns.lines if len(line.cells) > columns.path]
    )
    rows: list[Row] = []
    skipped: list[Unreadable] = []
    first: dict[str, Row] = {}
    again = 0
    for line in columns.lines:
        label = _label(path, line, columns)
        if label is None:
            skipped.append(
                Unreadable(
                    path.parent / line.cells[columns.path].strip(),
                    f"a test photo without a label, listed in {path.name}",
                )
            )
            continue
        photo, why = finder.find(line.cells[columns.path].strip())
        if why:
            skipped.append(Unreadable(photo, f"{why} (listed in {path.name})"))
            continue
        group_name = "" if columns.group is None else line.cells[columns.group].strip()
        row = Row(photo, label, _split(path, line, columns), group_name, line.number)
        known = first.setdefault(os.path.normpath(photo), row)
        if known is row:
            rows.append(row)
        elif (known.label, known.split) != (row.label, row.split):
            _refuse_twice(path, known, row)
        else:
            again += 1
    _require_rows(path, rows, skipped)
    refuse_look_alikes(dict.fromkeys(columns.spelled or [row.label for row in rows]), str(path))
    _refuse_several_labels(path, rows)
    notes = [f"{path.name}, {columns.describe()}", *table.notes, *columns.notes, *finder.notes]
    if again:
        notes.append(f"{plural(again, 'row')} repeated and counted once")
    return Listing(tuple(rows), tuple(skipped), "; ".join(notes))


def _label(path: Path, line: TableLine, columns: Columns) -> str | None:
    """None for a row of the test part without one: it is there to be answered."""
    where = f"line {line.number} of {path}"
    if len(line.cells) <= columns.last:
        raise DataError(f"{where} has {len(line.cells)} columns, fewer than the first line names")
    raw = columns.label_of(path, line)
    if not raw.strip():
        if columns.split is not None and part_of(line.cells[columns.split].strip()) == "test":
            return None
        raise DataError(f"{where} has no label")
    refuse_unusable(raw.strip(), f"in {where}, the label")
    if _LIST.match(raw.strip()) or (_MANY.search(raw.strip()) and columns.delimiter not in raw):
        raise DataError(
            f"{where} has several labels, {one_line(raw.strip())!r}; a photo has one here: keep the one that counts"
        )
    return clean_label(raw)


def _split(path: Path, line: TableLine, columns: Columns) -> str:
    if columns.split is None:
        return ""
    value = line.cells[columns.split].strip()
    if columns.split_means:  # a column such as is_valid
        yes = value.lower() in ("1", "1.0", "true", "yes", "t", "y")
        return columns.split_means if yes else ("val" if columns.split_means == "train" else "train")
    part = part_of(value) if value else ""
    if part is None:
        raise DataError(f"line {line.number} of {path} has split {value!r}; there are train, val and test")
    return part


def _refuse_twice(path: Path, known: Row, row: Row) -> None:
    what = f"under two labels, {known.label!r} in line {known.line} and {row.label!r} in line {row.line}"
    if known.label == row.label:
        what = (
            f"in two parts, {known.split or 'train'} in line {known.line} and {row.split or 'train'} in line {row.line}"
        )
    raise DataError(f"{path} lists {row.path.name} {what}; keep the one that is right")


def _refuse_several_labels(path: Path, rows: Sequence[Row]) -> None:
    """Raises DataError for labels that are made of other labels (`scab rust`)."""
    labels = {row.label for row in rows}
    for row in rows:
        pieces = _SOME.split(row.label)
        if len(pieces) > 1 and all(piece in labels for piece in pieces):
            raise DataError(
                f"line {row.line} of {path} has several labels, {row.label!r}, of which each is a label elsewhere; a photo has "
                "one here: keep the one that counts, or join the words by _"
            )


def _require_rows(path: Path, rows: Sequence[Row], skipped: Sequence[Unreadable]) -> None:
    if rows:
        return
    if not skipped:
        raise DataError(f"{path} lists no photos below its header")
    raise DataError(
        f"none of the {len(skipped)} photos that {path} lists is there; the first was looked for at {skipped[0]}. Paths are "
        "taken from the list's own folder"
    )


class _Finder:
    """Finds the files that a list names: with either slash, below one folder beside the list, or without a suffix."""

    def __init__(self, folder: Path, given: Sequence[str]) -> None:
        self.notes: list[str] = []
        self._inside: dict[Path, dict[str, list[str]]] = {}
        self._folder = self._below(folder, [name.strip() for name in given[:: max(1, len(given) // 20)]][:20])

    def find(self, given: str) -> tuple[Path, str]:
        """The file, and why it cannot be taken, "" where it can."""
        if not given:
            return self._folder, "no file name"
        for name in dict.fromkeys((given, given.replace("\\", "/"))):
            path = self._folder / name
            if path.is_file():
                return path, ""
            same = self._without_suffix(path)
            if len(same) == 1:
                return path.with_name(same[0]), ""
            if len(same) > 1:
                return path, f"several files have this name: {', '.join(same[:3])}"
        windows = PureWindowsPath(given)
        if windows.drive and os.name != "nt":
            return Path(given), "a path of another, Windows computer; make it relative to the list"
        if "://" in given:
            return Path(given), "an address on the web; download the photo and name the file"
        path = self._folder / given.replace("\\", "/")
        return path, "it is a folder" if path.is_dir() else "there is no such file"

    def _without_suffix(self, path: Path) -> list[str]:
        folder = path.parent
        if folder not in self._inside:
            stems: dict[str, list[str]] = {}
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in PICTURE_SUFFIXES:
                    stems.setdefault(stem, []).append(name)
            self._inside[folder] = stems
        return self._inside[folder].get(path.name, [])

    def _below(self, folder: Path, some: Sequence[str]) -> Path:
        """The folder of the list, or the one folder in it below which the photos lie (`train.csv` beside `images/`)."""
        self._folder = folder
        if not some or not folder.is_dir() or any(not self.find(name)[1] for name in some):
            return folder
        able = []
        for child in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
            self._folder = child
            if any(not self.find(name)[1] for name in some):
                able.append(child)
        if len(able) > 1:
            raise DataError(
                f"the photos that the list names lie below several folders beside it ({', '.join(c.name for c in able[:4])}); "
                "write the folder into the paths"
            )
        if able:
            self.notes.append(f"photos below {one_line(able[0].name)}")
        return able[0] if able else folder
