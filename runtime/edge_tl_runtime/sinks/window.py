"""The window: the frame with label, confidence and frame rate."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

import cv2

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sinks.draw.overlay import Overlay
from edge_tl_runtime.sinks.draw.view import draw_answers, picture_of
from edge_tl_runtime.sources.base import NO_FRAME, Source, State

TITLE = "edge-tl"
MAX_FPS = 30.0


class Window:
    """Shows results; q, Esc or closing it ends the run. Not a Sink: windows belong to the main thread.

    A video plays no faster than it was taken; photos stay for the source's hold_s; of a live source at most MAX_FPS are shown.
    While frames are missing, the last one is shown darkened, with the state and what is wrong.
    """

    def __init__(self, source: Source, overlay: Overlay, dims: bool = True) -> None:
        """dims: whether what the model does not see is dimmed. Raises UsageError where no window can be shown."""
        if reason := window_obstacle():
            raise UsageError(f"cannot show a window: {reason}; use --headless")
        # Qt complains of every font it does not bring; we draw the text ourselves.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        self._source, self._overlay, self._dims = source, overlay, dims
        self._started: float | None = None
        self._shown_at = 0.0
        self._title = TITLE
        self._last: tuple[Frame, Result] | None = None
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(TITLE, 800, 600)

    def wants(self) -> bool:
        """Whether the next result would be shown."""
        return not self._source.live or time.monotonic() - self._shown_at >= 1.0 / MAX_FPS

    def show(self, result: Result) -> bool:
        """Draw a result, onto its own frame; False when the person ended the run."""
        now = self._shown_at = time.monotonic()
        frame = picture_of(result)
        if self._source.live:
            self._last = frame.copy(), result.with_frame(NO_FRAME)
        self._name(TITLE)
        self._draw(frame, result, self._status(result))
        self._started = now if self._started is None else self._started
        ahead = 0.0 if self._source.live else self._started + result.record.seconds - now
        return self._keys(max(self._source.hold_s, ahead))

    def pulse(self) -> bool:
        """Keep the window alive while no frame comes; False when the person ended the run."""
        state = self._source.state
        if state not in (State.LIVE, State.ENDED):
            problem = " · ".join(text for text in (state.value, self._source.notice) if text)
            self._name(f"{TITLE} · {problem}")
            if self._last is not None:
                frame, result = self._last
                self._draw(frame // 3, result, problem)
        return self._keys(0.0)

    def close(self) -> None:
        with contextlib.suppress(cv2.error):  # closed already
            cv2.destroyAllWindows()

    def _draw(self, frame: Frame, result: Result, status: str) -> None:
        cv2.imshow(TITLE, draw_answers(self._overlay, frame, result.decision, result.seen, status, self._dims))

    def _status(self, result: Result) -> str:
        if not self._source.sequence:
            return Path(result.record.source).name
        state = f" · {self._source.state.value}" if self._source.live else ""
        return f"{result.fps:.1f} fps{state}"

    def _name(self, title: str) -> None:
        if title != self._title:
            cv2.setWindowTitle(TITLE, title)
            self._title = title

    def _keys(self, wait_s: float) -> bool:
        end = time.monotonic() + wait_s
        while True:
            left = end - time.monotonic()
            key = cv2.waitKey(max(1, min(100, round(1e3 * left)))) & 0xFF
            if key in (27, ord("q")) or not _is_open():
                return False
            if left <= 0.1 or self._source.stopping:
                return True


def _is_open() -> bool:
    try:
        return cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # what Qt says once the last window was closed
        return False


def window_obstacle() -> str:
    """Why no window can be shown here, or "" when one can. Asked before a camera is opened."""
    if sys.platform.startswith("linux") and not os.environ.get("WAYLAND_DISPLAY"):
        display = os.environ.get("DISPLAY", "")
        if not display:
            return "there is no display"
        if not _answers(display):  # OpenCV's window library would abort the process
            return f"no display answers at DISPLAY={display}"
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if "NONE" in gui.upper():
        return "this OpenCV was built without windows (opencv-python-headless)"
    return ""


def _answers(display: str) -> bool:
    """Whether an X server listens at HOST:NUMBER[.SCREEN]."""
    found = re.fullmatch(r"(.*):(\d+)(\.\d+)?", display)
    if found is None:
        return True  # a form that we do not know
    host, number = found[1].removeprefix("tcp/"), int(found[2])
    path = f"/tmp/.X11-unix/X{number}"
    local: list[Any] = [(socket.AF_UNIX, f"\0{path}"), (socket.AF_UNIX, path)]
    places = local if host in ("", "unix") else [(socket.AF_INET, (host, 6000 + number))]
    for family, address in places:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(3.0)
            probe.connect(address)
            return True
    return False
