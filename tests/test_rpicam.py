"""The camera module of a Pi: a stand-in program on PATH that speaks as rpicam-vid does, read by the real capture process."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import living
from stopwatch import HANGING

from edge_tl_runtime.core.errors import SourceError, UsageError
from edge_tl_runtime.sources import LiveOptions, Patience, open_source, source_kind
from edge_tl_runtime.sources.request import CaptureRequest
from edge_tl_runtime.sources.rpicam import PiCamera, failure, row_bytes
from edge_tl_runtime.sources.v4l import pi_cameras, pi_program

STAND_IN = Path(__file__).parent / "rpicam_vid.py"
HASTY = Patience(first_frame=8, stale=0.5, lost=1.5, frozen=5, backoff=0.05, backoff_max=0.2, steady=1, stop=0.3)


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A function that puts the program on PATH, behaving so."""

    def make(how: str = "", name: str = "rpicam-vid") -> Path:
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
        monkeypatch.setenv("STAND_IN", how)
        return program

    return make


def expected(number: int, width: int, height: int) -> np.ndarray:
    """JPEG's conversion (ITU-T T.871, full range BT.601) of what the stand-in sends, in floats."""
    luma = np.repeat(((16 * (np.arange(height) % 8) + number) % 256)[:, None], width, 1).astype(float)
    blue, red = 100.0 - 128, 150.0 - 128
    planes = [luma + 1.772 * blue, luma - 0.344136 * blue - 0.714136 * red, luma + 1.402 * red]
    return np.clip(np.stack(planes, -1), 0, 255)


def opened(**options: object) -> PiCamera:
    device = PiCamera(CaptureRequest(kind="rpicam", name="rpicam:0", open_ms=8000, **options))
    try:
        device.told = device.open()
    except BaseException:
        device.close()
        raise
    return device


def frame_of(device: PiCamera) -> np.ndarray:
    until = time.monotonic() + HANGING
    while not device.grab():
        assert time.monotonic() < until
    frame = device.retrieve(None)
    assert isinstance(frame, np.ndarray)
    return frame.copy()


@pytest.mark.parametrize("size", [(640, 480), (320, 240), (800, 600), (202, 150), (64, 64), (641, 481)])
@pytest.mark.parametrize("how", ["row=64", "row=128", "row=32", "row=64,extra=4096", "row=64,mute"])
def test_any_size_and_padding_gives_the_right_pixels(board, size, how):
    board(f"{how},frames=40")
    device = opened(width=size[0], height=size[1])
    try:
        frame = frame_of(device)
        missed = device.missed
    finally:
        device.close()
    width, height = size[0] // 2 * 2, size[1] // 2 * 2
    assert frame.shape == (height, width, 3)
    assert (device.told.width, device.told.height) == (width, height)
    assert np.abs(frame - expected(missed, width, height)).max() < 2


def test_frames_follow_each_other_and_drops_are_counted(board):
    board("frames=60")
    device = opened(width=64, height=64, fps=200)
    seen = []
    try:
        while len(seen) < 5:
            frame = frame_of(device)
            seen.append(int(frame[0].mean()))
            time.sleep(0.05)
    finally:
        device.close()
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))
    assert device.missed > 5


def test_the_first_program_of_the_two_names_is_taken(board):
    board(name="libcamera-vid")
    assert pi_program().endswith("libcamera-vid")
    board()
    assert pi_program().endswith("rpicam-vid")


def test_cameras_are_listed(board):
    board()
    assert [str(camera) for camera in pi_cameras()] == ["rpicam:0 (imx708 4608x2592)", "rpicam:1 (ov5647 2592x1944)"]
    board("none")
    assert pi_cameras() == ()


@pytest.mark.parametrize(
    ("how", "name", "text"),
    [
        ("none", "rpicam:0", "no camera is found; check the ribbon cable"),
        ("busy", "rpicam:0", "another program uses the camera"),
        ("", "rpicam:7", r"no camera of that number; there are: rpicam:0 \(imx708 4608x2592\), rpicam:1"),
        ("frames=0", "rpicam:0", r"rpicam:0 \(rpicam-vid\): the program ended \(code 0\)"),
        ("frames=0,die", "rpicam:0", "the camera stopped sending"),
        ("frames=0,cut", "rpicam:0", "the program ended"),
    ],
)
def test_why_it_failed_is_said_in_one_line(board, how, name, text):
    board(how)
    with open_source(name, LiveOptions(patience=HASTY)) as source, pytest.raises(SourceError, match=text) as caught:
        next(iter(source))
    assert "\n" not in str(caught.value)


def test_without_the_program_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="sudo apt install rpicam-apps"):
        opened()


def test_an_option_it_does_not_know_is_named():
    assert "--flash; update it" in failure(["ERROR: *** unrecognised option '--flash' ***"])


@pytest.mark.parametrize(
    ("width", "height", "frame", "row"),
    [
        (4056, 3040, 18677760, 4096),  # a Pi 4, from a report to the program's authors
        (2028, 1520, 2048 * 1520 * 3 // 2, 2048),
        (800, 600, 896 * 600 * 3 // 2, 896),
        (800, 600, 832 * 600 * 3 // 2, 832),
        (800, 600, 800 * 600 * 3 // 2, 800),
        (640, 480, 640 * 480 * 3 // 2 + 4096, 640),
    ],
)
def test_rows_of_known_frames(width, height, frame, row):
    assert row_bytes(width, height, frame) == row


def test_a_frame_that_is_too_small_is_refused():
    with pytest.raises(SourceError, match="too small"):
        row_bytes(640, 480, 1000)


@pytest.mark.parametrize("name", ["rpicam:x", "rpicam:-1", "rpicam:0?width=3", "rpicam:1234"])
def test_a_name_that_makes_no_sense_is_refused_at_once(name):
    assert source_kind(name) == "Pi camera"
    with pytest.raises(UsageError, match="rpicam:0"):
        open_source(name)


def test_any_case_and_slashes(board):
    board("frames=5")
    for name in ("RPICAM:0", "rpicam://1", "rpicam:"):
        with open_source(name, LiveOptions(patience=HASTY)) as source:
            assert next(iter(source)).frame.shape == (480, 640, 3)


@pytest.mark.parametrize(
    "how", ["frames=20", "frames=20,die", "frames=20,hang", "frames=20,cut", "frames=20,slow=0.3,chatter=2000"]
)
def test_it_is_started_again_like_any_other(board, how):
    board(how)
    with open_source("rpicam:0", LiveOptions(patience=HASTY, fps=100.0, width=64, height=64)) as source:
        frames = iter(source)
        while source.counts.reconnects < 2:
            record = next(frames)
            assert record.frame.shape == (64, 64, 3)
    assert not living(os.getpid())


def test_no_program_is_left_when_the_runner_is_killed(board):
    board("hang,frames=30")
    code = (
        "from edge_tl_runtime.sources import open_source\n"
        "with open_source('rpicam:0') as source:\n"
        "    for record in source: print(record.index, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        runner.stdout.readline()
        below = psutil.Process(runner.pid).children(recursive=True)
        assert any("rpicam_vid.py" in " ".join(process.cmdline()) for process in below)
        runner.kill()
    _, alive = psutil.wait_procs(below, timeout=HANGING)
    assert not alive


def test_the_doctor_names_the_camera_modules(board, tmp_path):
    from edge_tl.doctor import diagnose
    from edge_tl_runtime.sources.v4l import is_raspberry_pi

    board()
    found = diagnose()
    assert found.lines()["cameras"].startswith("rpicam:0 (imx708 4608x2592), rpicam:1 (ov5647 2592x1944)")
    assert found.to_dict()["sources"][:2] == ["rpicam:0", "rpicam:1"]
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert is_raspberry_pi(model)
    assert not is_raspberry_pi(tmp_path / "none")
