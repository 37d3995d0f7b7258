"""The benchmark as a command: its figures, wrong use, and what survives an interruption."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import COLORS, write_photo
from stopwatch import HANGING, Stopwatch

from edge_tl.cli import invoke as run
from edge_tl_runtime.bench.parts.all_parts import PARTS
from edge_tl_runtime.bench.result import read_result
from edge_tl_runtime.bench.summary import lines, tables
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.modelfile.onnx import with_checksum

SPEED = "latency,frame,throughput,resources"
SHORT = ("--seconds", "0.4", "--calls", "20", "--batches", "1,4", "--frame-size", "64x48", "--quick")


def edge_tl(*args: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_tl", *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False
    )


# The command


@pytest.fixture(scope="module")
def finished(color_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """A short run of all parts of the speed: its file, its document and what it printed."""
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "r.json"
    result = edge_tl("bench", color_model, "-o", path, *SHORT, "--parts", SPEED)
    assert result.returncode == 0, result.stderr
    assert [item.name for item in folder.iterdir()] == ["r.json"]
    return path, read_result(path), result.stdout


def test_the_result_says_what_was_measured_of_what_on_what(finished, color_model):
    _, document, _ = finished
    assert document["model"]["sha256"] == sha256(color_model.read_bytes())
    assert document["session"]["provider"] == "cpu"
    assert document["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert {"edge-tl", "onnxruntime", "numpy", "opencv", "python"} <= set(document["versions"])
    assert document["settings"]["seed"] == 0
    assert document["complete"] is True
    assert document["started"] <= document["ended"]
    assert document["sittings"] == 1
    assert set(document["parts"]) == set(document["runs"]) == set(SPEED.split(","))
    assert set(document["parts"]) | set(document["absent"]) == {part.name for part in PARTS}


def test_the_figures_of_speed_hang_together(finished):
    parts = finished[1]["parts"]
    for name in ("latency", "frame"):
        part = parts[name]
        assert part["queries"] >= 5
        assert 0 < part["least_ms"] <= part["p50_ms"] <= part["p90_ms"] <= part["p95_ms"] <= part["p99_ms"]
        assert part["p99_ms"] <= part["most_ms"]
        assert part["pictures"] == "random"
        assert part["energy"]["joules"] is not None or part["energy"]["why"]
    assert parts["frame"]["crop_and_session"]["p50_ms"] <= parts["frame"]["p50_ms"]
    assert [row["batch"] for row in parts["throughput"]["rows"]] == [1, 4]
    best = max(parts["throughput"]["rows"], key=lambda row: row["photos_per_second"])
    assert parts["throughput"]["best"] == best["batch"]
    resources = parts["resources"]
    assert not resources["why"]
    assert 20 < resources["peak_mb"] < 2000
    assert resources["threads"] >= 1
    assert 0 < resources["first_query_ms"] <= resources["most_first_query_ms"]
    assert resources["load_ms"] > 0


def test_the_summary_shows_the_figures_of_the_document(finished, capsys):
    _, document, printed = finished
    for text in (
        "one photo",
        "frame 64x48",
        "4 per call",
        "a fresh process",
        "not measured: sustained, accuracy",
    ):
        assert text in printed
    p50 = f"{document['parts']['latency']['p50_ms']:.2f}"
    assert p50 in next(line for line in printed.splitlines() if line.strip().startswith("one photo"))
    assert len(tables(document)) == 2
    doubtful = replace_run(document, others=0.5)
    assert any("doubtful" in line.text and line.warns for line in lines(doubtful))
    hot = {"temperature_c": 80.0, "mhz": 600, "throttled": True}
    assert any("THROTTLED" in line.text and line.warns for line in lines(replace_run(document, before=hot, after=hot)))


def test_the_summary_compares_a_pack_with_the_workstation(finished):
    def share(count: int) -> dict:
        return {"rate": count / 8, "count": count, "n": 8, "ci95": [0.1, 0.9]}

    stored = {
        "norm": "linf",
        "accuracy": {"0": share(8), "2": share(4), "8": share(0)},
        "routes": {"twin": {"2": share(5), "8": share(1)}},
        "workstation": {"clean_accuracy": 1.0, "robust_accuracy": {"2": 0.25, "8": 0.0}},
    }
    agreement = {
        "same_label": share(7),
        "identical": 3,
        "largest_difference": 2.034,
        "median_difference": 0.5,
        "spread": 3.3,
        "differing": [{"photo": "ผึ้ง/1.png", "here": "red", "workstation": "green"}],
    }
    document = {**finished[1], "parts": {"agreement": agreement, "stored": stored}}
    (table,) = tables(document)
    assert table.columns == ["% right, linf epsilon /255", "0", "2", "8"]
    assert [list(row) for row in table.rows] == [
        ["all stored pictures, here", "100.0", "50.0", "0.0"],
        ["the attacked file, workstation", "100.0", "25.0", "0.0"],
        ["  twin", "-", "62.5", "12.5"],
    ]
    told = "\n".join(map(str, lines(document)))
    for text in ("7 of 8", "identical for 3, else off by 2.03 at most", "ผึ้ง/1.png: here red, there green"):
        assert text in told


def replace_run(document: dict, **changes: object) -> dict:
    return {**document, "runs": {name: {**run, **changes} for name, run in document["runs"].items()}}


def test_verify_believes_what_was_written_and_nothing_else(finished, tmp_path):
    path, document, _ = finished
    result = edge_tl("bench", "--verify", path)
    assert result.returncode == 0
    assert document["sha256"] in result.stdout
    altered = tmp_path / "altered.json"
    altered.write_text(path.read_text("utf-8").replace('"cpu"', '"gpu"', 1), "utf-8")
    result = edge_tl("bench", "--verify", altered)
    assert (result.returncode, result.stdout) == (2, "")
    assert "altered" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["--parts", "speed"], "no part of the benchmark is called 'speed'"),
        (["--batches", "none"], "whole numbers"),
        (["--sign", "missing.pem"], "missing.pem|pip install"),
        (["--data", "missing"], "missing"),
        (["--key", "public.pem"], "--key is for --verify"),
    ],
    ids=["part", "batches", "key", "data", "no result"],
)
def test_wrong_use_is_one_line_before_anything_is_measured(color_model, tmp_path, args, reason, capsys):
    watch = Stopwatch()
    code = run(["bench", str(color_model), "-o", str(tmp_path / "r.json"), *args])
    assert code in (1, 2)
    printed = capsys.readouterr()
    assert re.search(reason, printed.err)
    assert printed.out == ""
    assert watch.quiet() < 5
    assert not (tmp_path / "r.json").exists()


def test_bench_loads_no_training_library(color_model, tmp_path):
    heavy = "{'torch', 'onnx', 'scipy', 'matplotlib', 'PIL', 'cryptography'}"
    args = ["bench", str(color_model), "-o", str(tmp_path / "r.json"), *SHORT, "--parts", "latency,frame", "--json"]
    code = "import sys\nfrom edge_tl.cli import invoke\n"
    code += f"c = invoke({args!r}); print(c, {heavy} & set(sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stderr.splitlines()[-1] == "0 set()", result.stderr
    assert json.loads(result.stdout)["parts"]["latency"]["queries"] >= 20


def test_a_file_of_one_photo_a_call_is_measured_as_such(color_graph, color_spec, tmp_path):
    model = onnx.load_from_string(color_graph)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path = tmp_path / "one.onnx"
    path.write_bytes(with_checksum(model.SerializeToString(), color_spec))
    result = edge_tl("bench", path, "-o", tmp_path / "r.json", *SHORT, "--parts", "throughput")
    assert result.returncode == 0, result.stderr
    assert [row["batch"] for row in read_result(tmp_path / "r.json")["parts"]["throughput"]["rows"]] == [1]


@pytest.mark.slow
def test_the_time_limit_is_kept_and_what_was_cut_short_says_so(color_model, tmp_path):
    path = tmp_path / "r.json"
    asked = ("bench", color_model, "-o", path, "--parts", "latency,throughput", "--batches", "1", "--calls", 1)
    watch = Stopwatch()
    result = edge_tl(*asked, "--seconds", 2.5, "--time-limit", 0.03)
    assert result.returncode == 0, result.stderr
    assert watch.quiet() < 15
    document = read_result(path)
    assert document["complete"] is document["parts"]["latency"]["complete"] is False
    assert document["absent"]["throughput"] == "the time limit came before it"
    assert "cut short by the time limit" in result.stdout
    assert (tmp_path / ".r.json.progress").is_dir()
    refused = edge_tl(*asked, "--seconds", 30)
    assert refused.returncode == 2
    assert "differs in settings" in refused.stderr
    assert edge_tl(*asked, "--seconds", 2.5).returncode == 0
    whole = read_result(path)
    assert whole["complete"] is whole["parts"]["latency"]["complete"] is True
    assert whole["parts"]["latency"]["seconds"] >= 2.5
    assert list(tmp_path.iterdir()) == [path]


# Interruptions


DRIVER = """
import contextlib, os, sys, time
from pathlib import Path
import numpy as np
from edge_tl_runtime.bench.benchmark import BenchmarkModel, run_benchmark
from edge_tl_runtime.bench.parts.part import Part
from edge_tl_runtime.bench.parts.all_parts import PARTS
from edge_tl_runtime.bench.result import write_result
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.inference.classifier import Classifier

class Pieces(Part):
    name, title = "pieces", "pieces"
    def absent(self, bench): return ""
    def pieces(self, bench): return 40
    def run(self, bench):
        found = []
        for number in range(40):
            stored = bench.ledger.get(f"piece {number}")
            if stored is None:
                print("piece", flush=True)
                pixels = np.random.default_rng(number).integers(0, 256, (4, 32, 32, 3), np.uint8)
                stored = {"labels": bench.classifier.logits(pixels).argmax(1).tolist()}
                time.sleep(0.05)
                bench.ledger.put(f"piece {number}", stored)
            found += stored["labels"]
        return {"labels": found, "complete": True}

class Quick(Pieces):
    name = "quick"
    def run(self, bench):
        print("quick", flush=True)
        return {"nonce": os.getpid(), "complete": True}

@contextlib.contextmanager
def stage(what, total):
    yield lambda done: None

model, output = map(Path, sys.argv[1:])
subject = BenchmarkModel(model=model, classifier=Classifier(model))
document, ledger = run_benchmark(subject, output, BenchSettings(), stage, parts=(Quick(), Pieces()))
write_result(output, document)
ledger.discard()
"""


@pytest.mark.slow
def test_a_run_killed_five_times_ends_with_the_figures_of_an_unbroken_one(color_model, tmp_path):
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)

    def start(output: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(driver), str(color_model), str(output)], stdout=subprocess.PIPE, text=True
        )

    whole = start(tmp_path / "whole.json")
    printed, _ = whole.communicate(timeout=HANGING)
    assert whole.returncode == 0
    assert printed.count("piece") == 40
    output = tmp_path / "killed.json"
    done = quick = 0
    for pieces, pause in ((1, 0.0), (3, 0.02), (7, 0.04), (2, 0.051), (9, 0.01)):
        process = start(output)
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            quick += line == "quick\n"
            seen += line == "piece\n"
            if seen == pieces:
                break
        time.sleep(pause)
        process.kill()
        rest, _ = process.communicate(timeout=HANGING)
        assert process.returncode == -signal.SIGKILL
        done += seen + rest.count("piece")
        assert not output.exists()
    last = start(output)
    printed, _ = last.communicate(timeout=HANGING)
    assert last.returncode == 0
    # Each kill loses the piece at hand at most, and the part that was finished before is never measured again.
    assert 40 <= done + printed.count("piece") <= 45
    assert quick == 1
    assert "quick" not in printed
    ours, theirs = read_result(output), read_result(tmp_path / "whole.json")
    assert ours["parts"]["pieces"] == theirs["parts"]["pieces"]
    assert ours["sittings"] == 6
    assert not (tmp_path / ".killed.json.progress").exists()


@pytest.mark.slow
def test_the_command_killed_five_times_judges_photos_as_an_unbroken_one_does(color_model, solid, tmp_path):
    rng = np.random.default_rng(0)
    for label in COLORS:
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(30):
            # Weak colour under strong noise, so that answers differ under corruption and attack.
            frame = 110 + solid(label) * 0.1 + rng.normal(0, 20, 3) + rng.normal(0, 40, (48, 64, 3))
            write_photo(tmp_path / "photos" / label / f"{number}.png", frame.clip(0, 255).astype(np.uint8))
    evaluated = ("accuracy", "corruptions", "square")
    asked = [color_model, "--data", tmp_path / "photos", "--split", "all", "--parts", ",".join(evaluated)]
    asked += ["--severities", "2", "--epsilons", "2,8", "--queries", "60", "-o"]
    whole, output = tmp_path / "whole.json", tmp_path / "killed.json"
    unbroken = edge_tl("bench", *asked, whole)
    assert unbroken.returncode == 0, unbroken.stderr
    for text in (
        "% right, by severity",
        "Square, 60 queries",
        "accuracy ",
        " of 90, 95 % interval",
        "mean accuracy under 6",
    ):
        assert text in unbroken.stdout
    progress = tmp_path / f".{output.name}.progress"
    # 90 photos are 6 pieces of 3 parts; there are also the identity, the sittings and the finished parts.
    for entries in (3, 7, 10, 13, 18):
        process = subprocess.Popen([sys.executable, "-m", "edge_tl", "bench", *map(str, asked), str(output)])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(list(progress.glob("*.json"))) < entries:
            time.sleep(0.003)
        process.kill()
        assert process.wait(HANGING) == -signal.SIGKILL, "it ended before it was killed"
        assert not output.exists()
    assert edge_tl("bench", *asked, output).returncode == 0
    ours, theirs = read_result(output), read_result(whole)
    for name in evaluated:
        assert ours["parts"][name] == theirs["parts"][name]
    assert ours["sittings"] == 6
    rates = [theirs["parts"]["square"]["accuracy"][radius]["rate"] for radius in ("0", "2", "8")]
    assert rates[0] == theirs["parts"]["accuracy"]["top1"]["rate"]
    assert 1 > rates[0] > rates[1] > rates[2]
    assert not progress.exists()


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(color_model, tmp_path):
    path = tmp_path / "r.json"
    asked = ["bench", str(color_model), "-o", str(path), *SHORT, "--parts", "latency,sustained", "--sustained"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_tl", *asked, "30"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    progress = tmp_path / ".r.json.progress"
    deadline = time.monotonic() + HANGING
    # The identity, the sittings, and the latency that is finished.
    while time.monotonic() < deadline and not (progress.is_dir() and len(list(progress.glob("*.json"))) >= 3):
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=HANGING)
    assert process.returncode == 130
    assert out == ""
    (line,) = filter(None, error.splitlines())
    assert "interrupted" in line
    assert not path.exists()
    stored = next(item for item in progress.glob("*.json") if b"p50_ms" in item.read_bytes()).read_bytes()
    kept = json.loads(stored.partition(b"\n")[2])["document"]
    result = edge_tl(*asked, "30", "--time-limit", "0.02")
    assert result.returncode == 0, result.stderr
    assert "going on with the run that was interrupted" in result.stderr
    document = read_result(path)
    assert document["parts"]["latency"] == kept
    assert document["sittings"] == 2


def test_another_model_does_not_go_on_with_this_ones_run(color_model, color_graph, color_spec, tmp_path):
    path = tmp_path / "r.json"
    other = tmp_path / "other.onnx"
    other.write_bytes(with_checksum(color_graph, replace(color_spec, arch="other")))
    short = [*SHORT[2:], "--seconds", "5", "--parts", "latency", "--time-limit", "0.001"]
    assert edge_tl("bench", color_model, "-o", path, *short).returncode == 0
    result = edge_tl("bench", other, "-o", path, *short)
    assert result.returncode == 2
    assert "differs in model" in result.stderr
    assert str(tmp_path / ".r.json.progress") in result.stderr
