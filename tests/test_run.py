"""`edge-tl run` as a user meets it: real processes, signals, pipes, full disks and cameras that fail."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import onnx
import psutil
import pytest
from commands import EDGE_TL, edge_tl, lines, video
from conftest import COLORS, THAI, command, living, write_photo
from onnx import TensorProto, helper, numpy_helper
from stopwatch import HANGING, Stopwatch

from edge_tl_runtime.inference.classifier import SessionSettings

HASTY = ["--stall", "0.6", "--first-frame", "5", "--frozen", "1"]


@contextmanager
def running(*arguments: object, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A run in the background; killed at the end if it is still there."""
    process = subprocess.Popen(
        [*EDGE_TL, "run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""},
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(condition, seconds: float = HANGING) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_encoded_photos_on_standard_input(color_model, color_photos):
    data = b"".join((color_photos / label / "0.png").read_bytes() for label in COLORS)
    result = subprocess.run(
        [*EDGE_TL, "run", str(color_model), "--source", "-", "--headless", "--json"],
        input=data + b"no picture at all",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert [row["label"] for row in lines(result.stdout.decode())] == list(COLORS)
    assert b"used 3 photos, passed over 1 file: " in result.stderr


def test_photos_of_a_list(color_model, color_photos):
    listed = color_photos / "list.txt"
    listed.write_text(f"green/0.png\n{THAI}/1.png\nnowhere.png\n", "utf-8")
    result = edge_tl("run", color_model, "--source", listed, "--headless", "--json")
    assert [row["label"] for row in lines(result.stdout)] == ["green", THAI]
    assert "used 2 photos, passed over 1 file: no such file (photos/nowhere.png)" in result.stderr


@pytest.mark.parametrize("batch", [2, 3, 64])
def test_batches_give_what_single_photos_give(color_model, color_photos, batch):
    command = ["run", color_model, "--source", color_photos, "--headless", "--json"]
    alone, together = (lines(edge_tl(*command, "--batch", size).stdout) for size in (1, batch))
    keys = ("source", "frame", "label", "confidence", "top")
    assert len(alone) == 6
    assert [[row[key] for key in keys] for row in alone] == [[row[key] for key in keys] for row in together]


def test_a_run_without_a_camera(color_model):
    result = edge_tl(
        "run", color_model, "--source", "test://noise?fps=100&frames=30&size=64x48", "--headless", "--json"
    )
    assert result.returncode == 0, result.stderr
    rows = lines(result.stdout)
    assert rows[-1]["frame"] <= 29
    assert {"source", "frame", "label", "confidence", "top", "latency_ms", "age_ms", "raw", "known"} <= set(rows[0])


def test_an_unsure_model_says_unknown_and_keeps_its_own_answer(color_model, tmp_path, solid):
    mixed = (solid("red").astype(int) + solid("green")).astype(np.uint8)
    write_photo(tmp_path / "a.png", mixed)
    write_photo(tmp_path / "b.png", solid("green"))
    result = edge_tl("run", color_model, "--source", tmp_path, "--headless", "--json", "--threshold", 0.9)
    unsure, sure = lines(result.stdout)
    assert (unsure["label"], unsure["known"], sure["label"], sure["known"]) == ("unknown", False, "green", True)
    assert unsure["raw"]["label"] in ("red", "green")
    assert unsure["confidence"] < 0.9


def test_only_labels_that_count(color_model, color_photos):
    result = edge_tl("run", color_model, "--source", color_photos, "--headless", "--json", "--labels", "green,red")
    for row in lines(result.stdout):
        truth = Path(row["source"]).parent.name
        assert row["label"] == truth if truth != THAI else row["confidence"] < 0.5
        assert row["raw"]["label"] == truth


def test_flicker_is_smoothed_and_raw_answers_kept(color_model, tmp_path):
    path = tmp_path / "flicker.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for label in ["red"] * 10 + ["green", "red"] * 10 + ["green"] * 30:
        writer.write(np.full((48, 64, 3), COLORS[label], np.uint8))
    writer.release()
    for kind in ("ema:0.5", "vote:4/6"):
        rows = lines(edge_tl("run", color_model, "--source", path, "--headless", "--json", "--smooth", kind).stdout)
        raw = [row["raw"]["label"] for row in rows]
        shown = [row["label"] for row in rows]
        assert sum(a != b for a, b in itertools.pairwise(raw)) > 15
        assert sum(a != b for a, b in itertools.pairwise(shown)) == 1, kind
        assert (shown[0], shown[-1]) == ("red", "green")


def test_every_sink_at_once(color_model, tmp_path):
    path = video(tmp_path / "a.avi", ["red", "green", THAI], "MJPG")
    result = edge_tl(
        *("run", color_model, "--source", path, "--headless", "--json"),
        *("--log", tmp_path / "log.jsonl", "--csv", tmp_path / "rows.csv", "--record", tmp_path / "out.mkv"),
        *("--snapshots", tmp_path / "snaps", "--status", tmp_path / "status.json"),
    )
    assert result.returncode == 0, result.stderr
    rows = lines(result.stdout)
    logged = lines((tmp_path / "log.jsonl").read_text("utf-8"))
    assert [row["label"] for row in logged] == [row["label"] for row in rows]
    assert len((tmp_path / "rows.csv").read_text("utf-8").splitlines()) == 1 + len(rows) == 16
    capture = cv2.VideoCapture(str(tmp_path / "out.mkv"))
    assert sum(1 for _ in iter(lambda: capture.read()[0], False)) == 15
    assert len(list((tmp_path / "snaps").iterdir())) == 3
    status = json.loads((tmp_path / "status.json").read_text("utf-8"))
    assert (status["state"], status["frames"], status["label"]) == ("ENDED", 15, THAI)
    assert all(sink["dropped"] == sink["failed"] == 0 for sink in status["sinks"].values())


@pytest.mark.parametrize("script", ["", "?script=5,hang", "?script=5,freeze", "?script=5,end;refuse"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_live_run_in_two_seconds_whatever_the_camera_does(color_model, tmp_path, script, number):
    log = tmp_path / "log.jsonl"
    with running(color_model, "--source", f"test://counter{script}", "--headless", "--json", "--log", log) as process:
        first = process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(number)
        watch = Stopwatch()
        process.wait(timeout=HANGING)
        quiet = watch.quiet()
        # Not by communicate, which does not know what readline has taken from the pipe beyond its line.
        rest, errors = process.stdout.read(), process.stderr.read()
        assert quiet < 2
        assert process.returncode == 0, errors
    rows = lines(first + rest)
    assert lines(log.read_text("utf-8"))[-1]["frame"] == rows[-1]["frame"], "the last record was not flushed"


def test_a_second_signal_ends_it_at_once(color_model):
    with running(color_model, "--source", "test://bars", "--headless") as process:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)  # so that both are waiting when it goes on
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        process.wait(timeout=HANGING)


def test_a_hang_up_is_harmless(color_model):
    with running(color_model, "--source", "test://counter?fps=50", "--headless", "--json") as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        for _ in range(30):
            assert json.loads(process.stdout.readline())
        assert process.poll() is None


def test_a_closed_pipe_does_not_end_a_run_that_has_other_readers(color_model, tmp_path):
    log = tmp_path / "log.jsonl"
    with running(color_model, "--source", "test://bars", "--headless", "--json", "--log", log) as process:
        process.stdout.readline()
        process.stdout.close()
        time.sleep(1.0)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=HANGING)
        assert process.returncode == 0
        assert "Traceback" not in process.stderr.read()
        process.stdout = subprocess.DEVNULL and None
    assert len(log.read_text().splitlines()) > 25


def test_a_reader_that_stops_reading_does_not_hold_up_the_run(color_model, tmp_path):
    """A pipe that is full: capture and classification go on, what nobody reads is dropped and counted."""
    status = tmp_path / "status.json"
    with running(
        color_model,
        "--source",
        "test://noise?fps=500&size=64x48",
        "--headless",
        "--json",
        "--status",
        status,
        "--status-every",
        "1",
    ) as process:
        process.stdout.readline()
        until(lambda: _status(status).get("sinks", {}).get("json", {}).get("dropped", 0) > 100)
        before = _status(status)["frames"]
        until(lambda: _status(status)["frames"] > before + 500)
        process.send_signal(signal.SIGTERM)
        watch = Stopwatch()
        process.wait(timeout=HANGING)
        assert watch.quiet() < 2.5
        assert process.returncode == 0


def test_states_and_counters_for_machines(color_model, tmp_path):
    status = tmp_path / "status.json"
    with running(
        *(color_model, "--source", "test://counter?fps=100&size=64x48&script=100,freeze;50,hang", "--headless"),
        *("--status", status, "--status-every", "1", *HASTY),
    ):
        seen = set()
        until(lambda: (seen.add(_status(status).get("state")), {"LIVE", "STALE"} <= seen)[1])
        until(lambda: _status(status)["reconnects"] >= 1 and _status(status)["repeated"] > 10)
    document = _status(status)
    assert document["latency_ms"]["p50"] <= document["latency_ms"]["p99"]
    assert document["rss_mb"] > 10


def _status(path: Path) -> dict:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}


def test_another_model_takes_over_and_a_damaged_one_does_not(color_model, color_graph, color_spec, tmp_path):
    from dataclasses import replace

    from edge_tl_runtime.modelfile.onnx import with_checksum

    model = tmp_path / "model.onnx"
    model.write_bytes(color_model.read_bytes())
    names = ("one", "two", "three")
    with running(
        model, "--source", "test://counter?fps=50&size=64x48", "--headless", "--json", "--watch-model"
    ) as process:
        old = json.loads(process.stdout.readline())["label"]
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(color_model.read_bytes()[:-20])
        os.replace(damaged, model)
        time.sleep(3)
        fresh = tmp_path / "fresh.onnx"
        fresh.write_bytes(with_checksum(color_graph, replace(color_spec, labels=names)))
        os.replace(fresh, model)
        rows = []
        end = time.monotonic() + HANGING
        while time.monotonic() < end and (not rows or rows[-1]["label"] not in names):
            rows.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=HANGING)
    assert rows[-1]["label"] in names
    assert all(row["label"] in COLORS for row in rows[:-1]), old
    assert len(rows) > 100, "the old model did not go on"
    frames = [row["frame"] for row in rows]
    assert max(later - earlier for earlier, later in itertools.pairwise(frames)) < 50
    assert errors.count("the new model is not taken") == 1
    assert "model.onnx was replaced" in errors


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_does_not_stop_the_run(color_model, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        status = tmp_path / "status.json"
        log = disk / "log.jsonl"
        with running(
            *(color_model, "--source", "test://noise?fps=400&size=64x48", "--headless"),
            *("--log", log, "--log-size", "100", "--status", status, "--status-every", "1"),
        ) as process:
            until(lambda: _status(status).get("sinks", {}).get("log", {}).get("failed", 0) > 50)
            full = _status(status)["frames"]
            until(lambda: _status(status)["frames"] > full + 200)
            assert all(json.loads(line) for line in log.read_text().splitlines())
            os.truncate(log, 0)
            until(lambda: "error" not in _status(status)["sinks"]["log"])
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=HANGING)
            assert process.returncode == 0
        assert errors.count("No space left on device") == 1, errors
        assert "works again" in errors
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


@pytest.mark.slow
def test_no_password_is_ever_printed(color_model, tmp_path):
    url = "rtsp://admin:hunter2@127.0.0.1:9/stream?token=hunter3"
    log, status = tmp_path / "log.jsonl", tmp_path / "status.json"
    with running(
        color_model,
        "--source",
        url,
        "--headless",
        "--json",
        "--wait",
        "--log",
        log,
        "--status",
        status,
        "--status-every",
        "1",
    ) as process:
        until(lambda: _status(status).get("state") in ("LOST", "CONNECTING"))
        # A capture that cannot connect ends soon, so it is looked for until one is met alive. Between fork and exec it is still
        # called like the run itself, whose words are the user's own.
        mine, seen = command(psutil.Process(process.pid)), list[list[str]]()

        def met() -> bool:
            seen.extend(words for words in map(command, living(process.pid)) if words and words != mine)
            return len(seen) >= 5

        until(met)
        assert not any("hunter" in word for words in seen for word in words)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=HANGING)
    assert "127.0.0.1:9" in errors
    for text in (output, errors, log.read_text(), status.read_text()):
        assert "hunter" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--source", "test://nothing"], 2, "no test pattern 'nothing'"),
        (["--source", "{photos}", "--smooth", "ema:1"], 2, "photos do not follow each other"),
        (["--source", "test://bars", "--smooth", "median"], 2, "is no smoothing"),
        (["--source", "test://bars", "--labels", "purple"], 2, "the model has no label 'purple'"),
        (["--source", "test://bars", "--size", "big"], 2, "is no size"),
        (["--source", "test://bars", "--size", "99999x1"], 2, "cannot give 99999x1"),
        (["--source", "test://bars", "--record", "out.gif"], 2, "a recording ends in"),
        (["--source", "test://bars", "--log", "/proc/nothing/log"], 1, "cannot write /proc/nothing/log"),
        (["--source", "test://bars", "--status", "/proc/nothing"], 1, "cannot write /proc/nothing"),
        (["--source", "test://bars", "--mqtt", "http://x"], 2, "is no broker"),
        (["--source", "test://bars", "--snapshots", "/proc/x"], 1, "cannot create the folder /proc/x"),
        (["--source", "test://bars?script=refuse"], 1, "cannot open test://bars"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_done_is_one_line_and_a_code(color_model, color_photos, tmp_path, arguments, code, message):
    result = edge_tl(
        "run", color_model, "--headless", *[a.format(photos=color_photos) for a in arguments], cwd=tmp_path
    )
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_results_in_a_loop_of_ones_own(color_model, color_photos):
    """The library as the README shows it, callback style."""
    from edge_tl_runtime.inference.classifier import Classifier
    from edge_tl_runtime.pipeline.stream import Stream
    from edge_tl_runtime.sources import open_source

    with open_source(str(color_photos)) as source:
        for result in Stream(source, Classifier(color_model)):
            assert result.label == Path(result.record.source).parent.name
            assert 0 < result.confidence <= 1


def test_the_base_install_is_enough_for_a_live_run(color_model):
    """Without every optional package, as on a device."""
    code = """
import sys
class Blocker:
    names = {"torch", "PIL", "uharfbuzz", "starlette", "uvicorn", "paho", "psutil", "scipy", "matplotlib", "onnx"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"blocked: {name}", name=name.split(".")[0])
sys.meta_path.insert(0, Blocker())
from edge_tl.cli import invoke as run
live = ["run", sys.argv[1], "--source", "test://bars", "--headless", "--max-frames", "5"]
assert run([*live, "--record", sys.argv[2]]) == 0
assert run([*live, "--mqtt", "mqtt://127.0.0.1"]) == 2
assert run([*live, "--web"]) == 2
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(color_model), str(color_model.parent / "out.avi")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for name in ("text", "mqtt", "web"):
        assert f"pip install 'edge-tl[{name}]'" in result.stderr


def test_the_page_of_a_run_is_there_while_it_runs(color_model):
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    source = "test://counter?fps=50&size=64x48"
    with running(color_model, "--source", source, "--headless", "--web", "--web-port", "0") as process:
        address = process.stderr.readline().split("live page: ")[1].strip()
        until(lambda: _asked(f"{address}status.json").get("frames", 0) > 10)
        assert _asked(f"{address}status.json")["state"] == "LIVE"
        process.send_signal(signal.SIGTERM)
        watch = Stopwatch()
        process.wait(timeout=HANGING)
        assert watch.quiet() < 2
        assert process.returncode == 0


def _asked(address: str) -> dict:
    try:
        with urllib.request.urlopen(address, timeout=HANGING) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return {}


def test_frames_unlike_the_training_data_are_unknown(color_graph, color_spec, color_photos, tmp_path):
    from dataclasses import replace

    from edge_tl_runtime.inference.ood import OODThresholds
    from edge_tl_runtime.modelfile.onnx import with_checksum

    write_photo(tmp_path / "black.png", np.zeros((48, 64, 3), np.uint8))
    bounds = OODThresholds(thresholds={0.95: 8.0, 0.99: 7.0}, n=100, data="colours")  # red, green and blue have 10
    model = tmp_path / "model.onnx"
    model.write_bytes(with_checksum(color_graph, replace(color_spec, ood_score=bounds.section())))
    command = ["run", model, "--headless", "--json", "--unknown", "0.95", "--source"]
    (black,) = lines(edge_tl(*command, tmp_path / "black.png").stdout)
    assert (black["label"], black["known"]) == ("unknown", False)
    assert all(row["known"] for row in lines(edge_tl(*command, color_photos).stdout))
    missing = edge_tl(*command[:5], "0.9", "--source", color_photos)
    assert missing.returncode == 2
    assert "no threshold for keeping 0.9" in missing.stderr


def test_two_classes_told_by_their_logits_are_said_to_miss_much(color_graph, color_spec, color_photos, tmp_path):
    """By their logits only: of a file with features, and of three classes, the line would not be true."""
    from dataclasses import replace

    from edge_tl_runtime.inference.ood import OODThresholds
    from edge_tl_runtime.inference.ood_fit import KnownPhotos, fit_detector
    from edge_tl_runtime.modelfile.onnx import with_checksum
    from edge_tl_runtime.modelfile.sections import FeatureOutput

    def two_classes(features: bool) -> bytes:
        proto = onnx.load_from_string(color_graph)
        graph = proto.graph
        (weight,) = [tensor for tensor in graph.initializer if tensor.name == "weight"]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :2].copy(), "weight"))
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
        if features:
            graph.node.append(helper.make_node("Identity", ["mean"], ["features"]))
            graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3]))
        return proto.SerializeToString()

    def said(name: str, graph: bytes, spec) -> str:
        (tmp_path / name).write_bytes(with_checksum(graph, spec))
        done = edge_tl("run", tmp_path / name, "--headless", "--json", "--unknown", "0.95", "--source", color_photos)
        assert done.returncode == 0, done.stderr
        return done.stderr

    line = "with two classes, --unknown notices few photos of other things"
    bounds = OODThresholds(thresholds={0.95: 8.0, 0.99: 7.0}, n=100, data="colours")
    three = replace(color_spec, ood_score=bounds.section())
    test = replace(color_spec.self_test, logits=color_spec.self_test.logits[:2])
    two = replace(three, labels=color_spec.labels[:2], self_test=test)
    rng = np.random.default_rng(0)
    known = KnownPhotos(rng.normal(100, 20, (60, 3)).astype(np.float32), np.arange(60) % 2)
    fitted = fit_detector(known, known, "colours", 2, frozen=True)
    told = replace(two, features=FeatureOutput(output="features", size=3), ood_score=fitted.detector.section())
    assert line in said("two.onnx", two_classes(features=False), two)
    assert line not in said("three.onnx", color_graph, three)
    assert line not in said("features.onnx", two_classes(features=True), told)


@pytest.mark.parametrize(
    ("cores", "live", "threads"), [(1, True, None), (2, True, None), (4, True, 3), (4, False, None)]
)
def test_one_core_of_four_is_left_to_the_capture_and_threads_spin_where_no_camera_sets_the_pace(
    monkeypatch, cores, live, threads
):
    from edge_tl_runtime.run import assemble as live_module

    monkeypatch.setattr(live_module, "usable_cores", lambda: cores)
    plan = live_module.RunPlan(model=Path("m.onnx"), source="test://bars" if live else "photo.jpg")
    assert live_module.default_settings(plan) == SessionSettings(threads=threads, spin=not live)
