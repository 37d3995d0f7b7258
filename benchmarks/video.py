"""Labels of a video's frames against labels of the photos it was made from. Prints one line of Markdown.

    python benchmarks/video.py MODEL PHOTOS

Each photo is shown for 2 seconds (20 frames at 10 a second) in a 640 x 480 MJPEG video, fitted without cropping; `edge-tl run
--headless --json` labels every frame and `edge-tl predict --json` every photo, as processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from edge_tl_runtime.errors import BadImage
from edge_tl_runtime.photos import photo_files, read_photo

FRAMES, SIZE = 20, (640, 480)


def fitted(photo: np.ndarray) -> np.ndarray:
    """The photo as large as fits, its edges continued to the border."""
    scale = min(SIZE[0] / photo.shape[1], SIZE[1] / photo.shape[0])
    small = cv2.resize(
        photo, (round(photo.shape[1] * scale), round(photo.shape[0] * scale)), interpolation=cv2.INTER_AREA
    )
    x, y = SIZE[0] - small.shape[1], SIZE[1] - small.shape[0]
    return cv2.copyMakeBorder(small, y // 2, y - y // 2, x // 2, x - x // 2, cv2.BORDER_REPLICATE)


def edge_tl(*arguments: object) -> list[dict]:
    command = [sys.executable, "-m", "edge_tl", *map(str, arguments), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def main(model: Path, photos: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "photos.avi")
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIZE)
        shown = []
        for path in photo_files(photos):
            try:
                frame = fitted(read_photo(path))
            except BadImage:
                continue
            shown.append(str(path))
            for _ in range(FRAMES):
                writer.write(frame)
        writer.release()
        frames = edge_tl("run", model, "--source", video, "--headless")
        labels = {row["source"]: row["label"] for row in edge_tl("predict", model, photos)}
    same = 0
    for position, path in enumerate(shown):
        votes = Counter(row["label"] for row in frames[position * FRAMES : (position + 1) * FRAMES])
        same += votes.most_common(1)[0][0] == labels[path]
    print(
        f"{len(shown)} photos, {len(frames)} frames for {len(shown) * FRAMES} written: the majority label of a photo's frames is "
        f"that of the photo for {same} ({100 * same / len(shown):.1f} %)"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
