"""The programs of examples/, as a reader of them would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import COLORS, write_photo

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_every_program_is_listed_and_says_how_it_is_called():
    programs = sorted(path.name for path in EXAMPLES.glob("*.py"))
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    assert programs
    for name in programs:
        assert f"]({name})" in listed
        assert example(name, "--help").returncode == 0


def test_the_photos_that_are_nearest_to_a_tie_are_copied(color_model, tmp_path, solid):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_photo(photos / "sure.png", solid("red"))
    write_photo(photos / "tie.png", np.full((48, 64, 3), (0, 200, 205), np.uint8))  # red and green alike
    (photos / "broken.png").write_bytes((photos / "sure.png").read_bytes()[:60])
    result = example("unsure_photos.py", color_model, photos, tmp_path / "out", "--count", 1)
    assert result.returncode == 0, result.stderr
    assert [path.name.split("-", 1)[1] for path in (tmp_path / "out").iterdir()] == ["red-tie.png"]
    assert "copied 1 of 2 photos" in result.stdout
    assert "1 could not be read" in result.stdout
    assert "broken.png: " in result.stdout


def test_a_folder_without_photos_gives_no_copies(color_model, tmp_path):
    (tmp_path / "photos").mkdir()
    result = example("unsure_photos.py", color_model, tmp_path / "photos", tmp_path / "out")
    assert (result.returncode, result.stdout.split(";")[0]) == (0, f"copied 0 of 0 photos to {tmp_path / 'out'}")


def clip(path: Path, labels: list[str], frames: int = 20) -> Path:
    """A video at 10 frames a second that shows each label's colour for so many frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for label in labels:
        for _ in range(frames):
            writer.write(np.full((48, 64, 3), COLORS[label], np.uint8))
    writer.release()
    return path


def test_a_label_that_comes_and_goes_in_a_video_is_acted_upon_twice(color_model, tmp_path):
    video = clip(tmp_path / "clip.avi", ["green", "red", "green"])
    result = example("react.py", color_model, video, "red")
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[2:] for row in rows] == [["red", "is", "there"], ["red", "is", "gone"]]
    came, went = (float(row[0]) for row in rows)
    assert 2.0 <= came < 4.0 <= went < 6.0  # the scene changes at 2 s and 4 s


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": "blue"}, "has no label 'blue'; it has: red, green"),
        ({"model": "absent.onnx"}, "absent.onnx"),
        ({"source": "absent.mp4"}, "absent.mp4"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_no_traceback(color_model, tmp_path, change, says):
    given = {"model": color_model, "source": "test://bars?frames=3", "label": "red", **change}
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    result = example("react.py", *given.values(), cwd=tmp_path, env=environment)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
