"""What the command line advises: commands that a shell takes as they stand, and the file or command that was likely meant."""

from __future__ import annotations

import io
import shlex
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import write_photo
from hypothesis import example, given
from hypothesis import strategies as st

from edge_tl.cli import ALSO_CALLED, COMMANDS
from edge_tl.cli import invoke as run
from edge_tl.data.surfaces import write_surfaces
from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.text import shell_command
from edge_tl_runtime.modelfile.onnx import read_spec

FILE_NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: not {0, ord("/")} & set(name) and name[0] != 45)


@given(FILE_NAMES)
@example(b"my photos")
@example(b'it\'s "here"')
@example(b"$HOME `id` \\ ;&|!*?[a]")
@example(b"two\nlines \x1b[31m")
@example("ผึ้ง ภาพ".encode())
@example(b"no utf-8 \xff")
def test_bash_reads_a_suggested_path_as_the_file_it_names(name):
    path = Path(name.decode("utf-8", "surrogateescape"))
    line = shell_command("export", path)
    assert "\n" not in line
    assert line.startswith("edge-tl export ")
    done = subprocess.run(
        ["bash", "-c", f"printf %s {line.removeprefix('edge-tl export ')}"], capture_output=True, check=True
    )
    assert done.stdout == name


def test_a_path_that_begins_with_a_hyphen_is_no_option():
    assert shell_command("inspect", Path("-q.onnx"), "--json") == "edge-tl inspect ./-q.onnx --json"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("trian", "train"),
        ("Train", "train"),
        ("evalute", "evaluate"),
        ("exprot", "export"),
        ("predcit", "predict"),
        ("benchmark", "bench"),
        ("quantize", "export"),
        ("classify", "predict"),
        ("webcam", "run"),
        ("check", "data check"),
    ],
)
def test_a_mistyped_command_is_answered_with_the_right_one(typed, meant, capsys):
    assert run([typed, "x"]) == 2
    assert f"Did you mean edge-tl {meant}" in capsys.readouterr().err


def test_a_command_like_none_points_to_the_list(capsys):
    assert run(["zzzzz"]) == 2
    assert "edge-tl --help lists them" in capsys.readouterr().err


def test_other_names_of_commands_lead_to_commands():
    assert {name.split()[0] for name in ALSO_CALLED.values()} <= set(COMMANDS)
    assert not set(ALSO_CALLED) & set(COMMANDS)


def _photo(path: Path) -> None:
    write_photo(path, np.zeros((8, 8, 3), np.uint8))


def _video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pack.json", "{}")


def _weights(path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, path)


def _old_pickle(path: Path) -> None:
    content = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, content, _use_new_zipfile_serialization=False)
    path.write_bytes(content.getvalue())


def _tflite(path: Path) -> None:
    path.write_bytes(struct.pack("<I", 28) + b"TFL3" + bytes(100))


@pytest.mark.parametrize(
    ("name", "make", "said", "advice"),
    [
        ("cat.jpg", _photo, "a JPEG photo", "edge-tl predict MODEL PHOTO"),
        ("cat.png", _photo, "a PNG picture", "edge-tl predict MODEL PHOTO"),
        ("cat.webp", _photo, "a WebP picture", "edge-tl predict MODEL PHOTO"),
        ("clip.avi", _video, "a video", "edge-tl run MODEL --source VIDEO"),
        ("bench.pack", _zip, "a benchmark pack", "edge-tl bench MODEL PACK"),
        ("net.pt", lambda path: torch.save({"w": torch.zeros(2)}, path), "ZIP archive, as PyTorch", "edge-tl adopt"),
        ("old.pth", _old_pickle, "a pickle, as PyTorch", "edge-tl adopt"),
        ("model.safetensors", _weights, "weights alone", "edge-tl export"),
        ("net.tflite", _tflite, "TensorFlow Lite", "edge-tl adopt"),
        ("net.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5", "edge-tl adopt"),
        ("page.onnx", lambda path: path.write_text("<!DOCTYPE html><html>"), "a web page", "download the file itself"),
        (
            "lfs.onnx",
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
            "pointer of Git LFS",
            "git lfs pull",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_given_in_place_of_a_model_is_named(tmp_path, name, make, said, advice):
    path = tmp_path / name
    make(path)
    with pytest.raises(BadModelError) as caught:
        read_spec(path)
    message = str(caught.value)
    assert said in message
    assert advice in message
    assert "\n" not in message


def test_a_folder_in_place_of_a_model_says_what_is_in_it(tmp_path):
    def message(folder: Path) -> str:
        with pytest.raises(BadModelError) as caught:
            read_spec(folder)
        return str(caught.value)

    assert "edge-tl export" not in message(tmp_path).replace("that edge-tl export or adopt wrote", "")
    run_folder = tmp_path / "my run"
    run_folder.mkdir()
    _weights(run_folder / "model.safetensors")
    assert message(run_folder).endswith(f"edge-tl export '{run_folder}' --quantize")
    (run_folder / "model.onnx").write_bytes(b"")
    assert f"use {run_folder / 'model.onnx'}" in message(run_folder)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("clip.avi", "edge-tl run m.onnx --source clip.avi"),
        ("my clip.MP4", "edge-tl run m.onnx --source 'my clip.MP4'"),
        ("0", "edge-tl run m.onnx --source 0"),
        ("/dev/video0", "edge-tl run m.onnx --source /dev/video0"),
        ("-", "edge-tl run m.onnx --source -"),
        ("rtsp://user:secret@camera/live", "edge-tl run m.onnx --source URL"),
        ("https://host/clip.mp4?token=secret", "edge-tl run m.onnx --source URL"),
    ],
)
def test_predict_sends_what_is_no_photo_to_run(image, said, capsys):
    assert run(["predict", "m.onnx", image]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "secret" not in message


@pytest.mark.slow
def test_what_is_suggested_next_runs_as_it_is_printed(tmp_path):
    """From photos in a folder with a space and an apostrophe to a prediction, by the `next:` lines alone."""
    write_surfaces(tmp_path / "bob's photos", train=12, val=4)
    photo = next((tmp_path / "bob's photos" / "val").rglob("*.jpg"))
    line = shell_command("train", "bob's photos", "-o", "bob's run", "--recipe", "probe", "--size", "96")
    seen = []
    for _ in range(3):
        words = [sys.executable, "-m", "edge_tl", *shlex.split(line.replace("PHOTO", shlex.quote(str(photo))))[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr[-2000:]}"
        seen.append(line.split()[1])
        following = [text for text in done.stdout.splitlines() if text.startswith("next: ")]
        line = following[0].removeprefix("next: ") if following else ""
    assert seen == ["train", "export", "predict"]
