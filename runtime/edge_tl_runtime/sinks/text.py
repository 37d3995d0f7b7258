"""Results as text: JSON lines, CSV and lines for a person, to a stream or to files that rotate."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import os
import select
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sinks.base import Sink, SinkClosed

FLUSH_S = 2.0
"""How long a line may wait before it is given to the file system: one write for many lines spares a memory card."""


class Target(Protocol):
    """Where lines go. lost: those that were taken and could not be written after all."""

    lost: int

    def write(self, line: str) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class StreamTarget:
    """A pipe or a terminal, given each line at once so that a reader sees a frame as soon as it was classified.

    Letters that the stream cannot encode are written as escapes.
    """

    def __init__(self, stream: TextIO) -> None:
        self.lost = 0
        self._stream = stream
        try:
            # A thread that waits on a full pipe never gives back the lock of Python's own buffer, and the interpreter aborts at
            # its end for want of it.
            self._handle = stream.fileno()
            stream.flush()
        except (OSError, ValueError):  # no file at all, as in a notebook
            self._handle = -1

    def write(self, line: str) -> None:
        try:
            if self._handle < 0:
                self._stream.write(line + "\n")
                self._stream.flush()
                return
            write_whole(self._handle, line.encode(self._stream.encoding or "utf-8", "backslashreplace") + b"\n")
        except (BrokenPipeError, ValueError):  # closed by its reader, or in this process
            raise SinkClosed from None
        except OSError as error:
            if error.errno == errno.EBADF or (error.errno == errno.EIO and not is_regular(self._handle)):
                raise SinkClosed from None  # a terminal that hung up
            raise OutputError(f"cannot write standard output: {error.strerror}") from None

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class FileTarget:
    """A file that is continued, and put aside as NAME.1, NAME.2, ... NAME.keep when it reaches max_bytes; older ones are deleted.

    Lines are handed to the file system every FLUSH_S at most and never synchronised one by one. A file that was moved or deleted
    from outside, as logrotate does, is begun anew. head: the first line of each file. lost: lines that could not be written
    after `write` had taken them.
    """

    def __init__(self, path: Path, max_bytes: int = 10 * 2**20, keep: int = 5, head: str = "") -> None:
        """Raises OutputError when the file cannot be written."""
        if max_bytes < 1024 or keep < 1:
            raise UsageError(f"a log of {max_bytes} bytes kept {keep} times; give at least 1024 bytes and one file")
        self.path, self._max, self._keep = path, max_bytes, keep
        self._head = _encoded(head) if head else b""
        self.lost = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._flushed = time.monotonic()
        self._trouble = False
        self._handle = -1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
            if self._head and is_regular(self._handle) and self._size() and not _begins_with(self.path, self._head):
                self._rotate()  # rows of other columns would be read under the wrong names
            if self._head and not self._size():
                write_whole(self._handle, self._head)
        except OSError as error:
            self._let_go()
            raise OutputError(f"cannot write {self.path}: {error.strerror}; choose another file") from None

    def write(self, line: str) -> None:
        data = _encoded(line)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        # After a failure each line is tried at once: only what is on the disk shows that it works again.
        if self._trouble or self._waiting_bytes >= 65536 or time.monotonic() - self._flushed >= FLUSH_S:
            try:
                self.flush()
            except OutputError:
                self.lost -= 1  # the caller counts the line that it has just given
                raise

    def flush(self) -> None:
        """Hand over what waits, whole lines only. On failure the lines that were not written are lost and counted."""
        if not self._waiting:
            return
        lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._flushed = time.monotonic()
        try:
            if self._moved():
                self._let_go()
                self._open()
            while lines:
                del lines[: self._put(lines)]
        except OSError as error:
            self._trouble = True
            self.lost += len(lines)
            raise OutputError(f"cannot write {self.path}: {error.strerror}; free some space") from None
        self._trouble = False

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._let_go()

    def _put(self, lines: list[bytes]) -> int:
        """Write as many of the lines as fit into the file, in one piece; returns how many. At least one, be it too long."""
        size = self._size()
        if size > len(self._head) and size + len(lines[0]) > self._max and is_regular(self._handle):
            self._rotate()
            size = 0
        head = b"" if size else self._head
        size += len(head)
        sizes = itertools.accumulate(map(len, lines), initial=size)
        count = max(1, sum(total <= self._max for total in itertools.islice(sizes, 1, None)))
        write_whole(self._handle, head + b"".join(lines[:count]))
        return count

    def _open(self) -> None:
        # A pipe without a reader would make the open wait; NONBLOCK changes nothing for a file.
        if self.path.exists() and not (self.path.is_file() or self.path.is_char_device()):
            raise OSError(errno.EINVAL, "not a regular file")
        self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        if is_regular(self._handle) and self._size() and not _ends_whole(self.path):
            write_whole(self._handle, b"\n")  # a power cut left half a line

    def _let_go(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _size(self) -> int:
        return os.fstat(self._handle).st_size

    def _moved(self) -> bool:
        if self._handle < 0:
            return True
        opened = os.fstat(self._handle)
        try:
            named = os.stat(self.path)
        except OSError:
            return True
        return (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino)

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.replace(self.path, f"{self.path}.1")
        beyond = self._keep + 1  # where fewer are kept than before
        while os.path.exists(f"{self.path}.{beyond}"):
            os.unlink(f"{self.path}.{beyond}")
            beyond += 1
        self._let_go()
        self._open()


def write_whole(handle: int, data: bytes) -> None:
    """All of the data or, in a file on a full disk, nothing: half a line would spoil the file. Raises OSError."""
    view = memoryview(data)
    while view:
        try:
            written = os.write(handle, view)
        except BlockingIOError:  # another process that has the pipe open may have made it non-blocking
            select.select([], [handle], [], 1.0)
            continue
        except OSError:
            done = len(data) - len(view)
            if done and is_regular(handle):
                end = os.fstat(handle).st_size - done
                os.ftruncate(handle, end)
                os.lseek(handle, end, os.SEEK_SET)
            raise
        view = view[written:]


def is_regular(handle: int) -> bool:
    """Whether a descriptor is that of a plain file."""
    return stat.S_ISREG(os.fstat(handle).st_mode)


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def _begins_with(path: Path, head: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(head)) == head


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


class TextSink(Sink):
    """Common to all that write lines."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    def lost(self) -> int:
        return self._target.lost

    def idle(self) -> None:
        self._target.flush()

    def close(self) -> None:
        self._target.close()


class JsonLines(TextSink):
    """One JSON object a line."""

    name = "json"

    def write(self, result: Result) -> None:
        self._target.write(json.dumps(result.to_dict(), ensure_ascii=False))


class Log(TextSink):
    """JSON lines in a file, each with the time of day when its frame was captured (ISO 8601, UTC)."""

    name = "log"

    def write(self, result: Result) -> None:
        self._target.write(json.dumps({"time": captured_at(result), **result.to_dict()}, ensure_ascii=False))


def captured_at(result: Result) -> str:
    """The time of day of a frame, by the machine's clock of now: 2026-01-31T12:00:00.000Z."""
    milliseconds = round(1e3 * (time.time() - (time.monotonic() - result.record.captured)))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{stamp}.{milliseconds % 1000:03d}Z"


CSV_COLUMNS = (
    "time", "source", "frame", "seconds", "label", "confidence", "known", "raw_label", "raw_confidence", "latency_ms",
)  # fmt: skip


SET_COLUMN = "set"
"""Of a run with `--coverage`: the labels as a JSON list, empty where there is no set."""
REGION_COLUMN = "region"
"""Of a run with several regions, which has a row for each."""


class Csv(TextSink):
    """One row a frame, quoted as RFC 4180 says, with CSV_COLUMNS, then SET_COLUMN and REGION_COLUMN if asked for."""

    name = "csv"

    def __init__(self, target: Target, columns: Sequence[str] = CSV_COLUMNS) -> None:
        super().__init__(target)
        self._columns = columns

    def write(self, result: Result) -> None:
        document = result.to_dict()
        raw = document["raw"]
        row: dict[str, Any] = {
            **document,
            "region": result.region,
            "time": captured_at(result),
            "known": int(result.decision.known),
            "raw_label": raw["label"],
            "raw_confidence": raw["confidence"],
        }
        labels = document.get("set")
        row[SET_COLUMN] = "" if labels is None else json.dumps(labels, ensure_ascii=False)
        text = io.StringIO()
        # Only letters of the line's end are quoted for being one.
        csv.writer(text, lineterminator="\r\n").writerow([row[column] for column in self._columns])
        self._target.write(text.getvalue().removesuffix("\r\n"))


class Changes(TextSink):
    """A line for a person whenever the label, its set or the source changes."""

    name = "changes"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._last: dict[str, tuple[str, tuple[str, frozenset[str]]]] = {}

    def wants(self, result: Result) -> bool:
        now = (result.record.source, result.decision.answer)
        changed = now != self._last.get(result.region)
        self._last[result.region] = now
        return changed

    def write(self, result: Result) -> None:
        self._target.write(
            f"{result.record.seconds:8.2f} s  {one_line(result.record.source)}  frame {result.record.index}: "
            f"{f'{result.region}: ' if result.region else ''}{result.decision.words} {100 * result.confidence:.1f} %"
        )
