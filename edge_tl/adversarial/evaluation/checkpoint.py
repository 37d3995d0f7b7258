"""What an evaluation has done so far, on disk, so that one that was killed goes on where it was."""

from __future__ import annotations

import io
import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.base import AttackOutcome
from edge_tl.adversarial.document import in_words_of_now
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import make_folder, sha256, write_bytes, write_text
from edge_tl_runtime.core.strict_json import strict_json

FOLDER = ".progress"
_IDENTITY = "identity.json"


class Checkpoint:
    """Results of groups of photos by name. The clean pixels are not stored: the caller has them.

    identity: everything the results depend on; a folder with another identity is not gone on with.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Raises UsageError when the folder holds an unfinished evaluation of something else."""
        self.folder = make_folder(folder / FOLDER)
        stored = self.folder / _IDENTITY
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        if stored.is_file() and not _same(stored.read_text("utf-8"), text):
            raise UsageError(
                f"{folder} holds an unfinished evaluation with other settings, photos or model; finish it with those, "
                f"choose another folder, or delete {self.folder}"
            )
        self.resumed = any(self.folder.glob("*.npz"))
        write_text(stored, text)

    def get(self, name: str, clean: NDArray[np.uint8]) -> AttackOutcome | None:
        """The result stored under a name, for photos whose clean pixels are given; None when there is none or it is damaged."""
        path = self._path(name)
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                difference = np.frombuffer(zlib.decompress(stored["difference"].tobytes()), np.int16)
                parts = [stored[key] for key in ("fooled", "queries", "margins", "complete")]
        except (OSError, ValueError, KeyError, zlib.error):
            return None  # a file cut short by a power failure is work to be done again
        if difference.size != clean.size or any(len(part) != len(clean) for part in parts):
            return None
        adversarial = (clean + difference.reshape(clean.shape)).astype(np.uint8)
        return AttackOutcome(adversarial, *parts)

    def put(self, name: str, clean: NDArray[np.uint8], result: AttackOutcome) -> None:
        difference = result.adversarial.astype(np.int16) - clean
        buffer = io.BytesIO()
        np.savez(
            buffer,
            difference=np.frombuffer(zlib.compress(difference.tobytes(), 1), np.uint8),
            fooled=result.fooled,
            queries=result.queries,
            margins=result.margins,
            complete=result.complete,
        )
        write_bytes(self._path(name), buffer.getvalue())

    def discard(self) -> None:
        """Delete what is stored, when the report is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{sha256(name.encode())[:24]}.npz"


def _same(stored: str, text: str) -> bool:
    """Whether both are of the same evaluation, also where an earlier release began it."""
    try:
        return stored == text or bool(in_words_of_now(strict_json(stored)) == json.loads(text))
    except ValueError:
        return False
