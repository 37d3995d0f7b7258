"""A camera that is covered, blurred, dark, moved or overexposed is noticed; light, noise, night and passers-by are none of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from contracts import json_values
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import BadFrame
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.run.scene_watch import SceneWatch
from edge_tl_runtime.run.status import Health, StatusFile, stored_view
from edge_tl_runtime.scene.condition import (
    CLEAR,
    ENTER_S,
    LEARNING_LOOKS,
    LEAST_LOOKS,
    LEAVE_S,
    CameraWatch,
    Condition,
    Hysteresis,
)
from edge_tl_runtime.scene.learned_view import LearnedView
from edge_tl_runtime.scene.structure import HEIGHT, TILES, WIDTH, Orientation, Small, coarse_energy, shift_of, small
from edge_tl_runtime.sources import FrameRecord, Source

COLUMNS, ROWS = 320, 180
ROOM = 1.4


def place() -> np.ndarray:
    """A wall with things on it, larger than the frame."""
    draw = np.random.default_rng(1)
    size = round(ROOM * ROWS), round(ROOM * COLUMNS)
    picture = cv2.resize(
        draw.uniform(60, 150, (6, 10, 3)).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    for _ in range(90):
        x, y, w, h = draw.integers((0, 0, 8, 8), (size[1], size[0], 60, 50))
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), draw.uniform(20, 200, 3).tolist(), -1)
    return np.clip(picture, 0, 255)


PLACE = place()


def view(right: float = 0.0, down: float = 0.0, turn: float = 0.0) -> np.ndarray:
    centre = PLACE.shape[1] / 2 + right * COLUMNS, PLACE.shape[0] / 2 + down * ROWS
    matrix = cv2.getRotationMatrix2D(centre, turn, 1)
    matrix[:, 2] += COLUMNS / 2 - centre[0], ROWS / 2 - centre[1]
    return cv2.warpAffine(PLACE, matrix, (COLUMNS, ROWS), borderMode=cv2.BORDER_REFLECT)


def passer(now: float) -> np.ndarray:
    """Somebody walks by for 6 of 15 s."""
    picture = view()
    phase = now % 15
    if phase < 6:
        x = round((phase / 6 * 1.3 - 0.3) * COLUMNS)
        cv2.ellipse(picture, (x + 40, 110), (35, 70), 0, 0, 360, (70, 60, 90), -1)
    return picture


def shot(picture: np.ndarray, now: float, noise: float = 4.0) -> np.ndarray:
    """As a sensor gives it, with bands of mains light."""
    bands = 1 + 0.05 * np.sin(2 * np.pi * (np.arange(ROWS) / 120 + 100.3 * now))[:, None, None]
    sensor = np.random.default_rng(round(1000 * now) + 10**6).normal(0, noise, picture.shape)
    return np.clip(picture * bands + sensor, 0, 255).astype(np.uint8)


def grey(picture: np.ndarray) -> np.ndarray:
    one = picture @ np.array([0.1, 0.3, 0.6])
    return np.repeat(one[..., None], 3, axis=2)


def half(picture: np.ndarray, tone: float) -> np.ndarray:
    covered = picture.copy()
    covered[:, : round(0.65 * COLUMNS)] = tone
    return covered


FAULTS = {
    "hand": (Condition.COVERED, lambda now: np.full((ROWS, COLUMNS, 3), (80, 100, 150.0))),
    "half": (Condition.COVERED, lambda now: half(passer(now), 90)),
    "defocus": (Condition.BLURRED, lambda now: cv2.GaussianBlur(passer(now), (0, 0), 3)),
    "lamp off": (Condition.DARK, lambda now: 0.03 * passer(now)),
    "cap": (Condition.DARK, lambda now: np.zeros((ROWS, COLUMNS, 3))),
    "bump": (Condition.MOVED, lambda now: view(right=0.05)),
    "push": (Condition.MOVED, lambda now: view(right=-0.15, down=0.1)),
    "rotation": (Condition.MOVED, lambda now: view(turn=10)),
    "sun": (Condition.OVEREXPOSED, lambda now: 7 * passer(now)),
}
CALM = {
    "people": passer,
    "dimmer": lambda now: (1.0 if now < 0 else 0.3) * passer(now),
    "sunrise": lambda now: min(1.6, 0.3 + max(0.0, now) / 60) * passer(now),
    "infrared": lambda now: passer(now) if now < 0 else 0.6 * grey(passer(now)),
    "parked": lambda now: passer(now) if now < 0 else half_low(passer(now)),
    "mount": lambda now: view(right=0.01 * np.sin(2 * now)),
}


def half_low(picture: np.ndarray) -> np.ndarray:
    """Something with edges of its own stands in a fifth of the view."""
    picture[90:180, 100:220] = 255 - picture[90:180, 100:220][::-1]
    return picture


@pytest.fixture(scope="module")
def learned() -> LearnedView:
    watch = CameraWatch("camera", None, lambda: 1000.0)
    for now in range(LEARNING_LOOKS + 2):
        watch.look(shot(passer(now), now), float(now))
    assert watch.condition is Condition.FINE
    assert watch.notes == ["camera: the view is learned"]
    assert watch.reference is not None
    return watch.reference


def restarted(reference: LearnedView, wall=lambda: 2000.0) -> CameraWatch:
    """As after a new start, from what was stored."""
    stored = LearnedView.from_dict(json.loads(json.dumps(reference.to_dict())))
    assert stored is not None
    return CameraWatch("camera", stored, wall)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_after_a_while_and_is_over_when_it_is_over(name, learned):
    wanted, shown = FAULTS[name]
    watch = restarted(learned)
    changes = []
    for now in range(-5, 60):
        picture = shown(now) if 0 <= now < 35 else passer(now)
        before = watch.condition
        if watch.look(shot(picture, now), float(now)) is not before:
            changes.append((now, watch.condition))
    assert [condition for _, condition in changes] == [wanted, Condition.FINE]
    assert CLEAR * ENTER_S - 5 <= changes[0][0] <= ENTER_S + 2
    assert 35 <= changes[1][0] <= 35 + LEAVE_S + 2
    assert watch.notes[0].startswith(f"camera: {wanted.value.lower()}")
    assert "labels may be wrong" in watch.notes[0]
    assert watch.notes[1].startswith("camera: fine again")


@pytest.mark.parametrize("name", CALM)
def test_what_is_no_fault_is_not_told(name, learned):
    watch = restarted(learned)
    told = {watch.look(shot(CALM[name](now), now, noise=7.0), float(now)) for now in range(-5, 70)}
    assert told == {Condition.FINE}


def test_the_shift_of_a_bump_is_measured(learned):
    watch = restarted(learned)
    for now in range(30):
        watch.look(shot(view(right=0.08), now), float(now))
    assert watch.seen is not None
    assert abs(watch.seen.shift - 0.08) < 0.005
    assert any("moved by 8 %" in note for note in watch.notes)


def test_a_restart_compares_at_once_and_another_size_or_source_begins_anew(learned):
    watch = restarted(learned)
    watch.look(shot(view(), 0.0), 0.0)
    assert watch.look(shot(view(), 1.0), 1.0) is Condition.FINE
    assert watch.look(shot(view(), 2.0)[:, :300], 2.0) is Condition.LEARNING
    assert watch.notes == ["frames are 300x180 now, the view was learned from 320x180; it is learned anew"]
    other = CameraWatch("another camera", learned, lambda: 0.0)
    assert other.condition is Condition.LEARNING
    assert other.notes == ["the view was learned from camera; it is learned anew"]


def test_a_camera_that_starts_in_the_dark_learns_when_there_is_light():
    watch = CameraWatch("camera", None, lambda: 0.0)
    for now in range(40):
        watch.look(shot(0.02 * view(), now), float(now))
    assert watch.condition is Condition.DARK
    assert watch.reference is None
    for now in range(40, 40 + LEARNING_LOOKS + 20):
        watch.look(shot(passer(now), now), float(now))
    assert watch.condition is Condition.FINE
    assert watch.reference is not None


def test_a_view_without_structure_says_what_it_cannot_tell():
    watch = CameraWatch("camera", None, lambda: 0.0)
    wall = np.full((ROWS, COLUMNS, 3), 120.0)
    for now in range(LEARNING_LOOKS + 30):
        watch.look(shot(wall, now), float(now))
    assert watch.condition is Condition.FINE
    assert watch.notes == [
        "camera: too little of the view stays as it is to tell whether it is covered, blurred or moved"
    ]
    for now in range(100, 130):
        watch.look(shot(0 * wall, now), float(now))
    assert watch.condition is Condition.DARK, "that nothing can be seen is told all the same"
    for now in range(130, 130 + 2 * LEARNING_LOOKS):
        watch.look(shot(passer(now), now), float(now))
    assert watch.condition is Condition.FINE
    assert watch.reference is not None
    assert watch.reference.enough, "it was turned to something with structure"
    assert watch.notes[-1] == "camera: the view is learned"


def test_what_is_no_frame_is_refused(learned):
    watch = restarted(learned)
    watch.look(shot(view(), 0.0), 0.0)
    with pytest.raises(BadFrame):
        watch.look(np.zeros((4, 4, 7), np.uint8), 1.0)


SAID = st.sampled_from(list(Condition)[1:])


@given(st.lists(st.tuples(SAID, st.floats(0.2, 6.0)), min_size=1, max_size=60))
def test_a_condition_changes_only_after_looks_that_agree(said):
    hysteresis, now, last = Hysteresis(), 0.0, 0.0
    history: list[tuple[float, Condition]] = []
    for condition, pause in said:
        now += pause
        history.append((now, condition))
        before = hysteresis.condition
        after = hysteresis.update(condition, now)
        if after is before:
            continue
        wanted = LEAVE_S if before.wrong else ENTER_S
        looks = [each for at, each in history if at > now - wanted]
        assert now - history[0][0] >= wanted
        assert len(history) >= LEAST_LOOKS
        same = sum(each.wrong == after.wrong for each in looks)
        assert same >= CLEAR * len(looks) - 1.5
        assert after in looks or not after.wrong or len(looks) < LEAST_LOOKS
        last = now
    assert last <= now


def field(seed: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(seed).normal(100, 40, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 2)


@given(st.integers(-40, 40), st.integers(-20, 20))
def test_a_shift_is_found_to_a_fraction_of_a_pixel(right, down):
    wide = cv2.GaussianBlur(np.random.default_rng(5).normal(100, 40, (170, 260)).astype(np.float32), (0, 0), 2)
    before = wide[40 : 40 + HEIGHT, 50 : 50 + WIDTH]
    after = wide[40 - down : 40 - down + HEIGHT, 50 - right : 50 - right + WIDTH]
    found = shift_of(Orientation.of(after), Orientation.of(before))
    assert np.allclose(found[:2], (right, down), atol=0.5)


def test_what_is_compared_stays_as_it_is():
    one, other = Orientation.of(field(1)), Orientation.of(field(2))
    before = one.length.copy(), other.length.copy()
    shift_of(one, other)
    assert np.array_equal(one.length, before[0])
    assert np.array_equal(other.length, before[1])


def test_agreement_is_the_correlation_of_doubled_angles_in_each_tile():
    one, other = Orientation.of(field(1)), Orientation.of(0.7 * field(1) + 0.3 * field(2))
    found = one.agreement(other)
    rows, columns = HEIGHT // TILES[0], WIDTH // TILES[1]
    for y, x in ((0, 0), (2, 7), (5, 9)):
        part = slice(y * rows, (y + 1) * rows), slice(x * columns, (x + 1) * columns)
        a, b = (each.real[part] + 1j * each.imaginary[part] for each in (one, other))
        a, b = a - a.mean(), b - b.mean()
        exact = (a * b.conj()).sum().real / np.sqrt((abs(a) ** 2).sum() * (abs(b) ** 2).sum())
        assert abs(found[y, x] - exact) < 1e-3
    negative = Orientation.of(200 - field(1))
    assert np.allclose(one.agreement(negative), 1, atol=1e-3), "which side of an edge is brighter does not matter"


def test_noise_has_no_energy():
    draw = np.random.default_rng(0)
    noisy = [small(draw.normal(110, 12, (ROWS, COLUMNS, 3)).clip(0, 255).astype(np.uint8)) for _ in range(30)]
    pairs = [coarse_energy(a, b).mean() for a, b in itertools.pairwise(noisy)]
    assert abs(np.mean(pairs)) < 0.02 * coarse_energy(noisy[0], noisy[0]).mean()
    assert abs(np.mean([look.fine for look in noisy])) < 0.02 * 6 * 12**2


@given(json_values)
def test_a_damaged_view_is_no_view(document):
    assert LearnedView.from_dict(document) is None


@pytest.mark.parametrize("key", ["picture", "coarse", "fine", "tells", "size", "white", "learned", "format", "source"])
def test_a_view_with_a_damaged_part_is_no_view(key, learned):
    document = json.loads(json.dumps(learned.to_dict()))
    del document[key]
    assert LearnedView.from_dict(document) is None
    for wrong in (None, "", [], {}, -(10**400), [1e308] * 60, "AAAA"):
        damaged = {**document, key: wrong}
        found = LearnedView.from_dict(damaged)
        assert found is None or (key in ("source", "tells") and isinstance(found, LearnedView))


class Filmed(Source):
    """A live source of frames that are there already, with times of their own."""

    live = True

    def __init__(self, frames: list[np.ndarray]) -> None:
        super().__init__("camera")
        self._frames = frames

    def __iter__(self) -> Iterator[FrameRecord]:
        for number, frame in enumerate(self._frames):
            yield FrameRecord(frame, self.name, number, float(number), float(number))


def test_labels_go_on_and_say_what_is_wrong_with_the_camera(learned, color_model, tmp_path):
    said: list[str] = []
    frames = [shot(passer(now) if now < 10 else np.full((ROWS, COLUMNS, 3), 90.0), now) for now in range(45)]
    gate = SceneWatch(None, restarted(learned), live=True, say=said.append)
    stream = Stream(Filmed(frames), Classifier(color_model), gate=gate)
    health = Health(stream)
    lines = []
    for result in stream:
        health.saw(result)
        lines.append(result.to_dict())
    assert len(lines) == 45, "nothing is left out"
    assert "camera" not in lines[5]
    assert lines[-1]["camera"] == "covered"
    assert len(said) == 1
    document = health.document()
    assert document["camera"]["condition"] == "COVERED"
    assert document["camera"]["flat"] == 1
    path = tmp_path / "status.json"
    status = StatusFile(path, 5.0, gate.view)
    assert stored_view(path) is not None, "from the first moment on"
    status.write(document, 0.0)
    found = stored_view(path)
    assert found is not None
    assert np.array_equal(found.tells, learned.tells)
    assert np.abs(found.picture - learned.picture).mean() < 3
    assert "view" not in document


def test_a_status_file_without_a_view_is_no_obstacle(tmp_path):
    for text in ("", "{}", "[]", '{"view": 3}', '{"view": {}, "view": {}}', "\udc80"):
        path = tmp_path / "status.json"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert stored_view(path) is None
    assert stored_view(tmp_path / "nothing") is None


def test_small_keeps_the_mean_and_the_share_of_white():
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[:, 40:] = 255
    found = small(picture)
    assert isinstance(found, Small)
    assert abs(found.mean - 0.75 * 255) < 2
    assert abs(found.white - 0.75) < 0.01
