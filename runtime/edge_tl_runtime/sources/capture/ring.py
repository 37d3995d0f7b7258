"""Frames from the capture process to the runner without a copy: three slots of shared memory, the newest wins.

The writer never touches the newest slot nor the one that the reader holds, so there is always a third to write into and neither
side ever waits. The reader says which slot it holds before it trusts it (a hazard pointer: Michael 2004), and every slot carries
a sequence number that is odd while it is written; a frame whose number changed while it was in use is no frame.

One writer, one reader. Fields are aligned 8-byte words, which every processor that we run on stores in one piece.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from dataclasses import dataclass

import numpy as np

from edge_tl_runtime.images.decode import Frame

SLOTS = 3
_PAGE = 4096
_SLOT_WORDS = 8
_NOBODY = -1

# Words of the header.
_LATEST, _HELD, _STOP, _WANTED, _REJECTED, _REPEATED, _LAST_READ = range(7)
_TABLE = 16
# Words of a slot.
_SEQUENCE, _INDEX, _CAPTURED, _HEIGHT, _WIDTH, _CHANNELS = range(6)


def create_memory(frame_bytes: int) -> int:
    """A file descriptor of anonymous shared memory for slots of `frame_bytes`; it vanishes with the last process that has it."""
    size = _PAGE + SLOTS * _rounded(frame_bytes)
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("edge-tl-ring", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    os.ftruncate(handle, size)
    return handle


def _rounded(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


@dataclass(frozen=True, slots=True)
class Taken:
    """A frame in the ring. sequence: grows with every frame of this ring; captured: time.monotonic() of the writer."""

    frame: Frame
    slot: int
    sequence: int
    index: int
    captured: float


class Ring:
    """Both ends of the memory behind a descriptor, which is closed here; the mapping lives as long as a frame in it is used."""

    def __init__(self, handle: int) -> None:
        self._memory = mmap.mmap(handle, 0)
        os.close(handle)
        self.slot_bytes = (len(self._memory) - _PAGE) // SLOTS
        self._words = np.frombuffer(self._memory, np.int64, _PAGE // 8)
        self._times = self._words.view(np.float64)
        self._sequence = 0

    # The writer's side.

    def prepare(self) -> None:
        """Called once by the writer, before the reader gets the memory."""
        self._words[_HELD] = _NOBODY

    def free_slot(self) -> int:
        """A slot that is neither the newest nor held by the reader. Its content is invalid from now on."""
        latest, held = int(self._words[_LATEST]), int(self._words[_HELD])
        newest = latest % SLOTS if latest else _NOBODY
        slot = next(slot for slot in range(SLOTS) if slot not in (newest, held))
        self._words[self._at(slot) + _SEQUENCE] |= 1
        return slot

    def pixels(self, slot: int, shape: tuple[int, ...]) -> Frame:
        """The memory of a slot as uint8 of `shape`, which must fit."""
        return np.frombuffer(self._memory, np.uint8, math.prod(shape), _PAGE + slot * self.slot_bytes).reshape(shape)

    def publish(self, slot: int, shape: tuple[int, ...], index: int, captured: float) -> None:
        """Make a slot that was written the newest."""
        self._sequence += 2
        at = self._at(slot)
        self._words[at + _INDEX] = index
        self._times[at + _CAPTURED] = captured
        self._words[at + _HEIGHT], self._words[at + _WIDTH] = shape[:2]
        self._words[at + _CHANNELS] = shape[2] if len(shape) == 3 else 0
        self._words[at + _SEQUENCE] = self._sequence
        self._words[_LATEST] = self._sequence // 2 * SLOTS + slot

    def newest(self) -> Frame | None:
        """What was published last, for the writer to compare with."""
        latest = int(self._words[_LATEST])
        return self.pixels(latest % SLOTS, self._shape(latest % SLOTS)) if latest else None

    def count(self, *, rejected: int = 0, repeated: int = 0) -> None:
        self._words[_REJECTED] += rejected
        self._words[_REPEATED] += repeated

    def note_read(self, now: float) -> None:
        """The device gave something just now, be it a repeated frame."""
        self._times[_LAST_READ] = now

    @property
    def stopping(self) -> bool:
        return bool(self._words[_STOP])

    @property
    def wanted(self) -> bool:
        """Whether the reader waits; only a reader that has a pace of its own says so."""
        return bool(self._words[_WANTED])

    # The reader's side.

    def take(self, after: int) -> Taken | None:
        """The newest frame if its sequence number is above `after`. It stays untouched until the next call."""
        while True:
            latest = int(self._words[_LATEST])
            sequence, slot = latest // SLOTS * 2, latest % SLOTS
            if sequence <= after:
                return None
            self._words[_HELD] = slot
            at = self._at(slot)
            if int(self._words[_LATEST]) == latest and int(self._words[at + _SEQUENCE]) == sequence:
                frame = self.pixels(slot, self._shape(slot))
                frame.flags.writeable = False
                index, captured = int(self._words[at + _INDEX]), float(self._times[at + _CAPTURED])
                return Taken(frame, slot, sequence, index, captured)

    def intact(self, taken: Taken) -> bool:
        return int(self._words[self._at(taken.slot) + _SEQUENCE]) == taken.sequence

    def stop(self) -> None:
        self._words[_STOP] = 1

    def want(self, waiting: bool) -> None:
        self._words[_WANTED] = int(waiting)

    @property
    def rejected(self) -> int:
        return int(self._words[_REJECTED])

    @property
    def repeated(self) -> int:
        return int(self._words[_REPEATED])

    @property
    def published(self) -> int:
        """Index of the newest frame, -1 before the first."""
        latest = int(self._words[_LATEST])
        return int(self._words[self._at(latest % SLOTS) + _INDEX]) if latest else -1

    @property
    def last_read(self) -> float:
        """`time.monotonic()` when the device last gave anything; 0 before that."""
        return float(self._times[_LAST_READ])

    def _at(self, slot: int) -> int:
        return _TABLE + slot * _SLOT_WORDS

    def _shape(self, slot: int) -> tuple[int, ...]:
        at = self._at(slot)
        height, width, channels = (int(self._words[at + word]) for word in (_HEIGHT, _WIDTH, _CHANNELS))
        return (height, width, channels) if channels else (height, width)
