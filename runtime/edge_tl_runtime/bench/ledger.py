"""What a benchmark has measured so far, on disk, so that one that was killed goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import make_folder, sha256, write_bytes
from edge_tl_runtime.core.text import one_line

_IDENTITY = "identity.json"


class DiskLedger:
    """Documents by name in a hidden folder beside the result, each with its own digest.

    identity: everything that figures depend on; a folder with another identity is not gone on with.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any]) -> None:
        """Raises UsageError when the folder holds an unfinished run of something else, OutputError where it cannot be written."""
        self.folder = make_folder(output.parent / f".{output.name}.progress")
        stored = _read(self.folder / _IDENTITY)
        wanted = json.loads(json.dumps(identity))
        if stored is not None and stored != wanted:
            differ = sorted(key for key in {*stored, *wanted} if stored.get(key) != wanted.get(key))
            raise UsageError(
                f"{output} has an unfinished run beside it that differs in {one_line(', '.join(differ))}; finish that one, give "
                f"another -o, or delete {self.folder}"
            )
        self.resumed = stored is not None
        if stored is None:
            _write(self.folder / _IDENTITY, wanted)

    def get(self, name: str) -> dict[str, Any] | None:
        return _read(self._path(name))

    def put(self, name: str, document: Mapping[str, Any]) -> None:
        _write(self._path(name), document)

    def discard(self) -> None:
        """Delete what is stored, when the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{sha256(name.encode())[:24]}.json"


def _write(path: Path, document: Mapping[str, Any]) -> None:
    data = json.dumps(document, ensure_ascii=False).encode("utf-8")
    write_bytes(path, sha256(data).encode("ascii") + b"\n" + data)


def _read(path: Path) -> dict[str, Any] | None:
    """None for what is not there or is damaged: work to be done again."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
        if digest.decode("ascii", "replace") != sha256(data):
            return None
        document = json.loads(data)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
