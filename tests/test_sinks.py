"""Results reach their places whole and in order; a place that is slow, full or gone costs the run nothing but a count."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import THAI
from results import make_result
from stopwatch import HANGING, Stopwatch

from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.run.status import StatusFile
from edge_tl_runtime.sinks import (
    Changes,
    Csv,
    FileTarget,
    JsonLines,
    Log,
    QueuedSink,
    Record,
    Sink,
    SinkClosed,
    Snapshots,
    StreamTarget,
    pictures,
)
from edge_tl_runtime.sinks import base as outlets
from edge_tl_runtime.sinks.draw.overlay import Overlay
from edge_tl_runtime.sinks.text import CSV_COLUMNS, write_whole

RUN = [sys.executable, "-m", "edge_tl", "run", "--headless"]
WEIRD = ["a,b", 'say "bee"', "two\nlines", "carriage\rreturn", THAI, "=1+1", " padded ", "tab\there", "", "'"]


class Keeper(Sink):
    """Remembers the frames' numbers; does what it is told before each."""

    def __init__(self, before=lambda: None, depth=256):
        self.seen, self.before, self.depth = [], before, depth
        self.is_closed = threading.Event()

    def write(self, result):
        self.before()
        self.seen.append(result.record.index)

    def close(self):
        self.is_closed.set()


def end(outlet, seconds=HANGING):
    outlet.finish()
    return outlet.join(time.monotonic() + seconds)


def until(condition, seconds=HANGING):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


# The outlet.


def test_a_slow_sink_never_delays_a_camera_and_its_drops_are_counted():
    sink = Keeper(lambda: time.sleep(0.02), depth=4)
    outlet = QueuedSink(sink, lossless=False)
    watch, waited = Stopwatch(), 0.0
    for index in range(200):
        result = make_result(index=index)
        started = time.perf_counter()
        outlet.offer(result)
        waited += time.perf_counter() - started
        time.sleep(0.001)
    assert waited - watch.waited() < 0.4, "the sink itself took four seconds"
    assert end(outlet)
    assert sink.seen == sorted(sink.seen)
    assert sink.seen[-1] == 199, "the newest wins"
    assert outlet.counts() == {"written": len(sink.seen), "dropped": 200 - len(sink.seen), "failed": 0}
    assert outlet.dropped > 50


def test_of_photos_and_videos_nothing_is_lost_however_slow_the_sink():
    sink = Keeper(lambda: time.sleep(0.002), depth=3)
    outlet = QueuedSink(sink, lossless=True)
    for index in range(150):
        outlet.offer(make_result(index=index))
    assert end(outlet)
    assert sink.seen == list(range(150))
    assert outlet.counts() == {"written": 150, "dropped": 0, "failed": 0}


def test_a_wait_for_a_stuck_sink_ends_with_the_run():
    never = threading.Event()
    outlet = QueuedSink(Keeper(never.wait, depth=2), lossless=True)
    stopping = threading.Event()
    threading.Timer(0.3, stopping.set).start()
    watch = Stopwatch()
    for index in range(6):
        outlet.offer(make_result(index=index), stopping.is_set)
    assert watch.passed() > 0.2
    assert watch.quiet() < 1.0
    assert not end(outlet, 0.2), "a stuck sink is left behind"
    assert watch.quiet() < 1.5
    never.set()


def test_pixels_that_wait_are_bounded_in_bytes_not_only_in_number(monkeypatch):
    monkeypatch.setattr(outlets, "MAX_WAITING_BYTES", 1_000_000)
    go = threading.Event()
    outlet = QueuedSink(Keeper(go.wait, depth=100), lossless=False)
    for index in range(20):
        outlet.offer(make_result(index=index, frame=np.zeros((300, 400, 3), np.uint8)))
    assert sum(result.record.frame.nbytes for result in outlet._waiting) <= 1_000_000
    outlet.offer(make_result(index=20, frame=np.zeros((900, 400, 3), np.uint8)))  # larger than all: alone, but not lost
    go.set()
    assert end(outlet)
    assert outlet.sink.seen[-1] == 20


class Failing(Keeper):
    """Fails while `broken` holds an exception."""

    broken: Exception | None = None

    def __init__(self):
        super().__init__()
        self.name = "fragile"

    def write(self, result):
        if self.broken is not None:
            raise self.broken
        super().write(result)


@pytest.mark.parametrize(
    "error", [OutputError("cannot write x"), OSError(errno.EIO, "I/O error"), cv2.error("no codec"), ValueError("bug")]
)
def test_a_failing_sink_is_told_once_tried_again_and_counted(monkeypatch, error):
    monkeypatch.setattr(outlets, "RETRY_S", 0.05)
    said, sink = [], Failing()
    outlet = QueuedSink(sink, lossless=False, say=said.append)
    outlet.offer(make_result(index=0))
    until(lambda: outlet.written == 1)
    sink.broken = error
    for index in range(1, 31):
        outlet.offer(make_result(index=index))
        time.sleep(0.01)
    until(lambda: outlet.failed == 30)
    assert len(said) == 1
    assert said[0].startswith("fragile: ")
    assert "the run goes on" in said[0]
    assert outlet.counts()["error"]
    sink.broken = None
    time.sleep(0.06)
    outlet.offer(make_result(index=31))
    until(lambda: outlet.written == 2)
    assert len(said) == 2
    assert "works again; 30 results were not written" in said[1]
    assert outlet.counts() == {"written": 2, "dropped": 0, "failed": 30}
    assert end(outlet)
    assert sink.is_closed.is_set()


def test_a_sink_with_a_bug_does_not_hold_up_a_run_that_loses_nothing():
    sink = Failing()
    sink.broken, sink.depth = ZeroDivisionError("a bug"), 2
    outlet = QueuedSink(sink, lossless=True)
    for index in range(20):
        outlet.offer(make_result(index=index))
    assert end(outlet)
    assert outlet.failed == 20


def test_a_listener_that_is_gone_does_not_end_a_sink():
    def say(line):
        raise BrokenPipeError

    sink = Failing()
    outlet = QueuedSink(sink, lossless=True, say=say)
    sink.broken = OutputError("full")
    outlet.offer(make_result())
    until(lambda: outlet.failed == 1)
    sink.broken = None
    outlet._retry_at = 0.0
    outlet.offer(make_result(index=7))
    assert end(outlet)
    assert sink.seen == [7]


def test_a_reader_that_went_away_closes_the_outlet_for_good():
    sink = Failing()
    sink.broken = SinkClosed()
    outlet = QueuedSink(sink, lossless=True)
    for index in range(2000):
        outlet.offer(make_result(index=index))
    assert outlet.closed
    assert not outlet.wants(make_result())
    assert end(outlet)
    assert outlet.counts() == {"written": 0, "dropped": 0, "failed": 0}


def test_a_status_that_a_sink_cannot_take_is_told_once_and_stops_no_result():
    class Deaf(Keeper):
        def status(self, document):
            raise RuntimeError("deaf")

    said = []
    outlet = QueuedSink(Deaf(), lossless=True, say=said.append)
    for index in range(5):
        outlet.status({})
        outlet.offer(make_result(index=index))
    assert end(outlet)
    assert len(said) == 1
    assert outlet.sink.seen == list(range(5))


def test_what_waits_is_written_when_the_run_ends():
    go = threading.Event()
    sink = Keeper(go.wait, depth=50)
    outlet = QueuedSink(sink, lossless=False)
    for index in range(50):
        outlet.offer(make_result(index=index))
    outlet.finish()
    outlet.offer(make_result(index=99))  # too late
    go.set()
    watch = Stopwatch()
    assert outlet.join(time.monotonic() + HANGING)
    assert watch.quiet() < 0.3
    assert sink.seen[-1] == 49
    assert sink.is_closed.is_set()


# Lines in files.


def numbers(*paths):
    return [int(line) for path in paths for line in path.read_text().splitlines()]


def test_a_log_rotates_by_size_keeps_so_many_and_loses_or_splits_no_line(tmp_path):
    path = tmp_path / "deep" / "log.txt"
    target = FileTarget(path, max_bytes=1024, keep=3)
    for number in range(2000):
        target.write(f"{number:09d}")
        if number % 7 == 0:
            target.flush()
    target.close()
    files = [path, *(Path(f"{path}.{n}") for n in (1, 2, 3))]
    assert sorted(path.parent.iterdir()) == sorted(files)
    kept = list(reversed(files))
    assert all(file.stat().st_size <= 1024 for file in kept)
    found = numbers(*kept)
    assert found == list(range(2000))[-len(found) :]
    assert len(found) > 102 * (len(kept) - 1)


def test_keep_is_the_number_of_rotated_files(tmp_path):
    for keep in (1, 3):
        path = tmp_path / f"{keep}.log"
        target = FileTarget(path, max_bytes=1024, keep=keep)
        for number in range(1000):
            target.write(f"{number:09d}")
        target.close()
        assert sorted(file.name for file in tmp_path.glob(f"{keep}.log*")) == [
            f"{keep}.log",
            *(f"{keep}.log.{n}" for n in range(1, keep + 1)),
        ]


def test_enough_files_keep_every_line(tmp_path):
    path = tmp_path / "log"
    target = FileTarget(path, max_bytes=4096, keep=100)
    lines = [f"{number:06d} " + "x" * random.Random(number).randrange(300) for number in range(900)]
    for line in lines:
        target.write(line)
    target.close()
    files = sorted(tmp_path.glob("log.*"), key=lambda file: -int(file.suffix[1:]))
    assert [line for file in [*files, path] for line in file.read_text().splitlines()] == lines


def test_a_line_longer_than_a_file_is_written_whole(tmp_path):
    target = FileTarget(tmp_path / "log", max_bytes=1024, keep=9)
    for line in ("short", "x" * 5000, "end"):
        target.write(line)
    target.close()
    assert (tmp_path / "log.2").read_text() == "short\n"
    assert (tmp_path / "log.1").read_text() == "x" * 5000 + "\n"
    assert (tmp_path / "log").read_text() == "end\n"


def test_lines_are_written_many_at_a_time_and_never_synchronised(tmp_path, monkeypatch):
    """A memory card wears by the write."""
    calls = {"write": 0, "fsync": 0, "fdatasync": 0}
    for name in calls:
        real = getattr(os, name)

        def counted(*arguments, name=name, real=real):
            calls[name] += 1
            return real(*arguments)

        monkeypatch.setattr(os, name, counted)
    log = Log(FileTarget(tmp_path / "log"))
    for index in range(3000):
        log.write(make_result(index=index))
    log.close()
    assert calls["fsync"] == calls["fdatasync"] == 0
    assert 1 <= calls["write"] <= 3000 / 100
    assert len((tmp_path / "log").read_text().splitlines()) == 3000


def test_a_line_waits_two_seconds_at_most(tmp_path):
    outlet = QueuedSink(JsonLines(FileTarget(tmp_path / "log")), lossless=False)
    outlet.offer(make_result())
    until(lambda: (tmp_path / "log").stat().st_size > 0, 2.5)
    assert end(outlet)


def test_a_log_is_continued_and_half_a_line_of_a_power_cut_stays_alone(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"a": 1}\n{"a": 2')
    target = FileTarget(path)
    target.write('{"a": 3}')
    target.close()
    assert path.read_text() == '{"a": 1}\n{"a": 2\n{"a": 3}\n'


@pytest.mark.parametrize("how", ["moved", "deleted", "emptied"])
def test_a_log_that_another_program_moves_deletes_or_empties_goes_on_at_its_name(tmp_path, how):
    path = tmp_path / "log"
    target = FileTarget(path, head="head")
    target.write("one")
    target.flush()
    if how == "moved":
        path.rename(tmp_path / "elsewhere")
    elif how == "deleted":
        path.unlink()
    else:
        os.truncate(path, 0)
    target.write("two")
    target.close()
    assert path.read_text() == "head\ntwo\n"


def test_devices_are_not_rotated_away_and_pipes_are_refused(tmp_path):
    device = tmp_path / "null"
    device.symlink_to("/dev/null")
    target = FileTarget(device, max_bytes=1024, keep=2)
    for _ in range(500):
        target.write("x" * 100)
    target.close()
    assert [path.name for path in tmp_path.iterdir()] == ["null"]
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="not a regular file"):
        FileTarget(tmp_path / "pipe")
    with pytest.raises(OutputError, match="cannot write"):
        FileTarget(tmp_path)


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another file"):
        FileTarget(tmp_path / "file" / "log")
    with pytest.raises(OutputError, match="choose another file"):
        FileTarget(Path("/proc/edge-tl/log"))


def test_a_read_only_disk_is_told_at_the_start(tiny_disk, room):
    remounted = subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], capture_output=True, check=False)
    if remounted.returncode:
        pytest.skip("this tmpfs cannot be remounted")
    for make in (
        lambda: FileTarget(tiny_disk / "log"),
        lambda: Snapshots(tiny_disk / "snapshots"),
        lambda: Record(tiny_disk / "deep" / "x.avi", Overlay(["bee"])),
        lambda: StatusFile(tiny_disk / "status"),
    ):
        with pytest.raises(OutputError, match="Read-only"):
            make()


def whole_lines(path):
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_full_disk_costs_lines_that_are_counted_and_is_told_once(tiny_disk, monkeypatch):
    monkeypatch.setattr(outlets, "RETRY_S", 0.05)
    said = []
    filler = tiny_disk / "filler"
    outlet = QueuedSink(Log(FileTarget(tiny_disk / "log")), lossless=True, say=said.append)
    for index in range(20):
        outlet.offer(make_result(index=index))
    until(lambda: outlet.written == 20)
    fill(filler)
    for index in range(20, 3000):
        outlet.offer(make_result(index=index))
        if index % 100 == 0:
            time.sleep(0.01)
    until(lambda: outlet.counts()["failed"] > 1000)
    until(lambda: not outlet._waiting)
    assert len(said) == 1, said
    assert "No space left" in said[0]
    assert "the run goes on" in said[0]
    filler.unlink()
    time.sleep(0.06)
    for index in range(3000, 3050):
        outlet.offer(make_result(index=index))
    assert end(outlet)
    assert len(said) == 2
    assert "works again" in said[1]
    rows = whole_lines(tiny_disk / "log")
    assert [row["frame"] for row in rows[-50:]] == list(range(3000, 3050))
    counts = outlet.counts()
    assert counts["written"] == len(rows), "every line is counted as what became of it"
    assert counts["written"] + counts["failed"] == 3050


def fill(path):
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


def test_a_full_disk_at_rotation_leaves_a_log_that_goes_on(tiny_disk):
    target = FileTarget(tiny_disk / "log", max_bytes=40_000, keep=3, head="head")
    lost, number, filled = 0, 0, False
    while number < 6000:
        try:
            target.write(f"{number:09d}")
        except OutputError:
            lost += 1
        number += 1
        if number == 2500:
            fill(tiny_disk / "filler")
            filled = True
        if number == 5000:
            (tiny_disk / "filler").unlink()
    target.close()
    assert filled
    files = [Path(f"{tiny_disk}/log.{n}") for n in (3, 2, 1)] + [tiny_disk / "log"]
    found = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    assert all(file.read_text().startswith("head\n") for file in files if file.exists())
    found = [int(line) for line in found if line != "head"]
    assert found == sorted(found)
    assert found[-1] == 5999
    assert len(found) + lost + target.lost == 6000


def test_no_descriptor_is_left_behind_or_closed_twice(tmp_path):
    def open_handles():
        return len(os.listdir("/proc/self/fd"))

    before = open_handles()
    for number in range(50):
        target = FileTarget(tmp_path / f"{number % 3}", max_bytes=1024, keep=1)
        for _ in range(100):
            target.write("x" * 50)
        target.close()
        target.close()
        with pytest.raises(OutputError):
            FileTarget(tmp_path)
    assert open_handles() == before


def test_half_a_line_is_never_left_where_a_file_cannot_grow(tmp_path):
    path = tmp_path / "limited"
    code = f"""
        import os, resource, signal
        from edge_tl_runtime.sinks.text import write_whole
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        handle = os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT)
        write_whole(handle, b"a" * 900 + b"\\n")
        try:
            write_whole(handle, b"b" * 900 + b"\\n")
        except OSError:
            pass
        write_whole(handle, b"c\\n")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=HANGING)
    assert path.read_text() == "a" * 900 + "\nc\n"


# Lines on a stream.


def test_a_broken_pipe_closes_the_sink_quietly():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        target = StreamTarget(stream)
        target.write("one")
        assert os.read(reader, 100) == b"one\n"
        os.close(reader)
        with pytest.raises(SinkClosed):
            target.write("two")


def test_a_stream_that_we_closed_is_a_closed_sink(tmp_path):
    with open(tmp_path / "x", "w") as stream:
        target = StreamTarget(stream)
    with pytest.raises(SinkClosed):
        target.write("one")


def test_letters_that_a_terminal_cannot_show_are_escaped_and_the_run_goes_on(tmp_path):
    with open(tmp_path / "latin", "w", encoding="latin-1") as stream:
        target = StreamTarget(stream)
        target.write(f"é {THAI}")
        target.write("end")
    lines = (tmp_path / "latin").read_bytes().decode("latin-1").splitlines()
    assert lines == ["é " + THAI.encode("ascii", "backslashreplace").decode(), "end"]


def test_a_stream_without_a_descriptor_is_written_to(capsys):
    import io

    stream = io.StringIO()
    StreamTarget(stream).write("line")
    assert stream.getvalue() == "line\n"


def test_a_pipe_that_does_not_block_gets_whole_lines():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    got = bytearray()

    def read():
        while chunk := os.read(reader, 4096):
            got.extend(chunk)
            time.sleep(0.001)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(60):
        write_whole(writer, b"%06d" % number + b"x" * 5000 + b"\n")
    os.close(writer)
    thread.join(HANGING)
    os.close(reader)
    assert [int(line[:6]) for line in got.splitlines()] == list(range(60))
    assert {len(line) for line in got.splitlines()} == {5006}


@pytest.mark.slow
def test_a_reader_that_takes_nothing_does_not_keep_the_process_from_its_end(color_model):
    """A thread that is stuck on a full pipe must not make the interpreter abort at its end."""
    process = subprocess.Popen(
        [*RUN, str(color_model), "--json", "--source", "test://bars?size=64x48&fps=500"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(3.0)  # 64 KB of lines fill the pipe
    process.send_signal(signal.SIGTERM)
    watch = Stopwatch()
    process.wait(timeout=HANGING)
    took = watch.quiet()
    errors = process.stderr.read()
    process.stdout.close()
    assert process.returncode == 0, errors
    assert "Fatal" not in errors
    assert "json did not finish in time" in errors
    assert took < 2.5


def test_standard_output_on_a_full_disk_gets_whole_lines_only(tiny_disk, color_model, color_photos):
    filler, out = tiny_disk / "filler", tiny_disk / "out"
    fill(filler)
    os.truncate(filler, filler.stat().st_size - 4096)
    paths = [str(path) for path in color_photos.rglob("*.png")] * 20
    listing = color_photos / "list.txt"
    listing.write_text("\n".join(paths))
    with open(out, "w") as stream:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "edge_tl",
                "run",
                str(color_model),
                "--headless",
                "--json",
                "--source",
                str(listing),
            ],
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert "120 frames" in done.stderr
    assert len(whole_lines(out)) < 20


# What the lines say.


def test_csv_is_read_back_by_the_csv_module(tmp_path):
    path = tmp_path / "rows.csv"
    sink = Csv(FileTarget(path, head=",".join(CSV_COLUMNS)))
    for index, label in enumerate(WEIRD):
        sink.write(make_result(label, index, source=f"folder/{label}.jpg"))
    sink.close()
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == WEIRD
    assert [row["raw_label"] for row in rows] == WEIRD
    assert [row["source"] for row in rows] == [f"folder/{label}.jpg" for label in WEIRD]
    assert [int(row["frame"]) for row in rows] == list(range(len(WEIRD)))
    assert all(set(row) == set(CSV_COLUMNS) for row in rows)


def test_every_csv_file_begins_with_the_names_of_its_columns(tmp_path):
    path = tmp_path / "rows.csv"
    head = ",".join(CSV_COLUMNS)
    for _ in range(2):  # continued: no second head
        sink = Csv(FileTarget(path, max_bytes=2048, keep=50, head=head))
        for index in range(40):
            sink.write(make_result("two\nlines", index))
        sink.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 2
    rows = []
    for file in files:
        with open(file, newline="", encoding="utf-8") as text:
            lines = list(csv.reader(text))
        assert tuple(lines[0]) == CSV_COLUMNS
        assert all(tuple(line) != CSV_COLUMNS for line in lines[1:])
        rows += lines[1:]
    assert len(rows) == 80


def test_log_lines_are_json_with_the_time_of_the_frame(tmp_path):
    log = Log(FileTarget(tmp_path / "log"))
    before = time.time()
    for index, label in enumerate(WEIRD):
        log.write(make_result(label, index, captured=time.monotonic() - 10))  # it waited for its turn
    log.close()
    rows = whole_lines(tmp_path / "log")
    assert [row["label"] for row in rows] == WEIRD
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["time"])
        told = datetime.strptime(row["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc).timestamp()
        assert told == pytest.approx(before - 10, abs=0.5)


def test_times_in_a_log_go_forward_over_the_turn_of_a_second(tmp_path):
    log = Log(FileTarget(tmp_path / "log"))
    start = time.monotonic()
    for number in range(3000):
        log.write(make_result(captured=start + number / 1000))
    log.close()
    times = [row["time"] for row in whole_lines(tmp_path / "log")]
    stamps = np.array([datetime.fromisoformat(time.removesuffix("Z")).timestamp() for time in times])
    assert (np.diff(stamps) >= -0.0015).all()
    assert stamps[-1] - stamps[0] == pytest.approx(2.999, abs=0.1)


def test_a_file_name_that_is_no_text_is_logged(tmp_path):
    name = os.fsdecode(b"bad\xff.jpg")
    log = Log(FileTarget(tmp_path / "log"))
    log.write(make_result(source=name))
    log.close()
    assert whole_lines(tmp_path / "log")[0]["source"] == name


def test_a_line_for_a_person_comes_with_each_change_and_obeys_no_escape(tmp_path):
    sink = Changes(FileTarget(tmp_path / "out"))
    for index, label in enumerate(["a", "a", "b", "b", "a"]):
        result = make_result(label, index, source="\x1b[2Jvideo")
        if sink.wants(result):
            sink.write(result)
    result = make_result("a", 0, source="other")
    assert sink.wants(result)
    sink.write(result)
    sink.close()
    lines = (tmp_path / "out").read_text().splitlines()
    assert [int(re.search(r"frame (\d+)", line)[1]) for line in lines] == [0, 2, 4, 0]
    assert all("\x1b" not in line for line in lines)


# Snapshots.


def snapshot(sink, label, index=0, frame=None):
    sink.write(make_result(label, index, frame=np.full((48, 64, 3), 90, np.uint8) if frame is None else frame))


def test_a_snapshot_comes_with_each_change_and_is_the_frame(tmp_path):
    sink = Snapshots(tmp_path)
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, :32] = (200, 40, 40)
    wanted = [sink.wants(make_result(label)) for label in ["a", "a", "b", "b", "a"]]
    assert wanted == [True, False, True, False, True]
    snapshot(sink, THAI, frame=frame)
    (path,) = tmp_path.iterdir()
    assert THAI in path.name, "marks above letters are part of a label"
    found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(found.astype(int) - frame).mean() < 4


@pytest.mark.parametrize(
    "label",
    ["../../etc/passwd", "a/b", THAI, "x" * 300, "ก" * 300, "..", ".", "\0", "a\nb", "-rf", "CON", " ", "🐝", "न्या"],
)
def test_no_label_leaves_the_folder_or_breaks_a_name(tmp_path, label):
    folder = tmp_path / "snaps"
    snapshot(Snapshots(folder), label)
    assert [path.name for path in tmp_path.iterdir()] == ["snaps"]
    (path,) = folder.iterdir()
    assert Snapshots._FORM.fullmatch(path.name)
    assert len(path.name.encode()) < 120
    assert path.is_file()
    assert len(Snapshots(folder)._files) == 1, "it is found again after a restart"


def test_the_same_label_twice_in_a_millisecond_is_two_files(tmp_path):
    sink = Snapshots(tmp_path, clock=lambda: 1_700_000_000.1234)
    for _ in range(3):
        snapshot(sink, "bee")
    snapshot(sink, "a/b")
    snapshot(sink, "a_b")
    assert len(list(tmp_path.iterdir())) == 5
    assert sink._total == sum(path.stat().st_size for path in tmp_path.iterdir())


def noise(seed, side=512):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_a_quota_keeps_only_the_newest_and_touches_no_foreign_file(tmp_path):
    foreign = {"holiday.jpg": b"x" * 3_000_000, "20240101T000000.000Z.jpg": b"y", "notes-1.txt": b"z"}
    for name, data in foreign.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "20240101T000000.000Z-folder.jpg").mkdir()
    (tmp_path / "20240101T000000.000Z-dangling.jpg").symlink_to("nowhere")
    now = [1_700_000_000.0]
    for part in range(2):  # a restart in between
        sink = Snapshots(tmp_path, 2**20, clock=lambda: now[0])
        for number in range(8):
            now[0] += 1.5
            snapshot(sink, f"n{part}{number}", frame=noise(number))
    mine = sorted(path.name for path in tmp_path.glob("*-n??.jpg"))
    assert 2 <= len(mine) < 16
    assert [name[-7:-4] for name in mine] == [f"n{part}{n}" for part in range(2) for n in range(8)][-len(mine) :]
    assert sum((tmp_path / name).stat().st_size for name in mine) <= 2**20
    for name, data in foreign.items():
        assert (tmp_path / name).read_bytes() == data
    assert (tmp_path / "20240101T000000.000Z-folder.jpg").is_dir()
    assert (tmp_path / "20240101T000000.000Z-dangling.jpg").is_symlink()


def test_a_snapshot_larger_than_the_quota_does_not_delete_all_others(tmp_path):
    sink = Snapshots(tmp_path, 2**20)
    snapshot(sink, "small")
    with pytest.raises(OutputError, match="larger than the quota"):
        snapshot(sink, "large", frame=noise(1, 1600))
    assert len(list(tmp_path.iterdir())) == 1


def test_snapshots_that_somebody_deletes_are_no_trouble(tmp_path):
    sink = Snapshots(tmp_path, 2**20)
    for number in range(12):
        snapshot(sink, f"n{number}", frame=noise(number))
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_full_disk_costs_snapshots_and_leaves_no_halves(tiny_disk, monkeypatch):
    monkeypatch.setattr(outlets, "RETRY_S", 0.0)
    said = []
    outlet = QueuedSink(Snapshots(tiny_disk), lossless=True, say=said.append)
    for number in range(12):
        outlet.offer(make_result(f"n{number}", number, frame=noise(number)))
    until(lambda: outlet.failed + outlet.written == 12)
    assert outlet.failed
    assert outlet.written
    assert len(said) == 1
    assert len(list(tiny_disk.iterdir())) == outlet.written, "no temporary file is left"
    for path in tiny_disk.iterdir():
        assert cv2.imread(str(path)).shape == (512, 512, 3)
        path.unlink()
    outlet.offer(make_result("again", 12, frame=noise(12, 300)))
    assert end(outlet)
    assert len(said) == 2


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1), (30, 40, 4), (1, 1, 3)])
def test_snapshots_of_grey_and_transparent_frames(tmp_path, shape):
    snapshot(Snapshots(tmp_path), "x", frame=np.full(shape, 77, np.uint8))
    (path,) = tmp_path.iterdir()
    assert cv2.imread(str(path)).shape == (*shape[:2], 3)


# Recordings.


@pytest.fixture
def room(monkeypatch):
    """A disk of a test machine may be fuller than that of a user."""
    monkeypatch.setattr(pictures, "RESERVE_BYTES", 2**20)


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    found = []
    while True:
        good, frame = capture.read()
        if not good:
            return found, capture.get(cv2.CAP_PROP_FPS)
        found.append(frame)


def flat(value, height=96, width=128):
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".MOV", ".m4v"])
def test_a_recording_of_a_video_has_each_frame_once(tmp_path, room, ending):
    path = tmp_path / "deep" / f"ผึ้ง{ending}"
    sink = Record(path, Overlay(["bee"]), fps=12.5)
    for index in range(20):
        sink.write(make_result("bee", index, frame=flat(10 * index)))
    sink.close()
    sink.close()
    found, fps = frames_of(path)
    assert fps == pytest.approx(12.5)
    assert len(found) == 20
    levels = [frame[80:].mean() for frame in found]
    np.testing.assert_allclose(levels, [10 * index for index in range(20)], atol=6)


def test_a_recording_of_a_camera_plays_at_the_pace_of_the_world(tmp_path, room):
    """Each frame stands from its own time until the next one's; a long pause is cut to two seconds."""
    path = tmp_path / "live.avi"
    times = [0.0, 0.1, 0.15, 1.15, 1.16, 1.17, 1.4, 61.4, 61.9]
    shown = np.array([0.0, 0.1, 0.15, 1.15, 1.16, 1.17, 1.4, 3.4, 3.9])
    sink = Record(path, Overlay(["bee"]))
    for index, at in enumerate(times):
        sink.write(make_result("bee", index, frame=flat(25 * index), captured=1000.0 + at))
    sink.close()
    found, fps = frames_of(path)
    assert fps == 25
    assert len(found) / fps == pytest.approx(shown[-1], abs=0.08)
    for number, frame in enumerate(found[1:-1], 1):
        first, last = (np.searchsorted(shown, (number + k) / fps + 1e-6, side="right") - 1 for k in (0, 1))
        assert min(abs(frame[80:].mean() - 25 * index) for index in range(first, last + 1)) < 6, number


def test_a_fast_camera_is_recorded_at_25_frames_a_second(tmp_path, room):
    sink = Record(tmp_path / "fast.avi", Overlay(["bee"]))
    for index in range(241):
        sink.write(make_result("bee", index, frame=flat(index), captured=50.0 + index / 120))
    sink.close()
    assert len(frames_of(tmp_path / "fast.avi")[0]) == pytest.approx(51, abs=1)


@pytest.mark.parametrize(
    "shape", [(97, 129, 3), (1, 1, 3), (1, 50, 3), (50, 1, 3), (96, 128), (96, 128, 1), (96, 128, 4)]
)
def test_frames_of_any_size_and_depth_are_recorded(tmp_path, room, shape):
    for ending in (".mkv", ".avi"):
        sink = Record(tmp_path / f"x{ending}", Overlay(["bee"]), fps=10)
        for index in range(5):
            sink.write(make_result("bee", index, frame=np.full(shape, 120, np.uint8)))
        sink.close()
        found, _ = frames_of(tmp_path / f"x{ending}")
        assert len(found) == 5
        height, width = (max(pictures.LEAST_SIDE, side // 2 * 2) for side in shape[:2])
        assert found[0].shape == (height, width, 3)


def test_the_smallest_recordings_leave_the_memory_of_the_process_alone(tmp_path):
    """In a process of its own: what goes wrong here ends it."""
    code = f"""
        import cv2, numpy as np
        from edge_tl_runtime.sinks.pictures import CODECS, LEAST_SIDE
        random = np.random.default_rng(0)
        for ending, codec in CODECS.items():
            for width, height in ((LEAST_SIDE, LEAST_SIDE), (LEAST_SIDE, 500), (500, LEAST_SIDE)):
                code = cv2.VideoWriter.fourcc(*codec)
                writer = cv2.VideoWriter({str(tmp_path)!r} + "/x" + ending, cv2.CAP_FFMPEG, code, 10, (width, height))
                for number in range(30):
                    writer.write(random.integers(0, 256 if number % 2 else 2, (height, width, 3), np.uint8))
                writer.release()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_size_that_changes_is_fitted_into_the_first(tmp_path, room):
    sink = Record(tmp_path / "x.avi", Overlay(["bee"]), fps=10)
    shapes = [(96, 128, 3), (300, 100, 3), (10, 10), (1, 1, 4), (97, 129, 3), (48, 300, 3)]
    for index, shape in enumerate(shapes):
        sink.write(make_result("bee", index, frame=np.full(shape, 255, np.uint8)))
    sink.close()
    found, _ = frames_of(tmp_path / "x.avi")
    assert [frame.shape for frame in found] == [(96, 128, 3)] * len(shapes)
    assert found[1][50, 5].max() < 30, "a portrait stands between black bars"
    assert found[1][50, 64].min() > 60


@pytest.mark.parametrize("name", ["x.gif", "x", "x.txt", "avi", ".mp4"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"ends in \.mp4"):
        Record(tmp_path / name, Overlay(["bee"]))


def test_a_full_disk_is_told_before_a_frame_is_recorded(tiny_disk):
    with pytest.raises(OutputError, match="free some space"):
        Record(tiny_disk / "x.avi", Overlay(["bee"]))


def test_a_disk_that_fills_up_ends_no_run_and_the_recording_goes_on_later(tmp_path, monkeypatch, room):
    monkeypatch.setattr(outlets, "RETRY_S", 0.0)
    free = [10**9]
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda path: type("", (), {"free": free[0]}))
    said = []
    outlet = QueuedSink(Record(tmp_path / "x.avi", Overlay(["bee"]), fps=10), lossless=True, say=said.append)
    for index in range(15):
        free[0] = 0 if 5 <= index < 10 else 10**9
        outlet.sink._checked = -10.0
        outlet.offer(make_result("bee", index, frame=flat(10)))
        until(lambda index=index: outlet.written + outlet.failed == index + 1)
    assert end(outlet)
    assert outlet.failed == 5
    assert len(said) == 2
    assert len(frames_of(tmp_path / "x.avi")[0]) == 10


# All together, for a long time.


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_results(tmp_path, room):
    sinks = [
        Log(FileTarget(tmp_path / "log", 2**16, 2)),
        Csv(FileTarget(tmp_path / "csv", 2**16, 2)),
        Snapshots(tmp_path / "snaps", 2**20),
    ]
    running = [QueuedSink(sink, lossless=True) for sink in sinks]
    frame = noise(0, 64)
    peaks = []
    for index in range(9000):
        result = make_result(f"n{index // 30 % 50}", index, frame=frame)
        for outlet in running:
            if outlet.wants(result):
                outlet.offer(outlets.kept(result, outlet.sink.pixels))
        if index % 3000 == 2999:
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert all(end(outlet) for outlet in running)
    assert peaks[-1] - peaks[0] < 4096, peaks
