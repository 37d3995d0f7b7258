"""Drift in a run as a user starts it: options, status, restarts, a new model file, the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import edge_tl, video
from conftest import COLORS
from scenes import scene

from edge_tl_runtime.core.documents import checked
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.asked_geometry import AskedGeometry
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.pipeline.decision import Decider
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.run.drift_feed import DriftFeed
from edge_tl_runtime.run.plan import RunPlan
from edge_tl_runtime.scene.documents import CameraDriftDocument
from edge_tl_runtime.sources import open_source

QUICK = ("--drift-day", "4s", "--drift-false-alarms", "1/hour", "--headless")
"""Videos of seconds stand for weeks: forty frames a day, learned for 56 s."""
GONE = list(COLORS)[2]


def colours(seconds, change, seed=0):
    """Ten frames a second, each of one colour; from second `change` on the last of them is gone."""
    rng = np.random.default_rng(seed)
    names = list(COLORS)
    shares = [[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]]
    return [names[rng.choice(3, p=shares[frame >= 10 * change])] for frame in range(10 * seconds)]


def run(model, source, tmp_path, *more, **options):
    done = edge_tl(
        "run",
        model,
        "--source",
        source,
        *QUICK,
        "--drift",
        tmp_path / "drift.json",
        "--status",
        tmp_path / "status.json",
        *more,
        **options,
    )
    return done, json.loads((tmp_path / "status.json").read_text())["drift"]


def test_a_video_in_which_a_colour_disappears_is_said_in_the_last_lines_and_in_the_status(color_model, tmp_path):
    clip = video(tmp_path / "clip.avi", colours(110, 68), "MJPG", frames=1)
    done, drift = run(color_model, clip, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "drift: nothing is called unknown here" in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("drift: since 1:")]
    assert len(told) == 2  # when it was found, and at the end
    assert f"{GONE} is 0 % of the known events (before: " in told[-1]
    checked(drift, CameraDriftDocument)
    assert drift["notice"] == told[-1].removeprefix("drift: ")
    assert [watched["name"] for watched in drift["watched"]] == ["labels"]
    assert drift["level"].startswith("nothing is called unknown here")
    assert drift["watched"][0]["since"] in ("1:04 of watching", "1:08 of watching")
    assert (drift["learned"], drift["promised"], drift["block_s"]) == (14, None, 4.0)


def test_a_second_run_goes_on_with_what_the_first_has_learned(color_model, tmp_path):
    frames = colours(110, 68)
    first, second = (
        video(tmp_path / f"{n}" / "clip.avi", part, "MJPG", frames=1) for n, part in enumerate(cut(frames, tmp_path))
    )
    _, drift = run(color_model, "clip.avi", tmp_path, cwd=first.parent)
    assert (drift["notice"], drift["learned"]) == ("", 14)
    done, drift = run(color_model, "clip.avi", tmp_path, cwd=second.parent)
    assert drift["restarted"] == ""
    assert f"{GONE} is 0 % of the known events" in drift["notice"]
    assert "learning anew" not in done.stderr


def cut(frames, tmp_path):
    for number, part in enumerate((frames[:600], frames[600:])):
        (tmp_path / f"{number}").mkdir()
        yield part


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--source", "photos", "--drift", "d.json"), "photos do not follow each other in time"),
        (
            ("--source", "test://bars?frames=3", "--drift", "d.json", "--drift-false-alarms", "seldom"),
            "is no rate of false alarms",
        ),
        (("--source", "test://bars?frames=3", "--drift-pictures", "p"), "--drift-pictures needs --drift FILE"),
        (("--source", "test://bars?frames=3", "--drift", "no/d.json"), "cannot write no/d.json"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_before_the_first_frame(color_model, color_photos, options, words):
    done = edge_tl("run", color_model, "--headless", *options, cwd=color_photos.parent)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if words in line]) == 1
    assert "Traceback" not in done.stderr
    assert not (color_photos.parent / "d.json").exists()


class Swapping:
    """Gives another model once, after so many frames."""

    def __init__(self, classifier, after):
        self.classifier, self.after = classifier, after

    def __call__(self):
        self.after -= 1
        return self.classifier if self.after == 0 else None


def test_a_model_that_is_reloaded_begins_anew_and_says_so(color_model, color_graph, color_spec, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(with_checksum(color_graph, replace(color_spec, data_fingerprint="another")))
    clip, said = video(tmp_path / "clip.avi", colours(12, 99), "MJPG", frames=1), []
    plan = RunPlan(model=color_model, source=str(clip), drift=tmp_path / "d.json", drift_day=2.0)
    with open_source(str(clip)) as source:
        stream = Stream(source, Classifier(color_model), fresh=Swapping(Classifier(other), 60))
        feed = DriftFeed(plan, source, stream.classifier, said.append)
        days = []
        for result in stream:
            feed.saw(result, stream.classifier)
            days.append(len(feed.document()["days"]))
        feed.close()
    assert max(days) >= 2
    assert days[-1] <= 3
    assert any(
        "was counted with another model file; it is kept as d.json.previous; learning anew" in line for line in said
    )
    assert json.loads((tmp_path / "d.json.previous").read_text())["closed"] == max(days[:60])


def test_the_evidence_of_each_result_is_what_the_model_saw_in_it_in_batches_too(color_model, tmp_path):
    clip = video(tmp_path / "clip.avi", colours(2, 99), "MJPG", frames=1)
    classifier = Classifier(color_model)
    for batch in (1, 7):
        with open_source(str(clip)) as source:
            for result in Stream(source, classifier, batch=batch, decider=lambda model: Decider(model.spec)):
                expected = classifier.spec.scores.probabilities(result.evidence)
                assert int(np.argmax(expected)) == result.decision.index


def test_one_region_is_counted_and_a_covered_camera_is_not(color_model, tmp_path):
    clip, said = video(tmp_path / "clip.avi", colours(6, 99), "MJPG", frames=1), []
    asked = AskedGeometry.parse(["left=0,0,0.5,1", "right=0.5,0,0.5,1"])
    plan = RunPlan(model=color_model, source=str(clip), drift=tmp_path / "d.json", drift_day=2.0)
    events = []
    for covered in (False, True):
        plan.drift.unlink(missing_ok=True)
        with open_source(str(clip)) as source:
            stream = Stream(source, Classifier(color_model), asked=asked)
            feed = DriftFeed(plan, source, stream.classifier, said.append)
            for result in stream:
                camera = "covered" if covered else ""
                feed.saw(replace(result, record=replace(result.record, camera=camera)), stream.classifier)
            events.append(feed.document()["week"]["events"])
    assert events[1] == 0
    assert 0 < events[0] <= 60  # not those of both regions
    assert said.count("drift: of the regions, left is watched") == 2


def test_photos_are_refused_where_it_is_called_from_python_too(color_model, color_photos, tmp_path):
    with open_source(str(color_photos)) as source, pytest.raises(UsageError, match="do not follow each other"):
        DriftFeed(RunPlan(model=color_model, drift=tmp_path / "d.json"), source, Classifier(color_model), print)


# The page.


def drift_of(folder, count=9):
    """What the status of a run says of drift, with pictures in a folder."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"unlike-000007-10{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), scene(number, 120, 160))
    return {"notice": "since Tuesday", "level": "12 %", "pictures": list(map(str, paths)), "days": [], "failed": ""}


def test_the_page_serves_the_pictures_that_the_status_names_and_no_others(tmp_path):
    pytest.importorskip("starlette")
    from web_pages import Reply, status_of, until

    from edge_tl_runtime.sinks.web import WebPage

    page = WebPage(port=0)
    try:
        with Reply(page, "/drift/0.jpg") as reply:
            assert reply.status == 404
        drift = drift_of(tmp_path / "nine")
        page.status(status_of(drift=drift))
        until(lambda: json.loads(Reply(page, "/status.json").body).get("drift"))
        for number, path in enumerate(drift["pictures"]):
            with Reply(page, f"/drift/{number}.jpg?{number}") as reply:
                assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg")
                assert reply.body == Path(path).read_bytes()
        for path in ("/drift/9.jpg", "/drift/-1.jpg", "/drift/..%2f0.jpg", "/drift/0"):
            with Reply(page, path) as reply:
                assert reply.status == 404
    finally:
        page.close()


def test_the_page_is_not_for_others_without_the_token(tmp_path):
    pytest.importorskip("starlette")
    from web_pages import Reply, status_of

    from edge_tl_runtime.sinks.web import WebPage

    page = WebPage(host="0.0.0.0", port=0)
    try:
        page.status(status_of(drift=drift_of(tmp_path / "nine")))
        with Reply(page, "/drift/0.jpg") as reply:
            assert reply.status == 401
    finally:
        page.close()
