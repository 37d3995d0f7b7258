"""Reading back the JSON documents that commands of edge-tl wrote, as files that may be damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.text import one_line

MAX_DOCUMENT = 256 * 2**20

Needed = Mapping[str, type | tuple[type, ...]]
"""Keys that a document must have, and of what type."""


def read_document(folder: Path, name: str, format_: int, needed: Needed, command: str) -> dict[str, Any]:
    """A document of a folder that `command` wrote. Raises UsageError where there is none, or none that this release can read."""
    path = folder / name
    again = f"run `{command}` again"
    try:
        document = json.loads(read_regular(path, MAX_DOCUMENT))
    except OSError as error:
        raise UsageError(f"{folder} is no result of `{command}`: {name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({one_line(error)}); {again}") from None
    if not isinstance(document, dict) or document.get("format") != format_:
        raise UsageError(f"{path} has another format than this edge-tl writes ({format_}); {again} with this release")
    for key, kind in needed.items():
        if not isinstance(document.get(key), kind):
            raise UsageError(f"{path} is damaged: {key} is {one_line(document.get(key), 40)}; {again}")
    return document
