"""Lists of photos as spreadsheets, data platforms and scripts write them: which bytes, which separator, which columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.datasets.parts import part_of
from edge_tl_runtime.images.datasets.survey import PICTURE_SUFFIXES

SUFFIXES = {".csv": ",", ".tsv": "\t"}
MAX_BYTES = 256 * 2**20
_PATH = (
    "path", "file_path", "filepath", "image_path", "imagepath", "img_path", "photo_path", "rel_path", "relative_path", "file",
    "file_name", "filename", "image_file", "image_filename", "image_name", "img_name", "photo_name", "image", "img", "photo",
    "picture", "image_id", "imageid", "img_id", "photo_id", "id", "name",
)  # fmt: skip
_LABEL = (
    "label", "labels", "class", "class_name", "classname", "class_label", "label_name", "category", "category_name",
    "categories", "target", "target_name", "species", "breed", "variety", "kind", "tag", "tags", "diagnosis", "dx", "y",
    "ground_truth",
)  # fmt: skip
_SPLIT = (
    "split", "set", "subset", "part", "partition", "phase", "fold_type", "usage",
)  # fmt: skip
_FLAGS = {"is_train": "train", "is_valid": "val", "is_val": "val", "is_test": "test"}
_ADDRESS = ("url", "image_url", "uri", "link")
_NUMBER = re.compile(r"^-?\d+(?:\.0+)?$")


@dataclass(frozen=True, slots=True)
class TableLine:
    """number: of its last line in the file, from 1."""

    number: int
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """lines: without empty ones. notes: what a person should know of how the file was read."""

    lines: list[TableLine]
    delimiter: str
    notes: list[str]


@dataclass
class Columns:
    """Places of the columns; `lines` are the rows below the header. split_means: the part that a yes in a column such as is_valid
    stands for. one_hot: columns that are classes, marked by 1. spelled: labels as they are written, to find look-alikes."""

    names: list[str]
    path: int
    lines: list[TableLine]
    delimiter: str
    label: int | None = None
    one_hot: list[int] = field(default_factory=list)
    split: int | None = None
    split_means: str = ""
    group: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last place that every row needs."""
        places = (self.path, self.label, self.split, self.group, *self.one_hot)
        return max(place for place in places if place is not None)

    @property
    def spelled(self) -> list[str]:
        """Labels as the file spells them, surrounding spaces aside."""
        if self.label is None:
            return [self.names[place] for place in self.one_hot]
        return list(
            dict.fromkeys(line.cells[self.label].strip() for line in self.lines if len(line.cells) > self.label)
        )

    def label_of(self, path: Path, line: TableLine) -> str:
        """Raises DataError where a row of a one-hot list marks no class or several."""
        if self.label is not None:
            return line.cells[self.label]
        marked = [self.names[place] for place in self.one_hot if float(line.cells[place] or 0) == 1]
        if len(marked) != 1:
            what = f"marks several classes ({', '.join(marked[:3])})" if marked else "marks no class"
            raise DataError(f"line {line.number} of {path} {what}; a photo has one here: mark the one that counts by 1")
        return marked[0]

    def describe(self) -> str:
        """The columns in use, as the file spells them."""
        if self.label is None:
            return f"photo in {self.names[self.path]}, a column for each class"
        used = [self.names[p] for p in (self.path, self.label, self.split, self.group) if p is not None]
        return f"columns {', '.join(one_line(name, 40) for name in used)}"


def read_lines(path: Path) -> Table:
    """The cells of a list. Raises DataError for what cannot be read or is no text in a known encoding."""
    try:
        text, notes = _decoded(path, read_regular(path, MAX_BYTES))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    first, _, rest = text.partition("\n")
    said = re.match(r"^\s*\"?sep=(.)\"?\s*$", first.rstrip("\r"))
    offset = 0
    if said:
        text, offset = rest, 1
    delimiter = said[1] if said else _delimiter(SUFFIXES[path.suffix.lower()], text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        lines = [TableLine(reader.line_num + offset, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num + offset} of {path} is not CSV ({error}); look for a quote that is not closed"
        ) from None
    return Table(lines, delimiter, notes)


def _decoded(path: Path, data: bytes) -> tuple[str, list[str]]:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            try:
                return data.decode(encoding).lstrip("\ufeff"), []
            except UnicodeDecodeError:
                raise DataError(
                    f"{path} begins as {encoding.upper()} and goes on as something else; save it as UTF-8"
                ) from None
    if data[:200].count(0) * 3 > len(data[:200]):
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace"), ["read as UTF-16"]
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        guess = data.split(b"\n", line)[line - 1][:60].decode("cp1252", "replace").strip()
        raise DataError(
            f"line {line} of {path} is not UTF-8 (as Windows wrote it: {one_line(guess)!r}); save it as UTF-8, in a "
            "spreadsheet as 'CSV UTF-8'"
        ) from None


def _delimiter(usual: str, text: str) -> str:
    """The separator that makes known columns of the first line; else that which gives the most of them."""
    first = next((line for line in text.splitlines() if line.strip()), "")

    def worth(delimiter: str) -> tuple[int, int, bool]:
        names = [_plain(cell) for cell in next(csv.reader([first], delimiter=delimiter), [])]
        return sum(any(name in known for name in names) for known in (_PATH, _LABEL)), len(names), delimiter == usual

    return max((",", ";", "\t", "|"), key=worth)


def _plain(name: str) -> str:
    """A column's name as it is compared: `Image Path`, `image-path` and `imagePath` are one."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip().strip("\ufeff\u200b\"'"))
    return re.sub(r"[\s\-./]+", "_", spaced).lower()


def find_columns(path: Path, table: Table, group: str = "") -> Columns:
    """Raises DataError where the columns that are needed are not there, are there twice, or could be several."""
    if not table.lines:
        raise DataError(f"{path} is empty; its first line must name the columns, as in: path,label,split")
    header, body = table.lines[0].cells, table.lines[1:]
    names = [_plain(cell) for cell in header]
    photo = next((names.index(name) for name in _PATH if name in names), None)
    labels = [place for name in _LABEL for place in _places(names, name)]
    if photo is None or not (labels or _one_hot(names, photo, body)):
        return _without_header(path, table, photo, names)
    if labels and labels[0] == photo:
        labels = labels[1:]
    columns = Columns([cell.strip() for cell in header], photo, body, table.delimiter)
    _refuse_repeated(path, columns, names, names[photo])
    if labels:
        columns.label = _one_label(path, columns, names, labels)
        _refuse_repeated(path, columns, names, names[columns.label])
    else:
        columns.one_hot = _one_hot(names, photo, body)
    columns.split = next((names.index(name) for name in (*_SPLIT, *_FLAGS) if name in names), None)
    if columns.split is not None:
        columns.split_means = _FLAGS.get(names[columns.split], "")
        _refuse_repeated(path, columns, names, names[columns.split])
    if group:
        columns.group = next((i for i, cell in enumerate(header) if cell.strip() == group), None)
        if columns.group is None and _plain(group) in names:
            columns.group = names.index(_plain(group))
        if columns.group is None:
            raise DataError(f"{path} has no column {group!r} to group by; it has {', '.join(columns.names)}")
    return columns


def _places(names: Sequence[str], name: str) -> list[int]:
    return [place for place, other in enumerate(names) if other == name]


def _refuse_repeated(path: Path, columns: Columns, names: Sequence[str], name: str) -> None:
    if len(_places(names, name)) > 1:
        raise DataError(f"{path} names the column {name!r} twice; keep one")


def _one_label(path: Path, columns: Columns, names: Sequence[str], places: Sequence[int]) -> int:
    """Which of several columns is the label: names rather than their numbers; `label` before others; else a person must say."""
    places = list(dict.fromkeys(places))
    first = places[0]
    if len(places) == 1:
        return first
    values = {p: [line.cells[p].strip() for line in columns.lines if len(line.cells) > max(places)] for p in places}
    numbered = [p for p in places if all(_NUMBER.match(value) for value in values[p])]
    worded = [p for p in places if p not in numbered]
    if numbered and len(worded) == 1 and _one_to_one(values[numbered[0]], values[worded[0]]):
        columns.notes.append(f"{columns.names[numbered[0]]} holds the numbers of the same classes")
        return worded[0]
    if names[first] not in ("label", "labels") and not all(_one_to_one(values[first], values[p]) for p in places):
        found = ", ".join(columns.names[p] for p in places)
        raise DataError(f"{path} has several columns that could be the label ({found}); call the right one label")
    columns.notes.append(f"not used: {', '.join(columns.names[p] for p in places if p != first)}")
    return first


def _one_to_one(left: Sequence[str], right: Sequence[str]) -> bool:
    pairs = set(zip(left, right, strict=True))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def _one_hot(names: Sequence[str], photo: int, body: Sequence[TableLine]) -> list[int]:
    """Columns of nothing but 0 and 1, two or more, beside the photo's: each is a class."""
    known = {*_SPLIT, *_FLAGS}
    found = [
        place
        for place in range(len(names))
        if place != photo and names[place] and names[place] not in known and _marks(place, body)
    ]
    return found if len(found) > 1 else []


def _marks(place: int, body: Sequence[TableLine]) -> bool:
    return bool(body) and all(
        len(line.cells) > place and line.cells[place].strip() in ("0", "1", "0.0", "1.0") for line in body
    )


def _without_header(path: Path, table: Table, photo: int | None, names: Sequence[str]) -> Columns:
    """A list of two columns whose first line is a photo already; else the error that says what is missing."""
    cells = table.lines[0].cells
    if photo is None and len(cells) >= 2 and _is_photo(path, cells[0]):
        if len(cells) == 2 or (len(cells) == 3 and part_of(cells[2].strip())):
            split = 2 if len(cells) == 3 else None
            titles = ["path", "label", "split"][: len(cells)]
            columns = Columns(titles, 0, table.lines, table.delimiter, 1, split=split)
            columns.notes.append("no header, so the first column is the photo and the second its label")
            return columns
        raise DataError(f"{path} has no header; its first line must name the columns, as in: path,label,split")
    if photo is None and any(name in _ADDRESS for name in names):
        raise DataError(
            f"{path} lists addresses on the web; download the photos and give a column path with their files"
        )
    missing = "path" if photo is None else "label"
    found = ", ".join(one_line(cell.strip(), 40) for cell in cells[:8])
    raise DataError(
        f"{path} has no column {missing!r} ({found}); its first line must name the columns, as in: path,label,split"
    )


def _is_photo(path: Path, cell: str) -> bool:
    name = cell.strip().replace("\\", "/")
    return Path(name).suffix.lower() in PICTURE_SUFFIXES or (path.parent / name).is_file()
