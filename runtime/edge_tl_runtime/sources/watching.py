"""What devices share that wait for their own connection, rather than in a library's read."""

from __future__ import annotations

from edge_tl_runtime.photos import Frame
from edge_tl_runtime.sources.request import CaptureRequest, Opened


class ReadAs(Exception):
    """Raised by `open`: what was found is read by another device. kind: its name in `devices.DEVICES`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class WatchingDevice:
    """A device whose `grab` returns within WAKE_S or so: False then means only that nothing came yet.

    missed: good frames that were passed over for newer ones since the last grab that gave one. heard: `time.monotonic()` when the
    device last gave a sign of life without a new frame, such as an unchanged picture; 0 before that. polls: it asks at a pace of
    its own, so that each frame is wanted.
    """

    polls = False
    inter_coded = False
    key_frame = False

    def __init__(self, request: CaptureRequest) -> None:
        self.request = request
        self.ended = False
        self.missed = 0
        self.heard = 0.0
        self.error = ""
        self.notes: list[str] = []

    def open(self) -> Opened:
        """Raises SourceError when there is nothing to read."""
        raise NotImplementedError

    def grab(self) -> bool:
        """Wait a moment for the next frame. Raises SourceError when the connection is lost, with the reason."""
        raise NotImplementedError

    def retrieve(self, out: Frame | None) -> object:
        """The frame just grabbed; None for something that is no picture."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
