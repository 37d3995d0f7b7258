"""PyTorch to ONNX to INT8: the same answers, or nothing is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_network import SPEC, silent, tiny
from tiny_network import network as network
from tiny_network import photos as photos
from torch import nn

from edge_tl_export import (
    CandidateRow,
    ExportError,
    ExportSettings,
    PixelModel,
    export_model,
    make_self_test,
    parity,
    quantize,
    to_onnx,
)
from edge_tl_export.search.compare import PairedComparison, PairedTime
from edge_tl_runtime.core.errors import BadModelError, DataError, OutputError
from edge_tl_runtime.evaluation.evaluate import score
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import read_spec, with_checksum

INT8 = ExportSettings(quantization="int8", layers=False)


@pytest.fixture(scope="module")
def graph(network) -> bytes:
    return to_onnx(network, SPEC)


def pixels(count: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_onnx_equals_pytorch_at_every_batch_size(network, graph, count):
    session = onnxruntime.InferenceSession(graph)
    with torch.inference_mode():
        planes = torch.from_numpy(pixels(count)).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (SPEC.normalization.mean, SPEC.normalization.std))
        expected = network((planes - mean) / std).numpy()
    np.testing.assert_allclose(session.run(None, {"pixels": pixels(count)})[0], expected, atol=1e-5)


def test_the_graph_is_self_contained_and_repeatable(network, graph):
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert to_onnx(network, SPEC) == graph
    assert not any(node.op_type == "Dropout" for node in model.graph.node)
    weights = sum(p.numel() for p in network.parameters()) * 4
    assert len(graph) < weights + 20_000
    assert str(Path(__file__).parent.parent).encode() not in graph


def test_export_leaves_the_network_as_it_was():
    network = tiny().train()
    to_onnx(network, SPEC)
    assert network.training


def test_int8_is_quantized_smaller_and_repeatable(graph):
    batches = [pixels(8), pixels(4)]
    int8 = quantize(graph, batches)
    assert quantize(graph, batches) == int8
    assert len(int8) < len(graph) / 2
    kinds = {node.op_type for node in onnx.load_from_string(int8).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    exact, rough = (onnxruntime.InferenceSession(m).run(None, {"pixels": pixels()})[0] for m in (graph, int8))
    assert np.abs(exact - rough).max() < 0.2 * np.abs(exact).max()


@pytest.mark.parametrize("quantization", [None, "int8", "fp16"])
def test_files_are_sealed_judged_and_pass_their_self_test(network, photos, tmp_path, quantization):
    report = export_model(
        network,
        SPEC,
        tmp_path,
        ExportSettings(quantization=quantization, max_drop=100, layers=False),
        calibration=photos[0],
        validation=photos[1],
        stage=silent,
    )
    written = quantization if quantization == "fp16" or any(c.passes for c in report.tried) else None
    names = ["model.onnx"] + ([f"model-{written}.onnx"] if written else [])
    assert [file.path.name for file in report.files] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for file in report.files:
        classifier = Classifier(file.path)
        assert classifier.spec.labels == SPEC.labels
        assert classifier.spec.validation.n == len(photos[1])
    if written:
        assert read_spec(report.files[1].path).parent_sha256 == report.files[0].sha256
    document = report.to_dict()
    assert {"path", "precision", "bytes", "sha256", "top1", "latency_ms"} <= set(document["models"][0])
    assert {"drop", "speedup"} <= set(document)


def test_the_int8_self_test_notices_other_weights(graph, tmp_path):
    int8 = quantize(graph, [pixels()])
    session = onnxruntime.InferenceSession(int8)
    test = make_self_test(lambda x: session.run(None, {"pixels": x})[0], SPEC, list(pixels()), "int8")
    model = onnx.load_from_string(int8)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.flip(values).copy(), tensor.name))
    data = with_checksum(model.SerializeToString(), dataclasses.replace(SPEC, precision="int8", self_test=test))
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(BadModelError, match="self-test"):
        Classifier(path)


def test_a_graph_that_differs_from_pytorch_is_refused(network, graph):
    session = onnxruntime.InferenceSession(graph)
    with pytest.raises(ExportError, match="differs from PyTorch"):
        parity(network, SPEC, lambda x: session.run(None, {"pixels": x})[0] + 0.01, pixels())


def test_nothing_is_written_when_verification_fails(network, photos, tmp_path, monkeypatch):
    real = to_onnx(tiny(), SPEC)
    with torch.no_grad():
        other = tiny()
        other[-1].bias += 1
    monkeypatch.setattr("edge_tl_export.fp32_source.to_onnx", lambda *_: real)
    with pytest.raises(ExportError):
        export_model(other, SPEC, tmp_path, INT8, calibration=photos[0], validation=None, stage=silent)
    assert list(tmp_path.iterdir()) == []


def test_int8_without_photos_is_an_error(network, tmp_path):
    with pytest.raises(DataError, match="--photos"):
        export_model(network, SPEC, tmp_path, INT8, calibration=None, validation=None, stage=silent)


def test_a_folder_that_cannot_be_written_is_named(network, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot create"):
        export_model(
            network, SPEC, tmp_path / "file", ExportSettings(), calibration=None, validation=None, stage=silent
        )


def test_pixel_model_normalises_as_the_formula_says():
    model = PixelModel(nn.Identity(), SPEC.normalization)
    given = pixels(1)
    expected = (given[0] / 255 - np.array(SPEC.normalization.mean)) / np.array(SPEC.normalization.std)
    np.testing.assert_allclose(model(torch.from_numpy(given))[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("speedup", "counts", "words"),
    [
        (1.5, (0, 0, 1000), "faster; accuracy kept: at most 0.5 points lost (95 %, 1,000 photos)"),
        (1.5, (0, 0, 16), "faster; not shown to be worse; 16 photos cannot tell, about 2,500 could"),
        (0.76, (0, 0, 1000), "SLOWER than FP32 (0.76x); accuracy kept: at most 0.5 points lost (95 %, 1,000 photos)"),
        (1.5, (50, 2, 1000), "faster; 4.8 points LESS ACCURATE than FP32"),
        (
            0.5,
            (1, 0, 16),
            "SLOWER than FP32 (0.50x); 6.2 points LESS ACCURATE than FP32 on 16 photos, which chance could explain",
        ),
        (1.2, None, "faster; accuracy not evaluated"),
    ],
)
def test_the_verdict_is_in_words(speedup, counts, words):
    evaluation = score(np.eye(3, dtype=np.float32), np.arange(3), SPEC.labels, "")
    against = None if counts is None else PairedComparison(counts[2], counts[0], counts[1], 1.0, ())
    row = CandidateRow("int8", 1, PairedTime(speedup, 1.0), evaluation, against)
    assert row.verdict == words
