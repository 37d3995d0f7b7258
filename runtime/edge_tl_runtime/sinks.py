"""Where results go. A sink takes one result at a time and is closed at the end."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Protocol, TextIO

import cv2

from edge_tl_runtime.errors import UsageError
from edge_tl_runtime.overlay import Overlay
from edge_tl_runtime.stream import Result


class Sink(Protocol):
    """write returns False to end the stream, as the window does when it is closed."""

    def write(self, result: Result) -> bool: ...

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line, flushed, so that a reader sees a frame as soon as it was classified."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, result: Result) -> bool:
        self._stream.write(json.dumps(result.to_dict(), ensure_ascii=False) + "\n")
        self._stream.flush()
        return True

    def close(self) -> None:
        self._stream.flush()


class Changes:
    """A line for a person whenever the label or the source changes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: tuple[str, str] | None = None

    def write(self, result: Result) -> bool:
        now = (result.record.source, result.prediction.label)
        if now != self._last:
            self._last = now
            self._stream.write(
                f"{result.record.seconds:8.2f} s  {result.record.source}  frame {result.record.index}: "
                f"{result.prediction.label} {100 * result.prediction.confidence:.1f} %\n"
            )
            self._stream.flush()
        return True

    def close(self) -> None:
        self._stream.flush()


class Window:
    """Shows the frame with label, confidence and frame rate; q, Esc or closing the window ends the stream.

    A video plays no faster than it was taken. hold_s: how long each frame stays at least, for photos.
    """

    TITLE = "edge-tl"

    def __init__(self, hold_s: float = 0.0) -> None:
        """Raises UsageError where no window can be shown."""
        reason = window_obstacle()
        if reason:
            raise UsageError(f"cannot show a window: {reason}; use --headless")
        # Qt complains of every font it does not bring; we draw the text ourselves.
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")
        self._hold_s = hold_s
        self._started: float | None = None
        self._overlay = Overlay()
        cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(self.TITLE, 800, 600)

    def write(self, result: Result) -> bool:
        cv2.imshow(self.TITLE, self._overlay.draw(result.record.frame.copy(), result.prediction, result.fps))
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        wait = max(self._hold_s, self._started + result.record.seconds - now)
        key = cv2.waitKey(max(1, round(1e3 * wait))) & 0xFF
        return key not in (27, ord("q")) and cv2.getWindowProperty(self.TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        cv2.destroyAllWindows()


def window_obstacle() -> str:
    """Why no window can be shown here, or "" when one can. Asked before a camera is opened."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if "NONE" in gui.upper():
        return "this OpenCV was built without windows (opencv-python-headless)"
    return ""
