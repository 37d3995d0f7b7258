"""The front door: a whole job in a dozen lines, the device's part without training libraries, and plain refusals."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_tl as et
from edge_tl.api.pixels import frame_of
from edge_tl.api.settings import names
from edge_tl.api.show import in_iframe
from edge_tl.api.train_extra import TRAIN_PACKAGES
from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError, EdgeTLError, UsageError
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier

PIL_Image = pytest.importorskip("PIL.Image")

ON_A_DEVICE = """
import sys
BLOCKED = {blocked!r}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refuse())
import edge_tl as et
"""


def on_a_device(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process where nothing of the extra can be imported."""
    text = ON_A_DEVICE.format(blocked=sorted(TRAIN_PACKAGES | {"PIL"})) + code
    words = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def model(color_model):
    with et.load(color_model) as opened:
        yield opened


@pytest.mark.slow
def test_the_whole_job_in_a_dozen_lines(tmp_path, monkeypatch, capfd):
    from edge_tl.data.surfaces import write_surfaces

    monkeypatch.chdir(tmp_path)
    write_surfaces(Path("photos"), train=16)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", et.EdgeTLWarning
        )  # on a busy machine the INT8 file may be too slow to be written
        run = et.train("photos", "runs/mine", recipe="probe")
        assert run.labels == ("brick", "grass", "gravel")
        model = run.export(quantize="int8", layers=False)
    assert model.predict("photos/val/brick/brick_000.jpg").label in run.labels
    evaluation = model.evaluate("photos")
    assert evaluation.n == 60
    right = [
        Classifier(model.path).classify(cv2.imread(str(path))).label == path.parent.name
        for path in sorted(Path("photos/val").rglob("*.jpg"))
    ]
    assert evaluation.top1 == sum(right) / 60
    result = model.attack("photos", preset="quick", eps=[1, 2], count=3, queries=5)
    assert result.robust_accuracy is None or list(result.robust_accuracy) == [0, 1, 2]
    assert result.page.is_file()
    assert et.Run("runs/mine").val.top1 == run.val.top1
    for shown in (run, model, evaluation, result):
        json.dumps(shown.to_dict())
        assert shown._repr_html_().startswith("<div>")
    assert capfd.readouterr() == ("", ""), "quiet unless asked"
    done = on_a_device(
        """
labels = []
for result in et.load(sys.argv[1]).stream(sys.argv[2]):
    labels.append(result.label)
print(len(labels), 0 <= result.confidence <= 1)
""",
        model.path,
        "photos/val/grass",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "20 True\n", "")


def test_the_device_part_works_without_training_libraries(color_model, color_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(color_model, "colors.onnx")
    done = on_a_device(
        """
model = et.load(sys.argv[1])
print(model.evaluate(sys.argv[2]).top1, sorted({r.label for r in model.stream(sys.argv[2])}) == sorted(model.labels))
tuned = et.tune(sys.argv[1], 1)
bench = model.bench(output="b.json", parts="latency", seconds=0.1, calls=3)
shown = bench._repr_html_(), tuned._repr_html_()
print(tuned.path.is_file(), bench.latency_ms > 0, bench.top1, all("<table>" in text for text in shown))
for call in (lambda: et.train(sys.argv[2], "r"), lambda: model.attack(sys.argv[2]), lambda: et.export("r"),
             lambda: et.check(sys.argv[2]), lambda: et.Run("r"), lambda: et.resume("r"), lambda: model.pack(sys.argv[2]),
             lambda: model.dream("red"), lambda: et.adopt(sys.argv[1], "o.onnx"), lambda: bench.show(),
             lambda: et.compare("b.json")):
    try:
        call()
    except et.EdgeTLError as error:
        print(error)
""",
        "colors.onnx",
        color_photos,
    )
    first, second, *refusals = done.stdout.splitlines()
    assert (done.returncode, done.stderr, first, second) == (0, "", "1.0 True", "True True None True")
    assert len(refusals) == 11
    for line in refusals:
        assert line.endswith("which is not installed here; run: pip install 'edge-tl[train]'")


@pytest.mark.slow
def test_what_a_file_is_attacked_and_measured_with(color_model, color_photos, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shutil.copy(color_model, "colors.onnx")
    with et.load("colors.onnx") as model:
        dreams = model.dream("red", steps=5, control=False, animation="none", seed=1)
        assert list(dreams.pictures) == ["red"]
        assert model.predict(dreams.pictures["red"]).confidence == pytest.approx(dreams.confidence["red"], abs=1e-4)
        packed = model.pack(color_photos, "colors.pack", count=6, queries=5, epsilons="1", attacks="pgd")
        assert packed.photos == 6
        measured = model.bench(packed.path, parts="accuracy")
        assert (measured.top1, measured.latency_ms) == (1.0, None)
        corrupted = model.evaluate_corrupted(color_photos, "brightness", "1,5")
        assert (corrupted.n, corrupted.names, corrupted.severities) == (6, ("brightness",), (1, 5))
        before = model.classifier
        assert model.tune(1).path.name == "colors.tune.json"
        assert model.classifier is not before, "the model follows its new profile"
    compared = et.compare(measured.path, page="bench.html")
    assert compared.page.read_text("utf-8").count("colors.onnx")
    assert [row.name for row in compared.benches] == ["bench-colors"]
    for shown in (dreams, packed, measured):
        json.dumps(shown.to_dict())
        assert shown._repr_html_().startswith("<div>")
    assert capfd.readouterr() == ("", ""), "quiet unless asked"


def test_importing_loads_nothing_until_a_name_is_used():
    code = "import sys, edge_tl; print(len([m for m in sys.modules if m.split('.')[0] in ('numpy', 'cv2', 'click', 'torch')]))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"


def test_type_checkers_are_told_the_places_that_the_program_uses():
    tree = ast.parse(Path(et.__file__).read_text("utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == et._PLACES
    assert set(et.__all__) == {*told, "__version__"} <= set(dir(et))
    assert all(getattr(et, name).__doc__ for name in told)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        et.nothing  # noqa: B018


def test_a_picture_is_the_same_in_every_form(model, tmp_path):
    frame = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), frame)
    rgb = np.ascontiguousarray(frame[..., ::-1])
    answers = [
        model.predict(image, channels=channels)
        for image, channels in (
            (path, None),
            (str(path), None),
            (path.read_bytes(), None),
            (PIL_Image.open(path), None),
            (PIL_Image.fromarray(rgb), None),
            (rgb, "rgb"),
            (frame, "bgr"),
            (frame[..., ::-1], "rgb"),
        )
    ]
    assert len({answer.top for answer in answers}) == 1
    assert model.predict(frame, channels="rgb").top != answers[0].top


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "turned"])
def test_a_pillow_image_is_seen_as_its_file_is(tmp_path, mode):
    pixels = np.random.default_rng(1).integers(0, 255, (9, 7, 4), np.uint8)
    image = PIL_Image.fromarray(pixels, "RGBA")
    exif = PIL_Image.Exif()
    if mode == "turned":
        exif[0x0112] = 6
        image = image.convert("RGB")
    else:
        image = image.convert(mode)
    path = tmp_path / "photo.png"
    image.save(path, exif=exif)
    np.testing.assert_array_equal(frame_of(PIL_Image.open(path)), read_photo(path))


def test_a_grey_array_needs_no_order(model):
    grey = np.full((8, 8), 90, np.uint8)
    assert (
        model.predict(grey).top
        == model.predict(np.dstack([grey] * 3), channels="rgb").top
        == model.predict(grey[..., None]).top
    )


COLOURS = np.zeros((4, 5, 3), np.uint8)
REFUSED = {
    "no order said": (COLOURS, None, UsageError, 'channels="rgb"'),
    "a wrong order": (COLOURS, "RGBA", UsageError, "there are"),
    "floats": (COLOURS / 255, "rgb", BadFrame, "times 255"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), "rgb", BadFrame, "transpose"),
    "a batch": (np.zeros((2, 8, 8, 3), np.uint8), "rgb", BadFrame, "one picture at a time"),
    "alpha": (np.zeros((8, 8, 4), np.uint8), "rgb", BadFrame, "fourth channel"),
    "empty": (np.zeros((0, 8, 3), np.uint8), "rgb", BadFrame, "no picture"),
    "a row of numbers": (np.zeros(8, np.uint8), "rgb", BadFrame, "no picture"),
    "no file": ("gone.jpg", None, DataError, "check the path"),
    "an address": ("http://127.0.0.1/x.jpg", None, UsageError, "stream"),
    "a folder": (".", None, UsageError, "is a folder"),
    "an order of a file": ("gone.jpg", "rgb", UsageError, "leave channels out"),
    "bytes of no photo": (b"hello", None, BadImage, "photo|kind|known"),
    "no bytes": (b"", None, BadImage, "empty|photo|known"),
    "a list": ([COLOURS], None, UsageError, "one picture at a time"),
    "nothing": (None, None, UsageError, "predict takes a path"),
    "16 bits of Pillow": (PIL_Image.new("I;16", (4, 4)), None, BadImage, "mode I;16"),
    "an empty Pillow image": (PIL_Image.new("RGB", (0, 4)), None, BadImage, "0 x 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_is_refused_in_a_line(model, case):
    image, channels, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words.replace("(", r"\(")) as found:
        model.predict(image, channels=channels)
    assert "\n" not in str(found.value)


def test_a_tensor_is_refused_with_the_way_to_an_array(model):
    torch = pytest.importorskip("torch")
    with pytest.raises(UsageError, match=r"\.numpy\(\)"):
        model.predict(torch.zeros(3, 8, 8))


CALLS = {
    "a setting misspelt": (lambda m: et.train("p", "r", epoch=3), "did you mean epochs"),
    "a setting of another type": (lambda m: et.train("p", "r", epochs="3"), "a whole number"),
    "a setting out of bounds": (lambda m: et.train("p", "r", dropout=2.0), "between 0 and"),
    "an unknown recipe": (lambda m: et.train("p", "r", recipe="best"), "auto, probe"),
    "no photos": (lambda m: et.train(None, "r"), "give a path"),
    "an unknown quantization": (lambda m: et.export("r", quantize="int4"), "int8"),
    "quantize=True": (lambda m: et.export("r", quantize=True), "int8"),
    "a drop out of bounds": (lambda m: et.export("r", max_drop=101), "between 0 and 100"),
    "a target misspelt": (lambda m: et.export("r", target="pi"), "there are auto"),
    "an internal name": (lambda m: et.export("r", calibration_size=3), "calibration_photos"),
    "eps as text": (lambda m: m.attack("p", eps="1,2"), "eps="),
    "eps twice": (lambda m: m.attack("p", eps=1, epsilons="1"), "twice"),
    "an unknown preset": (lambda m: m.attack("p", preset="slow"), "quick"),
    "no split": (lambda m: m.evaluate("p", split="dev"), "val, test"),
    "an unknown option": (lambda m: m.stream("p", treshold=0.5), "treshold"),
    "a source of frames": (lambda m: m.stream([COLOURS]), "a source is"),
    "no photo in the source": (lambda m: m.stream("gone"), "no photos at gone"),
    "no classes asked": (lambda m: m.predict(COLOURS, channels="rgb", top=0), "top is 0"),
    "no model": (lambda m: et.load("gone.onnx"), "gone.onnx"),
    "no path": (lambda m: et.load(None), "the path of"),
    "a bench of pack and data": (lambda m: m.bench("p", data="d"), "not both"),
    "an unknown part": (lambda m: m.bench(parts="speed"), "there are"),
    "a bench setting misspelt": (lambda m: m.bench(second=3), "did you mean seconds"),
    "a dream setting out of bounds": (lambda m: m.dream("red", steps=0), "at least 1"),
    "a class that is not there": (lambda m: m.dream("cyan"), "no class of this model"),
    "a pack setting misspelt": (lambda m: m.pack("p", presets="quick"), "did you mean preset"),
    "a time to tune out of bounds": (lambda m: m.tune(0), "between 1 and"),
    "corruptions that are none": (lambda m: m.evaluate_corrupted("p", "rust"), "rust"),
    "a normalization misspelt": (lambda m: et.adopt(m.path, "o.onnx", normalize="image"), "there are imagenet"),
    "a size of an input": (lambda m: et.adopt(m.path, "o.onnx", size="224"), "a side in pixels"),
    "an order of colours": (lambda m: et.adopt(m.path, "o.onnx", color_order="rgb"), "there are RGB, BGR"),
    "a mean alone": (lambda m: et.adopt(m.path, "o.onnx", mean=[0.5]), "belong together"),
    "adopting the file over itself": (lambda m: et.adopt(m.path, m.path), "the original itself"),
    "adopting a file of edge-tl": (lambda m: et.adopt(m.path, "o.onnx"), "an edge-tl file already"),
    "resuming nothing": (lambda m: et.resume("gone"), "gone"),
    "resuming with a setting misspelt": (lambda m: et.resume("gone", epoch=9), "did you mean epochs"),
    "comparing nothing": (lambda m: et.compare(), "takes results"),
    "comparing what is not there": (lambda m: et.compare("gone"), "is not a run"),
    "no run": (lambda m: et.Run("gone"), "is not a run"),
}


@pytest.mark.parametrize("case", CALLS)
def test_wrong_use_is_refused_before_any_work(model, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, words = CALLS[case]
    with pytest.raises(EdgeTLError, match=words):
        call(model)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_model_says_so(color_model):
    model = et.load(color_model)
    model.close()
    model.close()
    for call in (
        lambda: model.predict(COLOURS, channels="rgb"),
        lambda: model.stream("test://bars"),
        lambda: model.labels,
    ):
        with pytest.raises(UsageError, match="was closed; load it again"):
            call()
    assert "closed" in repr(model)
    assert "closed" in model._repr_html_()


@pytest.mark.parametrize("source", ["photos", "test://bars"])
def test_a_stream_is_closed_when_its_loop_is_left(model, color_photos, source):
    stream = model.stream(color_photos if source == "photos" else source)
    for result in stream:
        assert result.label in model.labels
        break
    assert stream.source.stopping
    with pytest.raises(UsageError, match="is closed"):
        next(iter(stream))
    with model.stream(source if source != "photos" else color_photos) as again:
        assert next(iter(again)).confidence > 0
    again.close()


def test_threads_take_turns(model, solid):
    frames = {label: solid(label, 300, 400) for label in model.labels}
    wrong: list[str] = []

    def ask(label: str) -> None:
        wrong.extend(label for _ in range(50) if model.predict(frames[label], channels="bgr").label != label)

    threads = [threading.Thread(target=ask, args=(label,)) for label in frames for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_labels_are_escaped_in_a_notebook(model):
    from dataclasses import replace

    evil = "<script>alert(1)</script>"
    prediction = model.predict(COLOURS, channels="rgb")
    shown = replace(prediction, top=(replace(prediction.top[0], label=evil),))._repr_html_()
    assert evil not in shown
    assert "&lt;script&gt;" in shown
    assert 'srcdoc="&lt;p id=&quot;x&quot;&gt;' in in_iframe('<p id="x">')


def test_a_page_is_opened_by_the_browser_of_the_person(tmp_path):
    page, seen = tmp_path / "a page.html", tmp_path / "seen"
    page.write_text("<p>")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}\n')
    browser.chmod(0o755)
    code = "import sys; from pathlib import Path; from edge_tl.api.show import show_page; show_page(Path(sys.argv[1]))"
    words = [sys.executable, "-c", code, str(page)]
    subprocess.run(words, env={"BROWSER": f"{browser} %s", "PATH": "/usr/bin:/bin"}, check=True, timeout=60)
    assert seen.read_text().strip() == page.as_uri()


def test_options_of_a_stream_are_those_of_a_run():
    from dataclasses import fields

    from edge_tl.api.model import StreamOptions
    from edge_tl_runtime.run.plan import RunPlan

    assert set(StreamOptions.__annotations__) <= {item.name for item in fields(RunPlan)}


def test_settings_of_a_call_are_told_once():
    from edge_tl.training.settings import TrainSettings

    assert len(names(TrainSettings)) == len(set(names(TrainSettings)))
