"""Files that are there already, exported or adopted, made into INT8 and FP16: same guard, same contract, refusals first."""

from __future__ import annotations

import dataclasses
import io
import json
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from browsers import browser as browser
from click.testing import CliRunner
from conftest import write_photo
from onnx import helper, numpy_helper, parser, version_converter
from page_audit import audit
from torch import nn

from edge_tl.cli.export import command
from edge_tl_export import ExportError, ExportSettings, export_file
from edge_tl_export.adoption.adopt import adopt
from edge_tl_export.onnx_graph.plain_graph import plain_graph
from edge_tl_export.quantization.calibration import CalibrationPhotos, shares
from edge_tl_export.search.compare import PairedTime, paired_time
from edge_tl_runtime.core.errors import BadModelError, DataError, EdgeTLError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled, split_photos
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import SPEC_KEY, parse_spec, read_spec, with_checksum
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 24
SPEC = ModelSpec(
    labels=("fine", "ผึ้ง", "flat"),
    resize=ResizeRule(height=1, width=1, crop_pct=0.9, resample="area-linear", color_order="BGR"),
    normalization=Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    arch="foreign",
    training={"note": "kept"},
)
INT8 = ExportSettings(quantization="int8", max_drop=100, layers=False)


@contextmanager
def silent(what: str, total: int):
    yield lambda done: None


class Unfused(nn.Module):
    """As TensorFlow and older PyTorch write networks: every kind of form that the quantizer has another name for."""

    def __init__(self, hard_swish: str = "none", channels_last: bool = False, wide: int = 24) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hard_swish, self.channels_last = hard_swish, channels_last
        self.first, self.norm = nn.Conv2d(3, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide)
        self.alone, self.second = nn.BatchNorm2d(wide), nn.Conv2d(wide, wide, 3, padding=1)
        self.weight, self.bias = nn.Parameter(torch.randn(wide, 3) / 5), nn.Parameter(torch.randn(3))
        self.drop = nn.Dropout(0.5)
        with torch.no_grad():
            for _ in range(3):
                self.train()(torch.randn((8, SIDE, SIDE, 3) if channels_last else (8, 3, SIDE, SIDE)))

    def active(self, x: torch.Tensor) -> torch.Tensor:
        if self.hard_swish == "divided last":
            return x * torch.clamp(x + 3, 0, 6) / 6
        if self.hard_swish == "gate divided":
            return x * (torch.clamp(x + 3, 0, 6) / 6)
        return torch.clamp(x, 0, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(0, 3, 1, 2) if self.channels_last else x
        x = (x - 0.1) / 1.5
        x = self.active(self.norm(self.first(x)))
        x = torch.relu(self.alone(self.second(x) + x))
        x = x.mean((2, 3))
        x = self.drop(x.view(x.size(0), -1))
        return torch.matmul(x, self.weight) + self.bias


def exported(network: nn.Module) -> bytes:
    buffer = io.BytesIO()
    shape = (1, SIDE, SIDE, 3) if network.channels_last else (1, 3, SIDE, SIDE)
    torch.onnx.export(
        network.eval(),
        (torch.zeros(shape),),
        buffer,
        dynamo=False,
        opset_version=13,
        input_names=["image"],
        output_names=["score"],
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,  # batch normalisation stays what it is
        dynamic_axes={"image": {0: "n"}, "score": {0: "n"}},
    )
    return buffer.getvalue()


def adopted(path: Path, network: nn.Module | None = None) -> Path:
    path.write_bytes(adopt(exported(network or Unfused()), SPEC).model)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return adopted(tmp_path_factory.mktemp("adopted") / "ours.onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, file) -> Path:
    """Photos, labelled with what the FP32 file says of them."""
    root = tmp_path_factory.mktemp("photos")
    classifier = Classifier(file)
    for number in range(40):
        coarse = np.random.default_rng(number).integers(0, 256, (2 + number % 9, 5, 3), np.uint8)
        frame = cv2.resize(coarse, (40, 32), interpolation=cv2.INTER_CUBIC)
        write_photo(root / f"{classifier.classify(frame).top[0].index:04d}_{number}.png", frame)
    return root


@pytest.fixture(scope="module")
def parts(folder) -> tuple[LabelledPhotos, LabelledPhotos]:
    return split_photos(load_labelled(folder, SPEC.labels, "all"), 0.5, 0)


def pixels(count: int = 4) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def kinds(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@pytest.mark.parametrize("hard_swish", ["none", "divided last", "gate divided"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_plain_form_of_a_foreign_graph_is_the_same_function(tmp_path, hard_swish, channels_last):
    original = adopted(tmp_path / "a.onnx", Unfused(hard_swish, channels_last)).read_bytes()
    plain = plain_graph(original, "a")
    before, after = (
        onnxruntime.InferenceSession(model).run(None, {"pixels": pixels()})[0] for model in (original, plain)
    )
    np.testing.assert_allclose(after, before, atol=1e-4)
    found = kinds(plain)
    assert found[:4] == ["Transpose", "Cast", "Mul", "Add"]
    assert not {"BatchNormalization", "Identity", "Dropout", "MatMul", "ReduceMean", "Div", "Shape", "Sub"} & set(found)
    assert {"GlobalAveragePool", "Gemm"} <= set(found)
    assert ("HardSwish" in found) == (hard_swish != "none")
    names = [node.name for node in onnx.load_from_string(plain).graph.node]
    assert len(set(names)) == len(names)
    assert all(names)
    assert plain_graph(original, "a") == plain


@pytest.mark.parametrize("quantization", ["int8", "fp16"])
def test_an_adopted_file_is_quantized_and_keeps_its_contract(tmp_path, file, parts, quantization, monkeypatch):
    monkeypatch.setattr("edge_tl_export.search.compare.CandidateRow.is_faster", property(lambda row: True))
    monkeypatch.setattr("edge_tl_export.search.search.QuantizationSearch.plain_speed", lambda search: 1.0)
    given = tmp_path / "ours.onnx"
    proto = onnx.load(file)
    helper.set_model_props(proto, {"author": "somebody"})
    given.write_bytes(
        with_checksum(
            proto.SerializeToString(), dataclasses.replace(read_spec(file), extra={"later": {"release": [1, 2]}})
        )
    )
    before = given.read_bytes()
    report = export_file(
        given,
        tmp_path,
        dataclasses.replace(INT8, quantization=quantization),
        calibration=parts[0],
        validation=parts[1],
        stage=silent,
    )
    assert given.read_bytes() == before
    assert [(item.path.name, item.is_new) for item in report.files] == [
        ("ours.onnx", False),
        (f"ours-{quantization}.onnx", True),
    ]
    made, spec = report.files[1].path, read_spec(given)
    classifier = Classifier(made)  # its self-test passes
    for key in ("labels", "resize", "normalization", "arch", "scores", "training"):
        assert getattr(classifier.spec, key) == getattr(spec, key)
    assert classifier.spec.parent_sha256 == sha256(before)
    assert classifier.spec.precision == quantization
    assert classifier.spec.validation.n == len(parts[1])
    entries = {item.key: item.value for item in onnx.load(made).metadata_props}
    assert entries["author"] == "somebody"
    assert json.loads(entries[SPEC_KEY])["later"] == {"release": [1, 2]}
    assert parse_spec(made.read_bytes(), "made") == classifier.spec
    assert report.parity.reference == "the file"
    expected = Classifier(given).logits(pixels(16))
    np.testing.assert_allclose(classifier.logits(pixels(16)), expected, atol=0.2 * np.abs(expected).max())


def test_into_another_folder_the_fp32_file_goes_along(tmp_path, file, parts, monkeypatch):
    monkeypatch.setattr("edge_tl_export.search.compare.CandidateRow.is_faster", property(lambda row: True))
    settings = dataclasses.replace(INT8, quantization="fp16")
    for _ in range(2):
        report = export_file(file, tmp_path / "out", settings, calibration=parts[0], validation=parts[1], stage=silent)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ours.onnx", "ours-fp16.onnx"}
    assert (tmp_path / "out" / "ours.onnx").read_bytes() == file.read_bytes()
    assert [item.is_new for item in report.files] == [False, True]


def with_spec(file: Path, target: Path, model: bytes | None = None, **changes) -> Path:
    spec = dataclasses.replace(read_spec(file), **changes)
    target.write_bytes(with_checksum(file.read_bytes() if model is None else model, spec))
    return target


def refused_file(tmp_path: Path, file: Path, what: str) -> Path:
    target = tmp_path / "given.onnx"
    if what == "int8":
        return with_spec(file, target, precision="int8", parent_sha256=sha256(file.read_bytes()))
    if what == "fp16":
        return with_spec(file, target, precision="fp16")
    if what == "no contract":
        target.write_bytes(exported(Unfused()))
        return target
    if what == "not onnx":
        target.write_bytes(b"\x08 nothing")
        return target
    if what == "missing":
        return target
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (uint8[n,24,24,3] pixels) => (float[n,3] logits) {
      real = Cast<to = 1>(pixels)
      BODY
    }"""
    bodies = {
        "no weights": "logits = ReduceMean<axes = [1, 2], keepdims = 0>(real)",
        "computed weights": "m = ReduceMean<axes = [1, 2], keepdims = 0>(real) t = Transpose<perm = [1, 0]>(m) "
        "p = MatMul(t, m) s = MatMul(m, p) logits = Relu(s)",
        "quantized": "m = ReduceMean<axes = [1, 2], keepdims = 0>(real) s = Constant<value_float = 1.0>() "
        "q = QuantizeLinear(m, s) logits = DequantizeLinear(q, s)",
        "one at a time": "m = ReduceMean<axes = [1, 2], keepdims = 0>(real) c = Constant<value_ints = [1, 3]>() "
        "logits = Reshape(m, c)",
    }
    model = parser.parse_model(text.replace("BODY", bodies[what])).SerializeToString()
    test = read_spec(file).self_test
    (scores,) = onnxruntime.InferenceSession(model).run(None, {"pixels": test.pixels(read_spec(file).resize)})
    answer = dataclasses.replace(test, top1=int(scores[0].argmax()), logits=tuple(map(float, scores[0])), tolerance=1.0)
    return with_spec(file, target, model, self_test=answer)


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ("int8", UsageError, "INT8 already; give the FP32 file"),
        ("fp16", UsageError, "FP16 already; give the FP32 file"),
        ("no contract", BadModelError, "edge-tl adopt"),
        ("not onnx", BadModelError, "not an ONNX file"),
        ("missing", BadModelError, "no model file"),
        ("no weights", ExportError, "no convolution and no matrix product"),
        ("computed weights", ExportError, "no convolution and no matrix product|computes the weights"),
        ("quantized", UsageError, "quantized already"),
        ("one at a time", ExportError, "one photo at a time"),
    ],
)
def test_what_cannot_be_quantized_is_refused_before_photos_are_read(tmp_path, file, parts, what, error, said):
    given = refused_file(tmp_path, file, what)
    unread = dataclasses.replace(parts[0], paths=tuple(Path("/nowhere") for _ in parts[0].paths))
    with pytest.raises(error, match=said) as caught:
        export_file(given, tmp_path, INT8, calibration=unread, validation=unread, stage=silent)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"given.onnx"}


def test_the_fp32_file_is_named_where_it_is_beside(tmp_path, file, parts):
    (tmp_path / "base.onnx").write_bytes(file.read_bytes())
    given = with_spec(file, tmp_path / "q.onnx", precision="int8", parent_sha256=sha256(file.read_bytes()))
    with pytest.raises(UsageError, match=r"made from: .*base\.onnx"):
        export_file(given, tmp_path, INT8, calibration=parts[0], validation=parts[1], stage=silent)


def test_a_file_of_somebody_else_is_never_replaced(tmp_path, file, parts):
    given = tmp_path / "ours.onnx"
    given.write_bytes(file.read_bytes())
    other = with_spec(file, tmp_path / "ours-int8.onnx", precision="int8")
    before = other.read_bytes()
    with pytest.raises(UsageError, match=r"no export of ours\.onnx"):
        export_file(given, tmp_path, INT8, calibration=parts[0], validation=parts[1], stage=silent)
    assert other.read_bytes() == before


def test_seven_photos_are_too_few_and_said_so_at_once(tmp_path, file, parts):
    few = parts[0].subset(range(3), "train"), parts[1].subset(range(4), "val")
    with pytest.raises(DataError, match=r"7 photos .* too few"):
        export_file(file, tmp_path, INT8, calibration=few[0], validation=few[1], stage=silent)


def test_a_file_that_would_be_slower_is_refused_before_the_search(tmp_path, file, parts, monkeypatch):
    monkeypatch.setattr("edge_tl_export.search.compare.Comparison.time", lambda *_: PairedTime(1.0, 2.0))
    given = tmp_path / "ours.onnx"
    given.write_bytes(file.read_bytes())
    report = export_file(given, tmp_path, INT8, calibration=parts[0], validation=parts[1], stage=silent)
    assert "slower than FP32 here (0.50x)" in report.refused
    assert report.tried == ()
    assert report.files[0].path == given


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--quantize"], "give them with --photos FOLDER"),
        ([], "say what to make of it: --quantize"),
        (["--quantize", "-o", "x.onnx"], "-o takes a folder"),
        (["--quantize", "--weights", "w.pth"], "--weights is for the name of a backbone"),
    ],
)
def test_the_command_says_what_is_missing(file, arguments, said):
    result = CliRunner().invoke(command, [str(file), *arguments])
    assert isinstance(result.exception, EdgeTLError)
    assert said in str(result.exception)


def test_options_that_change_nothing_are_named(file):
    result = CliRunner().invoke(command, [str(file), "--qat", "2", "--search", "full"])
    assert "--search is for INT8" in result.output
    assert "--qat is for INT8" in result.output


def test_a_graph_that_cannot_be_rewritten_is_refused_in_one_line(file):
    with pytest.raises(ExportError, match=r"cannot simplify|cannot be brought") as caught:
        plain_graph(file.read_bytes().replace(b"Conv", b"Comv"), "odd.onnx")
    assert "\n" not in str(caught.value)


def test_the_old_name_of_the_photos_leads_to_the_new_one(file):
    result = CliRunner().invoke(command, [str(file), "--data", "x"])
    assert result.exit_code == 2
    assert "No such option" in result.output


class Clock:
    """Time that only calls take; every seventh turn another program takes ten times as much of it."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def file(self, seconds: float):
        def answer(pixels):
            self.calls += 1
            self.now += seconds * (10 if self.calls % 14 < 2 else 1)
            return pixels

        return answer


def test_times_and_their_ratio_are_of_one_run():
    clock, rule = Clock(), ResizeRule(height=1, width=1, crop_pct=1, resample="area-linear")
    found = paired_time(clock.file(0.004), clock.file(0.0016), rule, runs=30, seconds=0.5, clock=clock)
    assert found.fp32_ms == pytest.approx(4)
    assert found.this_ms == pytest.approx(1.6)
    assert found.speedup == pytest.approx(2.5)


@pytest.mark.parametrize("fp32_ms", [0.02134, 0.9, 46.6, 31.8])
@pytest.mark.parametrize("this_ms", [0.0107, 0.334, 17.2, 120.4])
def test_the_ratio_that_is_shown_is_that_of_the_times_that_are_shown(fp32_ms, this_ms):
    time = PairedTime(fp32_ms, this_ms)
    shown = float(time.fp32_shown) / float(time.this_shown)
    assert shown == pytest.approx(time.speedup, rel=0.01)


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", ["cifar100edge", "gtsrb", "landing-zone"])
@pytest.mark.slow
def test_files_of_strangers_are_quantized_or_refused_with_a_reason(tmp_path, data_dir, name, opset):
    """Their labels are not with them: numbers, and photos labelled with the file's own answers."""
    source = data_dir / "onnx-in-the-wild" / f"{name}.onnx"
    if not source.is_file():
        pytest.skip(f"no {source}")
    model = onnx.load(source)
    if model.opset_import[0].version < opset:
        model = version_converter.convert_version(model, opset)
    if model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 1:
        model = in_colour(model)
    classes = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    spec = dataclasses.replace(SPEC, labels=tuple(map(str, range(classes))))
    given = tmp_path / f"{name}.onnx"
    given.write_bytes(adopt(model.SerializeToString(), spec).model)
    classifier = Classifier(given)
    paths = sorted((data_dir / "imagenet-1k-sample").iterdir())[::10]
    targets = tuple(classifier.classify(cv2.imread(str(path))).top[0].index for path in paths)
    photos = LabelledPhotos(data_dir, spec.labels, tuple(paths), targets)
    calibration, validation = photos.subset(range(40), "train"), photos.subset(range(40, 100), "val")
    settings = dataclasses.replace(INT8, max_drop=10)
    report = export_file(given, tmp_path, settings, calibration=calibration, validation=validation, stage=silent)
    if not report.refused:
        assert Classifier(report.files[-1].path).spec.precision == "int8"
    assert report.refused or report.files[-1].row.is_faster


def in_colour(model: onnx.ModelProto) -> onnx.ModelProto:
    """A grey network with the brightness of colours in front."""
    graph = model.graph
    name = graph.input[0].name
    for node in graph.node:
        for place, taken in enumerate(node.input):
            if taken == name:
                node.input[place] = "brightness"
    weights = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
    graph.initializer.append(numpy_helper.from_array(weights, "weights_of_colours"))
    graph.node.insert(0, helper.make_node("Conv", [name, "weights_of_colours"], ["brightness"]))
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    return model


@pytest.mark.parametrize(
    ("total", "size"), [(1, 200), (12, 3), (31, 200), (32, 200), (67, 200), (200, 200), (900, 200)]
)
def test_photos_that_calibrate_and_those_that_rank_are_never_the_same(total, size, tmp_path):
    paths = tuple(write_photo(tmp_path / f"{i}.png", np.full((4, 4, 3), i % 250, np.uint8)) for i in range(total))
    part = LabelledPhotos(tmp_path, ("a", "b"), paths, tuple(i % 2 for i in range(total)))
    photos = CalibrationPhotos(part, ResizeRule(height=4, width=4, crop_pct=1, resample="area-linear"), size)
    count, others = shares(total, size)
    assert photos.count == count
    assert 1 <= count <= size
    assert count + others <= total
    if total >= 32:
        assert others >= 8
        assert len(photos.ranking()) == others
        assert photos.warnings == []


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--quantize"], ["--quantize", "--no-layers", "--max-drop", "0"], []])
def test_the_page_holds_in_a_browser(tmp_path, file, folder, browser, more):
    given = tmp_path / "ours.onnx"
    given.write_bytes(file.read_bytes())
    CliRunner().invoke(command, [str(given), "--photos", str(folder), *more])
    audit(browser, (tmp_path / "ours-export.html").as_uri())


def test_table_page_and_document_say_the_same(tmp_path, file, folder, monkeypatch):
    monkeypatch.setattr("edge_tl_export.search.compare.CandidateRow.is_faster", property(lambda row: True))
    monkeypatch.setattr("edge_tl_export.search.search.QuantizationSearch.plain_speed", lambda search: 1.0)
    given = tmp_path / "ours.onnx"
    given.write_bytes(file.read_bytes())
    asked = [str(given), "--quantize", "--photos", str(folder), "--max-drop", "100", "--search", "full"]
    result = CliRunner().invoke(command, asked, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "ours-export.json").read_text("utf-8"))
    page = (tmp_path / "ours-export.html").read_text("utf-8")
    fp32, int8 = document["models"]
    assert fp32["latency_ms"] == int8["fp32_latency_ms"]
    assert int8["speedup"] == pytest.approx(int8["fp32_latency_ms"] / int8["latency_ms"], rel=1e-3)
    claim = int8["accuracy_claim"]
    assert claim["words"] in int8["verdict"]
    for text in (page, result.output):
        assert claim["words"] in text
        assert f"{int8['speedup']:.2f}x" in text
    (chosen,) = [c for c in document["candidates"] if c["row"] and c["row"]["latency_ms"] == int8["latency_ms"]]
    assert chosen["sqnr_db"] == int8["sqnr_db"]
    assert chosen["row"]["accuracy_claim"] == claim
    assert f"{int8['sqnr_db']:.1f}" in page
    busy = [line for line in document["warnings"] if "other programs took" in line]
    assert bool(busy) == (document["others"] > 0.1)
    assert all(line in page for line in document["warnings"])
    assert f"wrote {given}\n" not in result.output
