"""What a camera sees in weeks: counted as events and days, kept across restarts, said in plain words, whatever the clock does."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from itertools import pairwise

import cv2
import numpy as np
import pytest
from scenes import scene

from edge_tl_runtime.core.documents import checked
from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.scene.documents import CameraDriftDocument, DriftState
from edge_tl_runtime.scene.drift import MOST_DAYS, Drift, DriftSettings
from edge_tl_runtime.scene.drift_changes import LEARN, VALUES
from edge_tl_runtime.scene.drift_pictures import DAYS, MOST_BYTES, SHOWN, DriftPictures
from edge_tl_runtime.scene.drift_state import DriftFile
from edge_tl_runtime.scene.events import DayCounts, EventCounter, Look, means_of

LABELS = ("cat", "dog")
HOUR = 3600.0
IDENTITY = {"model file": "a", "camera": "0"}
START = datetime(2026, 11, 2, 9).timestamp()  # a Monday


def settings(**values):
    return DriftSettings(**{"labels": LABELS, "promised": 0.01, "block_s": HOUR, "false_alarms": "1/month", **values})


def looks(hours, seed=0, unknown=0.05, later=0.6, change=10**9, begin=0):
    """A visitor every twenty seconds; from hour `change` on more of them are strangers."""
    rng = np.random.default_rng(seed)
    for number in range(int(hours * HOUR // 20)):
        share = later if number * 20 >= change * HOUR else unknown
        strange = rng.random() < share
        place = rng.normal(size=20) + (6 if strange else 0)
        look = Look(
            number * 20.0 + begin, -1 if strange else int(rng.integers(2)), place, -900.0 if strange else -600.0
        )
        yield look


def fed(drift, stream):
    for look in stream:
        if drift.due(look.seconds):
            drift.look(look)
    return drift


class Clock:
    """Wall time that a test sets."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


# From frames to events.


def shown(counter, labels, fps=30.0, place=None, start=0.0):
    """How many events, and how many looks, frames with these labels are."""
    events = seen = 0
    for number, label in enumerate(labels):
        seconds = start + number / fps
        if counter.due(seconds):
            seen += 1
            events += counter.is_new(Look(seconds, label, np.zeros(4) if place is None else place(number), -1.0))
    return events, seen


@pytest.fixture(autouse=True)
def _same_chance(monkeypatch):
    """The same chance between equal days in every run of the tests: with another, a change is told a day sooner or later."""
    monkeypatch.setattr("edge_tl_runtime.scene.drift.secrets.randbits", lambda bits: 1)


def test_a_still_scene_of_two_hours_is_counted_every_ten_minutes_and_not_216000_times():
    assert shown(EventCounter(86400.0), [0] * (2 * 3600 * 30)) == (12, 7200)


def test_a_label_that_flickers_thirty_times_a_second_is_one_event_a_second_at_most():
    events, seen = shown(EventCounter(86400.0), [0, -1] * 900)
    assert seen == 60
    assert events <= 60


def test_noise_is_no_event_and_another_visitor_with_the_same_label_is():
    rng = np.random.default_rng(0)
    people = rng.normal(size=(5, 4)) * 3
    events, _ = shown(EventCounter(86400.0), [1] * 1500, place=lambda n: people[n // 300] + 0.05 * rng.normal(size=4))
    assert events == 5


def test_a_clock_that_goes_back_is_looked_at_again():
    """As that of a video that begins anew."""
    counter = EventCounter(86400.0)
    assert shown(counter, [0] * 300) == (1, 10)
    assert shown(counter, [0] * 300)[1] == 10


def test_a_block_counts_what_its_events_were():
    block = DayCounts(0.0, 0.0, [0, 0])
    events = [
        Look(0.0, 0, np.arange(20.0), -99.0),
        Look(1.0, -1, np.ones(20), -np.inf),
        Look(2.0, 1, np.zeros(20), -5.0),
    ]
    for look in events:
        block.add(look)
    assert (block.events, block.unknown, block.labels, block.share) == (3, 1, [1, 1], 1 / 3)
    np.testing.assert_allclose(block.means, sum(means_of(look) for look in events))
    assert means_of(events[0])[-1] == pytest.approx(np.log(100))
    assert np.isfinite(block.means).all()


# Levels and changes.


def test_a_camera_unlike_the_training_photos_is_said_from_the_first_events_as_a_level_and_not_as_drift():
    drift = fed(Drift(settings()), looks(2, unknown=0.7))
    document = drift.document()
    assert document["notice"] == ""
    unknown, events = document["week"]["unknown"], document["week"]["events"]
    assert document["level"].startswith(
        f"{100 * unknown / events:.0f} % of the last {events} events are unlike the training photos"
    )
    assert document["level"].endswith("more than the 1.0 % of photos like them")
    assert (document["learned"], document["learn"]) == (1, LEARN)


def test_a_planted_change_is_found_dated_and_said_in_a_sentence_and_a_quiet_month_says_nothing():
    said, clock = [], Clock()
    drift = Drift(settings(), wall=clock, say=said.append)
    for look in looks(60, change=40):
        clock.now = START + look.seconds
        drift.look(look)
        if look.seconds < 40 * HOUR:
            assert said == []
    assert len([line for line in said if "unlike" in line]) == 1
    document = checked(json.loads(json.dumps(drift.document(), allow_nan=False)), CameraDriftDocument)
    (watched,) = (watched for watched in document["watched"] if watched["name"] == "unknown")
    assert watched["since"] in (
        "Wednesday 04 November 00:00",
        "Wednesday 04 November 01:00",
    )  # 40 hours after 9:00 on Monday
    assert (
        "60 % of events" in document["notice"] or "61 % of events" in document["notice"] or "59 %" in document["notice"]
    )
    assert "before: " in document["notice"]
    assert len(document["hours"]) == 24
    assert sum(hour["events"] for hour in document["hours"]) <= 181
    assert len(document["days"]) == 28


def test_a_restart_goes_on_exactly_where_the_run_before_ended(tmp_path):
    """Wherever it is cut, the counts, the evidence and the sentence are those of one long run."""
    cuts = [0, 1, 500, 3000, 5000, 5760]
    stream = [
        Look(look.seconds - 20.0 * sum(0 < cut <= number for cut in cuts), look.label, look.place, look.score)
        for number, look in enumerate(looks(32, change=24))
    ]
    one, other = (DriftFile(tmp_path / name, IDENTITY) for name in ("one.json", "other.json"))
    whole = Drift(settings(), one, wall=Clock())
    other.path.write_bytes(one.path.read_bytes())  # for the same chance between equal days
    for look in stream:
        whole.look(look)
    whole.save()
    for run, (first, last) in enumerate(pairwise(cuts)):
        part = Drift(settings(), other, wall=Clock())
        begun = 1e5 * run - stream[first].seconds  # the monotonic clock of each run is another
        for look in stream[first:last]:
            part.look(Look(look.seconds + begun, look.label, look.place, look.score))
        part.save()
    states = [json.loads(file.path.read_text()) for file in (one, other)]
    assert checked(states[0], DriftState)["closed"] in (30, 31)
    for state in states:  # sums of seconds differ in the last digits
        state.update({"seconds": round(state["seconds"], 6), "blocks": [_rounded(block) for block in state["blocks"]]})
        state["current"] = _rounded(state["current"])
        state["watched"] = [
            {**watched, "since": None if watched["since"] is None else round(watched["since"], 6)}
            for watched in state["watched"]
        ]
    assert states[0] == states[1]
    assert "of events are unlike" in part.document()["notice"]


def _rounded(block):
    """Without the wall clock, which stands still in that test."""
    return {
        key: round(value, 6) if key in ("begun", "seconds") else value for key, value in block.items() if key != "wall"
    }


@pytest.mark.parametrize("change", [{"model file": "b"}, {"camera": "1"}, {"camera": "1", "model file": "b"}])
def test_another_model_file_or_camera_begins_anew_says_so_and_keeps_what_was(tmp_path, change):
    path, said = tmp_path / "drift.json", []
    fed(Drift(settings(), DriftFile(path, IDENTITY)), looks(3)).save()
    before = path.read_bytes()
    drift = Drift(settings(), DriftFile(path, {**IDENTITY, **change}), say=said.append)
    other = " and ".join(name for name in IDENTITY if name in change)
    assert said == [
        f"drift: drift.json was counted with another {other}; it is kept as drift.json.previous; learning anew what is usual"
    ]
    assert drift.document()["restarted"]
    assert drift.document()["days"] == []
    assert (tmp_path / "drift.json.previous").read_bytes() == before
    assert Drift(settings(), DriftFile(path, {**IDENTITY, **change})).document()["restarted"] == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: "{",
        lambda state: "[]",
        lambda state: b"\xff\xfe",
        lambda state: json.dumps({**state, "format": 99}),
        lambda state: json.dumps({**state, "closed": -1}),
        lambda state: json.dumps({key: value for key, value in state.items() if key != "blocks"}),
        lambda state: json.dumps({**state, "current": {**state["current"], "labels": [1]}}),
        lambda state: json.dumps({**state, "watched": [{**state["watched"][0], "stakes": [1.0]}]}),
        lambda state: json.dumps({**state, "watched": [{**state["watched"][0], "name": "moon"}]}),
        lambda state: json.dumps({**state, "hours": [[1, 2]]}),
        lambda state: json.dumps(state).replace('"seconds": ', '"seconds": NaN, "x": ', 1),
    ],
)
def test_a_damaged_file_is_kept_named_and_begun_anew(tmp_path, damage):
    path = tmp_path / "drift.json"
    fed(Drift(settings(), DriftFile(path, IDENTITY)), looks(3)).save()
    damaged = damage(json.loads(path.read_text()))
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    drift = fed(Drift(settings(), DriftFile(path, IDENTITY)), looks(2))
    assert drift.document()["restarted"].startswith("drift.json is damaged (")
    assert drift.document()["learned"] == 1
    assert (tmp_path / "drift.json.previous").exists()


def test_a_place_that_cannot_be_read_or_written_is_refused_at_the_start_and_told_later(tmp_path):
    with pytest.raises(OutputError, match="name another file"):
        Drift(settings(), DriftFile(tmp_path, IDENTITY))
    with pytest.raises(OutputError, match="cannot write"):
        Drift(settings(), DriftFile(tmp_path / "no" / "such" / "folder.json", IDENTITY))
    with pytest.raises(UsageError, match="no rate of false alarms"):
        Drift(settings(false_alarms="often"))
    path = tmp_path / "gone" / "drift.json"
    path.parent.mkdir()
    drift = Drift(settings(), DriftFile(path, IDENTITY))
    path.unlink()
    path.parent.rmdir()
    fed(drift, looks(2)).save()
    assert "cannot write" in drift.document()["failed"]
    path.parent.mkdir()
    drift.save()
    assert drift.document()["failed"] == ""


# Clocks.


def test_a_wall_clock_that_jumps_changes_words_and_nothing_else(tmp_path):
    """No clock until the network sets it, a year back, an hour forth: days are days of watching."""
    steady, wild = Clock(), Clock(0.0)
    drifts = [
        Drift(settings(), DriftFile(tmp_path / f"{n}.json", IDENTITY), wall=clock)
        for n, clock in enumerate((steady, wild))
    ]
    drifts[1]._seed = drifts[0]._seed
    for number, look in enumerate(looks(32, change=24)):
        steady.now = START + look.seconds
        wild.now = steady.now + {0: -START, 1: -3.2e7, 2: 3600.0, 3: 0.0}[min(3, number // 1500)]
        for drift in drifts:
            drift.look(look)
        if number == 1499:
            assert {day["time"] for day in drifts[1].document()["days"]} == {None}
    assert drifts[0].document() == drifts[1].document()


def test_a_camera_that_is_lost_for_days_does_not_move_the_day_of_the_change():
    clock = Clock()
    drift = Drift(settings(), wall=clock)
    for look in looks(50, change=40):
        clock.now = START + look.seconds
        drift.look(look)
    before = drift.document()
    assert before["notice"].startswith("since Wednesday 04 November")
    clock.now += 60 * HOUR  # no frame comes meanwhile
    assert drift.document() == before


def test_without_a_clock_the_day_is_counted_back(tmp_path):
    drift = fed(Drift(settings(), wall=Clock(100.0)), looks(60, change=40))
    assert "since 20.0 hours of watching ago" in drift.document()["notice"] or "since 19" in drift.document()["notice"]


def test_a_video_has_positions_for_times():
    drift = fed(Drift(settings(block_s=1.0, false_alarms="1/hour"), wall=None), _video(60, 40))
    assert "since 0:4" in drift.document()["notice"] or "since 0:39" in drift.document()["notice"]
    assert drift.document()["days"][0]["time"] is None


def _video(seconds, change):
    rng = np.random.default_rng(1)
    for number in range(seconds * 30):
        strange = rng.random() < (0.6 if number >= change * 30 else 0.05)
        yield Look(number / 30, -1 if strange else int(rng.integers(2)), rng.normal(size=20), -600.0)


def test_a_run_that_pauses_for_days_makes_one_long_day_and_a_quiet_one_goes_on_until_it_has_events():
    drift = Drift(settings())
    stream = list(looks(4))
    for look in stream[:100]:
        drift.look(look)
    for look in stream[100:]:
        drift.look(Look(look.seconds + 50 * HOUR, look.label, look.place, look.score))
    assert len(drift.document()["days"]) == 4
    quiet = Drift(settings())
    for number in range(40):
        quiet.look(Look(number * 0.5 * HOUR, 0, np.zeros(20), -1.0))
    assert [day["events"] for day in quiet.document()["days"]] == [20, 20]


def test_a_change_that_stands_for_longer_than_days_are_kept_is_still_compared_with_what_was_usual_before():
    drift = Drift(settings(block_s=60.0, false_alarms="1/day"))
    rng = np.random.default_rng(2)
    for number in range((MOST_DAYS + 120) * 60):
        strange = rng.random() < (0.6 if number >= 60 * 60 else 0.05)
        drift.look(Look(float(number), -1 if strange else int(rng.integers(2)), rng.normal(size=20), -600.0))
    assert len(drift._blocks) == MOST_DAYS
    (watched,) = (watched for watched in drift._watched if watched.name == "unknown")
    assert watched.since is not None
    assert abs(watched.since - 3600) <= 120
    assert "; before: 5" in drift.document()["notice"] or "; before: 4" in drift.document()["notice"]


def test_the_document_may_be_asked_for_by_another_thread_while_frames_come():
    drift, failures, over = Drift(settings()), [], threading.Event()

    def ask():
        while not over.is_set():
            try:
                json.dumps(drift.document())
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    fed(drift, looks(20))
    over.set()
    asking.join()
    assert failures == []


# Pictures.


def offered(pictures, day, score, seed, place=None):
    rng = np.random.default_rng(seed)
    pictures.offer(
        day,
        Look(0.0, -1, rng.normal(size=20) * 5 if place is None else place, score),
        lambda: cv2.resize(scene(seed), (640, 480)),
    )


def test_nine_pictures_a_day_are_kept_the_most_unlike_small_and_without_near_duplicates(tmp_path):
    (tmp_path / "mine.jpg").write_bytes(b"not ours")
    pictures = DriftPictures(tmp_path)
    scores = np.random.default_rng(0).permutation(40) * -10.0 - 800
    for number, score in enumerate(scores):
        offered(pictures, 0, float(score), number)
    offered(pictures, 0, -5000.0, 100, place=np.zeros(20))
    for number in range(20):
        offered(pictures, 0, -4990.0 - number / 10, 101 + number, place=np.full(20, 0.1))
    files = sorted(tmp_path.glob("unlike-*.jpg"))
    assert len(files) == SHOWN
    best = pictures.best(0)
    assert set(best) == set(files)
    far = [int(path.stem.split("-")[2]) for path in best]
    assert far == sorted(far, reverse=True)
    expected = [-5000.0, *sorted(scores)[: SHOWN - 1]]
    assert far == [int(1e6 - 10 * score) for score in expected]
    for path in files:
        picture = cv2.imread(str(path))
        assert picture.shape == (240, 320, 3)
        assert path.stat().st_size <= MOST_BYTES
    assert (tmp_path / "mine.jpg").read_bytes() == b"not ours"


def test_pictures_of_old_days_go_and_a_restart_finds_those_that_are_there(tmp_path):
    pictures = DriftPictures(tmp_path)
    for day in range(DAYS + 3):
        for number in range(2):
            offered(pictures, day, -900.0 - number, 10 * day + number)
    assert len(list(tmp_path.iterdir())) == 2 * DAYS
    again = DriftPictures(tmp_path)
    assert again.best(DAYS) == pictures.best(DAYS)
    offered(again, DAYS + 2, -950.0, 9999)
    assert "0950" in again.best(DAYS + 2)[0].name
    again.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_picture_of_pure_noise_stays_within_its_bytes_and_a_full_disk_is_told(tmp_path):
    pictures = DriftPictures(tmp_path / "p")
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), dtype=np.uint8)
    pictures.offer(0, Look(0.0, -1, np.zeros(20), -np.inf), lambda: noise)
    (path,) = pictures.best(0)
    assert path.stat().st_size <= MOST_BYTES
    path.unlink()
    (tmp_path / "p").rmdir()
    offered(pictures, 0, -2e9, 3)
    assert "cannot write" in pictures.failed


def test_only_what_is_unlike_the_training_photos_is_kept_and_nothing_without_a_folder(tmp_path):
    pictures = DriftPictures(tmp_path)
    drift = Drift(settings(), pictures=pictures)
    asked = []
    for look in looks(1, unknown=0.1):
        drift.look(look, lambda: asked.append(1) or scene(0))
    assert 0 < len(asked) < 40
    assert 0 < len(drift.document()["pictures"]) <= SHOWN
    assert Drift(settings()).document()["pictures"] == []
    assert set(VALUES) == {watched["name"] for watched in drift.document()["watched"]}
