"""Reading back the JSON documents that commands of edge-tl wrote, as files that may be damaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.formats import format_problem
from edge_tl_runtime.core.strict_json import strict_json
from edge_tl_runtime.core.text import one_line

MAX_DOCUMENT = 256 * 2**20

Needed = Mapping[str, type | tuple[type, ...]]
"""Keys that a document must have, and of what type."""


def read_document(
    folder: Path, name: str, formats: Sequence[int], needed: Needed, command: str, renamed: Callable[[Any], Any]
) -> dict[str, Any]:
    """A document of a folder that `command` wrote. Raises UsageError where there is none, or none that this release can read.

    formats: that this release reads, ascending; it writes the last. renamed: what an earlier one wrote in the keys of now.
    """
    path = folder / name
    again = f"run `{command}` again"
    try:
        document = strict_json(read_regular(path, MAX_DOCUMENT).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{folder} is no result of `{command}`: {name}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({one_line(error)}); {again}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no result of `{command}`; {again}")
    if problem := format_problem(document.get("format"), formats, again):
        raise UsageError(f"{path} {problem}")
    if document["format"] != formats[-1]:
        document = {**renamed(document), "format": formats[-1]}
    for key, kind in needed.items():
        if not isinstance(document.get(key), kind):
            raise UsageError(f"{path} is damaged: {key} is {one_line(document.get(key), 40)}; {again}")
    return document
