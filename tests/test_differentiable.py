"""Graphs rebuilt in PyTorch: every operator against onnxruntime, gradients against differences, whole files on real photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edge_tl.models import Network, build_network
from edge_tl.models.backbones import find_backbone
from edge_tl.models.weights import WeightsSource
from edge_tl_export import ExportError, to_onnx
from edge_tl_export.quantization.quantize import quantize
from edge_tl_export.torch_graph.elementwise import ELEMENTWISE
from edge_tl_export.torch_graph.equivalence import faithfulness, output_step
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.images.crop import preprocess_batch
from edge_tl_runtime.images.datasets.survey import photo_files
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.modelfile.spec import ModelSpec

SIDE = 6
ints, floats = (lambda *values: np.array(values, np.int64)), (lambda *values: np.array(values, np.float32))

# name, attributes, further inputs; the first is a positive picture of 3 planes.
CASES = [
    ("Abs", {}, []),
    ("BatchNormalization", {"epsilon": 1e-3}, [floats(1, 2, 3), floats(0, 1, 2), floats(1, 1, 2), floats(1, 4, 9)]),
    ("Celu", {"alpha": 0.7}, []),
    ("Cos", {}, []),
    ("Div", {}, [floats(3)]),
    ("Elu", {"alpha": 0.7}, []),
    ("Erf", {}, []),
    ("Exp", {}, []),
    ("Expand", {}, [ints(1, 3, 1, 1)]),
    ("Gather", {"axis": 1}, [ints(2, 0)]),
    ("Gelu", {}, []),
    ("Gelu", {"approximate": "tanh"}, []),
    ("GlobalMaxPool", {}, []),
    ("InstanceNormalization", {"epsilon": 1e-3}, [floats(1, 2, 3), floats(0, 1, 2)]),
    ("LRN", {"size": 3, "alpha": 0.5, "bias": 2.0}, []),
    ("LayerNormalization", {"axis": -1}, [np.arange(SIDE, dtype=np.float32), np.ones(SIDE, np.float32)]),
    ("Log", {}, []),
    ("LogSoftmax", {"axis": 1}, []),
    ("LpNormalization", {"axis": 1, "p": 2}, []),
    ("MatMul", {}, [np.linspace(-1, 1, SIDE * 4, dtype=np.float32).reshape(SIDE, 4)]),
    ("Max", {}, [floats(0.5)]),
    ("Min", {}, [floats(0.5), floats(0.4)]),
    ("Mean", {}, [floats(0.5), floats(0.4)]),
    ("Mish", {}, []),
    ("Neg", {}, []),
    ("PRelu", {}, [floats(0.1, 0.2, 0.3).reshape(3, 1, 1)]),
    ("Pad", {}, [ints(0, 0, 1, 2, 0, 0, 0, 1), floats(0.3).reshape(())]),
    ("Pad", {}, [ints(1, 0), floats(0.0).reshape(()), ints(-1)]),
    ("Pad", {"mode": "wrap"}, [ints(0, 0, 1, 2, 0, 0, 2, 1)]),
    ("Pad", {"mode": "reflect"}, [ints(0, 0, 1, 2, 0, 0, 2, 1)]),
    ("Pad", {"mode": "edge"}, [ints(0, 0, 1, 2, 0, 0, 2, 1)]),
    ("Pow", {}, [floats(2.5)]),
    ("Reciprocal", {}, []),
    ("ReduceL1", {}, [ints(1)]),
    ("ReduceL2", {}, [ints(2, 3)]),
    ("ReduceLogSumExp", {}, [ints(2, 3)]),
    ("ReduceMin", {"keepdims": 0}, [ints(2, 3)]),
    ("ReduceProd", {}, [ints(1, 3)]),
    ("ReduceSumSquare", {"keepdims": 0}, [ints(2)]),
    ("ReduceMax", {"keepdims": 0}, [ints(2, 3)]),
    ("ReduceMean", {}, [ints(2, 3)]),
    ("ReduceSum", {"keepdims": 0}, [ints(-1)]),
    ("Selu", {}, []),
    ("Sin", {}, []),
    ("Slice", {}, [ints(1, 0), ints(5, 2**31), ints(2, 3), ints(2, 1)]),
    ("Slice", {}, [ints(-1), ints(-(2**62)), ints(3), ints(-2)]),
    ("Softmax", {"axis": 1}, []),
    ("Softplus", {}, []),
    ("Softsign", {}, []),
    ("Sqrt", {}, []),
    ("Sub", {}, [floats(0.2)]),
    ("Sum", {}, [floats(0.5), floats(0.4)]),
    ("Tanh", {}, []),
    ("ThresholdedRelu", {"alpha": 0.885}, []),
]
ROUGH = [("Ceil", {}, []), ("Floor", {}, []), ("Round", {}, []), ("Sign", {}, [])]
NOT_ALONE = {"Cast", "Dropout", "GroupNormalization", "RandomNormalLike", "Shape", "Swish"}
"""In every graph here, without an answer to compare, or of another opset: tests/test_foreign_operators.py."""


def single(kind: str, attributes: dict, constants: list[np.ndarray]) -> bytes:
    """A graph that puts pixels through one operator, to (N, anything) as `logits`."""
    names = [f"constant_{place}" for place in range(len(constants))]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["real"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "unit"], ["x"]),
        helper.make_node(kind, ["x", *names], ["y"], **attributes),
        helper.make_node("Flatten", ["y"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(floats(1 / 100), "unit")]
        + [numpy_helper.from_array(value, name) for name, value in zip(names, constants, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def answer(model: bytes, pixels: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model).run(["logits"], {"pixels": pixels})[0]


def built(name: str, weights: str) -> Network:
    backbone = find_backbone(name)
    return build_network(backbone, WeightsSource.parse(weights, backbone))


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, (2, SIDE, SIDE, 3), np.uint8)


def test_every_operator_has_a_case():
    assert {case[0] for case in (*CASES, *ROUGH)} | NOT_ALONE == set(ELEMENTWISE)


@pytest.mark.parametrize(("kind", "attributes", "constants"), [*CASES, *ROUGH])
def test_an_operator_answers_as_onnxruntime_does(kind, attributes, constants, pixels):
    model = single(kind, attributes, constants)
    ours = DifferentiableGraph(model)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(ours, answer(model, pixels), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("kind", "attributes", "constants"), CASES)
def test_its_gradient_is_the_slope_that_onnxruntime_shows(kind, attributes, constants):
    # Away from the kinks of Max, Min and their like, where a slope is not defined.
    pixels = np.random.default_rng(1).integers(60, 200, (1, SIDE, SIDE, 3)).astype(np.float32)
    graph = DifferentiableGraph(single(kind, attributes, constants)).double()
    weights = torch.linspace(-1, 1, graph(torch.from_numpy(pixels)).numel(), dtype=torch.float64)
    inputs = torch.from_numpy(pixels).requires_grad_()
    (gradient,) = torch.autograd.grad((graph(inputs).double().flatten() * weights).sum(), inputs)
    for place in ((0, 0, 0, 0), (0, 2, 3, 1), (0, 5, 5, 2)):
        values = []
        for step in (-1.0, 1.0):
            moved = pixels.copy()
            moved[place] += step
            values.append(float((graph(torch.from_numpy(moved)).double().flatten() * weights).sum()))
        assert float(gradient[place]) == pytest.approx((values[1] - values[0]) / 2, rel=0.02, abs=2e-3)


@pytest.mark.parametrize(("kind", "attributes", "constants"), ROUGH)
def test_rounding_that_is_no_quantization_has_no_slope(kind, attributes, constants, pixels):
    inputs = torch.from_numpy(pixels).float().requires_grad_()
    (gradient,) = torch.autograd.grad(DifferentiableGraph(single(kind, attributes, constants))(inputs).sum(), inputs)
    assert not gradient.any()


def test_an_unknown_operator_is_named(pixels):
    model = onnx.load_from_string(single("Abs", {}, []))
    model.graph.node[3].op_type = "Det"
    with pytest.raises(ExportError, match="Det"):
        DifferentiableGraph(model.SerializeToString())
    model.graph.node[3].op_type, model.graph.node[3].domain = "Abs", "com.microsoft"
    with pytest.raises(ExportError, match=r"com\.microsoft\.Abs"):
        DifferentiableGraph(model.SerializeToString())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18", "mobilenet_v2"])
@pytest.mark.slow
def test_networks_of_ours_are_rebuilt_faithfully(name):
    network = built(name, "none")
    backbone = network.backbone
    spec = ModelSpec(
        labels=tuple(f"class {place}" for place in range(1000)),
        resize=backbone.resize,
        normalization=backbone.normalization,
        arch=name,
    )
    model = to_onnx(network.module, spec)
    photos = np.random.default_rng(0).integers(0, 256, (4, backbone.resize.height, backbone.resize.width, 3), np.uint8)
    proof = faithfulness(DifferentiableGraph(model), model, lambda batch: answer(model, batch), photos)
    assert proof.holds, str(proof)
    assert not proof.integer


@pytest.mark.slow
def test_the_rebuild_of_an_int8_file_is_the_file_on_200_real_photos(data_dir: Path):
    network = built("efficientnet_lite0", "pretrained")
    rule = network.backbone.resize
    files = photo_files(data_dir / "imagenet-1k-sample")[::5]
    photos = preprocess_batch([read_photo(path) for path in files], rule)
    spec = ModelSpec(
        labels=network.labels, resize=rule, normalization=network.backbone.normalization, arch="efficientnet_lite0"
    )
    fp32 = to_onnx(network.module, spec)
    int8 = quantize(fp32, [photos[:16], photos[16:32]])
    session = onnxruntime.InferenceSession(int8)
    proof = faithfulness(
        DifferentiableGraph(int8), int8, lambda batch: session.run(["logits"], {"pixels": batch})[0], photos
    )
    assert proof.n == 200
    assert proof.integer
    assert proof.holds, str(proof)


def test_a_rebuild_that_is_not_the_file_is_found_out(pixels):
    model, other = single("Abs", {}, []), single("Exp", {}, [])
    proof = faithfulness(DifferentiableGraph(model), model, lambda batch: answer(other, batch), pixels)
    assert not proof.holds
    assert output_step(model) is None
