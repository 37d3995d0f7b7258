"""Tuning and its profile: what is measured, what is chosen, when a profile counts. Real sessions; engines that are slow, wrong
or refuse a graph are real ones with that one fault added."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import edge_tl
from conftest import write_photo
from onnx import helper, numpy_helper
from schema_checks import assert_fits
from stopwatch import Stopwatch

from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.inference.providers import computing_providers, find_provider
from edge_tl_runtime.machine import tune as tuning_module
from edge_tl_runtime.machine.tune import BATCH, configurations, siblings, thread_counts, tune
from edge_tl_runtime.machine.tuning_profile import (
    Machine,
    Profile,
    TunedChoice,
    choose_settings,
    profile_path,
    profiled_settings,
    write_profile,
)
from edge_tl_runtime.modelfile.onnx import with_checksum

OTHER = SessionSettings(threads=usable_cores() + 1)
"""What no default and no other rule would choose."""


@pytest.fixture
def model(color_model: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(color_model.read_bytes())
    return path


def put_profile(model: Path, settings: SessionSettings = OTHER) -> Path:
    choice = TunedChoice(settings=settings, median_ms=1, cpu_ms=1)
    digest = sha256(model.read_bytes())
    profile = Profile(
        machine=Machine.here(),
        model=model.name,
        sha256=digest,
        frame=choice,
        row=choice,
        batch=choice,
        batch_size=BATCH,
    )
    return write_profile(model, profile)


def engines(monkeypatch: pytest.MonkeyPatch, fault) -> None:
    """Every engine that `tune` opens runs fault(settings, logits) over what it computes."""

    class Faulty(Classifier):
        def logits(self, pixels):
            return fault(self.settings, super().logits(pixels))

    monkeypatch.setattr(tuning_module, "Classifier", Faulty)


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (2, (1, 2)), (4, (1, 2, 4)), (6, (1, 2, 4, 6))])
def test_thread_counts_are_few_and_reach_every_core(cores, counts):
    assert thread_counts(cores) == counts


def test_configurations_are_every_installed_provider_with_what_it_can_choose():
    found = configurations(cores=4)
    assert len(set(found)) == len(found)
    assert {settings.provider for settings in found} == set(computing_providers())
    assert "azure" not in computing_providers()
    on_cpu = {(s.threads, s.spin) for s in found if s.provider == "cpu"}
    assert on_cpu == {(1, False), (2, False), (2, True), (4, False), (4, True)}


def test_tune_writes_a_profile_that_run_and_predict_follow(model, tmp_path, solid):
    photo = write_photo(tmp_path / "red.png", solid("red"))
    watch = Stopwatch()
    result = edge_tl("tune", model, "--seconds", 2, "--json")
    assert watch.quiet() < 2 + 3
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    stored = json.loads(profile_path(model).read_text("utf-8"))
    assert {key: document[key] for key in stored} == stored
    assert_fits("tune", document)
    assert_fits("profile", stored)
    assert document["sha256"] == sha256(model.read_bytes())
    assert Machine(**{**document["machine"], "providers": tuple(document["machine"]["providers"])}) == Machine.here()
    rows = document["measured"]
    assert len(rows) == len(configurations())
    fastest = min(row["frame"]["median_ms"] for row in rows if row["frame"])
    assert document["frame"]["median_ms"] <= 1.5 * fastest
    assert document["batch"]["photos"] == BATCH
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.tune.json", "red.png"]

    settings, ignored = profiled_settings(model)
    assert settings is not None, ignored
    camera = ["run", model, "--source", "test://bars?fps=30", "--headless", "--max-frames", 2]
    assert f"; {settings}" in edge_tl(*camera).stderr
    for task, more in (("row", []), ("batch", ["--batch", 4])):
        settings, ignored = profiled_settings(model, task)
        assert settings is not None, ignored
        files = edge_tl("run", model, "--source", photo, "--headless", *more)
        assert files.stderr.rstrip().endswith(f"; {settings}")
    assert edge_tl("predict", model, photo).stderr == ""


def test_tune_prints_a_table_and_what_follows_from_it(model):
    result = edge_tl("tune", model, "--seconds", 1)
    assert result.returncode == 0, result.stderr
    for text in (
        "ms a frame",
        "CPU ms a frame",
        "frames of a camera: ",
        "frames in a row: ",
        f"batches of {BATCH}: ",
        "model.tune.json",
    ):
        assert text in result.stdout


def test_a_slow_configuration_drops_out_and_is_not_chosen(model, monkeypatch):
    def slow(settings, logits):
        time.sleep(0.02 if settings.threads == 1 else 0.002)
        return logits

    engines(monkeypatch, slow)
    monkeypatch.setattr(tuning_module, "usable_cores", lambda: 2)
    tuning = tune(model, seconds=4)
    rows = {(row.settings.threads, row.settings.spin): row for row in tuning.measured}
    assert tuning.profile.frame.settings.threads == tuning.profile.batch.settings.threads == 2
    assert rows[1, False].frame.calls < rows[2, False].frame.calls
    assert not tuning.faster


def test_of_equally_fast_configurations_the_one_that_costs_least_is_chosen(model, monkeypatch):
    def equally_fast(settings, logits):
        until = time.perf_counter() + 0.01
        while settings.spin and time.perf_counter() < until:
            pass
        time.sleep(max(0.0, until - time.perf_counter()))
        return logits

    engines(monkeypatch, equally_fast)
    monkeypatch.setattr(tuning_module, "configurations", lambda: (SessionSettings(threads=2, spin=True), OTHER))
    tuning = tune(model, seconds=2)
    assert tuning.profile.frame.settings == OTHER
    assert tuning.profile.frame.cpu_ms < tuning.measured[0].frame.cpu_ms


def test_what_wins_beside_a_camera_is_not_chosen_for_photos_in_a_row(model, monkeypatch):
    """Threads that sleep wake slowly: a configuration that is fast after a pause, and one that is fast without."""
    last = {}

    def fault(settings, logits):
        rested = time.perf_counter() - last.get(settings, 0.0) > 0.01
        time.sleep(0.002 if rested == (settings == OTHER) else 0.02)
        last[settings] = time.perf_counter()
        return logits

    engines(monkeypatch, fault)
    row = SessionSettings(threads=1)
    monkeypatch.setattr(tuning_module, "configurations", lambda: (OTHER, row))
    profile = tune(model, seconds=4).profile
    assert (profile.frame.settings, profile.row.settings) == (OTHER, row)
    write_profile(model, profile)
    assert [choose_settings(model, task=task)[0] for task in ("frame", "row")] == [OTHER, row]


def test_the_quieter_half_of_the_blocks_counts(model):
    entrant = tuning_module._Entrant(model, OTHER, own=True)
    entrant.open(time.monotonic() + 5)
    blocks = [(0.9, 0.5), (0.0, 0.1), (0.8, 0.6), (0.1, 0.3)]
    entrant._blocks["frame"] = [tuning_module._Block(others, (seconds,) * 2, seconds) for others, seconds in blocks]
    timing = entrant.timing("frame")
    assert (timing.median_ms, timing.cpu_ms, timing.calls) == (pytest.approx(200), pytest.approx(200), 8)


def test_a_configuration_with_another_answer_is_excluded_and_listed(model, monkeypatch):
    engines(monkeypatch, lambda settings, logits: logits + (1.0 if settings == OTHER else 0.0))
    monkeypatch.setattr(tuning_module, "configurations", lambda: (OTHER, SessionSettings(threads=1)))
    tuning = tune(model, seconds=1)
    wrong, right = tuning.measured
    assert "excluded: failed its self-test" in wrong.note
    assert wrong.frame is None
    assert right.note == ""
    assert tuning.profile.frame.settings == SessionSettings(threads=1)


def test_a_configuration_that_is_wrong_in_batches_is_not_chosen_for_them(model, monkeypatch):
    engines(monkeypatch, lambda settings, logits: logits + (len(logits) > 1 and settings == OTHER))
    monkeypatch.setattr(tuning_module, "configurations", lambda: (OTHER, SessionSettings(threads=1)))
    tuning = tune(model, seconds=1)
    assert tuning.measured[0].frame is not None
    assert tuning.measured[0].batch is None
    assert tuning.measured[0].note.startswith("batch refused: failed its self-test")
    assert tuning.profile.batch.settings == SessionSettings(threads=1)


def test_a_provider_that_refuses_is_listed(model, monkeypatch):
    if "tensorrt" in computing_providers():
        pytest.skip("TensorRT is installed here")
    settings = (SessionSettings(provider="tensorrt"), SessionSettings(threads=1))
    monkeypatch.setattr(tuning_module, "configurations", lambda: settings)
    first, second = tune(model, seconds=1).measured
    assert first.note.startswith("refused: execution provider 'tensorrt' is not installed")
    assert first.frame is first.batch is None
    assert second.note == ""


def test_a_graph_that_takes_one_photo_only_is_tuned_for_frames(model, color_graph, color_spec):
    """Its batch size is free by name, and fixed inside: onnxruntime finds out when it runs."""
    graph = onnx.load_from_string(color_graph)
    graph.graph.node[0].input[0] = "one"
    graph.graph.node.insert(0, helper.make_node("Reshape", ["pixels", "shape"], ["one"]))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([1, 32, 32, 3], np.int64), "shape"))
    model.write_bytes(with_checksum(graph.SerializeToString(), color_spec))
    tuning = tune(model, seconds=1)
    assert all(row.frame is not None and row.batch is None for row in tuning.measured)
    assert all(row.note.startswith("batch refused: onnxruntime cannot run it") for row in tuning.measured)
    assert tuning.profile.batch == tuning.profile.frame
    assert tuning.profile.batch_size == 1


def test_a_model_that_is_bad_everywhere_is_one_line(model, color_graph, color_spec):
    wrong = replace(color_spec.self_test, logits=tuple(x + 1 for x in color_spec.self_test.logits))
    model.write_bytes(with_checksum(color_graph, replace(color_spec, self_test=wrong)))
    with pytest.raises(BadModelError, match="failed its self-test"):
        tune(model, seconds=1)
    result = edge_tl("tune", model)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert not profile_path(model).exists()


def test_siblings_are_files_of_the_same_export(model, color_graph, color_spec, tmp_path):
    digest = sha256(model.read_bytes())
    made = replace(color_spec, precision="int8", parent_sha256=digest)

    def put(name, spec):
        (tmp_path / name).write_bytes(with_checksum(color_graph, spec))

    put("model-int8.onnx", made)
    put("model-fp16.onnx", replace(made, precision="fp16"))
    put("other-parent.onnx", replace(made, parent_sha256="0" * 64))
    put("other-labels.onnx", replace(made, labels=("a", "b", "c")))
    put("other-crop.onnx", replace(made, resize=replace(made.resize, crop_pct=1.0)))
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    names = [path.name for path in siblings(model, color_spec, digest)]
    assert names == ["model-fp16.onnx", "model-int8.onnx"]
    int8 = tmp_path / "model-int8.onnx"
    names = [path.name for path in siblings(int8, made, sha256(int8.read_bytes()))]
    assert names == ["model-fp16.onnx", "model.onnx"]


def test_a_faster_sibling_is_named_and_the_profile_is_still_the_models_own(model, color_graph, color_spec, monkeypatch):
    made = replace(color_spec, precision="int8", parent_sha256=sha256(model.read_bytes()))
    fast = model.with_name("model-int8.onnx")
    fast.write_bytes(with_checksum(color_graph, made))

    class Slower(Classifier):
        def logits(self, pixels):
            if self.path == model:
                time.sleep(0.005)
            return super().logits(pixels)

    monkeypatch.setattr(tuning_module, "Classifier", Slower)
    tuning = tune(model, seconds=2)
    ((path, factor),) = tuning.faster
    assert path == fast
    assert factor > 2
    assert tuning.profile.model == "model.onnx"
    assert tuning.profile.frame.median_ms > 5


def altered(document, **changes):
    return json.dumps({**document, **changes})


IGNORED = {
    "another processor": lambda d: altered(d, machine={**d["machine"], "cpu": "Cortex-A72"}),
    "other cores": lambda d: altered(d, machine={**d["machine"], "cores": 99}),
    "another onnxruntime": lambda d: altered(d, machine={**d["machine"], "onnxruntime": "1.2.3"}),
    "other providers": lambda d: altered(d, machine={**d["machine"], "providers": ["openvino", "cpu"]}),
    "another file": lambda d: altered(d, sha256="0" * 64),
    "a later profile": lambda d: altered(d, version=3),
    "cut off": lambda d: altered(d)[:-20],
    "not an object": lambda d: "[]",
    "not text": lambda d: "\x00",
    "threads of another kind": lambda d: altered(d, frame={**d["frame"], "threads": "many"}),
    "no threads": lambda d: altered(d, frame={**d["frame"], "threads": 0}),
    "nothing chosen": lambda d: altered(d, frame={}),
}


@pytest.mark.parametrize("change", IGNORED.values(), ids=IGNORED)
def test_a_profile_that_does_not_count_here_is_ignored_in_one_line(model, change):
    path = put_profile(model)
    assert profiled_settings(model) == (OTHER, "")
    path.write_text(change(json.loads(path.read_text("utf-8"))), "utf-8")
    settings, reason = choose_settings(model)
    assert settings == SessionSettings()
    assert f"{path} is ignored: " in reason
    assert "run edge-tl tune again" in reason
    assert "\n" not in reason
    assert choose_settings(model, profile=False) == (SessionSettings(), "")


def test_what_is_asked_for_wins_over_the_profile(model):
    assert choose_settings(model) == (SessionSettings(), "")
    put_profile(model, SessionSettings(threads=7, spin=True))
    assert choose_settings(model)[0] == SessionSettings(threads=7, spin=True)
    assert choose_settings(model, threads=3)[0] == SessionSettings(threads=3, spin=True)
    assert choose_settings(model, provider="cpu")[0] == SessionSettings(threads=7, spin=True)
    assert choose_settings(model, provider="CPUExecutionProvider")[0] == SessionSettings(threads=7, spin=True)
    put_profile(model, SessionSettings(threads=7, provider="openvino"))
    assert choose_settings(model, provider="cpu")[0] == SessionSettings(provider="cpu")
    assert choose_settings(model, profile=False)[0] == SessionSettings()


def test_threads_for_want_of_a_profile_give_way_to_one(model):
    assert choose_settings(model, untuned=SessionSettings(threads=3))[0] == SessionSettings(threads=3)
    assert choose_settings(model, threads=2, untuned=SessionSettings(threads=3))[0] == SessionSettings(threads=2)
    put_profile(model, SessionSettings(threads=7, spin=True))
    assert choose_settings(model, untuned=SessionSettings(threads=3))[0] == SessionSettings(threads=7, spin=True)
    assert choose_settings(model, profile=False, untuned=SessionSettings(threads=3))[0] == SessionSettings(threads=3)


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", "cpuexecutionprovider"])
def test_a_provider_has_a_short_name_and_onnxruntimes_own(model, name):
    assert find_provider(name).name == "CPUExecutionProvider"
    classifier = Classifier(model, SessionSettings(provider=name, threads=1))
    assert classifier.session.get_providers()[0] == "CPUExecutionProvider"


def test_a_provider_gets_its_threads_where_it_takes_them(model, monkeypatch):
    """Options as onnxruntime is given them, for a provider that may not be installed here."""
    import onnxruntime

    given = {}

    class Session:
        def __init__(self, data, options, providers, enable_fallback):
            given.update(threads=options.intra_op_num_threads, providers=providers, fallback=enable_fallback)

        def get_providers(self):
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["OpenVINOExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(UsageError, match="asked for and refused"):  # what came was another one
        Classifier(model, SessionSettings(provider="openvino", threads=3))
    (name, options), *others = given["providers"]
    assert (name, options["num_of_threads"], others) == ("OpenVINOExecutionProvider", "3", [])
    assert (given["threads"], given["fallback"]) == (1, 0)


def test_threads_do_not_change_the_answer(model, color_spec):
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), np.uint8)
    answers = [Classifier(model, settings).logits(pixels) for settings in configurations()]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=color_spec.self_test.tolerance)
