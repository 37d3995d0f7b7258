"""The document that a benchmark leaves: what was measured, of what, on what, and a digest over all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import read_regular, sha256, write_text
from edge_tl_runtime.core.formats import format_problem
from edge_tl_runtime.core.text import one_line

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import BenchDocument

FORMAT: Final = 1
FORMATS = (1,)
"""That this release reads; it writes the last."""
KIND: Final = "edge-tl bench"
MAX_BYTES = 64 * 2**20
_OVER_IT = ("sha256", "signature")
_KEYS = {"model": dict, "machine": dict, "session": dict, "settings": dict, "parts": dict, "runs": dict, "absent": dict}

Document = dict[str, Any]


def canonical(document: Mapping[str, Any]) -> bytes:
    """The bytes that the digest is of: JSON with sorted keys, no spaces, UTF-8, without the digest and the signature."""
    bare = {key: value for key, value in document.items() if key not in _OVER_IT}
    return json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "backslashreplace"
    )


def with_digest(document: Mapping[str, Any]) -> BenchDocument:
    """The document, complete but for its digest, with it."""
    return cast("BenchDocument", {**document, "sha256": sha256(canonical(document))})


def write_result(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document with its checksum in one step. Raises OutputError."""
    write_text(path, json.dumps(document, ensure_ascii=False, indent=1) + "\n")


def read_result(path: Path) -> Document:
    """A document as it was written. Raises UsageError for a file that is none, is of another format, or was altered since."""
    try:
        document = json.loads(read_regular(path, MAX_BYTES).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the result {path}: {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no result of `edge-tl bench` ({one_line(error)}); {_AGAIN}") from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise UsageError(f"{path} is no result of `edge-tl bench`; {_AGAIN}")
    if problem := format_problem(document.get("format"), FORMATS, "measure again"):
        raise UsageError(f"{path} {problem}")
    if document.get("sha256") != sha256(canonical(document)):
        raise UsageError(f"{path} was altered after it was written: its digest does not fit; {_AGAIN}")
    for key, kind in _KEYS.items():
        if not isinstance(document.get(key), kind):
            raise UsageError(f"{path} is damaged: {key} is {one_line(document.get(key), 40)}; {_AGAIN}")
    return document


_AGAIN = "measure again, or copy it again from the device"
