"""A new model takes over between two frames, or not at all; the old one never stops."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import numpy as np
import onnx
import pytest
from conftest import COLORS, RULE
from endpoints import Paced
from onnx import numpy_helper
from stopwatch import HANGING

from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.pipeline.decision import Decider
from edge_tl_runtime.pipeline.hot_reload import ModelReloader
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.run.status import rss_mb

EVERY_S = 0.05


@pytest.fixture(scope="module")
def new_bytes(color_graph, color_spec):
    """The same network with other labels."""
    return with_checksum(color_graph, replace(color_spec, labels=("new red", "new green", "new blue")))


@pytest.fixture
def model(color_model, tmp_path):
    return shutil.copy(color_model, tmp_path / "model.onnx")


@pytest.fixture
def watched(model):
    """Makes (watch, said); closed at the end."""
    made = []

    def make(load=Classifier):
        said = []
        watch = ModelReloader(model, load, said.append, EVERY_S)
        made.append(watch)
        return watch, said

    yield make
    for watch in made:
        watch.close()


def put(path, data):
    """In one step."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def wait_for(condition, seconds=HANGING):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("batch", [1, 4])
def test_new_labels_appear_without_a_gap_in_the_frames(model, watched, new_bytes, solid, batch):
    watch, said = watched()
    source = Paced(solid("red"), pause=0.003, live=False)
    stream = Stream(source, Classifier(model), batch=batch, fresh=watch.fresh)
    results = []
    for result in stream:
        results.append((result.record.index, result.label, result.prediction.label))
        if len(results) == 20:
            put(model, new_bytes)
        if result.label == "new red":
            source.stop()
    assert [index for index, _, _ in results] == list(range(len(results)))
    labels = [label for _, label, _ in results]
    turn = labels.index("new red")
    assert turn >= 20
    assert set(labels[:turn]) == {"red"}
    assert set(labels[turn:]) == {"new red"}
    assert all(label == own for _, label, own in results)
    assert watch.reloads == 1
    assert len(said) == 1
    assert "was replaced" in said[0]


def test_a_model_of_another_size_takes_over_in_the_middle_of_batches(color_graph, color_spec, model, watched, solid):
    graph = onnx.load_model_from_string(color_graph)
    for side in (1, 2):
        graph.graph.input[0].type.tensor_type.shape.dim[side].dim_value = 48
    rule = replace(RULE, height=48, width=48)
    data = graph.SerializeToString()
    scores = color_spec.self_test.logits  # a mean of pixels does not depend on how many there are
    large = replace(color_spec, resize=rule, self_test=replace(color_spec.self_test, logits=scores, tolerance=0.05))
    watch, _ = watched()
    source = Paced(solid("green"), pause=0.002, live=False)
    stream = Stream(source, Classifier(model), batch=3, fresh=watch.fresh)
    for count, result in enumerate(stream):
        assert result.label == "green"
        if count == 10:
            put(model, with_checksum(data, large))
        if stream.classifier.spec.resize.height == 48 or count > 3000:
            source.stop()
    assert stream.classifier.spec.resize.height == 48


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "text", "folder"])
def test_a_damaged_file_is_told_once_and_the_old_model_goes_on(model, watched, new_bytes, damage):
    watch, said = watched()
    data = bytearray(new_bytes)
    data[len(data) // 2] ^= 1
    bad = {"flipped": bytes(data), "cut": new_bytes[: len(data) // 2], "empty": b"", "text": b"no model at all"}
    if damage == "folder":
        os.unlink(model)
        model.mkdir()
    else:
        put(model, bad[damage])
    wait_for(lambda: said)
    time.sleep(6 * EVERY_S)
    assert watch.fresh() is None
    assert watch.reloads == 0
    assert len(said) == 1
    assert "the old one goes on" in said[0]
    assert watch.notice
    assert "\n" not in watch.notice
    if damage == "folder":
        model.rmdir()
    put(model, new_bytes)  # a good one afterwards
    wait_for(lambda: watch.fresh() is not None)
    assert watch.notice == ""


def test_a_slow_copy_in_place_is_never_taken_half(model, watched, new_bytes):
    opened = []

    def load(path):
        opened.append(path.stat().st_size)
        return Classifier(path)

    watch, said = watched(load)
    with open(model, "wb", buffering=0) as file:
        for start in range(0, len(new_bytes), len(new_bytes) // 40 + 1):
            file.write(new_bytes[start : start + len(new_bytes) // 40 + 1])
            time.sleep(EVERY_S / 3)
    wait_for(lambda: watch._fresh)
    classifier = watch.fresh()
    assert classifier.spec.labels[0] == "new red"
    assert opened == [len(new_bytes)], "a file that still changes is not even opened"
    assert len(said) == 1


def test_a_copy_that_pauses_is_refused_and_taken_when_it_is_whole(model, watched, new_bytes):
    watch, said = watched()
    with open(model, "wb", buffering=0) as file:
        file.write(new_bytes[:500])
        wait_for(lambda: said)
        assert watch.fresh() is None
        file.write(new_bytes[500:])
    wait_for(lambda: watch._fresh)
    assert watch.fresh().spec.labels[0] == "new red"


@pytest.mark.slow
def test_a_process_killed_while_it_replaces_the_file_leaves_a_model_that_opens(model, new_bytes, color_model, tmp_path):
    (tmp_path / "new").write_bytes(new_bytes)
    code = f"""
        import sys
        from pathlib import Path
        from edge_tl_runtime.core.files import write_bytes
        one, two = Path({str(color_model)!r}).read_bytes(), Path({str(tmp_path / "new")!r}).read_bytes()
        print("ready", flush=True)
        while True:
            write_bytes(Path({str(model)!r}), two)
            write_bytes(Path({str(model)!r}), one)
    """
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.03 + 0.013 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert Classifier(model).spec.labels[0] in ("red", "new red")


def test_a_file_that_goes_and_comes_back_is_no_event_and_a_new_one_in_its_place_is(model, watched, new_bytes):
    watch, said = watched()
    aside = model.with_suffix(".aside")
    os.rename(model, aside)
    time.sleep(4 * EVERY_S)
    os.rename(aside, model)
    time.sleep(4 * EVERY_S)
    assert said == []
    os.unlink(model)
    time.sleep(4 * EVERY_S)
    model.write_bytes(new_bytes)
    wait_for(lambda: watch._fresh)
    assert watch.fresh().spec.labels[0] == "new red"
    assert watch.fresh() is None, "once"


def test_whatever_the_opening_raises_the_watch_goes_on(model, watched, new_bytes):
    failures = [MemoryError("no memory"), RuntimeError("a\nbug"), OSError("gone")]

    def load(path):
        if failures:
            raise failures.pop(0)
        return Classifier(path)

    watch, said = watched(load)
    for number in range(1, 4):
        put(model, new_bytes)
        wait_for(lambda number=number: len(said) == number)
        assert watch.fresh() is None
    assert "RuntimeError" in said[1]
    put(model, new_bytes)
    wait_for(lambda: watch._fresh)


def test_a_listener_that_is_gone_ends_no_watch(model, new_bytes):
    def say(line):
        raise BrokenPipeError

    watch = ModelReloader(model, Classifier, say, EVERY_S)
    put(model, b"damaged")
    wait_for(lambda: watch.notice)
    put(model, new_bytes)
    wait_for(lambda: watch._fresh)
    watch.close()
    assert not watch._thread.is_alive()


def test_the_newest_of_several_is_taken_when_frames_come_again(model, watched, color_graph, color_spec):
    """The camera was away while the model was replaced twice."""
    watch, said = watched()
    for number in range(2):
        put(model, with_checksum(color_graph, replace(color_spec, labels=(f"a{number}", "b", "c"))))
        wait_for(lambda number=number: len(said) == number + 1)
    assert watch.fresh().spec.labels[0] == "a1"
    assert watch.fresh() is None


def test_a_model_without_an_allowed_label_leaves_the_old_one_in_place(model, new_bytes, solid):
    """What decides is made before the model is taken: never a new model with the old one's labels."""
    new = model.with_name("new.onnx")
    new.write_bytes(new_bytes)
    fresh = [Classifier(new)]
    stream = Stream(
        Paced(solid("red"), count=3),
        Classifier(model),
        decider=lambda c: Decider(c.spec, allow=["red"]),
        fresh=lambda: fresh.pop() if fresh else None,
    )
    with pytest.raises(Exception, match="no label 'red'"):
        next(iter(stream))
    assert stream.classifier.spec.labels[0] == "red"


@pytest.mark.slow
def test_old_models_are_let_go(model, watched, color_graph, color_spec, solid):
    weight = numpy_helper.from_array(np.zeros((1000, 1000), np.float32), "ballast")  # 4 MB
    graph = onnx.load_model_from_string(color_graph)
    graph.graph.initializer.append(weight)
    data = graph.SerializeToString()
    watch, _ = watched()
    source = Paced(solid("red"), pause=0.001)
    stream = Stream(source, Classifier(model), fresh=watch.fresh)
    sizes, threads = [], []

    def replace_often():
        for number in range(20):
            put(model, with_checksum(data, replace(color_spec, labels=(f"red {number}", "green", "blue"))))
            wait_for(lambda number=number: stream.classifier.spec.labels[0] == f"red {number}")
            sizes.append(rss_mb())
            threads.append(threading.active_count())
        source.stop()

    thread = threading.Thread(target=replace_often)
    thread.start()
    for _ in stream:
        pass
    thread.join()
    assert watch.reloads == 20
    assert sizes[-1] - sizes[5] < 20, sizes
    assert threads[-1] == threads[0]
    assert len(COLORS) == 3
