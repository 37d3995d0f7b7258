"""What is not there is named, with what it nearly is: photos of `predict`, classes of a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_tl.cli import invoke as run
from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.images.datasets.labels import unknown_label
from edge_tl_runtime.images.datasets.missing import looks_like_a_file


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("missing.jpg", "no photos at missing.jpg: no such file; check its name and the folder"),
        ("red/0.pgn", "did you mean red/0.png?"),
        ("red/0.PNG", "did you mean red/0.png?"),
        ("rde/0.png", "no such file, and no folder rde; did you mean red?"),
        ("red/sub/0.png", "no such file, and no folder red/sub"),
        ("photo", "no photos at photo: no such file"),
        ("my photo.jpg", "no photos at my photo.jpg"),
        ("-x.jpg", "no photos at -x.jpg"),
        ("ผึ้ง.jpg", "no photos at ผึ้ง.jpg"),
    ],
)
def test_predict_says_what_is_missing(
    asked: str, said: str, color_model: Path, color_photos: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(color_photos)
    assert run(["predict", str(color_model), "--", asked]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "camera" not in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["0", "-", "/dev/video0", "rpicam:0", "rtsp://a/b", "test://bars", "photos/*.jpg", "a[12].png"]
)
def test_cameras_streams_and_patterns_are_no_missing_files(name: str):
    assert not looks_like_a_file(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ant", "if 'ants' is meant, rename it"),
        ("Antz", "if 'ants' is meant, rename it"),
        ("beees", "if 'bees' is meant, rename it"),
        ("zebra", "give it one of these names"),
    ],
)
def test_an_unknown_class_is_told_with_the_nearest_that_is_known(name: str, hint: str):
    error = unknown_label(name, ("ants", "bees"), "photos")
    assert isinstance(error, DataError)
    assert hint in str(error)
    assert "it knows ants, bees" in str(error)
