"""What the page shows: the threads of the run write it, the server's event loop reads it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_tl_runtime.pipeline.stream import Result, SeenRegion

CHANGES = 300
POINTS = 600
"""Of the graphs, one a second."""
CURRENT_S = 2.0
"""How much older than the newest result a picture may be and still be shown with it."""
_IDLE = ("CONNECTING", "STALE", "LOST", "ENDED")


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """jpeg: the encoded frame. part: the same as a part of the multipart stream, one buffer for all viewers."""

    number: int
    captured: float
    jpeg: bytes
    part: bytes

    @classmethod
    def of(cls, number: int, captured: float, jpeg: bytes) -> EncodedFrame:
        # Browsers show a part when they meet the mark after it, so the mark is sent with the part and not with the next.
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
        return cls(number, captured, jpeg, head + jpeg + b"\r\n--frame\r\n")


@dataclass(slots=True)
class ViewerPosition:
    """How far one viewer has read."""

    result: int = 0
    status: int = 0
    change: int = 0


def event(name: str, data: Any) -> bytes:
    """One server-sent event. ASCII only: a path may hold what UTF-8 cannot."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


class Feed:
    """The newest of everything, and the recent past of labels and figures.

    closed: whether the run is over. listening: viewers of the events. watching: viewers of the picture; waiting_viewers:
    those of them who wait for a newer one, so that nothing is encoded for a viewer whose network is still busy with the last.
    """

    def __init__(self, title: str = "", labels: Sequence[str] = (), dims: bool = True, aspect: float = 0.0) -> None:
        self.closed = False
        self.watching = self.waiting_viewers = self.listening = 0  # written by the event loop only
        self._about = {"title": title, "labels": list(labels[:100]), "dims": dims, "aspect": aspect}
        self._lock = threading.Lock()
        self._picture: EncodedFrame | None = None
        self._result: Result | None = None
        self._result_at = 0.0
        self.status: dict[str, Any] = {"state": "CONNECTING"}
        self._changes: deque[dict[str, Any]] = deque(maxlen=CHANGES)
        self._points: deque[dict[str, Any]] = deque(maxlen=POINTS)
        self._numbers = ViewerPosition()
        self._labels: dict[str, str] = {}
        """The last of each region."""
        self._encoded = (0, b"")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    # From the threads of the run.

    def note(self, result: Result) -> None:
        """Remember the label if it is another than the last."""
        if result.label == self._labels.get(result.region):
            return
        with self._lock:
            self._labels[result.region] = result.label
            self._change(
                result.label,
                round(result.confidence, 6),
                result.decision.known,
                result.record.source,
                region=result.region,
            )
        self._wake()

    def show(self, result: Result) -> None:
        with self._lock:
            self._result, self._result_at = result, time.time()
            self._numbers.result += 1
        self._wake()

    def show_picture(self, jpeg: bytes, captured: float) -> None:
        number = self._picture.number + 1 if self._picture else 1
        self._picture = EncodedFrame.of(number, captured, jpeg)
        self._wake()

    def tell(self, document: dict[str, Any]) -> None:
        """document: a `StatusDocument`."""
        latency, age = document.get("latency_ms") or {}, document.get("age_ms") or {}
        state = document.get("state")
        point = {
            "t": round(time.time(), 2),
            "fps": document.get("fps"),
            "p50": latency.get("p50"),
            "p95": latency.get("p95"),
            "age": age.get("p50"),
            "state": state,
        }
        with self._lock:
            if state in _IDLE and state != self.status.get("state"):
                # What was seen before is not seen now: the timeline has a gap, and the next result is news again.
                regions = list(self._labels) or [""]
                self._labels = {}
                for region in regions:
                    self._change(None, None, False, str(document.get("source", "")), state, region)
            self.status = document
            self._points.append(point)
            self._numbers.status += 1
        self._wake()

    def close(self) -> None:
        """The run is over; streams end."""
        self.closed = True
        self._wake()

    def _change(
        self,
        label: str | None,
        confidence: float | None,
        known: bool,
        source: str,
        state: str | None = "LIVE",
        region: str = "",
    ) -> None:
        self._numbers.change += 1
        self._changes.append(
            {
                "t": round(time.time(), 2),
                "label": label,
                "confidence": confidence,
                "known": known,
                "source": source,
                "state": state,
                "region": region,
            }
        )

    def _wake(self) -> None:
        if self._loop is not None and (self.watching or self.listening):
            with contextlib.suppress(RuntimeError):  # the loop has ended, and its viewers with it
                self._loop.call_soon_threadsafe(self._ring)

    # From the event loop.

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def _ring(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def news(self) -> None:
        """Wait until something is put here. Look first, then wait: what comes between the two rings after the wait began."""
        await self._news.wait()

    def picture(self, after: int = 0) -> EncodedFrame | None:
        """The newest one if it is newer than number `after`."""
        found = self._picture
        return found if found and found.number > after else None

    def current_picture(self) -> EncodedFrame | None:
        """The newest one if it belongs to what is shown: when nobody watched for a while, it does not."""
        found, result = self._picture, self._result
        if found is None or (result is not None and result.record.captured - found.captured > CURRENT_S):
            return None
        return found

    def history(self, seen: ViewerPosition) -> bytes:
        """What a new viewer is told first; `since` goes on from there."""
        with self._lock:
            data = {**self._about, "changes": list(self._changes), "points": list(self._points)}
            seen.change = self._numbers.change
        return event("history", data)

    def since(self, seen: ViewerPosition) -> bytes:
        """Everything that is new to this viewer; of results and statuses the newest only."""
        with self._lock:
            now = self._numbers
            parts = []
            if fresh := min(now.change - seen.change, len(self._changes)):
                parts += [event("change", change) for change in list(self._changes)[-fresh:]]
            if now.result > seen.result:
                parts.append(self._result_event())
            if now.status > seen.status:
                parts += [event("status", self.status), event("point", self._points[-1])]
            seen.result, seen.status, seen.change = now.result, now.status, now.change
        return b"".join(parts)

    def _result_event(self) -> bytes:
        """Encoded once for all viewers."""
        if self._encoded[0] != self._numbers.result and self._result is not None:
            result = self._result
            raw = [score.to_dict() for score in result.prediction.top]
            data = {**result.to_dict(), "raw_top": raw, "words": result.decision.words, "t": round(self._result_at, 3)}
            data |= {"size": result.size, "regions": [_region(region) for region in result.seen]}
            self._encoded = self._numbers.result, event("result", data)
        return self._encoded[1]


def _region(region: SeenRegion) -> dict[str, Any]:
    """box: x, y, width and height in pixels of the shown picture."""
    box, raw = region.box, [score.to_dict() for score in region.prediction.top]
    return {
        "region": region.name,
        "box": [box.x, box.y, box.width, box.height],
        **region.decision.to_dict(),
        "words": region.decision.words,
        "raw_top": raw,
    }
