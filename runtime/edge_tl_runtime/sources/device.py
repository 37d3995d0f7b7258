"""What the capture process reads: one device, opened once, asked for frame after frame."""

from __future__ import annotations

from collections import Counter

from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.request import CaptureRequest, Opened


class Device:
    """A kind of thing that gives frames: subclass it and name it in `devices.DEVICES`, or in a package's entry point.

    ended: nothing will come any more, unlike one grab that failed. error: why it ended, for a person; "" where it simply did.
    rejections: frames that were not given, by reason; whoever reads the device may add to it. notes: lines for a person, taken
    out by the reader. inter_coded: frames are coded as differences, so that two identical ones are no proof of a frozen camera.
    key_frame: of a device that is inter-coded, whether the frame just grabbed was coded by itself. captured: when it was taken,
    `time.monotonic()`; 0 for now. ends: of a class that another package adds, whether the end of its frames ends the
    run; a camera that ends is connected again.
    """

    ends = False

    def __init__(self) -> None:
        self.ended = False
        self.error = ""
        self.rejections: Counter[str] = Counter()
        self.notes: list[str] = []
        self.inter_coded = False
        self.key_frame = False
        self.captured = 0.0

    def open(self) -> Opened:
        """Raises SourceError when there is no such device, or it is busy."""
        raise NotImplementedError

    def grab(self) -> bool:
        """Wait for the next frame. False when none came."""
        raise NotImplementedError

    def retrieve(self, out: Frame | None) -> object:
        """The frame just grabbed: `out` itself where that had the right size, else another array; not to be trusted."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what was opened; safe to call twice."""


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
