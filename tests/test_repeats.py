"""A quiet scene is no frozen camera, and a frozen camera is found. Real encoders, through PyAV."""

from __future__ import annotations

import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edge-tl[video]'")

from videos import texture, write_video  # noqa: E402

from edge_tl_runtime.sources.capture.repeats import Repeats  # noqa: E402
from edge_tl_runtime.sources.decoding.reader import open_reader  # noqa: E402
from edge_tl_runtime.sources.decoding.unwritten import Poison  # noqa: E402


def sensor(count: int, seed: int = 0) -> list[np.ndarray]:
    """A scene at rest, with the noise of a sensor."""
    rng = np.random.default_rng(seed)
    return [
        np.clip(texture(320, 240) + rng.normal(0, 1.5, (240, 320, 3)), 0, 255).astype(np.uint8) for _ in range(count)
    ]


def evaluated(path, inter_coded: bool) -> list[bool]:
    """Of each decoded frame, whether it counts as a repeat."""
    reader = open_reader(str(path), live=True)
    repeats, given, found = Repeats(inter_coded), None, []
    while reader.grab():
        frame = reader.retrieve(None)
        assert frame is not None
        found.append(repeats.repeats(frame, given, reader.key_frame, len(found) / 15))
        given = given if found[-1] else frame
    reader.close()
    return found


@pytest.mark.parametrize("crf", [18, 26, 30, 35])
def test_every_frame_of_a_quiet_scene_is_news(tmp_path, crf):
    options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
    path = write_video(tmp_path / "a.mkv", sensor(60), rate=15, gop=30, options=options)
    assert sum(evaluated(path, inter_coded=True)) == 0
    if crf >= 30:
        assert sum(evaluated(path, inter_coded=False)) > 10, "the encoder repeats itself, else this tests nothing"


def test_a_frozen_input_is_found_by_its_key_frames_and_its_return_at_once(tmp_path):
    still = sensor(30)
    other = [np.roll(frame, 9 * number, 1) for number, frame in enumerate(sensor(20, 1))]
    frames = still + [still[-1]] * 90 + other
    path = write_video(tmp_path / "a.avi", frames, "mpeg4", rate=15, gop=15, options={"qmin": "4", "qmax": "4"})
    found = evaluated(path, inter_coded=True)
    assert not any(found[:45])
    assert all(found[65:120])
    assert not any(found[120:])


def test_a_short_loop_is_not_frozen(tmp_path):
    """A server that shows one moving group again and again, as test servers do."""
    loop = [np.roll(texture(320, 240), 8 * number, 1) for number in range(12)]
    path = write_video(tmp_path / "a.mkv", loop * 8, rate=15, gop=12, options={"qp": "24", "bf": "0"})
    assert sum(evaluated(path, inter_coded=True)) == 0


def test_without_key_frames_time_tells():
    frame, repeats = texture(), Repeats(inter_coded=True, still_s=20)
    found = [repeats.repeats(frame, frame, key=number == 0, now=number / 2) for number in range(60)]
    assert not any(found[:41])
    assert all(found[41:])
    assert not repeats.repeats(np.roll(frame, 3, 1), frame, now=31)


def test_raw_frames_that_agree_are_repeats():
    one, other, repeats = texture(), texture(seed=1), Repeats()
    assert [
        repeats.repeats(frame, before) for frame, before in ((one, None), (one, one), (other, one), (one, other))
    ] == [
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("shape", [(480, 640, 3), (1080, 1920, 3), (119, 159, 3), (20, 8), (3, 5, 4)])
def test_a_buffer_that_was_not_written_is_noticed(shape):
    poison, rng = Poison(), np.random.default_rng(0)
    for _ in range(20):
        frame = np.empty(shape, np.uint8)
        poison.put(frame)
        assert poison.stands(frame)
        frame[: shape[0] // 2] = rng.integers(0, 256, frame[: shape[0] // 2].shape, np.uint8)
        assert poison.stands(frame), "only the upper half was written"
        frame[:] = rng.integers(0, 256, shape, np.uint8)
        assert not poison.stands(frame)
