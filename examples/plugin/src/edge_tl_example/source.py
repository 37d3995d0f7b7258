"""`countdown:N`: frames that show N, N-1, ... 1, and then end."""

from __future__ import annotations

import time

import cv2
import numpy as np

from edge_tl.plugins import CaptureRequest, Device, Opened, UsageError

FPS = 20.0


class Countdown(Device):
    ends = True

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__()
        text = request.name.partition(":")[2] or "10"
        if not text.isdecimal() or not 1 <= int(text) <= 9999:
            raise UsageError(f"{request.name}: give a number of frames from 1 to 9999, such as countdown:10")
        # What earlier connections gave is not given again.
        self._left = int(text) - request.first_index + 1

    def open(self) -> Opened:
        return Opened(backend="countdown", width=320, height=240, fps=FPS)

    def grab(self) -> bool:
        time.sleep(1 / FPS)
        self._left -= 1
        self.ended = self._left < 1
        return not self.ended

    def retrieve(self, out: object) -> object:
        frame = np.full((240, 320, 3), 40 + self._left % 160, np.uint8)
        cv2.putText(frame, str(self._left), (40, 160), cv2.FONT_HERSHEY_SIMPLEX, 3.0, (255, 255, 255), 5)
        return frame

    def close(self) -> None:
        pass
