"""What counts as motion: an animal that comes, creeps or stops does; lamps, noise and exposure do not."""

from __future__ import annotations

import json
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl.cli import invoke as run
from edge_tl_runtime.core.errors import BadFrame
from edge_tl_runtime.scene.motion import (
    EVERY_S,
    FALSE_ALARM,
    LEARNING_LOOKS,
    LINGER_S,
    LOOK_S,
    MotionDetector,
    MotionGate,
    largest_quiet,
    row_gains,
)
from edge_tl_runtime.sources import LiveOptions, open_source

SIZE = 240
BEGIN = LEARNING_LOOKS * LOOK_S + 1


class Scene:
    """A view of blobs, with the light and the noise of a cheap camera. Times in seconds, places in pixels."""

    def __init__(self, seed: int = 0) -> None:
        self._draw = np.random.default_rng(seed)
        coarse = self._draw.uniform(30, 190, (15, 15, 3)).astype(np.float32)
        self._still = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        self._noises = [self._draw.normal(0, 6, self._still.shape).astype(np.float32) for _ in range(7)]

    def at(
        self, now: float, animal: tuple[float, float] | None = None, gain: float = 1.0, bands: float = 0.08
    ) -> np.ndarray:
        picture = self._still.copy()
        if animal is not None:
            x, y = map(round, animal)
            picture[y : y + 40, x : x + 40] = 0.2 * picture[y : y + 40, x : x + 40] + 0.8 * 40
        rows = 1 + bands * np.sin(2 * np.pi * (np.arange(SIZE) / 160 + 100.7 * now))
        noise = np.roll(self._noises[self._draw.integers(7)], self._draw.integers(SIZE), 1)
        return np.clip(picture * gain * rows[:, None, None] + noise, 0, 255).astype(np.uint8)


def looks(detector: MotionDetector, scene: Scene, begin: float, seconds: float, **shown) -> list[bool]:
    """What each look finds. Values of `shown` may be functions of the time."""
    found = []
    for now in np.arange(begin, begin + seconds, LOOK_S):
        given = {name: value(now) if callable(value) else value for name, value in shown.items()}
        found.append(detector.look(scene.at(now, **given), now).moved)
    return found


def taught(scene: Scene) -> MotionDetector:
    detector = MotionDetector()
    assert all(looks(detector, scene, 0.0, LEARNING_LOOKS * LOOK_S)), "every frame counts until the noise is known"
    looks(detector, scene, LEARNING_LOOKS * LOOK_S, 1.0)
    assert detector.learned
    return detector


def test_lamps_noise_and_a_changing_light_are_no_motion():
    scene = Scene()
    detector = taught(scene)
    assert not any(looks(detector, scene, BEGIN, 60, gain=lambda now: 1 + 0.2 * math.sin(now / 15)))
    assert not any(looks(detector, scene, BEGIN + 60, 20, gain=1.12)), "an exposure that jumps"
    assert not any(looks(detector, scene, BEGIN + 80, 30, gain=lambda now: 1.12 * 0.97 ** (now - BEGIN - 80)))


def test_a_noise_that_grows_everywhere_is_no_motion():
    scene = Scene()
    detector = taught(scene)
    scene._noises = [2 * noise for noise in scene._noises]
    assert not any(looks(detector, scene, BEGIN, 30))


@pytest.mark.parametrize("bands", [0.0, 0.08])
def test_an_animal_is_seen_at_once_and_known_to_stay(bands):
    scene = Scene()
    detector = taught(scene)
    assert looks(detector, scene, BEGIN, 0.5 * LOOK_S, animal=(60, 90), bands=bands) == [True]
    # After what it is compared with holds the animal too, nothing moves.
    assert not any(looks(detector, scene, BEGIN + 2, 8, animal=(60, 90), bands=bands)[4:])
    assert any(looks(detector, scene, BEGIN + 11, 1.5)), "it goes away"


def test_what_creeps_is_seen():
    scene = Scene()
    detector = taught(scene)
    looks(detector, scene, BEGIN, 4, animal=(40, 90))
    moved = looks(detector, scene, BEGIN + 4, 40, animal=lambda now: (40 + 2 * (now - BEGIN - 4), 90))
    assert sum(moved) >= 4, "two pixels a second, a twentieth of its own size"


def test_another_size_begins_anew_and_what_is_no_frame_is_refused():
    scene = Scene()
    detector = taught(scene)
    assert detector.look(scene.at(50.0)[:200], 50.0).moved
    assert not detector.learned
    with pytest.raises(BadFrame):
        detector.look(np.zeros((0, 4, 3), np.uint8), 51.0)


def test_a_gate_classifies_the_first_frames_what_moves_a_while_after_and_now_and_then():
    scene, gate = Scene(), MotionGate()
    wanted = [
        now
        for now in np.arange(0, 60, 0.1)
        if gate.wants(scene.at(now, (20 + 20 * (now - 30), 90) if 30 <= now < 34 else None), now)
    ]
    begin = LEARNING_LOOKS * LOOK_S
    assert wanted[0] == 0
    first = [now for now in wanted if now <= begin]
    assert len(first) >= begin / 0.1 - 1, "all frames while the noise is measured"
    gaps = np.diff(wanted)
    assert gaps.max() <= EVERY_S + LOOK_S + 0.1
    comes = next(now for now in wanted if now >= 30)
    assert comes <= 30 + LOOK_S + 0.1
    during = [now for now in wanted if 31 <= now <= 34 + LINGER_S]
    assert np.diff(during).max() < 0.11, "every frame, also for a while after it went"
    assert len(wanted) + gate.still == 600
    assert gate.looked < 600


def test_somebody_who_watches_gets_a_picture_a_second():
    scene, gate = Scene(), MotionGate()
    for now in np.arange(0, 15, 0.2):
        gate.wants(scene.at(now), now)
    gate.watched = lambda: True
    wanted = [now for now in np.arange(15, 25, 0.2) if gate.wants(scene.at(now), now)]
    assert 8 <= len(wanted) <= 10
    assert not gate.moving


@given(st.lists(st.floats(0.5, 2.0), min_size=4, max_size=12), st.integers(0, 2**32 - 1))
def test_the_gain_of_a_row_is_found_though_things_cover_less_than_half_of_it(gains, seed):
    draw = np.random.default_rng(seed)
    ratios = np.repeat(np.array(gains, np.float32)[:, None], 32, axis=1)
    covered = draw.permuted(np.tile(np.arange(32) < 12, (len(gains), 1)), axis=1)
    # Things that are darker in one half of their places and brighter in the other.
    strange = ratios * np.where(draw.permuted(np.tile(np.arange(32) < 16, (len(gains), 1)), axis=1), 3, 0.3)
    shown = np.where(covered, strange, ratios).astype(np.float32)
    low, high = (np.quantile(shown, share, axis=1, method="inverted_cdf") for share in (0.1, 0.9))
    found = row_gains(shown, np.ones(shown.shape, bool))
    assert np.all((low <= found) & (found <= high))
    assert np.allclose(row_gains(np.where(covered, np.nan, ratios).astype(np.float32), ~covered), gains, rtol=1e-5)


def test_rows_without_usable_places_take_their_neighbours_gain():
    ratios = np.array([[1.0] * 16, [9.0] * 16, [2.0] * 16], np.float32)
    usable = np.array([[True] * 16, [False] * 16, [True] * 16])
    assert row_gains(ratios, usable).tolist() == [1.0, 1.5, 2.0]
    assert row_gains(ratios, ~usable & usable).tolist() == [1.0, 1.0, 1.0]


def test_the_threshold_is_the_one_of_gumbels_law():
    draw = np.random.default_rng(3)
    scores = draw.gumbel(20.0, 2.0, 20_000)
    exact = 20.0 - 2.0 * math.log(-math.log(1 - FALSE_ALARM))
    assert abs(largest_quiet(scores) - exact) < 1.0
    busy = np.concatenate([scores[:9000], draw.uniform(100, 200, 1000)])
    assert largest_quiet(busy) < 1.15 * exact, "looks with motion in a tenth of the history change little"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """20 frames a second for 20 s, something in them from 12 to 14 s; MJPEG, so that frames are decoded one by one."""
    path = tmp_path_factory.mktemp("motion") / "scene.avi"
    scene = Scene()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (SIZE, SIZE))
    for number in range(400):
        now = number / 20
        writer.write(scene.at(now, (40 + 20 * (now - 12), 90) if 12 <= now < 14 else None, bands=0.05))
    writer.release()
    return path


def test_a_run_counts_what_it_left_out(video, color_model, tmp_path, capsys):
    status = tmp_path / "status.json"
    assert (
        run(
            [
                "run",
                str(color_model),
                "--source",
                str(video),
                "--headless",
                "--json",
                "--on-motion",
                "--status",
                str(status),
            ]
        )
        == 0
    )
    out = capsys.readouterr()
    lines = [json.loads(line) for line in out.out.splitlines()]
    motion = json.loads(status.read_text())["motion"]
    assert len(lines) + motion["still"] == 400
    assert sum(line.get("still", 0) for line in lines) <= motion["still"]
    assert f"{motion['still']} still (nothing moved)" in out.err
    seconds = np.array([line["seconds"] for line in lines])
    assert np.sum((seconds >= 12.3) & (seconds < 14)) == 34, "every frame while it moves"
    assert np.sum((seconds > 9.3) & (seconds < 11.9)) <= 1


def test_a_batch_is_of_frames_that_are_wanted(video, color_model, capsys):
    assert run(["run", str(color_model), "--source", str(video), "--headless", "--json", "--on-motion"]) == 0
    one = [json.loads(line)["frame"] for line in capsys.readouterr().out.splitlines()]
    assert (
        run(["run", str(color_model), "--source", str(video), "--headless", "--json", "--on-motion", "--batch", "4"])
        == 0
    )
    assert [json.loads(line)["frame"] for line in capsys.readouterr().out.splitlines()] == one


def test_photos_do_not_move(color_model, color_photos, capsys):
    assert run(["run", str(color_model), "--source", str(color_photos), "--headless", "--on-motion"]) == 2
    assert "--on-motion: photos do not follow each other in time; leave it out" in capsys.readouterr().err


def test_a_camera_is_looked_at_once_in_so_long(color_model, capsys):
    """`--every` with any live source."""
    words = [
        "--source",
        "test://counter?fps=100&size=64x48",
        "--headless",
        "--json",
        "--every",
        "500ms",
        "--max-frames",
        "4",
    ]
    assert run(["run", str(color_model), *words]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["seconds"] - lines[1]["seconds"] > 2 * 0.5 * 0.8


def test_a_source_that_rests_decodes_what_is_wanted_and_counts_the_others():
    with open_source("test://counter?fps=100&size=64x48", LiveOptions(rests=True)) as source:
        indices, taken = [], []
        for record in source:
            indices.append(record.index)
            taken.append(record.captured)
            source.rest_s = 0.25 if len(indices) >= 5 else 0.0
            if len(indices) == 10:
                break
        assert np.diff(taken)[5:].min() > 0.2
        # A frame each 0.25 s of 100 a second; a busy machine makes the camera of this test slower, and its frames fewer.
        assert source.counts.unneeded == indices[-1] - indices[4] - 5
        assert source.counts.unneeded > 20
        assert source.counts.dropped == indices[4] - 4
