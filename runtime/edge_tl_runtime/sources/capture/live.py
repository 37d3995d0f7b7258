"""A camera or a network stream: always the newest frame, never an old one and never one that the camera did not send.

A process of its own (`capture.process`) reads the device. It is watched, ended when it hangs, and started again for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.core.progress import Say, silent
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.base import MAX_LISTED, WAKE_S, FrameRecord, Source, State, told_rejections
from edge_tl_runtime.sources.capture.ring import Ring, Taken
from edge_tl_runtime.sources.capture.watchdog import Patience, Verdict, Watchdog
from edge_tl_runtime.sources.request import CaptureRequest, Opened

_CHILD = (
    "import sys; sys.path[:] = [sys.argv.pop(1), *filter(None, sys.path)]; "
    "from edge_tl_runtime.sources.capture.process import main; main()"
)
"""Without the current folder on the path: it may hold a `queue.py` of the user's."""
_ROOT = str(Path(__file__).parents[3])
MAX_LINE_BYTES = 65536
_NO_FRAME = {
    "camera": "check the camera and its cable, that no other program uses it, and try a smaller --size or --fps",
    "stream": "check that the camera is on and sends, and the network between; --first-frame waits longer",
    "http": "check that the camera is on and sends, and the network between; --first-frame waits longer",
    "rpicam": "check the camera module and its ribbon cable, and try: rpicam-hello",
    "pipe": "check that the program which writes into the pipe is running and sends pictures or a video",
    "standard input": "check that the program before the | is running and sends pictures or a video",
    "video": "the file may be on a slow or absent disk; copy it here first",
    "test": "this test picture is told to be silent by its script",
}
"""What to do where no first frame comes, by the kind of the source."""


class CaptureProcess:
    """The parent's end of one capture process. `ring` is None until the first frame."""

    def __init__(self, request: CaptureRequest) -> None:
        near, far = socket.socketpair()
        with far:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, _ROOT, str(far.fileno())],
                stdin=request.handle if request.handle >= 0 else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[far.fileno()],
            )
        near.sendall(request.to_json().encode() + b"\n")
        near.setblocking(False)
        self._socket, self._text, self._handles = near, b"", deque[int]()
        self._poll = select.poll()  # select() fails for descriptors above 1023
        self._poll.register(near, select.POLLIN)
        self.ring: Ring | None = None
        self.opened: Opened | None = None
        self.error = ""
        self.over = False
        self.notes: list[str] = []
        self.rejections: dict[str, int] = {}
        self._finished = False

    def wait(self, seconds: float) -> None:
        """Until the process has something to say, at most so long; then listen."""
        if self._poll.poll(1e3 * seconds):
            self.listen()

    def listen(self) -> None:
        """Take in what was said. `over` is set when the process ended or can say no more."""
        while True:
            try:
                text, handles, _, _ = socket.recv_fds(self._socket, 65536, 4)
            except BlockingIOError:
                return
            except OSError:
                text, handles = b"", []
            self._handles.extend(handles)
            if not text:
                self.over = True
                if not self._finished:
                    self.error = self._death()
                return
            *lines, self._text = (self._text + text).split(b"\n")
            for line in filter(None, lines):
                self._heard(json.loads(line))
            if len(self._text) > MAX_LINE_BYTES:
                self.over = True
                return

    def _heard(self, event: dict[str, Any]) -> None:
        kind = event.pop("event")
        if kind == "ring":
            self.ring = Ring(self._handles.popleft())
        elif kind == "opened":
            self.opened = Opened(**event)
        elif kind == "note":
            self.notes.append(str(event["message"]))
        elif kind == "rejected":
            self.rejections = event["reasons"]
        else:
            self.over = self._finished = True
            self.error = str(event.get("message", ""))

    def _death(self) -> str:
        """What is known of a process that ended without a word."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.returncode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return f"the process that reads the source ended without a word ({how}); edge-tl doctor shows what is installed"

    def close(self, patience_s: float) -> None:
        """End the process: asked first, by force after `patience_s`. Safe to call twice."""
        if self.ring is not None:
            self.ring.stop()
        self._socket.close()
        while self._handles:
            os.close(self._handles.popleft())
        if self.ring is not None and not self.over:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        # A process that the kernel cannot end (a read that hangs in a driver) is left behind rather than waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)


class Live(Source):
    """The newest frame of a device, as the capture process gives it.

    counts: what became of the others. A frame that repeats the one before byte for byte is never given: a sensor has noise, so
    it is a driver or a network that repeats itself. Credentials in a URL stay out of names and messages.
    """

    live = True

    def __init__(
        self,
        request: CaptureRequest,
        patience: Patience | None = None,
        wait: bool = False,
        max_fps: float = 0.0,
        say: Say = silent,
    ) -> None:
        """wait: go on trying when the very first connection fails; else that raises SourceError from the iteration.

        max_fps: frames a second that are asked for at most; 0: as many as there are. say: told of each change of the connection.
        """
        super().__init__(shown_name(request))
        self.request, self.patience = request, patience or Patience()
        self._wait, self._say = wait, say
        self._interval = 1.0 / max_fps if max_fps > 0 else 0.0
        self._watchdog = Watchdog(self.patience)
        self._capture: CaptureProcess | None = None
        self._taken: Taken | None = None
        self._ring: Ring | None = None
        self._name = request.name
        self._next_index, self._attempts = 0, 0
        self._counted = (0, 0)
        self._reasons: dict[str, int] = {}
        """Of earlier connections."""
        self._before: Frame | None = None
        """The last frame of the connection before, which is not given again."""
        self._said: set[str] = set()
        self._why = ""
        self.opened: Opened | None = None

    @property
    def state(self) -> State:
        return State.ENDED if self.ended else self._watchdog.state(time.monotonic())

    @property
    def notice(self) -> str:
        now = time.monotonic()
        state = self._watchdog.state(now)
        if state is State.LOST:
            return f"{self._why or 'not connected'}; next try in {self._watchdog.retry_in(now):.0f} s"
        if state is State.STALE:
            what = "the same frame" if self._watchdog.repeating(now) else "no frame"
            return f"{what} for {self._watchdog.silent_for(now):.0f} s"
        return ""

    def __iter__(self) -> Iterator[FrameRecord]:
        started = time.monotonic()
        due = given = 0.0
        while not self.stopping:
            now = self.beat = time.monotonic()
            wanted = max(due, given + self.rest_s)
            if now < wanted:
                self._watchdog.rest(now)
                self.on_idle()
                time.sleep(min(WAKE_S, wanted - now))
                continue
            # Frames first: a reader that was busy for long must not take its own absence for the camera's silence.
            record = self._newest(started)
            if record is not None:
                due, given = max(due, now - self._interval) + self._interval, now
                yield record
                continue
            self._follow(now)
            if self.ended:
                return
            self._idle()

    def intact(self, record: FrameRecord) -> bool:
        return self._ring is None or self._taken is None or self._ring.intact(self._taken)

    def close(self) -> None:
        self.stopping = True
        if self._capture is not None:
            self._capture.close(self.patience.stop)
            self._capture = None

    def _follow(self, now: float) -> None:
        """Do what the watchdog says, and look whether the capture ended by itself."""
        verdict = self._watchdog.verdict(now)
        if verdict is Verdict.START:
            self._connect(now)
        elif verdict is Verdict.END:
            self._lose(self._silence(now))
        elif self._capture is not None and self._capture.over and not self._unread():
            self._lose(self._capture.error)

    def _connect(self, now: float) -> None:
        self._counted = (0, 0)
        self._watchdog.connecting(now)
        self._capture = CaptureProcess(self.request.again(self._attempts, self._next_index, self._name))
        self._attempts += 1
        self.counts.reconnects = self._attempts - 1

    def _lose(self, why: str) -> None:
        assert self._capture is not None
        was_open = self._taken is not None
        self._take_words()
        self._reasons = dict(self.counts.reasons)
        if self._capture.ring is not None:
            self._count(self._capture.ring)
            unseen = max(0, self._capture.ring.published + 1 - self._next_index)
            self.counts.dropped += unseen
            self._next_index += unseen
        if self._taken is not None and self.request.frozen > 0:
            self._before = self._taken.frame.copy()
        self._capture.close(self.patience.stop)
        self._capture, self._taken = None, None
        self._why = why or f"{self.name} ended"
        if self._next_index == 0 and (not self._wait or (self.request.finite and not why)):
            self.ended = True
            rejected = told_rejections(self.counts.reasons)
            raise SourceError(why or f"{self.name} gave no frame{f': {rejected}' if rejected else ''}")
        if self.request.finite and not why:
            self.ended = True
            return
        if self.request.kind == "video":
            self.ended = True
            raise SourceError(why)  # of a file, another try would begin at its start
        wait = self._watchdog.gone(time.monotonic())  # ending a hung capture process took its time
        if was_open or self._attempts == 1:
            self._say(f"{self._why}; trying again in {wait:.1f} s and for as long as it takes")

    def _silence(self, now: float) -> str:
        silent = self._watchdog.silent_for(now)
        if self._watchdog.repeating(now):
            return f"{self.name} gave the same frame for {silent:.0f} s"
        if self._taken is None:
            return f"{self.name} delivered no frame for {silent:.0f} s; {self._advice()}"
        return f"{self.name} has been silent for {silent:.0f} s"

    def _advice(self) -> str:
        """What to do about a source of this kind that gives no first frame."""
        if self.request.handle >= 0:
            return _NO_FRAME["standard input"]
        return _NO_FRAME.get(self.request.kind, "check that it is the right one")

    def _unread(self) -> bool:
        ring = self._capture.ring if self._capture else None
        after = self._taken.sequence if self._taken is not None and ring is self._ring else 0
        return ring is not None and ring.take(after) is not None

    def _newest(self, started: float) -> FrameRecord | None:
        if self._capture is None:
            return None
        self._capture.listen()
        self._note_opened()
        self._take_words()
        ring = self._capture.ring
        if ring is None:
            return None
        if self.request.paced:
            ring.want(True)
        self._count(ring)
        after = self._taken.sequence if self._taken is not None and ring is self._ring else 0
        taken = ring.take(after)
        if taken is None:
            return None
        if self.request.paced:
            ring.want(False)
        now = time.monotonic()
        before = self._before if self._taken is None else None
        if self._taken is None and self._attempts > 1:
            self._say(f"{self.name} is back")
        self._watchdog.frame(now)
        missed = max(0, taken.index - self._next_index)
        if self.rest_s:
            self.counts.unneeded += missed
        else:
            self.counts.dropped += missed
        self._next_index = taken.index + 1
        self._taken, self._ring = taken, ring
        if before is not None and np.array_equal(before, taken.frame):
            self.counts.repeated += 1  # what was frozen, or a still picture, is the same after a new connection
            return None
        return FrameRecord(taken.frame, self.name, taken.index, taken.captured - started, taken.captured)

    def _count(self, ring: Ring) -> None:
        """Carry over what the capture process counted since the last look."""
        rejected, repeated = ring.rejected, ring.repeated
        self.counts.rejected += rejected - self._counted[0]
        self.counts.repeated += repeated - self._counted[1]
        self._counted = rejected, repeated
        self._watchdog.read(ring.last_read)

    def _take_words(self) -> None:
        """Pass on what the capture process said, each line once, and add up what it rejected."""
        assert self._capture is not None
        while self._capture.notes:
            line = self._capture.notes.pop(0)
            if line not in self._said and len(self._said) < MAX_LISTED:
                self._said.add(line)
                self._say(line)
        now = self._capture.rejections
        self.counts.reasons = {
            reason: self._reasons.get(reason, 0) + now.get(reason, 0) for reason in {**self._reasons, **now}
        }

    def _note_opened(self) -> None:
        assert self._capture is not None
        opened = self._capture.opened
        if opened is None or opened is self.opened:
            return
        if self.opened is None:
            self._say(f"{self.name}: {opened}")
            if differences := opened.differences(self.request):
                self._say(differences)
        if opened.every:
            self._watchdog.patience = self.patience.at_pace(opened.every)
        self.opened = opened
        self._name = opened.stable or self._name

    def _idle(self) -> None:
        self.on_idle()
        if self._capture is None:
            time.sleep(min(WAKE_S, max(0.01, self._watchdog.retry_in(time.monotonic()))))
        else:
            self._capture.wait(WAKE_S)


def shown_name(request: CaptureRequest) -> str:
    """What a person is told of a source: without credentials, and of a test pattern without its script."""
    if request.handle >= 0:
        return "standard input"
    return request.name.partition("?")[0] if request.kind == "test" else shown_address(request.name)
