"""Other engines than onnxruntime read the exported files: they agree, or a wrong file is noticed."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edge_tl_export import to_onnx
from edge_tl_export.onnx_graph.other_runtimes import ENGINES, RuntimeCheck, check_in_other_runtimes, engine_version
from edge_tl_export.quantization.prepare import prepare
from edge_tl_export.quantization.qdq import quantized, quantized_tensors, weighted_nodes
from edge_tl_export.quantization.ranges import observe
from edge_tl_export.quantization.recipe import Recipe
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

SPEC = ModelSpec(
    labels=("a", "b", "c"),
    resize=ResizeRule(height=32, width=32, crop_pct=1.0, resample="area-cubic"),
    normalization=Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    arch="tiny",
)
PIXELS = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), np.uint8)
ENGINE_IDS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not engine_version(name), reason=f"{name} is not installed: pip install {name}")
    )
    for name in ENGINES
]


class Gate(nn.Module):
    """Squeeze-and-excitation in small."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 32, 1), nn.Hardsigmoid())

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return planes * self.gate(planes)


def exported(*middle: nn.Module) -> bytes:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU6(),
        *middle,
        nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    return to_onnx(network.eval(), SPEC)


@pytest.fixture(scope="module")
def fp32() -> bytes:
    return exported()


@pytest.fixture(scope="module")
def int8(fp32) -> bytes:
    recipe = Recipe()
    model = prepare(fp32, recipe)
    return quantized(model, observe(model, quantized_tensors(model), [PIXELS], weighted_nodes(model)), recipe)


def scores(model: bytes) -> np.ndarray:
    return onnxruntime.InferenceSession(model).run(None, {"pixels": PIXELS})[0]


def checked(engine: str, model: bytes, reference: np.ndarray, precision: str) -> RuntimeCheck:
    (found,) = [o for o in check_in_other_runtimes(model, reference, PIXELS, precision) if o.engine == engine]
    return found


def with_moved_bias(model: bytes, by: float) -> bytes:
    """The last bias, in whatever form it is stored, moved by `by`."""
    proto = onnx.load_from_string(model)
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    bias = next(node for node in proto.graph.node if node.op_type == "Gemm").input[2]
    if bias not in tensors:  # behind a DequantizeLinear
        source = next(node for node in proto.graph.node if bias in node.output)
        step = onnx.numpy_helper.to_array(tensors[source.input[1]])
        bias, by = source.input[0], np.rint(by / step)
    values = onnx.numpy_helper.to_array(tensors[bias])
    tensors[bias].CopyFrom(onnx.numpy_helper.from_array((values + by).astype(values.dtype), bias))
    return proto.SerializeToString()


@pytest.mark.parametrize("engine", ENGINE_IDS)
def test_an_engine_that_is_not_onnxruntime_computes_the_same_logits(engine, fp32):
    found = checked(engine, fp32, scores(fp32), "fp32")
    assert found.agrees, found.describe()
    assert found.version
    assert (found.top1_equal, found.n) == (8, 8)
    assert found.max_difference <= 1e-5 * np.abs(scores(fp32)).max()


@pytest.mark.parametrize("engine", ENGINE_IDS)
def test_a_bias_that_moved_by_a_hundredth_is_noticed(engine, fp32):
    found = checked(engine, with_moved_bias(fp32, 0.01), scores(fp32), "fp32")
    assert found.read
    assert not found.agrees
    assert found.max_difference == pytest.approx(0.01, rel=0.01)
    assert "DISAGREES" in found.describe()


def test_openvino_agrees_on_int8_and_notices_a_moved_bias(int8):
    pytest.importorskip("openvino", reason="openvino is not installed: pip install openvino")
    reference = scores(int8)
    found = checked("openvino", int8, reference, "int8")
    assert found.agrees, found.describe()
    # 0.1 where the tolerance, a hundredth of the largest logit or thrice onnxruntime's own spread, is far less.
    moved = checked("openvino", with_moved_bias(int8, 0.1), reference, "int8")
    assert not moved.agrees, moved.describe()


def test_opencv_does_not_check_where_it_is_known_to_err(int8):
    found = checked("opencv", int8, scores(int8), "int8")
    assert not found.read
    assert "DequantizeLinear" in found.reason
    gated = exported(Gate())
    found = checked("opencv", gated, scores(gated), "fp32")
    assert "HardSigmoid" in found.reason
    assert "did not check" in found.describe()


@pytest.mark.parametrize("engine", ENGINE_IDS)
def test_a_graph_that_an_engine_cannot_read_is_said_with_a_reason(engine, fp32):
    proto = onnx.load_from_string(fp32)
    next(node for node in proto.graph.node if node.op_type == "Clip").op_type = "NoSuchOperator"
    found = checked(engine, proto.SerializeToString(), scores(fp32), "fp32")
    assert not found.read
    assert not found.agrees
    assert 20 <= len(found.reason) <= 200
    assert len(found.reason.splitlines()) == 1
    assert found.to_dict() == {
        "runtime": engine,
        "version": found.version,
        "max_difference": 0.0,
        "tolerance": found.tolerance,
        "top1_equal": 0,
        "n": 8,
        "reason": found.reason,
        "top1_least": 0,
        "agrees": False,
    }


def test_only_installed_engines_are_asked(fp32, monkeypatch):
    monkeypatch.setitem(ENGINES, "openvino", lambda model, pixels: pytest.fail("was asked"))
    monkeypatch.setattr(
        "edge_tl_export.onnx_graph.other_runtimes._MODULES", {"openvino": "no_such_module", "opencv": "cv2"}
    )
    assert [o.engine for o in check_in_other_runtimes(fp32, scores(fp32), PIXELS, "fp32")] == ["opencv"]
