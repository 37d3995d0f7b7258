"""How the input is made: presets, figures in either unit, what a graph does inside, and what labelled photos say."""

from __future__ import annotations

import math
import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from foreign import SIZE, Graph, answers
from onnx import helper, numpy_helper
from PIL import Image

import edge_tl as et
from edge_tl.cli.adopt import command
from edge_tl_export.adoption.adopt import Original
from edge_tl_export.adoption.deciding import MeasuringPhotos, decide
from edge_tl_export.adoption.labels import LabelList
from edge_tl_export.adoption.loading import load_bytes
from edge_tl_export.adoption.measuring import Asked
from edge_tl_export.adoption.preprocessing import PRESETS, figures, inside, name_of
from edge_tl_export.adoption.settings import PRESET_NAMES
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import read_spec
from edge_tl_runtime.modelfile.spec import Normalization

DATA = os.environ.get("EDGE_TL_TEST_DATA")
needs_photos = pytest.mark.skipif(not DATA, reason="EDGE_TL_TEST_DATA is not set")


def test_the_command_offers_what_there_is():
    assert tuple(PRESETS) == PRESET_NAMES


BY_HAND = {
    "imagenet": lambda p: (p / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "0..1": lambda p: p / 255,
    "-1..1": lambda p: p / 127.5 - 1,
    "0..255": lambda p: p,
    "caffe": lambda p: p - [103.939, 116.779, 123.68],
    "openmmlab": lambda p: (p - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375],
    "clip": lambda p: (p / 255 - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711],
    "mnist": lambda p: (p / 255 - 0.1307) / 0.3081,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_users_compute(name):
    pixels = np.repeat(np.arange(256.0)[:, None], 3, 1)
    normalization = PRESETS[name].normalization
    ours = (pixels / 255 - np.array(normalization.mean)) / np.array(normalization.std)
    np.testing.assert_allclose(ours, BY_HAND[name](pixels), rtol=1e-12, atol=1e-11)
    assert name_of(normalization) == ("imagenet" if name == "openmmlab" else name)


@pytest.mark.parametrize(
    ("mean", "std", "name"),
    [
        ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "imagenet"),
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "imagenet"),
        ((127.5,), (127.5,), "-1..1"),
        ((0.5,), (0.5,), "-1..1"),
        ((0.0,), (255.0,), "0..1"),
        ((0.0,), (1.0,), "0..1"),
        ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "caffe"),
    ],
)
def test_figures_are_understood_in_either_unit_and_the_unit_is_said(mean, std, name):
    normalization, line = figures(mean, std)
    assert name_of(normalization) == name
    assert ("divided by 255" in line) == (max(mean) > 1 or max(std) > 1)


@pytest.mark.parametrize(
    ("mean", "std", "reason"),
    [
        ((0.5,), (0.0,), "above 0"),
        ((0.5,), (-0.2,), "above 0"),
        ((-0.5,), (0.5,), "negative"),
        ((123.675, 116.28, 103.53), (0.229, 0.224, 0.225), "different units"),
        ((0.485, 0.456, 0.406), (58.395, 57.12, 57.375), "different units"),
        ((0.485, 116.28, 103.53), (58.0,), "mixes"),
        ((120.0,), (0.229, 57.0, 57.0), "mixes"),
        ((300.0,), (1.0,), "beyond 255"),
        ((math.nan,), (1.0,), "no number"),
        ((0.5,), (math.inf,), "no number"),
        ((0.5, 0.5), (0.5,), "2 numbers"),
    ],
)
def test_figures_that_cannot_be_right_are_refused(mean, std, reason):
    with pytest.raises(UsageError, match=reason):
        figures(mean, std)


@pytest.mark.parametrize(
    ("steps", "preset"),
    [
        ([("Div", [255.0]), ("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], "0..255"),
        ([("Sub", [123.7, 116.3, 103.5]), ("Div", [58.4, 57.1, 57.4])], "0..255"),
        ([("Mul", [1 / 127.5]), ("Add", [-1.0])], "0..255"),
        ([("Mul", [1 / 255])], "0..255"),
        ([("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], "0..1"),
        ([("Mul", [2.0]), ("Sub", [1.0])], "0..1"),
        ([], None),
    ],
)
def test_normalisation_inside_the_graph_is_read(steps, preset):
    graph = Graph()
    value = "image"
    for operator, numbers in steps:
        stored = np.array(numbers).reshape(-1, 1, 1) if len(numbers) > 1 else np.array(numbers[0])
        value = graph.op(operator, value, graph.store(stored))
    model = graph.model([graph.body(value)])
    found = inside(model.graph, "image")
    assert (found.preset() if found else None) == preset
    original = Original(load_bytes(model.SerializeToString(), "m"), labels=5)
    assert name_of(original.assumed) == (preset or "imagenet")


# Measured on photos: a network that is right only with its own preprocessing

COLOURS = {
    "red": (200, 70, 60),
    "blue": (60, 80, 190),
    "sky": (95, 120, 200),
    "green": (70, 170, 60),
    "moss": (110, 160, 80),
    "dark": (40, 35, 50),
    "grey": (120, 118, 125),
    "white": (225, 220, 210),
}
PER_CLASS = 12


def of_colours(preset: str, order: str) -> onnx.ModelProto:
    """Names the nearest of eight mean colours, by its distance in the values that it was made for."""
    graph = Graph()
    mean = graph.op("Flatten", graph.op("GlobalAveragePool", "image"))
    channels = slice(None, None, -1) if order == "BGR" else slice(None)
    centres = np.array([BY_HAND[preset](np.array(colour[channels], float)) for colour in COLOURS.values()])
    spread = float(centres.std()) ** 2
    weights, bias = 2 * centres.T / spread, -(centres**2).sum(1) / spread
    out = graph.op("Gemm", mean, graph.store(weights), graph.store(bias))
    return graph.model([out])


@pytest.fixture(scope="module")
def coloured(tmp_path_factory) -> Path:
    """Photos of one colour each with much noise, 12 a class."""
    root = tmp_path_factory.mktemp("coloured")
    random = np.random.default_rng(2)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for index in range(PER_CLASS):
            tint = np.array(colour) + random.normal(0, 9, 3)
            noise = random.normal(0, 10, (40, 40, 3)) + tint
            Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(root / name / f"{index}.png")
    return root


def adopted(tmp_path, model, *options) -> tuple[str, Path]:
    onnx.save(model, tmp_path / "theirs.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(COLOURS))
    target = tmp_path / "ours.onnx"
    arguments = [str(tmp_path / "theirs.onnx"), "-o", str(target), "--labels", str(tmp_path / "labels.txt"), *options]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output, target


@pytest.mark.parametrize(
    ("preset", "order"), [("imagenet", "RGB"), ("-1..1", "BGR"), ("0..255", "BGR"), ("caffe", "BGR"), ("0..1", "RGB")]
)
def test_photos_say_which_preprocessing_is_right(preset, order, coloured, tmp_path):
    said, target = adopted(tmp_path, of_colours(preset, order), "--photos", str(coloured))
    spec = read_spec(target)
    assert (name_of(spec.normalization), spec.resize.color_order) == (preset, order), said
    assert f"measured: {preset}, {order}, crop" in said
    assert "95 % interval" in said
    assert spec.validation is not None
    assert spec.validation.n == 96
    # An independent look: OpenCV and NumPy, the original asked directly.
    right = 0
    for index, label in enumerate(COLOURS):
        for path in sorted((coloured / label).iterdir()):
            frame = cv2.imread(str(path))
            image = frame if order == "BGR" else frame[..., ::-1]
            small = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            values = BY_HAND[preset](small.astype(float)).astype(np.float32).transpose(2, 0, 1)[None]
            right += int(answers(onnx.load(tmp_path / "theirs.onnx"), values)[0].argmax() == index)
    assert abs(spec.validation.top1 * 96 - right) <= 4


def test_a_choice_that_is_worse_is_kept_and_warned_of(coloured, tmp_path):
    said, target = adopted(
        tmp_path, of_colours("0..1", "BGR"), "--photos", str(coloured), "--normalize", "0..1", "--rgb"
    )
    assert read_spec(target).resize.color_order == "RGB"
    assert "WARNING: 0..1, BGR" in said
    assert "better than what was asked for" in said


def test_a_choice_that_is_right_is_not_warned_of(coloured, tmp_path):
    said, target = adopted(tmp_path, of_colours("caffe", "BGR"), "--photos", str(coloured), "--normalize", "caffe")
    assert read_spec(target).resize.color_order == "BGR"
    assert "WARNING" not in said


def test_ties_are_said(coloured, tmp_path):
    said, _ = adopted(tmp_path, of_colours("0..1", "RGB"), "--photos", str(coloured), "--normalize", "0..1")
    (line,) = [line for line in said.splitlines() if "not shown to be different" in line]
    assert "0..1, RGB, crop" in line  # of a picture of one colour every crop is the same


@pytest.mark.parametrize("why", ["few", "strangers", "luck"])
def test_where_photos_cannot_tell_that_is_said(why, coloured, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    names = ("ants", "bees") if why == "strangers" else tuple(COLOURS)
    random = np.random.default_rng(0)
    for index, name in enumerate(names):
        (root / name).mkdir()
        for number in range(2 if why == "few" else 10):
            tone = random.integers(0, 256, 3) if why == "luck" else COLOURS[list(COLOURS)[index]]
            picture = np.full((20, 20, 3), tone, np.uint8)
            Image.fromarray(picture).save(root / name / f"{number}.png")
    said, target = adopted(tmp_path, of_colours("0..1", "RGB"), "--photos", str(root))
    reasons = {"few": "too few to tell", "strangers": "does not know", "luck": "no more than luck"}
    assert reasons[why] in said
    assert "not known: how the input is made" in said
    spec = read_spec(target)
    assert spec.validation is None
    assert name_of(spec.normalization) == "imagenet"


def test_photos_named_by_index_will_do_and_a_background_is_not_counted(coloured, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for index, label in enumerate(COLOURS):
        for path in sorted((coloured / label).iterdir()):
            (flat / f"{index:04d}_{path.name}").write_bytes(path.read_bytes())
    model = of_colours("0..1", "RGB")
    for stored, fill in ((model.graph.initializer[0], 0.0), (model.graph.initializer[1], -1e3)):
        array = numpy_helper.to_array(stored)
        wider = np.concatenate([np.full((*array.shape[:-1], 1), fill, np.float32), array], -1)
        stored.CopyFrom(numpy_helper.from_array(wider, stored.name))
    said, target = adopted(tmp_path, model, "--photos", str(flat), "--background-first")
    assert read_spec(target).labels == ("background", *COLOURS)
    assert "measured: 0..1, RGB" in said


def test_a_folder_that_is_not_there_ends_it(tmp_path, coloured):
    onnx.save(of_colours("0..1", "RGB"), tmp_path / "theirs.onnx")
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, reason in ((tmp_path / "no", "no folder"), (empty, "no photos")):
        arguments = ["theirs.onnx", "-o", "ours.onnx", "--labels", "numbers", "--photos", str(folder)]
        result = CliRunner().invoke(command, [str(tmp_path / a) if a.endswith(".onnx") else a for a in arguments])
        assert reason in str(result.exception)
        assert not (tmp_path / "ours.onnx").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--mean", "0.5"], "belong together"),
        (["--normalize", "caffe", "--mean", "0.5", "--std", "0.5"], "twice"),
        (["--mean", "0.5,0.5,0.5", "--std", "0,1,1"], "above 0"),
        (["--mean", "123,116,103", "--std", "0.2,0.2,0.2"], "different units"),
        (["--output", "nothing"], "no output"),
        (["--size", "32"], "no others"),
        (["--scores", "probabilities"], "no probabilities"),
        (["--labels", "metadata"], "carries no labels"),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_written(options, reason, tmp_path):
    onnx.save(of_colours("0..1", "RGB"), tmp_path / "theirs.onnx")
    arguments = [str(tmp_path / "theirs.onnx"), "-o", str(tmp_path / "o.onnx"), "--labels", "numbers", *options]
    result = CliRunner().invoke(command, arguments)
    assert isinstance(result.exception, UsageError)
    assert reason in str(result.exception)
    assert not (tmp_path / "o.onnx").exists()


def test_a_call_writes_what_the_command_writes(tmp_path):
    onnx.save(of_colours("caffe", "BGR"), tmp_path / "theirs.onnx")
    (tmp_path / "labels.txt").write_text("\n".join(COLOURS))
    words = ["theirs.onnx", "-o", "command.onnx", "--labels", "labels.txt", "--normalize", "caffe", "--crop-pct", "0.9"]
    words = [str(tmp_path / word) if "." in word[1:-3] and not word.startswith("-") else word for word in words]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0, result.output
    with et.adopt(
        tmp_path / "theirs.onnx", tmp_path / "call.onnx", labels=list(COLOURS), normalize="caffe", crop_pct=0.9
    ) as model:
        assert model.labels == tuple(COLOURS)
    assert (tmp_path / "call.onnx").read_bytes() == (tmp_path / "command.onnx").read_bytes()
    assert f"recognised: {len(COLOURS)} labels from" in result.output
    with pytest.raises(UsageError, match=r"the list of labels: .* twice|repeated|same"):
        et.adopt(tmp_path / "theirs.onnx", tmp_path / "o.onnx", labels=["a", "b", "c", "a"])


def test_labels_lying_beside_the_file_are_pointed_to(tmp_path):
    onnx.save(of_colours("0..1", "RGB"), tmp_path / "theirs.onnx")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    result = CliRunner().invoke(command, [str(tmp_path / "theirs.onnx"), "-o", str(tmp_path / "o.onnx")])
    assert "labels.txt lies beside it" in str(result.exception)


def test_labels_in_the_metadata_need_no_option(tmp_path):
    model = of_colours("0..1", "RGB")
    helper.set_model_props(model, {"names": str(dict(enumerate(COLOURS)))})
    onnx.save(model, tmp_path / "theirs.onnx")
    target = tmp_path / "o.onnx"
    result = CliRunner().invoke(command, [str(tmp_path / "theirs.onnx"), "-o", str(target), "--normalize", "0..1"])
    assert result.exit_code == 0, result.output
    assert Classifier(target).spec.labels == tuple(COLOURS)
    again = CliRunner().invoke(command, [str(target), "-o", str(target)])
    assert "is the original itself" in str(again.exception)
    again = CliRunner().invoke(command, [str(target), "-o", str(tmp_path / "p.onnx")])
    assert "an edge-tl file already" in str(again.exception)


@needs_photos
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("mean", "std", "order", "scale", "offset", "name"),
    [
        (127 / 255, 128 / 255, "BGR", 1 / 255, 0.0, "0..255"),
        (127 / 255, 128 / 255, "RGB", 0.5, 0.5, "-1..1"),
        (127 / 255, 128 / 255, "RGB", 0.225, 0.45, "imagenet"),
    ],
    ids=["0..255 BGR", "-1..1", "imagenet"],
)
def test_real_photos_find_the_preprocessing_of_a_real_network(tmp_path, mean, std, order, scale, offset, name):
    from edge_tl.models.weights import imagenet_labels
    from edge_tl.training.run_folder import open_run

    network = open_run("efficientnet_lite0", "pretrained").network.module.eval()
    figures_of = {"imagenet": ([0.229, 0.224, 0.225], [0.485, 0.456, 0.406])}.get(name, ([scale] * 3, [offset] * 3))

    class Wrapped(torch.nn.Module):
        """From values of another preprocessing back to the network's own."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.times, self.plus = (torch.tensor(x).view(1, 3, 1, 1) for x in figures_of)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flip(1) if order == "BGR" else x
            return self.network((x * self.times + self.plus - mean) / std)

    path = tmp_path / "theirs.onnx"
    torch.onnx.export(Wrapped().eval(), (torch.zeros(1, 3, 160, 160),), str(path), dynamo=False, input_names=["x"],
                      output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})  # fmt: skip
    original = Original(load_bytes(path.read_bytes(), "theirs"), labels=1000)
    labels = LabelList(imagenet_labels(), "ImageNet")
    measuring = MeasuringPhotos(Path(str(DATA)) / "imagenet-1k-sample", 60)
    decision = decide(original, labels, Asked(), measuring, arch="lite0")
    found = decision.spec
    assert (name_of(found.normalization), found.resize.color_order) == (name, order)
    assert found.validation is not None
    assert found.validation.top1 > 0.7


def test_asked_is_what_was_said():
    half = Normalization(mean=(0.5,) * 3, std=(0.5,) * 3)
    assert not Asked()
    assert Asked(half)
    assert Asked(None, None, 0.9)
