"""Where files that can be made again are kept between commands."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import make_folder

CACHE_VARIABLE = "EDGE_TL_CACHE"


def cache_folder(part: str) -> Path:
    """The cache folder for downloads or features, created: $EDGE_TL_CACHE or the user's cache folder.

    Raises OutputError where that cannot be done.
    """
    base = os.environ.get(CACHE_VARIABLE)
    folder = (Path(base) if base else user_cache_path("edge-tl")) / part
    try:
        return make_folder(folder)
    except OutputError:
        raise OutputError(
            f"cannot create the cache folder {folder}; set {CACHE_VARIABLE} to one that can be written"
        ) from None
