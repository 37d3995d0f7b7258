"""What must hold of every page in a browser: on a desk and on a phone, in light and in dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

AUDIT = """
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const paint = (color) => { const [r, g, b, alpha = 1] = numbers(color); return [r, g, b, alpha]; };
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const light = (color) => {
  const [r, g, b] = color.slice(0, 3).map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
// invert(1) hue-rotate(180deg), by the matrix of the filter effects specification
const turned = ([r, g, b]) => {
  const [x, y, z] = [255 - r, 255 - g, 255 - b];
  return [[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]]
    .map(([i, j, k]) => Math.min(255, Math.max(0, i * x + j * y + k * z))).concat(1);
};
const opacity = (node) => (node ? Number(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1);
function ground(node) {
  const layers = [];
  for (let e = node; e; e = e.parentElement) layers.unshift(paint(getComputedStyle(e).backgroundColor));
  return layers.reduce((below, layer) => over(layer, below), [255, 255, 255, 1]);
}
// Cells below no heading may be empty: marks of a row stand there.
const titled = (cell) => cell.closest("table").rows[0].cells[cell.cellIndex]?.textContent.trim();
const faint = [], tiny = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const words = texts.currentNode.data.trim(), node = texts.currentNode.parentElement;
  if (!words || !node.checkVisibility() || node.closest("style, script, noscript, metadata")) continue;
  const svg = node.closest("svg"), style = getComputedStyle(node);
  if (svg && svg.querySelector("image")) continue; // on a picture: no one colour lies below
  const below = ground(svg || node);
  let color = paint(svg ? style.fill : style.color);
  if (svg && getComputedStyle(svg).filter.includes("invert")) color = turned(color);
  color[3] *= opacity(node);
  const found = ratio(over(color, below), below);
  if (found < 4.5) faint.push(`${found.toFixed(2)} ${node.tagName} ${words.slice(0, 40)}`);
  if (svg && node.getBoundingClientRect().height < 7) tiny.push(words.slice(0, 40));
}
return {
  wide: document.documentElement.scrollWidth - window.innerWidth,
  faint, tiny,
  unnamed: [...document.querySelectorAll("img, svg")].filter((e) => e.checkVisibility() && !(e.alt || e.ariaLabel)).length,
  hidden: [...document.querySelectorAll("table")].filter((e) => !e.closest("details:not([open])") && !e.offsetHeight).length,
  empty: [...document.querySelectorAll("td:not(.head td)")].filter((e) => !e.textContent.trim() && titled(e)).length,
};
"""
CLEAN = {"wide": 0, "faint": [], "tiny": [], "unnamed": 0, "hidden": 0, "empty": 0}


def audit(browser, address: str, ready: Callable[[], object] = bool) -> None:
    """Nothing sticks out, every text has a contrast of 4.5 to 1 or more (WCAG 2 AA), the letters of plots can be read, pictures
    have words, tables and cells are there, the console is silent, and nothing is asked for but the page.

    browser: of the fixture, whose logs are of the browser and of its network. ready: waits until the page shows what it is to.
    """
    browser.get("about:blank")
    browser.get_log("performance")
    for width, height in ((1280, 900), (390, 844)):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            browser.get(address)
            ready()
            found = browser.execute_script(AUDIT)
            assert found | {"wide": max(0, found["wide"])} == CLEAN, f"{width} px, {scheme}"
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    own = address if address.startswith("file:") else f"http://{urlsplit(address).netloc}/"
    assert {url for url in asked if not url.startswith(("data:", own))} == set()
