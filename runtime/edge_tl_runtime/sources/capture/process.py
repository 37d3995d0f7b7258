"""The capture process: reads one device and puts its newest frame into shared memory.

A process of its own, because a driver's read may never return, and only a process can be ended then. `live.CaptureProcess` starts
it with the descriptor of a socket, over which it talks: the request comes in as a line of JSON; out go lines of JSON (opened,
ring, note, rejected, ended, error) and an empty line for each new frame, which is left out when the reader has not read the last
ones. The ring's memory is passed as a descriptor with its line.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import time
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np

from edge_tl_runtime.core.errors import EdgeTLError, SourceError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.decode import MAX_MEGAPIXELS, Frame
from edge_tl_runtime.sources.base import is_frame, mask_credentials
from edge_tl_runtime.sources.capture.devices import make_device
from edge_tl_runtime.sources.capture.repeats import Repeats
from edge_tl_runtime.sources.capture.ring import Ring, create_memory
from edge_tl_runtime.sources.device import Device, ReadAs, WatchingDevice
from edge_tl_runtime.sources.request import CaptureRequest

NO_PICTURE = "no picture"
FAILURES = 30
"""Grabs in a row that may fail before the device counts as gone."""
PAUSE_S = 0.02
TELL_S = 1.0
"""How often the reader is told what was rejected, at most."""
_PR_SET_PDEATHSIG = 1
_MAX_REQUEST_BYTES = 65536


class Link:
    """The connection to the runner."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def request(self) -> CaptureRequest:
        text = b""
        while not text.endswith(b"\n") and len(text) < _MAX_REQUEST_BYTES:
            part = self._socket.recv(4096)
            if not part:
                raise EOFError
            text += part
        return CaptureRequest.from_json(text)

    def tell(self, event: str, handle: int | None = None, **content: Any) -> None:
        line = json.dumps({"event": event, **content}, ensure_ascii=False).encode() + b"\n"
        if handle is not None:
            sent = socket.send_fds(self._socket, [line], [handle])
            line = line[sent:]
        self._socket.sendall(line)

    def wake(self) -> None:
        """Without waiting: a reader that is behind will look for the newest frame anyway."""
        with contextlib.suppress(BlockingIOError):
            self._socket.send(b"\n", socket.MSG_DONTWAIT)


class Recorder:
    """Puts the frames of a device into the ring, which is made anew when a frame is larger than its slots."""

    def __init__(self, device: Device, link: Link, request: CaptureRequest) -> None:
        self.device, self.link = device, link
        self._repeats = Repeats(device.inter_coded, 2 * request.frozen) if request.frozen > 0 else None
        self._paced = request.paced
        self._index = request.first_index
        self._shape: tuple[int, ...] = ()
        self._ring: Ring | None = None
        self._rejected = self._told_rejected = 0
        self._told_at = 0.0

    @property
    def stopping(self) -> bool:
        return self._ring is not None and self._ring.stopping

    def run(self) -> None:
        """Until the device ends, fails FAILURES times in a row, or the reader stops it."""
        failures = 0
        while not self.stopping and not self.device.ended and failures < FAILURES:
            if self.device.grab():
                failures = 0
                self._record(self.device.captured or time.monotonic())
            elif isinstance(self.device, WatchingDevice):
                self._wait_with(self.device)
            else:
                failures += 1
                time.sleep(0.0 if self.device.ended else PAUSE_S)
            self._tell()
        self._tell(last=True)

    def _tell(self, last: bool = False) -> None:
        """Notes at once, what was rejected now and then."""
        device = self.device
        while device.notes:
            self.link.tell("note", message=device.notes.pop(0))
        if device.rejections:
            rejected = device.rejections.total()
            if self._ring is not None:
                self._ring.count(rejected=rejected - self._rejected)
                self._rejected = rejected
            now = time.monotonic()
            if rejected > self._told_rejected and (last or now >= self._told_at + TELL_S):
                self._told_rejected, self._told_at = rejected, now
                self.link.tell("rejected", reasons=dict(device.rejections))

    def _wait_with(self, device: WatchingDevice) -> None:
        """Nothing came yet; word of something unchanged is passed on."""
        if self._ring is not None and device.heard:
            self._ring.note_read(device.heard)

    def _record(self, captured: float) -> None:
        ring = self._ring
        device = self.device
        polls = False
        if isinstance(device, WatchingDevice):
            self._index, device.missed, polls = self._index + device.missed, 0, device.polls
        if self._paced and ring is not None and not ring.wanted and not polls:
            self._index += 1
            return
        slot = ring.free_slot() if ring else 0
        out = ring.pixels(slot, self._shape) if ring else None
        counted = self.device.rejections.total()
        frame = self.device.retrieve(out)
        if self.device.rejections.total() > counted:
            return
        if not isinstance(frame, np.ndarray) or not is_frame(frame) or frame.size > 3e6 * MAX_MEGAPIXELS:
            self.device.rejections[NO_PICTURE] += 1
            return
        ring, slot = self._place(frame, out, slot)
        ring.note_read(time.monotonic())
        if self._repeats is not None:
            placed = ring.pixels(slot, frame.shape)
            if self._repeats.repeats(placed, ring.newest(), self.device.key_frame, time.monotonic()):
                ring.count(repeated=1)
                return
        ring.publish(slot, frame.shape, self._index, captured)
        self._index += 1
        self.link.wake()

    def _place(self, frame: Frame, out: Frame | None, slot: int) -> tuple[Ring, int]:
        """Have the frame in a slot: it was decoded there, or is copied where its size changed."""
        ring = self._ring
        if (
            ring is not None
            and out is not None
            and frame.__array_interface__["data"] == out.__array_interface__["data"]
        ):
            return ring, slot
        if ring is None or frame.nbytes > ring.slot_bytes:
            ring, slot = self._new_ring(frame.nbytes), 0
        self._shape = frame.shape
        np.copyto(ring.pixels(slot, frame.shape), frame)
        return ring, slot

    def _new_ring(self, frame_bytes: int) -> Ring:
        handle = create_memory(frame_bytes)
        old, self._ring = self._ring, Ring(os.dup(handle))
        self._ring.prepare()
        if old is not None:
            self._ring.count(rejected=old.rejected, repeated=old.repeated)
        self.link.tell("ring", handle)
        os.close(handle)
        self._ring.free_slot()
        return self._ring


def serve(link: Link) -> None:
    """Read the device of the request until it ends; tell the runner of everything, a failure included."""
    device: Device | None = None
    try:
        request = link.request()
        device = make_device(request.kind, request)
        try:
            opened = device.open()
        except ReadAs as other:
            device.close()
            device = make_device(other.kind, request)
            opened = device.open()
        link.tell("opened", **asdict(opened))
        Recorder(device, link, request).run()
        if device.error:
            raise SourceError(device.error)
        link.tell("ended")
    except EdgeTLError as error:
        link.tell("error", message=str(error))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        raise  # the reader went away
    except Exception as error:  # noqa: BLE001 - whatever it is, a process that ends without a word helps nobody
        told = f"{type(error).__name__}: {one_line(mask_credentials(str(error)))}"
        link.tell("error", message=f"reading the source failed ({told}); edge-tl doctor shows what is installed")
    finally:
        if device is not None:
            device.close()


def main() -> None:
    """The capture process: talks over the socket whose descriptor is its argument."""
    # Ctrl-C reaches the whole group; the runner ends this process in good order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed runner leaves no camera taken
    # Converting a frame is too little work to wake a pool for; FFmpeg's decoders have threads of their own.
    cv2.setNumThreads(1)
    connection = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, EOFError):
        serve(Link(connection))
