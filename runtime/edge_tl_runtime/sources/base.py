"""What every source of frames is: a context manager that gives FrameRecords until it ends or is stopped."""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.decode import Frame

if TYPE_CHECKING:
    from edge_tl_runtime.core.documents import PluginDocument

WAKE_S = 0.2
"""How often a wait for a frame looks whether it was asked to stop."""
MAX_LISTED = 1000
"""Files passed over that are remembered by name; more are only counted, so that a source may run for weeks."""
NO_FRAME: Frame = np.empty((0, 0, 3), np.uint8)


class State(enum.Enum):
    """What a person is told of a source. A photo or a file is LIVE until it ENDED."""

    CONNECTING = "CONNECTING"
    LIVE = "LIVE"
    STALE = "STALE"
    """Connected, but silent or repeating one frame."""
    LOST = "LOST"
    """Not connected; the next try is due."""
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """A frame and where it is from.

    frame: uint8 (H, W, 3), BGR. A live source lends it: it is valid until the next one is asked for; copy what outlasts that.
    index: 0-based in its source, dropped frames counted. seconds: since the start, or the position in a video.
    captured: `time.monotonic()` when the frame was taken or decoded. still: frames passed over before it because nothing moved.
    camera: what is wrong with the camera's view, such as "covered"; "" where nothing is, or nobody looked.
    """

    frame: Frame
    source: str
    index: int
    seconds: float
    captured: float = field(default_factory=time.monotonic)
    still: int = 0
    camera: str = ""

    def with_frame(self, frame: Frame) -> FrameRecord:
        """The same record around other pixels: a copy that may be kept, or NO_FRAME."""
        return replace(self, frame=frame)


@dataclass(slots=True)
class Counts:
    """What became of frames that were not classified.

    dropped: good ones, replaced by a newer one before anybody asked. unneeded: those that came while none was needed, because
    nothing moves; most were not even decoded. rejected: not a picture, whatever the driver said.
    repeated: byte for byte the one before. reconnects: connections after the first. reasons: how many were rejected for what.
    """

    dropped: int = 0
    unneeded: int = 0
    rejected: int = 0
    repeated: int = 0
    reconnects: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def take_rejections(self, reasons: Mapping[str, int]) -> None:
        """Take over what was rejected in all."""
        self.reasons = dict(reasons)
        self.rejected = sum(self.reasons.values())


class Source:
    """A context manager and iterator of FrameRecords.

    skipped: files passed over, the first MAX_LISTED of them; skipped_count: all of them.
    """

    live = False
    """Whether frames are lost when nobody asks for them; the newest is given then."""
    hold_s = 0.0
    """How long a person needs to see each frame in a window."""
    sequence = True
    """Whether frames follow each other in time, so that smoothing over them means something."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.skipped: list[Unreadable] = []
        self.skipped_count = 0
        self.counts = Counts()
        self.plugin: PluginDocument | None = None
        """Name, package and version where another package adds this source."""
        self.stopping = False
        self.stopping_asked = False
        """Whether a person or a service manager asked for the end, unlike a run that reached its own."""
        self.ended = False
        self.on_idle: Callable[[], None] = lambda: None
        """Called every WAKE_S or so while a live source has no frame, from the iteration's own thread."""
        self.beat = time.monotonic()
        """When the iteration was last seen at work; waiting for a frame is work."""
        self.rest_s = 0.0
        """How long after a frame no other is needed; changed at any time by whoever reads. Only a live source rests."""

    @property
    def state(self) -> State:
        return State.ENDED if self.ended else State.LIVE

    @property
    def notice(self) -> str:
        """What is wrong with the connection, for a person; "" when nothing is."""
        return ""

    def skip(self, item: Unreadable) -> None:
        self.skipped_count += 1
        if len(self.skipped) < MAX_LISTED:
            self.skipped.append(item)

    def stop(self) -> None:
        """Ask the iteration to end, at once or within WAKE_S. Only sets a flag: safe in a signal handler."""
        self.stopping = True

    def intact(self, record: FrameRecord) -> bool:
        """Whether the pixels of the record given last are still those that were captured."""
        return True

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[FrameRecord]:
        raise NotImplementedError

    def close(self) -> None:
        """Release the device; safe to call twice."""


def told_rejections(reasons: Mapping[str, int]) -> str:
    """What was rejected for what, in words: "12 before the first key frame, 3 damaged"; "" where nothing was."""
    return ", ".join(
        f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]) if count
    )


def mask_credentials(text: str) -> str:
    """`rtsp://user:secret@host/` as `rtsp://***@host/`, wherever it stands in a text; tokens in a query likewise.

    A password may itself hold `@`: everything up to the last one before the next slash or space is taken. It may also hold a
    slash, against the rules: after a colon everything up to the last `@` is taken, be it too much.
    """
    text = re.sub(r"(?<=://)(?:[^/\s:]*:\S*|[^/\s]+)@", "***@", text)
    return re.sub(
        r"(?i)(?<=[?&])(user(?:name)?|pass(?:word|wd)?|pwd|token|key|auth|secret|api_?key)=[^&\s]+", r"\1=***", text
    )


def is_frame(frame: object) -> bool:
    """A decoder's word that it succeeded is not trusted: the array must be a picture of 1, 3 or 4 channels of uint8."""
    return (
        isinstance(frame, np.ndarray)
        and frame.dtype == np.uint8
        and frame.size > 0
        and (frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in (1, 3, 4)))
    )
