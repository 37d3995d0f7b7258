"""Moving test pictures for a machine without a camera, with faults on demand so that a set-up can be rehearsed.

    test://bars                                 colour bars that scroll, 640x480 at 30 frames a second
    test://noise?size=1920x1080&fps=60          new random pixels in every frame
    test://counter?frames=100                   the number of the frame, in figures and in its first pixel; ends after 100
    test://bars?script=100,hang;50,end          the first connection gives 100 frames and then hangs, the second gives 50
                                                and ends, the third is like the first

Steps of a script: a number of frames; `size=WxH`; `grey`, `bgra`, `colour`; `freeze` or `freeze=N` (one frame for ever, or N
times); `bad=N` (N things that are no frames); `hang` (never returns); `end` (the device is gone); `refuse` (cannot be opened).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl

import cv2
import numpy as np

from edge_tl_runtime.core.errors import SourceError, UsageError
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.device import Device
from edge_tl_runtime.sources.request import CaptureRequest, Opened

Painter = Callable[[Frame, int], None]
"""Fills a frame, uint8 (H, W, 3), BGR, for the number of the frame."""

_HOUR = 3600.0
_STEP = re.compile(r"(\d+)|(grey|bgra|colour|hang|end|refuse|freeze)|(size)=(\d+)x(\d+)|(freeze|bad)=(\d+)")


def _bars(frame: Frame, number: int) -> None:
    colours = np.array([
        (255, 255, 255), (0, 255, 255), (255, 255, 0), (0, 255, 0), (255, 0, 255), (0, 0, 255), (255, 0, 0), (0, 0, 0),
    ], np.uint8)  # fmt: skip
    width = frame.shape[1]
    columns = ((np.arange(width) + 2 * number) % width) * 8 // width
    frame[:] = colours[columns]


def _noise(frame: Frame, number: int) -> None:
    frame[:] = np.random.default_rng(number).integers(0, 256, frame.shape, np.uint8)


def _counter(frame: Frame, number: int) -> None:
    frame[:] = 40 + number % 160
    height, width = frame.shape[:2]
    text, scale = str(number), height / 120
    cv2.putText(frame, text, (width // 20, height * 3 // 4), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 2)
    write_number(frame, number)


PATTERNS: dict[str, Painter] = {"bars": _bars, "noise": _noise, "counter": _counter}


def write_number(frame: Frame, number: int) -> None:
    """Put a number below 2**24 into the first pixel."""
    frame[0, 0] = number & 0xFF, number >> 8 & 0xFF, number >> 16 & 0xFF


def read_number(frame: Frame) -> int:
    """The number of a frame of the pattern `counter`."""
    first = frame[0, 0]
    return int(first[0]) | int(first[1]) << 8 | int(first[2]) << 16


class Pattern(Device):
    """A device of moving pictures. Raises UsageError for a string that it does not understand."""

    def __init__(self, request: CaptureRequest) -> None:
        self.request = request
        super().__init__()
        self._name = shown_address(request.name)
        called, _, query = request.name[len("test://") :].partition("?")
        options = dict(parse_qsl(query))
        pattern = called.rstrip("/").lower()
        if pattern not in PATTERNS:
            raise UsageError(f"no test pattern {shown_address(called)!r}; there are: {', '.join(PATTERNS)}")
        unknown = set(options) - {"size", "fps", "frames", "script"}
        if unknown:
            raise UsageError(f"{self._name}: {sorted(unknown)[0]!r} is none of size, fps, frames, script")
        self._paint = PATTERNS[pattern]
        try:
            self._width, self._height = (int(part) for part in options.get("size", "640x480").split("x"))
            self._fps = float(options.get("fps", "30"))
            self._limit = int(options.get("frames", "0"))
        except ValueError:
            raise UsageError(f"{self._name}: give size=WIDTHxHEIGHT, fps=NUMBER and frames=NUMBER") from None
        if not (1 <= self._width <= 8192 and 1 <= self._height <= 8192 and 0 < self._fps <= 10_000):
            raise UsageError(f"{self._name}: give a size of at most 8192x8192 and at most 10000 frames a second")
        stages = options.get("script", "").split(";")
        self._steps = self._parse(stages[request.attempt % len(stages)])
        self._channels, self._number = 3, request.first_index
        self._canvas: Frame | None = None
        self._play: Iterator[str] = iter(())
        self._kind = ""

    def open(self) -> Opened:
        if self._steps and self._steps[0] == ("refuse",):
            raise SourceError(f"cannot open {self._name}; its script refuses this connection")
        self._play = self._script()
        self._started, self._shown = time.monotonic(), 0
        return Opened(backend="test pattern", width=self._width, height=self._height, fps=self._fps)

    def grab(self) -> bool:
        kind = next(self._play, "end")
        if kind == "hang":
            time.sleep(_HOUR)
        if kind == "end":
            self.ended = True
            return False
        due = self._started + self._shown / self._fps
        time.sleep(max(0.0, due - time.monotonic()))
        self._shown += 1
        self._kind = kind
        return True

    def retrieve(self, out: Frame | None) -> object:
        if self._kind == "bad":
            return np.empty((0, 0, 3), np.uint8) if self._shown % 2 else np.zeros((4, 4, 3), np.float32)
        if self._kind == "new" or self._canvas is None:
            self._canvas = np.empty((self._height, self._width, 3), np.uint8)
            self._paint(self._canvas, self._number)
            self._number += 1
        if self._channels == 3:
            if out is not None and out.shape == self._canvas.shape:
                np.copyto(out, self._canvas)
                return out
            return self._canvas
        code = cv2.COLOR_BGR2GRAY if self._channels == 1 else cv2.COLOR_BGR2BGRA
        return cv2.cvtColor(self._canvas, code)

    def close(self) -> None:
        pass

    def _parse(self, stage: str) -> list[tuple[str, ...]]:
        steps: list[tuple[str, ...]] = []
        for text in filter(None, stage.split(",")):
            found = _STEP.fullmatch(text)
            if found is None:
                raise UsageError(f"{self._name}: '{shown_address(text)}' is no step of a script")
            steps.append(tuple(part for part in found.groups() if part is not None))
        return steps

    def _script(self) -> Iterator[str]:
        """What each grab meets: "new", "same", "bad", "hang" or "end"."""
        for step in self._steps:
            if step[0].isdigit():
                yield from ("new" for _ in range(int(step[0])))
            elif step[0] == "size":
                self._width, self._height = int(step[1]), int(step[2])
            elif step[0] in ("grey", "bgra", "colour"):
                self._channels = {"grey": 1, "bgra": 4, "colour": 3}[step[0]]
            elif step[0] == "freeze" and len(step) == 1:
                while True:
                    yield "same"
            elif step[0] in ("freeze", "bad"):
                yield from ("same" if step[0] == "freeze" else "bad" for _ in range(int(step[1])))
            else:
                yield step[0]
                return
        while not self._limit or self._number < self._limit:
            yield "new"
