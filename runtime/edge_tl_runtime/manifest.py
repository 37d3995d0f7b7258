"""Labelled photos listed in a CSV or TSV file: a column `path`, a column `label`, and `split` where wanted.

Paths are relative to the file's folder, or absolute. UTF-8, with or without a byte-order mark.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tl_runtime.errors import UNPRINTABLE, DataError, one_line

SUFFIXES = {".csv": ",", ".tsv": "\t"}
_PATH = ("path", "file", "filename", "image", "photo")
_LABEL = ("label", "class", "category", "target")
_SPLIT = ("split", "set", "subset")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a manifest. split: "train", "val", "test" or "" where there is no such column."""

    path: Path
    label: str
    split: str


def is_manifest(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_manifest(path: Path) -> list[Row]:
    """Raises DataError with the line that is wrong: no such column, an empty label, no such photo, an unknown split."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8; save it as UTF-8") from None
    delimiter = SUFFIXES[path.suffix.lower()]
    lines = text.splitlines()
    if delimiter == "," and lines and ";" in lines[0] and "," not in lines[0]:
        delimiter = ";"  # what spreadsheets write where the comma is the decimal mark
    table = csv.reader(lines, delimiter=delimiter)
    header = [name.strip().lower() for name in next(table, [])]
    path_at, label_at = _column(path, header, _PATH), _column(path, header, _LABEL)
    split_at = next((header.index(name) for name in _SPLIT if name in header), None)
    rows = [
        _row(path, table.line_num, cells, (path_at, label_at, split_at))
        for cells in table
        if any(c.strip() for c in cells)
    ]
    if not rows:
        raise DataError(f"{path} lists no photos below its header")
    return rows


def _column(path: Path, header: Sequence[str], names: Sequence[str]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise DataError(f"{path} has no column {names[0]!r}; its first line must name the columns, as in: path,label,split")


def _row(path: Path, line: int, cells: Sequence[str], places: tuple[int, int, int | None]) -> Row:
    path_at, label_at, split_at = places
    where = f"line {line} of {path}"
    if len(cells) <= max(path_at, label_at, split_at or 0):
        raise DataError(f"{where} has {len(cells)} columns, fewer than the first line names")
    label = cells[label_at].strip()
    if not label:
        raise DataError(f"{where} has no label")
    if UNPRINTABLE.search(label):
        raise DataError(f"{where} has a label with control characters, {one_line(label)!r}; rename the class")
    photo = path.parent / cells[path_at].strip()
    if not photo.is_file():
        raise DataError(f"{where} names {cells[path_at].strip()!r}, and there is no such file")
    split = cells[split_at].strip().lower() if split_at is not None else ""
    split = {"training": "train", "valid": "val", "validation": "val"}.get(split, split)
    if split not in ("", "train", "val", "test"):
        raise DataError(f"{where} has split {split!r}; there are train, val and test")
    return Row(photo, label, split)
