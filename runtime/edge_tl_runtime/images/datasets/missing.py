"""Files that do not exist: whether a word was meant as a file, and the nearest name that does exist."""

from __future__ import annotations

import difflib
import glob
import os
import re
from pathlib import Path

from edge_tl_runtime.core.text import one_line

_CAMERA = re.compile(r"/dev/|[A-Za-z][A-Za-z0-9+-]+:")
"""Beginnings of names of cameras: a device, or a kind before a colon. A single letter before one is a drive of Windows."""


def looks_like_a_file(name: str) -> bool:
    """Whether a word names a file or folder, there or not: no pattern, no camera, no number, not standard input."""
    return not (name in ("", "-") or name.isdigit() or glob.has_magic(name) or _CAMERA.match(name))


def name_beside(path: Path) -> str:
    """For the end of a line: which part of the path is missing, and the nearest name there is; at least what to do."""
    folder = path.parent
    if not folder.is_dir():
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        return f", and no folder {one_line(folder)}{_nearest(there, folder.relative_to(there).parts[0])}"
    return _nearest(folder, path.name)


def _nearest(folder: Path, name: str) -> str:
    try:
        names = {entry.name.lower(): entry.name for entry in os.scandir(folder)}
    except OSError:
        names = {}
    close = difflib.get_close_matches(name.lower(), names, 1)
    if close:
        return f"; did you mean {one_line(folder / names[close[0]])}?"
    return "; check its name and the folder"
