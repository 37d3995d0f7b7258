"""The live page in a real browser: what a person sees, on a desk and on a phone."""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit

import cv2
import pytest
from browsers import browser as browser
from browsers import screen
from conftest import THAI
from page_audit import audit
from scenes import scene
from web_pages import EVIL, Camera, deliver, grey, result_of, status_of, until

from edge_tl_runtime.sinks.web import WebPage

PIXEL = """
const image = document.getElementById("picture"), canvas = document.createElement("canvas");
canvas.width = canvas.height = 1;
canvas.getContext("2d").drawImage(image, 0, 0, 1, 1);
return image.hidden ? -1 : canvas.getContext("2d").getImageData(0, 0, 1, 1).data[0];
"""
pytestmark = pytest.mark.slow


@pytest.fixture
def page():
    made = WebPage(port=0, title="Bees", labels=(THAI, "ant"))
    made.status(status_of())
    yield made
    made.close()


def text(browser, name):
    return browser.find_element("id", name).text


def shown(browser, **wanted):
    """Wait until the elements with these ids have these texts."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    def is_so():
        try:
            return {name: text(browser, name) for name in wanted} == wanted
        except (NoSuchElementException, StaleElementReferenceException):  # between two pages
            return False

    until(is_so)


def requested(browser):
    """The addresses that the page asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def test_a_person_sees_the_label_the_bars_the_figures_and_the_loss_of_the_source(browser, page):
    browser.get(page.url)
    deliver(page, result_of({THAI: 0.931, "ant": 0.069}, raw={THAI: 0.7, "ant": 0.3}))
    page.status(status_of())
    shown(browser, label=THAI, confidence="93 %", state="LIVE", fps="29.5", p50="11.2 ms", title="Bees", notice="")
    rows = browser.find_elements("css selector", "#answers li")
    assert [row.text.split("\n") for row in rows] == [[THAI, "93 %"], ["ant", "6.9 %"]]
    bar = rows[0].find_element("class name", "bar")
    assert bar.get_attribute("title") == "shown 93 %, this frame alone 70 %"
    until(
        lambda: bar.find_element("class name", "fill").size["width"] == pytest.approx(0.931 * bar.size["width"], abs=3)
    )
    counts = browser.find_element("id", "counts").text
    assert "frames classified\n1\u202f234" in counts
    assert "1\u202f200 written, 7 dropped" in text(browser, "sinks")
    assert "58.2 °C" in text(browser, "machine")
    assert THAI in text(browser, "changes")
    assert THAI in text(browser, "legend")
    page.status(status_of("LOST", notice="the camera is gone; next try in 4 s"))
    shown(browser, state="LOST", notice="the camera is gone; next try in 4 s")
    until(lambda: "grayscale(1)" in browser.find_element("id", "picture").value_of_css_property("filter"))
    assert text(browser, "changes").split("\n")[1] == "lost"
    assert not browser.get_log("browser")
    hosts = {urlsplit(url).netloc for url in requested(browser) if url.startswith(("http", "ws"))}
    assert hosts == {urlsplit(page.url).netloc}


def test_the_picture_moves_and_the_end_keeps_the_last_one(browser, page):
    browser.get(page.url)
    with Camera(page) as camera:
        until(lambda: browser.execute_script(PIXEL) >= 0)
        until(lambda: abs(browser.execute_script(PIXEL) - camera.number % 250) < 25)
    assert not browser.get_log("browser")

    def last_is_shown():
        deliver(page, result_of({"ant": 0.8}, 0, grey(240)))
        return abs(browser.execute_script(PIXEL) - 240) < 3

    until(last_is_shown)
    page.close()
    shown(browser, state="ENDED", notice="the run has ended", label="ant")
    assert abs(browser.execute_script(PIXEL) - 240) < 3


def test_a_picture_that_breaks_off_alone_is_not_left_standing_as_live(browser, page):
    browser.get(page.url)
    with Camera(page) as camera:
        until(lambda: browser.execute_script(PIXEL) >= 0)
        for connection in list(page._server._server.server_state.connections):
            if connection.scope["path"] == "/picture":
                page._server._loop.call_soon_threadsafe(connection.transport.abort)
        until(lambda: not page.viewers)
        for _ in range(3):
            page.status(status_of())
            time.sleep(0.3)
        until(lambda: page.viewers == 1)
        until(lambda: abs(browser.execute_script(PIXEL) - camera.number % 250) < 25)


def test_a_label_is_text_whatever_it_holds(browser, page):
    browser.get(page.url)
    deliver(page, result_of({EVIL: 0.9, "</script><b>x": 0.1}, source=EVIL))
    page.status(status_of(notice=EVIL, model=EVIL, model_notice=EVIL, sinks={EVIL: {"written": 1, "error": EVIL}}))
    shown(browser, label=EVIL, warning=EVIL)
    assert EVIL in text(browser, "answers")
    assert EVIL in text(browser, "changes")
    assert EVIL in text(browser, "sinks")
    assert len(browser.find_elements("css selector", "img")) == 1
    assert not browser.find_elements("css selector", "main b")
    assert not browser.get_log("browser")


@pytest.mark.parametrize(("state", "notice"), [("LIVE", ""), ("LOST", "the camera is gone"), ("STALE", "nothing new")])
def test_every_text_can_be_read_in_light_and_dark(browser, page, state, notice):
    for answer in ({THAI: 0.6, "ant": 0.4}, {"ant": 0.7, THAI: 0.3}):
        deliver(page, result_of(answer))
    page.status(
        status_of(
            state, notice=notice, model_notice="the new file was refused", sinks={"log": {"written": 1, "failed": 2}}
        )
    )
    audit(browser, page.url, lambda: shown(browser, state=state, notice=notice, label="ant"))


def test_a_camera_that_is_not_what_it_was_has_a_banner(browser, page):
    browser.get(page.url)
    motion = {"moving": False, "moved_s": 340.0, "every_s": 10.0, "looked": 9000, "still": 68433}
    for condition, banner in (
        ("FINE", ""),
        ("MOVED", "the camera is moved, since {}: labels may be wrong"),
        ("LEARNING", ""),
        ("COVERED", "the camera is covered, since {}: labels may be wrong"),
    ):
        page.status(status_of(motion=motion, camera={"condition": condition, "since": "2026-01-02T03:04:05+00:00"}))
        at = browser.execute_script(
            "return new Date(Date.UTC(2026, 0, 2, 3, 4, 5)).toLocaleTimeString([], "
            "{hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false})"
        )
        shown(browser, warning=banner.format(at))
    assert "68\u202f433" in text(browser, "counts")
    assert "5 min 40 s ago" in text(browser, "counts")


def test_a_sink_that_fails_stands_out(browser, page):
    browser.get(page.url)
    page.status(status_of(sinks={"log": {"written": 1, "failed": 2}, "mqtt": {"written": 3}}))
    until(lambda: len(browser.find_elements("css selector", "#sinks dd")) == 2)
    failing, fine = (row.value_of_css_property("color") for row in browser.find_elements("css selector", "#sinks dd"))
    assert failing != fine


@pytest.mark.parametrize("width", [360, 390, 700, 820, 1280])
def test_nothing_has_to_be_scrolled_sideways(browser, page, width):
    screen(browser, width, 844)
    browser.get(page.url)
    long = "a_very_long_label_without_any_space_" * 4
    deliver(page, result_of({long: 0.6, THAI * 40: 0.4}, source="/photos/" + long))
    page.status(
        status_of(source=long, model=long, notice=long, sinks={long: {"written": 1, "failed": 2, "error": long}})
    )
    shown(browser, label=long)
    until(lambda: text(browser, "sinks"))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.execute_script("return window.innerWidth") == width


def test_the_page_comes_back_when_the_runner_does(browser):
    first = WebPage(port=0)
    port = urlsplit(first.url).port
    first.status(status_of())
    browser.get(first.url)
    shown(browser, state="LIVE")
    first._feed.closed = False
    first._server._loop.call_soon_threadsafe(first._server._drop)  # as when the device loses its power
    first._server._server.should_exit = True
    shown(browser, state="NO CONNECTION", notice="no connection to the runner; trying again")
    first.close()
    second = WebPage(port=port)
    try:
        deliver(second, result_of({"bee": 0.9}))
        second.status(status_of())
        shown(browser, state="LIVE", label="bee", notice="")
    finally:
        second.close()


def test_the_token_opens_the_page_once_and_for_all(browser):
    page = WebPage(port=0, token="a secret & more")
    try:
        page.status(status_of())
        browser.get(page.url)
        with Camera(page):
            shown(browser, state="LIVE", label="bee")
            until(lambda: browser.execute_script(PIXEL) >= 0)
        assert "token" not in browser.current_url
        assert browser.execute_script("return document.cookie") == ""
        # A browser may ask for an icon before it has read that the page brings its own.
        assert not [line for line in browser.get_log("browser") if "/favicon.ico" not in line["message"]]
    finally:
        page.close()


def test_a_change_is_shown_in_its_sentence_with_nine_pictures_and_the_days(browser, page, tmp_path):
    pictures = [str(tmp_path / f"unlike-000007-10{number:05d}.jpg") for number in range(9)]
    for number, path in enumerate(pictures):
        cv2.imwrite(path, scene(number, 90, 120))
    days = [{"time": None, "seconds": 86400.0, "events": 200, "unknown": 8 + 60 * (n > 23)} for n in range(28)]
    drift = {
        "notice": f"since Tuesday 24 November 31 % of events are unlike {EVIL}", "level": "12 % of the last 4,000 events",
        "learned": 14, "learn": 14, "false_alarms": "1/year", "days": days, "pictures": pictures, "failed": "",
    }  # fmt: skip
    browser.get(page.url)
    page.status(status_of())
    shown(browser, state="LIVE")
    assert not browser.find_element("id", "drift").is_displayed()
    page.status(status_of(drift=drift))
    shown(
        browser,
        **{
            "drift-notice": drift["notice"],
            "drift-level": drift["level"],
            "drift-learned": "changes told by mistake: 1/year at most",
        },
    )
    until(lambda: _widths(browser) == [120] * 9)
    bars = [bar.size["height"] for bar in browser.find_elements("css selector", "#drift-days i")]
    assert len(bars) == 28
    assert bars[0] == pytest.approx(0.04 * 56, abs=1)
    assert bars[-1] == pytest.approx(0.34 * 56, abs=1)
    page.status(status_of(drift={**drift, "notice": "", "learned": 3, "days": days[:3], "pictures": []}))
    shown(
        browser, **{"drift-notice": "", "drift-learned": "learning what is usual: 3 of 14 days", "drift-pictures": ""}
    )
    assert not browser.get_log("browser")
    page.status(status_of(drift=drift))
    audit(browser, page.url, lambda: until(lambda: _widths(browser) == [120] * 9))


def _widths(browser):
    return browser.execute_script(
        "return [...document.querySelectorAll('#drift-pictures img')].map((x) => x.naturalWidth)"
    )
