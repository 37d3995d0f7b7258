"""Classifiers from elsewhere: the same answers with pixels in front, and gradients where they are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from foreign_torch import Small, exported
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from edge_tl.cli.adopt import command
from edge_tl_export.adoption.adopt import adopt
from edge_tl_export.torch_graph.equivalence import faithfulness
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.core.errors import BadModelError, EdgeTLError, UsageError
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPEC = ModelSpec(
    labels=("ก", "b", "c d"),
    resize=ResizeRule(height=1, width=1, crop_pct=0.9, resample="area-cubic"),
    normalization=Normalization(mean=MEAN, std=STD),
    arch="foreign",
)


def photos(count: int = 5) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (count, 30, 24, 3), np.uint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_an_adopted_file_answers_as_pytorch_does(tmp_path, dynamo, free, softmax, channels_last):
    network = Small(softmax, channels_last)
    original = exported(tmp_path / "a.onnx", network, free=free, dynamo=dynamo)
    adopted = adopt(original.read_bytes(), SPEC)
    (tmp_path / "ours.onnx").write_bytes(adopted.model)
    classifier = Classifier(tmp_path / "ours.onnx")
    assert (classifier.spec.resize.height, classifier.spec.resize.width) == (30, 24)
    values = torch.from_numpy((photos() / 255.0 - np.array(MEAN)) / np.array(STD)).float()
    network.softmax = False
    with torch.no_grad():
        expected = network(values if channels_last else values.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(classifier.logits(photos()), expected, atol=1e-4)
    assert any("softmax" in note for note in adopted.notes.changed) == softmax
    proof = faithfulness(DifferentiableGraph(adopted.model), adopted.model, classifier.logits, photos())
    assert proof.holds, str(proof)


class Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        values = ((photos(16) / 255.0 - np.array(MEAN)) / np.array(STD)).astype(np.float32).transpose(0, 3, 1, 2)
        self.rest = iter([{"image": value[None]} for value in values])

    def get_next(self) -> dict | None:
        return next(self.rest, None)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_file_that_another_quantizer_made_is_rebuilt_faithfully(tmp_path, per_channel):
    original = exported(tmp_path / "a.onnx", Small())
    quantize_static(
        original,
        tmp_path / "q.onnx",
        Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
    )
    adopted = adopt((tmp_path / "q.onnx").read_bytes(), SPEC)
    (tmp_path / "ours.onnx").write_bytes(adopted.model)
    classifier = Classifier(tmp_path / "ours.onnx")
    assert classifier.spec.precision == "int8"
    graph = DifferentiableGraph(adopted.model)
    proof = faithfulness(graph, adopted.model, classifier.logits, photos(40))
    assert proof.holds, str(proof)
    inputs = torch.from_numpy(photos(2)).float().requires_grad_()
    (gradient,) = torch.autograd.grad(graph(inputs).sum(), inputs)
    assert gradient.flatten(1).abs().amax(1).min() > 0


def broken(tmp_path: Path, what: str) -> bytes:
    if what == "no model":
        return b"\x08 not a model"
    proto = onnx.load(exported(tmp_path / "a.onnx", Small()))
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    if what == "one channel":
        shape[1].dim_value = 1
    elif what == "free size":
        shape[2].dim_param = "h"
    elif what == "two outputs":
        proto.graph.output.append(onnx.helper.make_tensor_value_info("x", 1, None))
        proto.graph.node.append(onnx.helper.make_node("Relu", ["score"], ["x"]))
    elif what == "old opset":
        proto.opset_import[0].version = 6
    return proto.SerializeToString()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", ["no model", "one channel", "free size", "two outputs", "old opset"])
def test_what_cannot_be_adopted_is_refused_in_one_line(tmp_path, what):
    with pytest.raises((BadModelError, UsageError)) as caught:
        adopt(broken(tmp_path, what), SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_the_command_writes_a_file_that_classifies(tmp_path):
    original = exported(tmp_path / "a.onnx", Small())
    (tmp_path / "labels.txt").write_text("ก\nb\n\nc d\n", "utf-8")
    arguments = [str(original), "-o", str(tmp_path / "o.onnx"), "--labels", str(tmp_path / "labels.txt")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert Classifier(tmp_path / "o.onnx").spec.labels == ("ก", "b", "c d")
    (tmp_path / "labels.txt").write_text("ก\nb\n", "utf-8")
    assert isinstance(CliRunner().invoke(command, arguments).exception, UsageError)
    assert isinstance(CliRunner().invoke(command, [*arguments[:-1], "nowhere"]).exception, EdgeTLError)
    assert onnxruntime.InferenceSession(str(tmp_path / "o.onnx")).get_inputs()[0].name == "pixels"
