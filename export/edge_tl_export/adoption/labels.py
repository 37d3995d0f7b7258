"""Labels in the forms that people have them: one a line, numbered, JSON, CSV, dictionaries of Python, metadata of a file."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.strict_json import strict_json
from edge_tl_runtime.core.text import UNPRINTABLE, one_line, without_invisible
from edge_tl_runtime.images.datasets.labels import clean_label, unseen_inside

MAX_BYTES = 4 * 2**20
BACKGROUND = "background"

_NUMBERED = re.compile(r"^(\d{1,6})\s*[:;,=.)\t ]\s*(\S.*)$")
_NUMBER_BEHIND = re.compile(r"^(.*\S)\s*[:;,=\t]\s*(\d{1,6})$")
_WORDNET = re.compile(r"^(n\d{8})[\s,;:]+(\S.*)$")
_INDEX_COLUMNS = ("id", "index", "idx", "class_id", "class_index", "label_id", "class_idx", "number")
_NAME_COLUMNS = ("name", "label", "class", "class_name", "label_name", "display_name", "category", "labels", "names")
_NESTED_KEYS = ("id2label", "names", "labels", "classes", "class_names", "label_names", "categories", "label2id")
METADATA_KEYS = ("names", "id2label", "labels", "classes", "class_names", "label_names", "label2id")
"""Keys of an ONNX file's metadata that hold labels; Ultralytics writes the first."""


@dataclass(frozen=True)
class LabelList:
    """labels: in the order of the scores. origin: where from, for messages. how: how they were read, a line each."""

    labels: tuple[str, ...]
    origin: str
    how: tuple[str, ...] = ()


def read_labels(path: Path, repeated: str = "refuse") -> LabelList:
    """Labels of a file. repeated: "number" gives the second of two equal labels its index. Raises UsageError in a line."""
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot read the labels in {path}: {error.strerror}; "
            "give a file with one label a line, or --labels imagenet, numbers or metadata"
        ) from None
    text, how = _decoded(data, str(path))
    if path.suffix.lower() in (".yaml", ".yml"):
        raise UsageError(f"{path} is YAML, which is not read here; write its labels one a line into a text file")
    found, more = _parsed(text, path.suffix.lower(), str(path))
    return checked(found, str(path), repeated, (*how, *more))


def labels_of_metadata(metadata: Mapping[str, str], repeated: str = "refuse") -> LabelList | None:
    """Labels that an ONNX file carries, or None. Raises UsageError where there are some and they are not usable."""
    for key in METADATA_KEYS:
        if metadata.get(key, "").strip():
            origin = f"the file's metadata ({key})"
            found, how = _parsed(metadata[key], "", origin, loose=True)
            return checked(found, origin, repeated, how)
    return None


def numbered(count: int) -> LabelList:
    """The numbers of the classes, where nobody knows their names."""
    width = len(str(count - 1))
    return LabelList(
        tuple(f"{index:0{width}d}" for index in range(count)), "the numbers of its scores, for want of names"
    )


def with_background(found: LabelList) -> LabelList:
    """The same labels behind one for the background."""
    if BACKGROUND in found.labels:
        raise UsageError(f"{found.origin} has a label {BACKGROUND!r} already; leave --background-first out")
    return LabelList((BACKGROUND, *found.labels), found.origin, (*found.how, f"{BACKGROUND!r} was put first"))


def checked(
    labels: Sequence[str], origin: str, repeated: str = "refuse", how: Sequence[str] = (), first: int = 0
) -> LabelList:
    """Labels that a classifier can have. Raises UsageError for fewer than two, an empty one, one of control characters or,
    unless they are to be numbered, a repeated one."""
    labels = [clean_label(label) for label in labels]
    for index, label in enumerate(labels):
        if not label:
            raise UsageError(f"{origin}: label {index} is empty; give every class a name")
        if UNPRINTABLE.search(label):
            raise UsageError(f"{origin}: label {index}, {one_line(label, 60)!r}, has control characters; remove them")
        if unseen_inside(label):
            raise UsageError(
                f"{origin}: label {index}, {ascii(label)[:80]}, has characters that are not seen; remove them"
            )
    if len(labels) < 2:
        only = f", {one_line(labels[0], 40)!r}" if labels else ""
        raise UsageError(
            f"{origin} has {len(labels)} label{'' if labels else 's'}{only}; a classifier needs two or more"
        )
    seen: dict[str, int] = {}
    for index, label in enumerate(labels):
        first = seen.setdefault(without_invisible(label), index)
        if labels[first] != label:
            raise UsageError(
                f"{origin}: labels {first} and {index}, {ascii(labels[first])[:60]} and {ascii(label)[:60]}, differ only in "
                "characters that are not seen; give them other names"
            )
    twice = [label for label, count in Counter(labels).items() if count > 1]
    if not twice:
        return LabelList(tuple(labels), origin, tuple(how))
    places = {label: [i for i, other in enumerate(labels) if other == label] for label in twice}
    shown = "; ".join(f"{one_line(label, 40)!r} at {' and '.join(map(str, places[label]))}" for label in twice[:3])
    if repeated != "number":
        raise UsageError(
            f"{origin} repeats {len(twice)} label{'s' if len(twice) > 1 else ''}: {shown} (counted from 0); rename one, "
            "or say --repeated-labels number, which adds its index"
        )
    taken = set(labels)
    for label in twice:
        for index in places[label][1:]:
            labels[index] = f"{label} ({index})"
            if labels[index] in taken:
                raise UsageError(f"{origin} has both {label!r} twice and {labels[index]!r}; rename one")
            taken.add(labels[index])
    return LabelList(tuple(labels), origin, (*how, f"repeated labels got their index: {shown}"))


# Text to labels


def _decoded(data: bytes, origin: str) -> tuple[str, list[str]]:
    encodings = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
    encoding = next((name for mark, name in encodings if data.startswith(mark)), "")
    if not encoding:
        # Text of ASCII in UTF-16 has a zero in every second byte.
        half = max(1, len(data) // 2)
        zeros = [data[start::2].count(0) / half for start in (0, 1)]
        encoding = "utf-16-be" if zeros[0] > 0.4 else "utf-16-le" if zeros[1] > 0.4 else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{origin} is not UTF-8 (line {line}); save it as UTF-8 and try again") from None
    return text, [] if encoding in ("utf-8", "utf-8-sig") else [f"read as {encoding.upper()}"]


def _parsed(text: str, suffix: str, origin: str, loose: bool = False) -> tuple[list[str], list[str]]:
    """Labels and how they were found. loose: a single line may hold all of them, with commas."""
    head = text.lstrip()[:1]
    if suffix == ".json" or head in ("{", "["):
        return _from_document(_document(text, origin), origin)
    lines = text.splitlines()
    if loose and len([line for line in lines if line.strip()]) == 1:
        return re.split(r"[,;|]", text.strip()), ["read as a list with commas"]
    table = _table(text, suffix)
    if table is not None:
        return table
    how = []
    empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
    while empty and empty[-1] == len(lines):
        lines.pop()
        empty.pop()
    if empty:
        some = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
        how.append(f"line{'s' if len(empty) > 1 else ''} {some} {'are' if len(empty) > 1 else 'is'} empty and left out")
    for number, line in enumerate(lines, 1):
        if UNPRINTABLE.search(line.strip()) and "\t" not in line:
            raise UsageError(f"{origin}, line {number}: {one_line(line, 60)!r} has control characters; remove them")
    return _of_lines([line.strip() for line in lines if line.strip()], how, origin)


def _of_lines(lines: list[str], how: list[str], origin: str) -> tuple[list[str], list[str]]:
    """Plain labels, or labels behind a number or a WordNet name that every line has."""
    for form, number, name in ((_NUMBERED, 1, 2), (_NUMBER_BEHIND, 2, 1)):
        found = [match for match in map(form.match, lines) if match]
        if not lines or len(found) < len(lines):
            continue
        numbers, names = [int(match[number]) for match in found], [match[name] for match in found]
        for start in (0, 1):
            if sorted(numbers) == list(range(start, len(lines) + start)):
                how = [*how, f"read as numbered from {start}"]
                ordered = [name for _, name in sorted(zip(numbers, names, strict=True))]
                return _of_lines(ordered, how, origin)
        _refuse_gaps(numbers, names, lines, origin)
    nets = [_WORDNET.match(line) for line in lines]
    if lines and all(nets):
        return [match[2] for match in nets if match], [*how, "WordNet names (n01440764) were taken off"]
    quoted = [re.fullmatch(r"""(["'])(.*)\1,?""", line) for line in lines]
    if lines and all(quoted):
        return [match[2] for match in quoted if match], [*how, "quotation marks were taken off"]
    return lines, how


def _refuse_gaps(numbers: list[int], names: list[str], lines: list[str], origin: str) -> None:
    """Raises UsageError for lines that are numbered, but not one by one: taken as they stand, every label behind would be wrong.

    A sign between, as in `3: fox`, says that they are; a space does where most of the numbers count up from 0.
    """
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    counting = min(numbers) == 0 and 2 * steps.count(1) >= len(steps)
    signed = all(re.search(r"^\d+\s*[:;=)\t]|[:;=\t]\s*\d+$", line) for line in lines)
    if (signed or counting) and not any(name[0].isdigit() for name in names):
        _in_order(list(zip(numbers, names, strict=True)), origin)


def _table(text: str, suffix: str) -> tuple[list[str], list[str]] | None:
    """A table with a header that names its columns, with commas, semicolons or tabs; None for anything else."""
    lines = text.splitlines()
    if lines and lines[0].lower().startswith("sep="):
        text = "\n".join(lines[1:])
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    if separator not in first and suffix not in (".csv", ".tsv"):
        return None
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(cell.strip() for cell in row)]
    if not rows:
        return None
    header = [cell.strip().strip("\ufeff").lower() for cell in rows[0]]
    name = next((header.index(column) for column in _NAME_COLUMNS if column in header), None)
    index = next((header.index(column) for column in _INDEX_COLUMNS if column in header), None)
    if name is None or (index is None and len(header) > 1 and suffix not in (".csv", ".tsv")):
        return None
    pairs = []
    for number, row in enumerate(rows[1:]):
        if len(row) <= max(name, index or 0):
            return None
        cell = row[index].strip() if index is not None else str(number)
        if not cell.isdecimal():
            return None
        pairs.append((int(cell), row[name]))
    ordered, how = _in_order(pairs, "the table")
    return ordered, [f"read as a table, column {header[name]!r}", *how]


# Documents


def _document(text: str, origin: str) -> Any:
    try:
        return strict_json(text)
    except ValueError as error:
        reason = str(error)
    try:
        # Python's own way to write a dictionary, as in Ultralytics' metadata and ImageNet's oldest list of names.
        tree = ast.parse(text.strip(), mode="eval")
        for node in ast.walk(tree):
            keys = (
                [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
            )
            if len(set(keys)) < len(keys):
                raise ValueError("a key appears twice")
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise UsageError(f"{origin} begins like JSON and is {reason}; mend it, or write one label a line") from None


def _from_document(document: Any, origin: str) -> tuple[list[str], list[str]]:
    if isinstance(document, Mapping):
        for key in _NESTED_KEYS:
            if isinstance(document.get(key), (Mapping, list, tuple)):
                found, how = _from_document(document[key], origin)
                return found, [f"read from its key {key!r}", *how]
        return _from_mapping(document, origin)
    if isinstance(document, (list, tuple)) and document:
        items = list(document)
        if all(isinstance(item, str) for item in items):
            return [str(item) for item in items], []
        if all(isinstance(item, (list, tuple)) and len(item) == 2 for item in items):
            return [_name(item, origin) for item in items], []
        if all(isinstance(item, Mapping) for item in items):
            keys = {str(key).lower(): key for key in items[0]}
            name = next((keys[key] for key in _NAME_COLUMNS if key in keys), None)
            index = next((keys[key] for key in _INDEX_COLUMNS if key in keys), None)
            if name is not None and all(name in item for item in items):
                numbers = [item.get(index) if index is not None else place for place, item in enumerate(items)]
                if not all(str(number).isdecimal() for number in numbers):
                    raise UsageError(f"{origin}: {one_line(index, 40)!r} of its entries is no whole number from 0")
                names = [_name(item[name], origin) for item in items]
                return _in_order([(int(str(n)), label) for n, label in zip(numbers, names, strict=True)], origin)
    raise UsageError(
        f"{origin} holds no labels in a form that is known: a list, an object of index and name, id2label, names"
    )


def _from_mapping(document: Mapping[Any, Any], origin: str) -> tuple[list[str], list[str]]:
    """Index to name, or name to index."""
    if document and all(str(key).strip().isdecimal() for key in document):
        return _in_order([(int(str(key)), _name(value, origin)) for key, value in document.items()], origin)
    if document and all(type(value) is int or str(value).isdecimal() for value in document.values()):
        found, how = _in_order([(int(value), str(key)) for key, value in document.items()], origin)
        return found, ["read as name and index", *how]
    raise UsageError(
        f"{origin} is an object without labels: its keys are {one_line(', '.join(map(str, list(document)[:4])), 80)}; "
        "give one of index and name, id2label, or names"
    )


def _in_order(pairs: Sequence[tuple[int, str]], origin: str) -> tuple[list[str], list[str]]:
    numbers = sorted(index for index, _ in pairs)
    for start in (0, 1):
        if numbers == list(range(start, len(pairs) + start)):
            return [name for _, name in sorted(pairs)], [] if start == 0 else ["its indices begin at 1"]
    twice = [index for index, count in Counter(numbers).items() if count > 1]
    missing = sorted(set(range(len(pairs))) - set(numbers))
    fault = f"index {twice[0]} appears twice" if twice else f"index {missing[0]} is missing" if missing else "none"
    raise UsageError(f"{origin}: {fault} among {len(pairs)} labels; number them from 0 without a gap")


def _name(value: Any, origin: str) -> str:
    """A name, or the readable one of a WordNet pair."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(item, str) for item in value):
        return str(value[1])
    raise UsageError(f"{origin}: {one_line(repr(value), 60)} is no label; give text")
