"""Live sources: the newest frame, whatever the device does. Real capture processes; a real MJPEG server on loopback."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from conftest import living
from stopwatch import HANGING

from edge_tl_runtime.core.errors import SourceError, UsageError
from edge_tl_runtime.sources import LiveOptions, Patience, Source, State, open_source
from edge_tl_runtime.sources.capture.live import Live
from edge_tl_runtime.sources.patterns import read_number

HASTY = Patience(first_frame=5, stale=0.3, lost=0.8, frozen=0.5, backoff=0.05, backoff_max=0.2, steady=1, stop=0.3)

PATIENT = Patience(first_frame=600, stale=300, lost=600, frozen=600, backoff=600, backoff_max=600, stop=0.3)
"""Nothing that a busy machine does runs this out: what ends before it hangs (stopwatch.HANGING) did not wait for it."""


def opened(name: str, **options: object) -> Source:
    return open_source(name, LiveOptions(**{"patience": HASTY, **options}))


def frames_of(source: Source, count: int) -> list[tuple[int, int]]:
    """(index, number painted in the frame) of the first `count` frames."""
    seen = []
    for record in source:
        seen.append((record.index, read_number(record.frame) if record.frame.ndim == 3 else record.index))
        if len(seen) == count:
            break
    return seen


class MjpegServer:
    """A camera that sends 50 frames a second, each a grey whose value is its number."""

    def __init__(self, port: int = 0) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for number in itertools.cycle(range(250)):
                        jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), number, np.uint8))[1].tobytes()
                        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                        self.wfile.write(head.encode() + jpeg + b"\r\n")
                        if outer.silent.is_set():
                            outer.end.wait(60)
                        if outer.end.wait(0.02):
                            return
                except OSError:
                    pass

            def log_message(self, *arguments: object) -> None:
                pass

        self.end, self.silent = threading.Event(), threading.Event()
        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://user:secret@127.0.0.1:{self.port}/stream.mjpg"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.end.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def camera() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.close()


def test_frames_are_those_of_the_device_in_order_and_none_twice():
    with opened("test://counter?fps=200&size=64x48") as source:
        seen = frames_of(source, 100)
    assert all(index == number for index, number in seen)
    assert all(later > earlier for (earlier, _), (later, _) in itertools.pairwise(seen))


def test_a_slow_reader_gets_the_newest_frame_and_the_drops_are_counted():
    """60 frames a second, 5 looks a second: memory of three frames, and none older than a frame when it is given."""
    ages, seen = [], []
    with opened("test://counter?fps=60&size=640x480") as source:
        for record in source:
            ages.append(time.monotonic() - record.captured)
            seen.append(record.index)
            time.sleep(0.2)
            assert read_number(record.frame) == record.index, "the frame changed while it was looked at"
            assert source.intact(record)
            if len(seen) == 10:
                break
    assert source.counts.dropped == seen[-1] - len(seen) + 1
    assert source.counts.dropped > 50
    assert min(ages[5:]) < 1 / 60 + 0.01, ages  # what queues would be older with each look


def test_a_read_that_never_returns_is_ended_and_frames_resume():
    told: list[str] = []
    with opened("test://counter?fps=200&size=64x48&script=20,hang;1000", say=told.append) as source:
        started = time.monotonic()
        seen = frames_of(source, 40)
        assert time.monotonic() - started > 0.8
        assert source.counts.reconnects == 1
    assert all(index == number for index, number in seen)
    assert any("has been silent for" in line for line in told)
    assert any("is back" in line for line in told)


def test_what_the_device_gives_is_not_trusted():
    with opened("test://counter?fps=300&size=64x48&script=10,bad=25,20,end;1000") as source:
        seen = frames_of(source, 60)
    assert source.counts.rejected == 25
    assert all(index == number for index, number in seen)


def test_a_repeated_frame_is_never_given_and_a_frozen_camera_is_reconnected():
    with opened("test://counter?fps=300&size=64x48&script=30,freeze;1000") as source:
        states = set()
        source.on_idle = lambda: states.add(source.state)
        seen = frames_of(source, 60)
        assert source.counts.repeated > 50
        assert source.counts.reconnects == 1
    assert len({number for _, number in seen}) == 60
    assert State.STALE in states


def test_repeats_are_taken_where_they_are_wanted():
    patience = Patience(frozen=0)
    with opened("test://counter?fps=300&size=64x48&script=3,freeze", patience=patience) as source:
        records = itertools.islice(source, 50)
        assert len(list(records)) == 50
    assert source.counts.repeated == 0


def test_size_channels_and_depth_may_change_while_it_runs():
    script = "20,size=512x640,20,size=3000x4500,4,grey,4,bgra,4,colour,size=64x48,1000"
    shapes = []
    with opened(f"test://counter?fps=100&size=64x48&script={script}", patience=PATIENT) as source:
        for record in source:
            shape = record.frame.shape
            assert record.frame.size == record.frame.nbytes
            if not shapes or shapes[-1] != shape:
                shapes.append(shape)
            if len(shapes) == 6:
                break
        assert source.counts.reconnects == 0
    assert shapes == [(48, 64, 3), (640, 512, 3), (4500, 3000, 3), (4500, 3000), (4500, 3000, 4), (48, 64, 3)]


def test_it_comes_back_for_ever_and_leaves_nothing_behind():
    """Dropping and returning: handles, threads and processes as before."""
    with opened("test://counter?fps=1000&size=64x48&script=15,end;15,refuse;refuse", wait=True) as source:
        process = psutil.Process()
        iterator = iter(source)
        for _ in range(20):
            next(iterator)
        before = process.num_fds(), process.num_threads()
        cycles = source.counts.reconnects
        while source.counts.reconnects < cycles + 25:
            next(iterator)
        assert process.num_fds() <= before[0] + 1
        assert process.num_threads() <= before[1]
        assert len(living(os.getpid())) <= 1
    assert not living(os.getpid())


def test_a_source_that_is_not_there_is_an_error_unless_waited_for():
    with (
        opened("test://bars?script=refuse;1000") as source,
        pytest.raises(SourceError, match="cannot open test://bars"),
    ):
        next(iter(source))
    with opened("test://bars?script=refuse;refuse;1000", wait=True) as source:
        states = set()
        source.on_idle = lambda: states.add(source.state)
        next(iter(source))
        assert source.counts.reconnects == 2
    assert State.LOST in states


def test_it_can_be_stopped_whatever_the_device_does():
    for script in ("hang", "refuse", "5,freeze", "5,end;refuse"):
        with opened(f"test://bars?script={script}", wait=True, patience=PATIENT) as source:
            threading.Timer(0.7, source.stop).start()
            started = time.monotonic()
            for _ in source:
                pass
            took = time.monotonic() - started
            begun = time.monotonic()
        assert took < HANGING, script
        assert time.monotonic() - begun < HANGING, script
    assert not living(os.getpid())


def test_the_capture_ends_with_its_runner_even_when_that_is_killed():
    code = (
        "from edge_tl_runtime.sources import open_source\n"
        "with open_source('test://bars?script=5,hang') as source:\n"
        "    for record in source: print(record.index, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        runner.stdout.readline()
        captures = living(runner.pid)
        assert captures
        runner.kill()
    _, alive = psutil.wait_procs(captures, timeout=HANGING)
    assert not alive


def test_the_clock_on_the_wall_means_nothing(monkeypatch):
    """Boards without a battery jump by years when they learn the time."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with opened("test://counter?fps=200&size=64x48") as source:
        for count, record in enumerate(source):
            monkeypatch.setattr(time, "time", lambda count=count: 1e9 * (-1) ** count)
            assert 0 <= time.monotonic() - record.captured < HANGING
            if count == 30:
                break
        assert source.counts.reconnects == 0


def test_a_pace_of_its_own_leaves_the_others_undecoded():
    """One frame each tenth of a second, taken when it was asked for and not before: a load can only make them later."""
    with opened("test://counter?fps=100&size=64x48", max_fps=10, patience=PATIENT) as source:
        started = before = time.monotonic()
        seen, waits = [], []
        for record in source:
            waits.append(record.captured - before)
            before = time.monotonic()
            seen.append(record.index)
            if len(seen) == 12:
                break
    assert before - started > 11 / 10 * 0.8
    assert sorted(waits)[6] > 0.03
    assert source.counts.dropped > 50


@pytest.mark.slow
def test_a_network_camera_is_read_reconnected_and_its_password_kept(camera):
    told: list[str] = []
    patience = Patience(first_frame=10, stale=0.5, lost=2, frozen=5, backoff=0.1, backoff_max=0.3, stop=0.3)
    with opened(camera.url, say=told.append, patience=patience) as source:
        assert isinstance(source, Live)
        frames = iter(source)
        for _ in range(5):
            assert "secret" not in next(frames).source
        camera.close()
        threading.Timer(1.0, lambda: servers.append(MjpegServer(camera.port))).start()
        servers: list[MjpegServer] = []
        reconnects = source.counts.reconnects
        values = []
        while source.counts.reconnects == reconnects or len(values) < 5:
            values.append(int(next(frames).frame[20, 20, 0]))
            assert len(values) < 500
    servers[0].close()
    assert told
    assert not any("secret" in line for line in told)
    assert max(values) > 0


@pytest.mark.slow
def test_a_network_camera_that_falls_silent_is_noticed(camera):
    patience = Patience(first_frame=10, stale=0.5, lost=1.5, backoff=0.1, backoff_max=0.3, stop=0.3)
    with opened(camera.url, patience=patience) as source:
        frames = iter(source)
        for _ in range(3):
            next(frames)
        camera.silent.set()
        states = []
        source.on_idle = lambda: states.append(source.state)
        threading.Timer(3.0, source.stop).start()
        for _ in frames:
            pass
    assert State.STALE in states
    assert State.LOST in states or State.CONNECTING in states


@pytest.mark.slow
def test_a_video_in_real_time_takes_its_own_time_and_ends(tmp_path):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (64, 48))
    for number in range(40):
        writer.write(np.full((48, 64, 3), number * 5, np.uint8))
    writer.release()
    started = time.monotonic()
    with opened(str(path), realtime=True) as source:
        indices = [record.index for record in source]
    assert time.monotonic() - started > 1.9
    assert source.state is State.ENDED
    assert indices[-1] == 39, (indices, source.counts)
    assert source.counts.dropped + len(indices) == 40


def test_a_pace_below_the_patience_is_not_taken_for_silence():
    """A frame every 1.5 s where 0.8 s of silence would end the capture."""
    with opened("test://counter?fps=50&size=64x48", max_fps=1 / 1.5) as source:
        states, seen = set(), []
        source.on_idle = lambda: states.add(source.state)
        for record in source:
            seen.append(record.index)
            if len(seen) == 4:
                break
        assert source.counts.reconnects == 0
    assert states <= {State.LIVE, State.CONNECTING}


def test_a_reader_that_is_away_for_long_finds_the_camera_alive():
    with opened("test://counter?fps=100&size=64x48") as source:
        records = iter(source)
        for _ in range(3):
            next(records)
            time.sleep(2 * HASTY.lost)
        assert source.counts.reconnects == 0


@pytest.mark.parametrize(
    "name",
    [
        "test://nothing",
        "test://bars?speed=3",
        "test://bars?size=big",
        "test://bars?size=99999x1",
        "test://bars?script=dance",
        "test://bars?fps=0",
    ],
)
def test_a_pattern_that_makes_no_sense_is_refused_at_once(name):
    with pytest.raises(UsageError):
        open_source(name)


def test_the_capture_does_not_import_from_the_users_folder(tmp_path):
    """A photo folder may hold a queue.py."""
    for name in ("queue.py", "json.py", "cv2.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the current folder')")
    root = Path(__file__).parent.parent
    code = (
        f"import sys; sys.path[0] = {str(root / 'runtime')!r}\n"
        "from edge_tl_runtime.sources import open_source\n"
        "with open_source('test://bars') as source: print(next(iter(source)).frame.shape)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=dict(os.environ)
    )
    assert result.stdout.strip() == "(480, 640, 3)", result.stderr
