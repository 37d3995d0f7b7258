"""The live page: who may look, what they see, and that no viewer, however slow, costs the run anything."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from conftest import THAI
from stopwatch import HANGING, Stopwatch
from web_pages import Camera, Reply, deliver, grey, result_of, status_of, until

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sinks import QueuedSink, kept
from edge_tl_runtime.sinks.web import WebPage
from edge_tl_runtime.sinks.web.access import public_host
from edge_tl_runtime.sinks.web.feed import CHANGES, POINTS
from edge_tl_runtime.sinks.web.server import MAX_PICTURES
from edge_tl_runtime.sinks.web.sink import Pace, encode
from edge_tl_runtime.sources.base import NO_FRAME, FrameRecord


@pytest.fixture
def page():
    made = WebPage(port=0, title="Bees", labels=("bee", "ant", THAI))
    yield made
    made.close()


@pytest.fixture
def shared():
    made = WebPage(host="0.0.0.0", port=0)
    yield made
    made.close()


# Who may look.


def test_loopback_needs_no_token_and_every_answer_is_armoured(page):
    for path in ("/", "/page.css", "/page.js", "/status.json", "/healthz", "/nothing"):
        found = Reply(page, path)
        assert found.headers["Content-Security-Policy"].startswith("default-src 'self'"), path
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert found.headers["Referrer-Policy"] == "no-referrer"
        assert found.headers["X-Frame-Options"] == "DENY"
        assert found.headers["Cache-Control"] == "no-store"
    assert Reply(page).status == 200
    assert "token" not in page.url


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("192.168.0.7:8080", 403),
        ("evil.example#localhost", 403),
        ("", 403),
    ],
)
def test_a_name_that_points_here_from_elsewhere_is_refused(page, host, status):
    for path in ("/", "/status.json", "/picture"):
        with Reply(page, path, headers={"Host": host}, method="HEAD") as found:
            assert found.status == status


def test_others_need_the_token(shared):
    token = urlsplit(shared.url).query
    assert len(token) > 20
    assert token not in shared.masked_url
    for path in (
        "/",
        "/page.js",
        "/picture",
        "/events",
        "/status.json",
        "/snapshot.jpg",
        "/nothing",
        "/?token=",
        "/?token=x",
    ):
        found = Reply(shared, path)
        assert found.status == 401, path
        assert found.body.count(b"\n") == 1
    assert Reply(shared, "/healthz").status == 503
    assert Reply(shared, f"/status.json?{token}").status == 200
    assert (
        Reply(shared, "/", headers={"Host": "camera.local"}).status == 401
    )  # any name will do, but not without the token


def test_the_token_becomes_a_cookie_and_leaves_the_address(shared):
    query = urlsplit(shared.url).query
    entry = Reply(shared, f"/?{query}")
    cookie = entry.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert b'content="0;url=./"' in entry.body
    assert query.partition("=")[2] not in cookie
    pair = cookie.split(";")[0]
    assert b"What the model says" in Reply(shared, "/", headers={"Cookie": pair}).body
    assert Reply(shared, "/", headers={"Cookie": pair[:-1]}).status == 401


@pytest.mark.parametrize("token", ["secret", "ผึ้ง", "a b&c=d;e+%"])
def test_any_token_will_do(token):
    page = WebPage(port=0, token=token)
    try:
        assert Reply(page).status == 401
        address = urlsplit(page.url)
        assert Reply(page, f"/status.json?{address.query}").status == 200
        assert token not in page.masked_url
    finally:
        page.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(page, method):
    assert Reply(page, "/", method).status == 405
    assert Reply(page, "/events", "HEAD").status == 200


def test_an_address_that_cannot_be_had_is_one_clear_line(page):
    port = urlsplit(page.url).port
    for host, wanted in (("127.0.0.1", port), ("no such host", 0), ("203.0.113.9", 0), ("", 0)):
        with pytest.raises(
            UsageError, match=r"^the web page[^\n]*(choose another port|give one of this machine)[^\n]*$"
        ):
            WebPage(host=host, port=wanted)
    assert public_host("::1") == "[::1]"
    assert public_host("0.0.0.0") not in ("0.0.0.0", "")


def test_without_the_libraries_the_runtime_works_and_the_page_says_what_to_install():
    code = (
        "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None\n"
        "from edge_tl_runtime.core.errors import UsageError\nfrom edge_tl_runtime.sinks.web import WebPage\n"
        "try: WebPage(port=0)\nexcept UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "the web page needs starlette and uvicorn; run: pip install 'edge-tl[web]'\n"
    code = "import sys, edge_tl_runtime.sinks.web; print('starlette' in sys.modules, 'uvicorn' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False False\n"


# The picture.


def test_pixels_are_asked_for_only_while_somebody_watches(page):
    for number in range(5):
        result = result_of({"bee": 0.9}, number, grey(9))
        assert page.wants(result)
        assert not page.wants_pixels(result)
        page.write(kept(result, False))
    with Camera(page), Reply(page, "/picture", whole=False) as viewer:
        viewer.part()
        assert page.viewers == 1
    until(lambda: not page.viewers)
    assert not page.wants_pixels(result_of({"bee": 0.9}, 9, grey(9)))


def test_the_stream_shows_the_newest_frame_in_its_own_size_or_smaller(page):
    with Camera(page, 1200, 1600) as camera, Reply(page, "/picture", whole=False) as viewer:
        assert viewer.headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=frame")
        for _ in range(3):
            picture = viewer.part()
            assert picture.shape == (720, 960, 3)
        assert abs(int(picture.mean()) - camera.number % 250) <= 8
    assert encode(np.zeros((3, 5000), np.uint8), 80, 960)  # grey, and one row at last
    assert cv2.imdecode(np.frombuffer(encode(grey(7, 30, 40), 80, 960), np.uint8), 1).shape == (30, 40, 3)


def test_no_more_pictures_a_second_than_asked_for_and_not_far_fewer():
    now, shown = 1000.0, 0
    pace = Pace(15)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        for number in range(300):
            now = 1000 + number / 29.7 + 0.004 * (number % 3)
            shown += pace.ready()
    assert 140 <= shown <= 152


def test_a_snapshot_is_a_new_picture_or_an_honest_refusal(page):
    assert Reply(page, "/snapshot.jpg").status == 503
    with Camera(page) as camera:
        picture = cv2.imdecode(np.frombuffer(Reply(page, "/snapshot.jpg").body, np.uint8), 1)
        assert abs(int(picture.mean()) - camera.number % 250) <= 8
    assert Reply(page, "/snapshot.jpg").status == 200  # no newer result: the last picture is the current one
    late = result_of({"ant": 0.9}, 999)
    page.write(late.with_frame(NO_FRAME))
    page._feed._result = Result(
        FrameRecord(NO_FRAME, "camera", 999, 9.0, time.monotonic() + 60), late.decision, late.prediction, 1.0, 1.0
    )
    assert Reply(page, "/snapshot.jpg").status == 503  # a picture of long ago is not shown with the label of now


def test_five_viewers_get_the_same_picture_encoded_once(page):
    with Camera(page) as camera, contextlib.ExitStack() as stack:
        viewers = [stack.enter_context(Reply(page, "/picture", whole=False)) for _ in range(5)]
        until(lambda: page.viewers == 5)
        for viewer in viewers:
            for _ in range(5):
                assert viewer.part().shape == (480, 640, 3)
        assert page._feed.picture().number <= camera.number / 60 * 15 + 10


def test_a_viewer_who_takes_nothing_delays_nobody_and_sees_no_long_past(page):
    with Camera(page, 960, 960) as camera, Reply(page, "/picture", whole=False, lazy=True) as slow:
        with Reply(page, "/picture", whole=False) as fast:
            watch = Stopwatch()
            for _ in range(30):
                fast.part()
            assert watch.quiet() < 6  # 2 s at full pace
        assert camera.slowest - watch.waited() < 0.5
        assert slow.part() is not None


def test_a_noisy_picture_does_not_pile_up_for_a_slow_viewer(page):
    noise = np.random.default_rng(0).integers(0, 255, (720, 960, 3), np.uint8)
    with Reply(page, "/picture", whole=False, lazy=True):
        until(lambda: page.viewers == 1)
        limit = time.monotonic() + 3
        while time.monotonic() < limit:
            deliver(page, result_of({"bee": 0.9}, 0, noise))
            time.sleep(0.01)
        assert page._feed.waiting_viewers == 0  # its network is busy with the last
        assert page._feed.picture().number < 12  # of 45 at full pace


def test_viewers_are_limited(page):
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_PICTURES):
            stack.enter_context(Reply(page, "/picture", whole=False))
        until(lambda: page.viewers == MAX_PICTURES)
        refused = Reply(page, "/picture")
        assert (refused.status, refused.body.count(b"\n")) == (503, 1)
    until(lambda: page.viewers == 0)
    with Reply(page, "/picture", whole=False) as again:
        assert again.status == 200


def test_the_last_photo_is_shown_though_it_came_too_soon_after_the_one_before():
    page = WebPage(port=0, every=True, max_fps=1)
    outlet = QueuedSink(page, lossless=True)
    with Reply(page, "/picture", whole=False) as viewer:
        until(lambda: page.viewers == 1)
        for level in (10, 90, 200):
            result = result_of({"bee": 0.9}, level, grey(level))
            assert outlet.wants(result)
            outlet.offer(kept(result, page.wants_pixels(result)))
        outlet.finish()
        assert outlet.join(time.monotonic() + HANGING)
        while abs(viewer.part().mean() - 200) > 2:  # raises at the end of the stream
            continue
    assert outlet.counts() == {"written": 3, "dropped": 0, "failed": 0}


# The events.


def test_results_status_and_changes_arrive(page):
    with Reply(page, "/events", whole=False) as viewer:
        assert viewer.headers["Content-Type"].startswith("text/event-stream")
        assert viewer.event("history")["labels"] == ["bee", "ant", THAI]
        deliver(page, result_of({THAI: 0.9, "ant": 0.1}, raw={"ant": 0.6, THAI: 0.4}))
        change = viewer.event("change")
        assert (change["label"], change["confidence"]) == (THAI, 0.9)
        assert abs(change["t"] - time.time()) < HANGING
        found = viewer.event("result")
        assert (found["label"], found["raw_top"][0]) == (THAI, {"label": "ant", "confidence": 0.6})
        page.status(status_of())
        assert viewer.event("status") == status_of()
        assert viewer.event("point")["p95"] == 14.8
    assert json.loads(Reply(page, "/status.json").body) == status_of()


def test_at_most_ten_results_a_second_and_always_the_last(page):
    with Reply(page, "/events", whole=False) as viewer:
        viewer.event("history")
        begun = time.monotonic()
        for number in range(60):
            deliver(page, result_of({"bee": 0.9}, number))
            time.sleep(0.01)
        took = time.monotonic() - begun  # 0.6 s, and longer on a busy machine
        seen = [viewer.event("result")["frame"]]
        while seen[-1] != 59:
            seen.append(viewer.event("result")["frame"])
    assert len(seen) <= 10 * took + 6
    assert seen == sorted(seen)


def test_a_newcomer_gets_the_bounded_past(page):
    for number in range(CHANGES + 20):
        deliver(page, result_of({("bee", "ant")[number % 2]: 0.9}, number))
    for number in range(POINTS + 20):
        page.status(status_of(fps=float(number)))
    with Reply(page, "/events", whole=False) as viewer:
        history = viewer.event("history")
    assert (len(history["changes"]), len(history["points"])) == (CHANGES, POINTS)
    assert history["points"][-1]["fps"] == POINTS + 19


def test_while_the_source_is_lost_the_timeline_has_a_gap(page):
    deliver(page, result_of({"bee": 0.9}))
    for state in ("LIVE", "LOST", "LOST", "LIVE"):
        page.status(status_of(state))
    deliver(page, result_of({"bee": 0.9}))
    with Reply(page, "/events", whole=False) as viewer:
        changes = viewer.event("history")["changes"]
    assert [(change["label"], change["state"]) for change in changes] == [
        ("bee", "LIVE"),
        (None, "LOST"),
        ("bee", "LIVE"),
    ]


@pytest.mark.parametrize(
    ("state", "status"), [("LIVE", 200), ("ENDED", 200), ("LOST", 503), ("STALE", 503), ("CONNECTING", 503)]
)
def test_health_is_a_word(page, state, status):
    page.status(status_of(state))
    found = Reply(page, "/healthz")
    assert (found.status, found.body.decode().strip()) == (status, state)


def test_names_that_are_no_text_are_sent_all_the_same(page):
    deliver(page, result_of({"bee": 0.9}, source="photo-\udcff.jpg"))
    with Reply(page, "/events", whole=False) as viewer:
        assert viewer.event("history")["changes"][0]["source"] == "photo-\udcff.jpg"


def test_the_end_is_quick_and_told_with_streams_open_and_a_viewer_who_takes_nothing(caplog):
    page = WebPage(port=0)
    noise = np.random.default_rng(0).integers(0, 255, (720, 960, 3), np.uint8)
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(Reply(page, "/events", whole=False)) for _ in range(5)]
        stack.enter_context(Reply(page, "/picture", whole=False, lazy=True))
        until(lambda: page.viewers == 1)
        for number in range(100):
            deliver(page, result_of({"bee": 0.9}, number, noise))
            time.sleep(0.01)
        watch = Stopwatch()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            page.close()
        assert watch.quiet() < 1
        assert not page._server._thread.is_alive()
        for listener in listeners:
            assert listener.event("end") == {}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", urlsplit(page.url).port), 1)
    page.close()
    assert not [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    deliver(page, result_of({"bee": 0.9}))  # too late, and harmless
    page.status(status_of())
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(page.url, timeout=1)
