"""Documents of other releases: which side is older, and what earlier ones wrote in the words of this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_tl_runtime.core.text import one_line


def format_problem(found: object, known: Sequence[int], again: str) -> str:
    """Why a document of the format `found` is not read, to follow its name in a sentence; "" where it is.

    known: formats that this release reads, ascending. again: how the document is made anew: "run `edge-tl attack` again".
    """
    reads = f"this edge-tl reads {_listed(known)}"
    if type(found) is not int:
        return f"says no format that can be read ({one_line(repr(found), 20)}), and {reads}; {again}"
    if found > known[-1]:
        return f"is newer than this edge-tl: its format is {found}, and {reads}; upgrade edge-tl here, or {again}"
    if found < known[0]:
        return (
            f"is of a release too old for this edge-tl: its format is {found}, and {reads}; {again} with this release"
        )
    return ""


def _listed(known: Sequence[int]) -> str:
    *before, last = map(str, known)
    return f"{', '.join(before)} and {last}" if before else last


def renamed(
    document: Any, keys: Mapping[str, str], values: Mapping[tuple[str, str], str] | None = None, depth: int = 50
) -> Any:
    """A JSON value whose keys have the names of this release, at every depth; what is written is a copy, in the same order.

    keys: old name to new. values: (old name of the key, old value) to the new value. depth: what lies deeper stays as it is;
    `strict_json` lets nothing be deeper.
    """
    if depth and isinstance(document, dict):
        copy = {}
        for key, value in document.items():
            name = keys.get(key, key)
            known = (values or {}).get((key, value)) if isinstance(value, str) else None
            copy[name] = renamed(value, keys, values, depth - 1) if known is None else known
        return copy
    if depth and isinstance(document, list):
        return [renamed(item, keys, values, depth - 1) for item in document]
    return document
