"""Photos taken from a source: spread over the time, each once, whole, and kept whatever happens."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import EDGE_TL, edge_tl
from odd_servers import jpeg, mjpeg, serving
from PIL import Image
from scenes import scene
from videos import write_video

from edge_tl_runtime.core.errors import OutputError, SourceError, UsageError
from edge_tl_runtime.images.datasets.origins import origin
from edge_tl_runtime.run import collect as collecting
from edge_tl_runtime.run.collect import collect
from edge_tl_runtime.run.collect_settings import CollectSettings
from edge_tl_runtime.sources.base import FrameRecord, Source

NAME = re.compile(r"\d{8}T\d{6}-\d{3}\.(jpg|png)")


class Timed(Source):
    """A live source whose frames come at given seconds of a clock that the test turns; then it is silent, and idles."""

    live = True

    def __init__(self, frames, idles=0, pause=0.1):
        super().__init__("timed")
        self.frames, self.idles, self.pause, self.now = frames, idles, pause, 100.0

    def clock(self):
        return self.now

    def __iter__(self):
        for index, frame in enumerate(self.frames):
            if self.stopping:
                return
            yield FrameRecord(frame, self.name, index, index * self.pause, self.now)
            self.now += self.pause
        for _ in range(self.idles):
            if self.stopping:
                return
            self.now += self.pause
            self.on_idle()


def pictures(folder: Path) -> list[Path]:
    found = sorted(folder.iterdir())
    assert all(NAME.fullmatch(path.name) for path in found), found
    return found


def numbered(number: int) -> np.ndarray:
    frame = scene(number)
    frame[:8] = number
    return frame


def test_pictures_are_spread_over_the_time_and_the_rest_is_not_taken(tmp_path):
    source = Timed([numbered(n) for n in range(100)])
    found = collect(source, tmp_path, CollectSettings(seconds=5, photos=5, image_format="png"), clock=source.clock)
    assert found.taken == 5
    numbers = [int(np.asarray(Image.open(path))[0, 0, 0]) for path in pictures(tmp_path)]
    assert numbers[0] == 0
    assert all(9 <= later - earlier <= 11 for earlier, later in pairwise(numbers))
    assert numbers[-1] <= 50


def test_what_is_nearly_the_same_is_left_out_and_other_light_is_not(tmp_path):
    rng, still = np.random.default_rng(0), scene(1)

    def noisy(light):
        return np.clip(still * light + rng.normal(0, 4, still.shape), 0, 255).astype(np.uint8)

    frames = [noisy(1.0) for _ in range(10)] + [noisy(0.6) for _ in range(10)] + [scene(2)] * 5
    settings = CollectSettings(seconds=10, photos=100)
    source = Timed(frames)
    found = collect(source, tmp_path, settings, clock=source.clock)
    assert (found.taken, found.alike, found.there) == (3, 22, 0)
    again = Timed([*frames, scene(3)])
    found = collect(again, tmp_path, settings, clock=again.clock)
    assert (found.taken, found.alike, found.there) == (1, 25, 3)
    assert any("which holds 4 now" in line for line in found.lines())


def test_a_blank_wall_is_taken_once(tmp_path):
    source = Timed([np.full((90, 120, 3), 130, np.uint8)] * 10)
    assert collect(source, tmp_path, CollectSettings(seconds=5), clock=source.clock).taken == 1


def test_a_camera_that_is_gone_does_not_hold_the_end_up(tmp_path):
    source = Timed([numbered(n) for n in range(10)], idles=10**6)
    found = collect(source, tmp_path, CollectSettings(seconds=20, photos=10), clock=source.clock)
    assert found.taken == 1
    assert 18 <= found.silent_s <= 21
    assert any("no picture for the last" in line for line in found.lines())
    with pytest.raises(SourceError, match="nothing was collected"):
        collect(Timed([]), tmp_path, CollectSettings())


def test_photos_of_one_minute_are_of_one_origin(tmp_path):
    source = Timed([numbered(n) for n in range(100)])
    start = 1_800_000_000.0  # a whole minute
    collect(source, tmp_path, CollectSettings(seconds=10, photos=5), clock=source.clock, now=lambda: start + source.now)
    assert len({origin(path.name) for path in pictures(tmp_path)}) <= 2
    assert len(pictures(tmp_path)) == 5


def test_a_full_disk_keeps_what_was_taken(tmp_path, monkeypatch):
    source = Timed([numbered(n) for n in range(100)])
    written, real = [], collecting.write_bytes

    def full(path, data):
        if len(written) == 2:
            raise OutputError(f"cannot write {path}: {os.strerror(errno.ENOSPC)}")
        written.append(path)
        real(path, data)

    monkeypatch.setattr(collecting, "write_bytes", full)
    with pytest.raises(OutputError, match=r"No space left.*; 2 photos taken before are whole: make room"):
        collect(source, tmp_path, CollectSettings(seconds=5, photos=5), clock=source.clock)
    assert pictures(tmp_path) == written


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(UsageError, match="photos"):
        CollectSettings(photos=0)


def test_the_command_collects_from_a_video(tmp_path):
    video = write_video(tmp_path / "room.mkv", [cv2.resize(scene(n), (160, 120)) for n in range(50)])
    run = edge_tl("collect", "--background", tmp_path / "empty", "--source", video, "--for", "1s", "--photos", 5)
    assert run.returncode == 0, run.stderr
    assert len(pictures(tmp_path / "empty")) == 5
    assert "took 5 photos into" in run.stdout
    assert run.stdout.splitlines()[-1] == f"next: edge-tl train PHOTOS --background {tmp_path / 'empty'}"


def test_the_command_collects_from_a_camera_on_the_network(tmp_path):
    with serving(camera=mjpeg(picture=lambda number: jpeg(number), pause=0.05)) as server:
        url = f"http://127.0.0.1:{server.port}/camera"
        run = edge_tl("collect", "--background", tmp_path / "empty", "--source", url, "--for", "2s", "--photos", 4)
    assert run.returncode == 0, run.stderr
    assert 2 <= len(pictures(tmp_path / "empty")) <= 4


def test_ctrl_c_keeps_what_there_is(tmp_path):
    folder = tmp_path / "empty"
    command = [
        *EDGE_TL,
        "collect",
        "--background",
        str(folder),
        "--source",
        "test://counter",
        "--for",
        "1h",
        "--photos",
        "36000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (folder.is_dir() and len(list(folder.glob("*.jpg"))) >= 2):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("took ")
    for path in pictures(folder):
        Image.open(path).load()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ((), "--background FOLDER for the empty scene", 2),
        (("--background", "empty", "--source", "nothing-here.mp4"), "no such file", 1),
    ],
)
def test_what_cannot_be_collected_is_one_line(tmp_path, arguments, message, code):
    run = edge_tl("collect", *arguments, cwd=tmp_path)
    assert (run.returncode, run.stderr.count("\n")) == (code, 1), run.stderr
    assert message in run.stderr
