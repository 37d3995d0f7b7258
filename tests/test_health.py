"""Machines are told how a run is doing, in whole documents, whatever the disk, and a wedged run is not called well."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from conftest import THAI
from endpoints import Collector, Paced
from results import make_result
from stopwatch import HANGING, Stopwatch

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import replace_text
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.machine.temperature import temperature_c, throttled
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.run import status as module
from edge_tl_runtime.run.runner import Runner
from edge_tl_runtime.run.status import WINDOW, Health, StatusFile, Systemd, percentiles, rss_mb
from edge_tl_runtime.sinks import QueuedSink
from edge_tl_runtime.sources import open_source
from edge_tl_runtime.sources.base import FrameRecord

KEYS = {
    "time", "state", "notice", "model", "arch", "precision", "source", "source_plugin", "uptime_s", "frames", "fps", "latency_ms",
    "age_ms", "frame_age_s", "dropped", "rejected", "repeated", "torn", "reconnects", "skipped", "label", "confidence",
    "sinks", "regions", "rss_mb", "cpu_percent", "temperature_c", "throttled", "model_reloads", "model_notice", "drift",
    "motion", "camera",
}  # fmt: skip


@pytest.fixture
def stream(color_model, solid):
    return Stream(Paced(solid("red"), count=20), Classifier(color_model))


def test_the_document_has_its_keys_and_is_json_before_during_and_after_a_run(stream):
    health = Health(stream)
    before = health.document()
    assert set(before) == KEYS
    assert (before["frames"], before["label"], before["frame_age_s"], before["fps"]) == (0, None, None, 0.0)
    for result in stream:
        health.saw(result)
        document = health.document()
        assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document) == KEYS
    assert (document["frames"], document["label"], document["model"]) == (20, "red", "colors.onnx")
    assert 5 < document["fps"] <= 100
    assert document["frame_age_s"] < 0.5
    assert health.document()["state"] == "ENDED"


def test_percentiles_are_those_of_numpy_over_the_last_frames(stream):
    health = Health(stream)
    values = np.random.default_rng(0).gamma(2, 5, 2500)
    for value in values:
        result = make_result()
        object.__setattr__(result.prediction, "latency_ms", float(value))
        health.saw(result)
    expected = np.percentile(values[-WINDOW:], [50, 95, 99])
    np.testing.assert_allclose(list(health.latency_ms().values()), expected, atol=6e-4)
    assert list(health.latency_ms()) == ["p50", "p95", "p99"]
    assert percentiles(deque(), (50,)) == {}


def test_looking_while_frames_come_never_fails(stream):
    health = Health(stream)
    over, failures = threading.Event(), []

    def look():
        while not over.is_set():
            try:
                json.dumps(health.document())
            except Exception as error:  # noqa: BLE001
                failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(4000):
        health.saw(make_result())
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(health._latencies) == WINDOW


def test_a_silence_is_no_frame_rate(stream, monkeypatch):
    health = Health(stream)
    health.saw(make_result())
    assert health.document()["fps"] == 10
    later = time.monotonic() + 100
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    assert health.document()["fps"] == 0.0
    assert health.document()["frame_age_s"] == pytest.approx(100, abs=1)


def test_memory_is_that_of_the_process():
    psutil = pytest.importorskip("psutil")
    assert rss_mb() == pytest.approx(psutil.Process().memory_info().rss / 2**20, abs=5)


def test_the_hottest_plausible_sensor_counts(tmp_path):
    for number, text in enumerate(["45100\n", "61234\n", "nonsense", "-274000", "999999", ""]):
        (tmp_path / f"thermal_zone{number}").mkdir()
        (tmp_path / f"thermal_zone{number}" / "temp").write_text(text)
    (tmp_path / "thermal_zone9").mkdir()
    assert temperature_c(tmp_path) == 61.2
    assert temperature_c(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0x0\n", False), ("50000\n", False), ("0x50005\n", True), ("4", True), ("", None), ("x", None)],
)
def test_throttling_now_is_told_from_throttling_once(tmp_path, text, expected):
    (tmp_path / "get_throttled").write_text(text)
    assert throttled(tmp_path / "get_throttled") is expected
    assert throttled(tmp_path / "nowhere") is None


# The file.


@pytest.mark.filterwarnings("error")
def test_a_reader_of_the_status_never_sees_half_a_document(tmp_path):
    path = tmp_path / "status.json"
    status = StatusFile(path, every_s=0.0)
    over = threading.Event()

    def write():
        number = 0
        while not over.is_set():
            number += 1
            status.write({"number": number, "filling": ["x" * (number % 977)] * 50}, time.monotonic())

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    seen = set()
    until = time.monotonic() + HANGING
    try:
        while len(seen) <= 50 and time.monotonic() < until:
            document = json.loads(path.read_text())
            if document:
                assert {len(text) for text in document["filling"]} == {document["number"] % 977}
                seen.add(document["number"])
    finally:
        over.set()
        writer.join()
    assert len(seen) > 50
    assert status.failed == 0
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_the_status_is_renewed_at_its_pace_and_at_the_end(tmp_path):
    status = StatusFile(tmp_path / "s", every_s=5.0)
    written = []
    for now in (100.0, 101.0, 104.9, 105.0, 106.0):
        status.write({"now": now}, now)
        written.append(json.loads((tmp_path / "s").read_text())["now"])
    assert written == [100.0, 100.0, 100.0, 105.0, 105.0]
    status.write({"now": 106.5}, 106.5, force=True)
    assert json.loads((tmp_path / "s").read_text())["now"] == 106.5


def fill(path):
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)


def test_a_full_disk_is_counted_and_the_next_status_is_whole(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        path = disk / "status"
        status = StatusFile(path, every_s=0.0)
        status.write({"a": 1}, 0.0)
        fill(disk / "filler")
        status.write({"a": "x" * 9000}, 1.0)
        assert status.failed == 1
        assert json.loads(path.read_text()) == {"a": 1}
        assert sorted(file.name for file in disk.iterdir()) == ["filler", "status"]
        (disk / "filler").unlink()
        status.write({"a": 2}, 2.0)
        assert json.loads(path.read_text()) == {"a": 2}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        status.write({"a": 3}, 3.0)
        assert status.failed == 2
        with pytest.raises(OutputError, match="Read-only"):
            StatusFile(path)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_is_no_file_is_never_replaced(tmp_path):
    for path in (Path("/dev/null"), tmp_path, Path("/"), Path(".")):
        with pytest.raises(OutputError, match="not a regular file"):
            StatusFile(path)
    assert Path("/dev/null").is_char_device()


def test_a_name_that_is_no_text_is_written(tmp_path):
    name = os.fsdecode(b"\xff.avi")
    StatusFile(tmp_path / "s", 0.0).write({"source": name, "label": THAI}, 0.0)
    assert json.loads((tmp_path / "s").read_text("utf-8")) == {"source": name, "label": THAI}
    replace_text(tmp_path / "s", THAI)
    assert (tmp_path / "s").read_text("utf-8") == THAI


# systemd.


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """The service manager's end of its socket."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0edge-tl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name)
        listener.settimeout(3)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield listener


def heard(listener):
    return listener.recv(4096).decode().split("\n")


def test_systemd_is_told_ready_once_then_that_all_is_well_then_the_end(manager):
    systemd = Systemd()
    assert systemd.watchdog_s == 30
    systemd.notify("LIVE, 30 fps", alive=True)
    assert heard(manager) == ["STATUS=LIVE, 30 fps", "READY=1", "WATCHDOG=1"]
    systemd.notify("LIVE, 30 fps", alive=True)
    assert heard(manager) == ["STATUS=LIVE, 30 fps", "WATCHDOG=1"]
    systemd.notify("LIVE", alive=False)
    assert heard(manager) == ["STATUS=LIVE"], "a wedged run must be restarted"
    systemd.stopping()
    assert heard(manager) == ["STOPPING=1"]


def test_nothing_comes_after_stopping_and_no_label_speaks_to_systemd(manager):
    systemd = Systemd()
    systemd.notify("bee\nMAINPID=1\nSTOPPING=1", alive=True)
    assert heard(manager)[1:] == ["READY=1", "WATCHDOG=1"]
    systemd.stopping()
    systemd.notify("late", alive=True)
    assert heard(manager) == ["STOPPING=1"]
    manager.settimeout(0.05)
    with pytest.raises(TimeoutError):
        heard(manager)


def test_ready_is_said_again_when_it_did_not_arrive(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "late"))
    systemd = Systemd()
    systemd.notify("a", alive=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "late"))
        listener.settimeout(3)
        systemd.notify("b", alive=True)
        assert heard(listener) == ["STATUS=b", "READY=1"]


def test_a_watchdog_of_another_process_is_not_ours(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert Systemd().watchdog_s == 0
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    monkeypatch.delenv("WATCHDOG_PID")
    assert Systemd().watchdog_s == 0


# The runner.


def test_a_run_tells_its_sinks_its_file_and_systemd(manager, color_model, solid, tmp_path):
    source, sink = Paced(solid("red")), Collector()
    stream = Stream(source, Classifier(color_model))
    runner = Runner(stream, [QueuedSink(sink, lossless=False)], status=StatusFile(tmp_path / "s", 0.0))
    threading.Timer(1.6, source.stop).start()
    runner.run()
    said = [heard(manager) for _ in range(2)]
    assert said[0][0].startswith("STATUS=LIVE, ")
    assert said[0][0].endswith("fps, red")
    assert said[0][1:] == ["READY=1", "WATCHDOG=1"]
    assert said[-1] == ["STOPPING=1"]
    document = json.loads((tmp_path / "s").read_text())
    assert document["state"] == "ENDED", "a run that is over is not called live"
    assert document["frames"] == len(sink.indices) > 10
    assert document["sinks"]["collector"] == {"written": len(sink.indices), "dropped": 0, "failed": 0}
    assert sink.closed
    assert sink.documents


def test_the_last_result_of_a_video_is_written_however_slow_the_sink(color_model, solid):
    sink = Collector(pause=0.15, depth=12)
    source = Paced(solid("red"), pause=0.0, count=14, live=False)
    runner = Runner(Stream(source, Classifier(color_model)), [QueuedSink(sink, lossless=True)])
    runner.run()
    assert sink.indices == list(range(14))
    assert sink.closed
    assert runner.stuck == []


def test_a_person_who_ends_a_run_does_not_wait_for_a_slow_sink(color_model, solid):
    sink = Collector(pause=30, depth=12)
    source = Paced(solid("red"), live=False)
    runner = Runner(Stream(source, Classifier(color_model)), [QueuedSink(sink, lossless=True)])

    def end():
        source.stop()
        source.stopping_asked = True

    threading.Timer(0.3, end).start()
    watch = Stopwatch()
    runner.run()
    assert watch.quiet() < 2
    assert runner.stuck == ["collector"]


def test_a_second_thought_ends_the_wait_for_a_slow_sink(color_model, solid):
    sink = Collector(pause=30)
    source = Paced(solid("red"), pause=0.0, count=5, live=False)
    runner = Runner(Stream(source, Classifier(color_model)), [QueuedSink(sink, lossless=True)])

    def end():
        source.stopping_asked = True

    threading.Timer(0.5, end).start()
    watch = Stopwatch()
    runner.run()
    assert watch.passed() > 0.4
    assert watch.quiet() < 2.5


def test_a_run_that_fails_closes_its_sinks(color_model, solid):
    class Broken(Paced):
        def __iter__(self):
            yield FrameRecord(self.frame, self.name, 0, 0.0)
            raise ZeroDivisionError

    sink = Collector()
    runner = Runner(Stream(Broken(solid("red")), Classifier(color_model)), [QueuedSink(sink, lossless=False)])
    with pytest.raises(ZeroDivisionError):
        runner.run()
    assert sink.indices == [0]
    assert sink.closed


def test_a_document_that_cannot_be_made_ends_no_pulse(color_model, solid, monkeypatch):
    shown = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    monkeypatch.setattr("edge_tl_runtime.run.runner.PULSE_S", 0.02)
    sink, source = Collector(), Paced(solid("red"))
    runner = Runner(Stream(source, Classifier(color_model)), [QueuedSink(sink, lossless=False)])
    real, calls = runner.health.document, []

    def document():
        calls.append(1)
        if len(calls) in (2, 3, 4):
            raise KeyError("bug")
        return real()

    monkeypatch.setattr(runner.health, "document", document)
    threading.Timer(0.5, source.stop).start()
    runner.run()
    assert len(sink.documents) > 5
    assert len(shown) == 1


def test_threads_and_descriptors_are_given_back(color_model, solid):
    classifier = Classifier(color_model)

    def once():
        source = Paced(solid("red"), pause=0.0, count=5, live=False)
        Runner(Stream(source, classifier), [QueuedSink(Collector(), lossless=True)]).run()

    once()
    threads, handles = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        once()
    assert threading.active_count() <= threads  # those of other tests may end meanwhile
    assert len(os.listdir("/proc/self/fd")) == handles


@pytest.mark.slow
def test_memory_of_a_long_run_does_not_grow(color_model, tmp_path):
    """In a process of its own, whose peak is of this run alone."""
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import numpy as np
        from endpoints import Collector, Paced
        from edge_tl_runtime.inference.classifier import Classifier
        from edge_tl_runtime.pipeline.decision import Decider
        from edge_tl_runtime.run.status import rss_mb
        from edge_tl_runtime.run.runner import Runner
        from edge_tl_runtime.sinks import FileTarget, Log, QueuedSink
        from edge_tl_runtime.pipeline.smoothing import Vote
        from edge_tl_runtime.pipeline.stream import Stream

        sizes = []

        class Measured(Paced):
            def __iter__(self):
                for record in super().__iter__():
                    if record.index % 3000 == 2999:
                        sizes.append(rss_mb())
                    yield record

        source = Measured(np.zeros((48, 64, 3), np.uint8), 0.0, 30_000, live=False)
        stream = Stream(source, Classifier({str(color_model)!r}), decider=lambda c: Decider(c.spec, smoother=Vote()))
        Runner(stream, [QueuedSink(Log(FileTarget(Path({str(tmp_path)!r}) / "log", 2**16, 2)), True)]).run()
        print(sizes)
        assert sizes[-1] - sizes[4] < 1, sizes  # the first thousands fill the windows that are kept
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_live_run_says_lost_while_its_camera_is_gone(color_model):
    with open_source("test://bars?size=64x48&fps=200&script=20,end;refuse") as source:
        health = Health(Stream(source, Classifier(color_model)))
        for result in health.stream:
            health.saw(result)
            break
        assert health.document()["state"] == "LIVE"
