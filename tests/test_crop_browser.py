"""Drawing a crop on the live page, in a real browser with real pointer events: mouse, finger, keyboard."""

from __future__ import annotations

import numpy as np
import pytest
from browsers import browser as browser
from browsers import screen
from conftest import COLORS
from page_audit import audit
from web_pages import deliver, status_of, until

from edge_tl_runtime.images.asked_geometry import AskedGeometry
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.sinks.web import WebPage
from edge_tl_runtime.sources.base import FrameRecord, Source

pytestmark = pytest.mark.slow
LEFT, RIGHT, *_ = COLORS
WIDTH, HEIGHT = 1280, 720


class OneFrame(Source):
    live = True

    def __iter__(self):
        frame = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        frame[:, : WIDTH // 2], frame[:, WIDTH // 2 :] = COLORS[LEFT], COLORS[RIGHT]
        yield FrameRecord(frame, "camera", 0, 0.0)


@pytest.fixture
def page():
    made = WebPage(port=0, labels=tuple(COLORS), aspect=1.0, every=True)
    made.status(status_of())
    yield made
    made.close()


def shows(browser, page, model, **asked):
    """Open the page with one frame, as a runner delivers it, until its view lies over the picture."""

    def is_there():
        for result in Stream(OneFrame("camera"), Classifier(model), asked=AskedGeometry.parse(**asked)):
            deliver(page, result)
        return browser.execute_script("return !document.getElementById('stage').hidden")

    browser.get(page.url)
    until(is_there)


def where(browser, x, y):
    """Of a pixel of the frame: its place in the window."""
    box = browser.execute_script(
        "const b = document.getElementById('stage').getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    )
    return box[0] + x * box[2] / WIDTH, box[1] + y * box[3] / HEIGHT


def drag(browser, start, end, kind="mouse"):
    from selenium.webdriver.common.action_chains import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    pointer = PointerInput(kind, "it")
    actions = ActionBuilder(browser, mouse=pointer, duration=0)
    (x, y), (u, v) = where(browser, *start), where(browser, *end)
    action = actions.pointer_action
    action.move_to_location(round(x), round(y)).pointer_down().move_to_location(round((x + u) / 2), round((y + v) / 2))
    action.move_to_location(round(u), round(v)).pointer_up()
    actions.perform()


def option(browser):
    return browser.find_element("id", "crop-text").get_attribute("value")


def box(browser):
    name, _, values = option(browser).rpartition(" ")
    assert name == "--crop"
    return [int(value) for value in values.split(",")]


def begin(browser):
    browser.find_element("id", "draw").click()
    assert browser.find_element("id", "tool").is_displayed()


def near(found, wanted, pixels):
    return np.abs(np.subtract(found, wanted)).max() <= pixels


@pytest.mark.parametrize(("kind", "width"), [("mouse", 1280), ("touch", 390)])
def test_what_is_drawn_is_the_option_that_looks_there(browser, page, color_model, kind, width):
    screen(browser, width, 900)
    shows(browser, page, color_model)
    # The default view: the centre crop, in the frame's pixels.
    begin(browser)
    assert box(browser) == [325, 45, 630, 630]
    step = WIDTH / browser.execute_script(
        "return document.getElementById('stage').offsetWidth"
    )  # pixels of the frame in one here
    browser.find_element("id", "done").click()
    begin(browser)
    drag(browser, (40, 60), (300, 400), kind)
    assert near(box(browser), [40, 60, 260, 340], 2 * step), option(browser)
    drawn = box(browser)
    drag(browser, (170, 200), (270, 260), kind)  # inside: it moves
    assert near(box(browser), [drawn[0] + 100, drawn[1] + 60, *drawn[2:]], 2 * step)
    moved = box(browser)
    assert moved[2:] == drawn[2:]
    drag(browser, (moved[0] + moved[2], moved[1] + moved[3]), (900, 700), kind)  # the handle at the lower right
    assert near([box(browser)[0] + box(browser)[2], box(browser)[1] + box(browser)[3]], [900, 700], 2 * step)
    assert box(browser)[:2] == moved[:2]
    drag(browser, (600, 500), (5000 if kind == "mouse" and width > 2000 else 1279, 719), kind)  # never outside
    x, y, w, h = box(browser)
    assert 0 <= x <= x + w <= WIDTH
    assert 0 <= y <= y + h <= HEIGHT
    AskedGeometry.parse(option(browser).removeprefix("--crop ")).regions(
        Classifier(color_model).spec.resize, HEIGHT, WIDTH
    )
    assert not browser.get_log("browser")


def test_the_keyboard_moves_resizes_and_leaves(browser, page, color_model):
    from selenium.webdriver.common.keys import Keys

    shows(browser, page, color_model, crop="100,100,200,200")
    begin(browser)
    assert box(browser) == [100, 100, 200, 200]
    crop = browser.find_element("id", "crop")
    crop.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert box(browser) == [102, 99, 200, 200]
    crop.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert box(browser) == [102, 99, 201, 202]
    crop.send_keys(Keys.CONTROL, Keys.ARROW_LEFT)
    assert box(browser) == [92, 99, 201, 202]
    browser.find_element("id", "region-name").send_keys("back door/!")
    assert option(browser) == "--crop backdoor=92,99,201,202"
    assert "the model sees the middle 201 × 201" in browser.find_element("id", "crop-words").text
    browser.find_element("id", "whole").click()
    assert option(browser) == "--crop backdoor=0,0,1280,720"
    assert "16:9" in browser.find_element("id", "crop-words").text
    crop.send_keys(Keys.ESCAPE)
    assert not browser.find_element("id", "tool").is_displayed()


@pytest.mark.parametrize("clipboard", ["granted", "missing"])
def test_the_option_is_copied_with_and_without_a_clipboard(browser, page, color_model, clipboard):
    shows(browser, page, color_model)
    if clipboard == "granted":
        for name in ("clipboard-read", "clipboard-write"):
            browser.execute_cdp_cmd("Browser.setPermission", {"permission": {"name": name}, "setting": "granted"})
    else:  # as over plain HTTP
        browser.execute_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    browser.execute_script("window.copies = []; addEventListener('copy', () => copies.push(String(getSelection())))")
    begin(browser)
    browser.find_element("id", "copy").click()
    until(lambda: browser.find_element("id", "copied").text in ("copied", "select the text and copy it"))
    field = browser.execute_script(
        "const f = document.activeElement; return [f.id, f.value.slice(f.selectionStart, f.selectionEnd)]"
    )
    assert field == ["crop-text", option(browser)]
    if clipboard == "granted":
        assert browser.find_element("id", "copied").text == "copied"
        browser.execute_script("window.pasted = null; navigator.clipboard.readText().then(text => pasted = text)")
        until(lambda: browser.execute_script("return pasted") == option(browser))


def test_regions_have_a_card_a_box_and_a_row_each(browser, page, color_model):
    shows(browser, page, color_model, crop={"door": (0, 0, 0.4, 0.5), "gate": (0.6, 0.5, 0.4, 0.5)})
    cards = browser.find_elements("css selector", "#regions .card")
    assert [card.text.split("\n")[:2] for card in cards] == [["door", LEFT], ["gate", RIGHT]]
    names = [item.text for item in browser.find_elements("css selector", "#boxes .box span")]
    assert names == [f"door: {LEFT}", f"gate: {RIGHT}"]
    stage = browser.find_element("id", "stage").rect
    seen = browser.find_elements("css selector", "#boxes .box")[1].rect
    # The middle of 512x360 px from x 768, y 360.
    assert (seen["x"] - stage["x"]) / stage["width"] == pytest.approx((768 + 76) / WIDTH, abs=0.01)
    assert seen["height"] / stage["height"] == pytest.approx(0.5, abs=0.02)
    assert not browser.find_element("id", "answers").is_displayed()
    until(lambda: f"gate: {RIGHT}" in browser.find_element("id", "changes").text)
    assert browser.find_element("id", "strip-names").text == "rows, from the top: door, gate"
    assert not browser.get_log("browser")


@pytest.mark.parametrize("asked", [{}, {"crop": {"door": (0, 0, 0.4, 0.5), "gate": (0.6, 0.5, 0.4, 0.5)}}], ids=str)
def test_every_text_of_the_tool_and_of_regions_can_be_read(browser, page, color_model, asked):
    def ready():
        for result in Stream(OneFrame("camera"), Classifier(color_model), asked=AskedGeometry.parse(**asked)):
            deliver(page, result)
        until(lambda: browser.find_element("id", "draw").is_displayed())
        begin(browser)

    audit(browser, page.url, ready)


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_the_tool_and_cards_need_no_scrolling_sideways(browser, page, color_model, width):
    screen(browser, width, 844)
    shows(browser, page, color_model, crop={"d" * 40: (0, 0, 0.4, 0.5), "gate": (0.6, 0.5, 0.4, 0.5)})
    begin(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_no_dim_shows_the_picture_as_it_is(browser, color_model):
    page = WebPage(port=0, labels=tuple(COLORS), dims=False, every=True)
    try:
        page.status(status_of())
        shows(browser, page, color_model)
        assert browser.execute_script("return document.querySelector('#shade path').getAttribute('d')") == ""
    finally:
        page.close()
