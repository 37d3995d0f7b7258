"""What devices share that wait for their own connection, rather than in a library's read."""

from __future__ import annotations

from edge_tl_runtime.sources.device import Device
from edge_tl_runtime.sources.request import CaptureRequest


class ReadAs(Exception):
    """Raised by `open`: what was found is read by another device. kind: its name in `devices.DEVICES`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class WatchingDevice(Device):
    """A device whose `grab` returns within WAKE_S or so: False then means only that nothing came yet, and it raises SourceError
    when the connection is lost.

    missed: good frames that were passed over for newer ones since the last grab that gave one. heard: `time.monotonic()` when the
    device last gave a sign of life without a new frame, such as an unchanged picture; 0 before that. polls: it asks at a pace of
    its own, so that each frame is wanted.
    """

    polls = False

    def __init__(self, request: CaptureRequest) -> None:
        super().__init__()
        self.request = request
        self.missed = 0
        self.heard = 0.0
