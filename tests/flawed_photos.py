"""Photos with known flaws: leaks, repeats, wrong labels, odd sizes, a file that is none.

A test module imports the fixture: `from flawed_photos import flawed as flawed`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_photo

from edge_tl.data.surfaces import write_surfaces
from edge_tl_runtime.images.decode import read_photo


@pytest.fixture(scope="module")
def flawed(tmp_path_factory) -> Path:
    """The surfaces with known flaws."""
    root = write_surfaces(tmp_path_factory.mktemp("flawed"), train=14, val=5)
    brick, grass = sorted((root / "train" / "brick").iterdir()), sorted((root / "train" / "grass").iterdir())
    val = sorted((root / "val" / "brick").iterdir())[0]
    (root / "train" / "brick" / "leak.png").write_bytes(val.read_bytes())
    frame = read_photo(brick[0])
    write_photo(root / "val" / "brick" / "again.jpg", cv2.resize(frame[:, ::-1], None, fx=0.7, fy=0.7))
    (root / "train" / "gravel" / "wrong.png").write_bytes(read_and_change(grass[0]))
    write_photo(root / "train" / "gravel" / "tiny.png", read_photo(grass[1])[:40, :50])
    write_photo(root / "train" / "gravel" / "flat.png", np.full((100, 600, 3), 250, np.uint8))
    (root / "train" / "gravel" / "broken.jpg").write_bytes(b"no photo")
    return root


def read_and_change(path: Path) -> bytes:
    """Another part of the same photo: not a duplicate, but surely of its class."""
    frame = read_photo(path)
    return cv2.imencode(".png", cv2.rotate(frame[10:150, 20:160], cv2.ROTATE_90_CLOCKWISE))[1].tobytes()
