"""edge-tl as a process of its own, as a user starts it, and what it reads and prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from conftest import COLORS

EDGE_TL = [sys.executable, "-m", "edge_tl"]


def edge_tl(*arguments: object, program: list[str] = EDGE_TL, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    return subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
        **options,
    )


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def video(path: Path, labels: list[str], codec: str, frames: int = 5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
    assert writer.isOpened()
    for label in labels:
        for _ in range(frames):
            writer.write(np.full((48, 64, 3), COLORS[label], np.uint8))
    writer.release()
    return path
