"""Quantized files with gradients: the same answers as the device's, and training that repairs what rounding broke."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from stripes import patches
from torch import nn
from torch.nn import functional

from edge_tl_export.errors import ExportError
from edge_tl_export.onnx_graph.export_graph import to_onnx
from edge_tl_export.quantization.quantize import quantize
from edge_tl_export.quantization.recipe import Recipe
from edge_tl_export.search.qat import QATEpoch, quantization_aware
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

SPEC = ModelSpec(
    labels=tuple("abcdef"),
    resize=ResizeRule(height=32, width=32, crop_pct=1.0, resample="area-cubic"),
    normalization=Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    arch="tiny",
)
PLAIN = Recipe().but(rounding="nearest", equalize=0.0)


pytestmark = pytest.mark.usefixtures("one_thread")


class Blocks(nn.Module):
    """One of each: ReLU6, max pool, hard-swish, depthwise, squeeze-excite with a hard sigmoid, residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 1))
        self.widen = nn.Sequential(
            nn.Conv2d(16, 32, 1), nn.Hardswish(), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.ReLU()
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 8, 1), nn.ReLU(), nn.Conv2d(8, 32, 1), nn.Hardsigmoid()
        )
        self.narrow = nn.Conv2d(32, 16, 1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        wide = self.widen(x)
        return self.head(x + self.narrow(wide * self.gate(wide)))


def infer(model: bytes, pixels: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model).run(None, {"pixels": pixels})[0]


def gradients(graph: nn.Module, pixels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    pixels = pixels.clone().requires_grad_()
    (graph(pixels) * weights).sum().backward()
    assert pixels.grad is not None
    return pixels.grad


@pytest.fixture(scope="module")
def float_graph() -> bytes:
    torch.manual_seed(0)
    network = Blocks().eval()
    for module in network.modules():  # as large as trained ones, so that gates and clips do something
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 1.8
    return to_onnx(network, SPEC)


@functools.cache
def _quantized(float_graph: bytes, recipe: Recipe) -> bytes:
    return quantize(float_graph, [patches(32, 0)[0]], recipe)


@pytest.fixture(scope="module")
def model(float_graph) -> bytes:
    return _quantized(float_graph, PLAIN)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(PLAIN, id="uint8"),
        pytest.param(PLAIN.but(activations="int8"), id="int8"),
        pytest.param(PLAIN.but(per_channel=False), id="per-tensor"),
        pytest.param(PLAIN.but(pixels=False), id="float-pixels"),
        pytest.param(PLAIN.but(hard_swish=False), id="float-hard-swish"),
        pytest.param(PLAIN.but(weight_bits=7), id="7-bit"),
    ],
)
@pytest.mark.parametrize("trainable", [False, True])
def test_the_module_answers_as_onnxruntime_does(float_graph, recipe, trainable):
    model = _quantized(float_graph, recipe)
    pixels, _ = patches(64, 1)
    expected = infer(model, pixels)
    with torch.no_grad():
        found = DifferentiableGraph(model, trainable=trainable)(torch.from_numpy(pixels)).numpy()
    # One step of the head's input through its largest weight.
    arrays = {x.name: numpy_helper.to_array(x) for x in onnx.load_from_string(model).graph.initializer}
    head = next(node for node in onnx.load_from_string(model).graph.node if node.op_type == "Gemm")
    made = {node.output[0]: node for node in onnx.load_from_string(model).graph.node}
    steps = [arrays[made[name].input[1]].max() for name in head.input[:2]]
    assert np.abs(found - expected).max() <= 127 * steps[0] * steps[1] + 1e-5
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def test_photos_may_be_floats(model):
    pixels = torch.from_numpy(patches(4, 1)[0])
    graph = DifferentiableGraph(model)
    assert torch.equal(graph(pixels), graph(pixels.float()))


def test_gates_keep_the_scale_they_are_read_with(model):
    graph = onnx.load_from_string(model).graph
    written = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
    gates = [
        node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and written.get(node.input[0], node.input[1]) != node.input[1]
    ]
    assert len(gates) == 2


def tiny_file(kind: str = "Relu") -> bytes:
    """pixels -> Transpose -> Cast -> Quantize (0 to 127.5 in steps of 1/2) -> Dequantize -> kind -> sum over the picture."""
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["floats", "scale", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["reals"]),
        helper.make_node(kind, ["reals"], ["some"]),
        helper.make_node("ReduceMean", ["some", "axes"], ["logits"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.5), "scale"),
        numpy_helper.from_array(np.uint8(0), "zero"),
        numpy_helper.from_array(np.array([2, 3]), "axes"),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 1, 2, 3])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


def test_saturated_values_have_no_gradient_and_others_that_of_the_float_graph():
    pixels = torch.tensor([10.3, 127.6, 127.9, 200.0, 0.4, 60.0]).view(1, 1, 2, 3).requires_grad_()
    DifferentiableGraph(tiny_file())(pixels).sum().backward()
    assert pixels.grad is not None
    torch.testing.assert_close(pixels.grad.flatten(), torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 1.0]) / 2)


def test_an_unknown_operator_is_named():
    with pytest.raises(ExportError, match="Cosh"):
        DifferentiableGraph(tiny_file("Cosh"))


def test_gradients_point_where_those_of_the_float_network_do(float_graph, model):
    torch.manual_seed(0)
    network = Blocks().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 1.8
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (SPEC.normalization.mean, SPEC.normalization.std))
    pixels = torch.from_numpy(patches(16, 2)[0]).float()
    weights = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    exact = gradients(lambda x: network((x.permute(0, 3, 1, 2) / 255 - mean) / std), pixels, weights)  # type: ignore[arg-type]
    found = gradients(DifferentiableGraph(model), pixels, weights)
    assert functional.cosine_similarity(exact.flatten(1), found.flatten(1)).min() > 0.9
    assert 0.8 < float(found.norm() / exact.norm()) < 1.25


def test_gradients_foretell_what_a_change_does(model):
    """Along the gradient, over a distance of some steps of the integers, the logits change as the gradient says."""
    pixels = torch.from_numpy(patches(64, 2)[0]).float().clamp(40, 215)
    weights = torch.zeros(64, 6)
    weights[:, 0] = 1
    graph = DifferentiableGraph(model)
    direction = gradients(graph, pixels, weights)
    direction = 2 * direction.sign()
    with torch.no_grad():
        change = (graph(pixels + direction) - graph(pixels - direction))[:, 0]
    middle = gradients(graph, pixels, weights)
    foretold = (2 * direction * middle).flatten(1).sum(1)
    assert np.corrcoef(change, foretold)[0, 1] > 0.8
    assert 0.8 < float(change.sum() / foretold.sum()) < 1.2


@pytest.mark.parametrize("recipe", [PLAIN, PLAIN.but(weight_bits=7), PLAIN.but(per_channel=False)], ids=str)
def test_an_untrained_graph_gives_the_file_back(float_graph, recipe):
    model = _quantized(float_graph, recipe)
    graph = DifferentiableGraph(model, trainable=True)
    assert graph.to_model() == model
    latent = graph.weights["0"]
    with torch.no_grad():
        latent.add_(0.4)  # less than what rounding takes
    assert graph.to_model() == model
    with torch.no_grad():
        latent[0, 0, 0, 0] = -1000.0
    limit = 63 if recipe.weight_bits == 7 else 127
    before, after = (onnx.load_from_string(x).graph for x in (model, graph.to_model()))
    assert [node.op_type for node in before.node] == [node.op_type for node in after.node]
    arrays = [{x.name: numpy_helper.to_array(x) for x in y.initializer} for y in (before, after)]
    changed = [name for name in arrays[0] if not np.array_equal(arrays[0][name], arrays[1][name])]
    assert len(changed) == 1
    assert arrays[1][changed[0]].min() == -limit


def test_trained_scales_are_written_as_they_are_used(model):
    """Scales that were one array may part, biases follow their input's scale, and sums keep theirs."""
    graph = DifferentiableGraph(model, trainable=True)
    with torch.no_grad():
        for place, scale in enumerate(graph.scales.values()):
            scale.fill_(-0.05 * (place + 1))
    written = graph.to_model()
    pixels, _ = patches(32, 3)
    with torch.no_grad():
        expected = graph(torch.from_numpy(pixels)).numpy()
        again = DifferentiableGraph(written)(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(again, expected, atol=1e-5)
    assert (infer(written, pixels).argmax(1) == expected.argmax(1)).mean() > 0.95

    def around_sums(data: bytes) -> list[float]:
        nodes = onnx.load_from_string(data).graph
        arrays = {x.name: numpy_helper.to_array(x) for x in nodes.initializer}
        made = {node.output[0]: node for node in nodes.node}
        sums = [node for node in nodes.node if node.op_type == "Add"]
        read = [float(arrays[made[name].input[1]]) for node in sums for name in node.input]
        put = [float(arrays[node.input[1]]) for node in nodes.node if node.input[0] in {x.output[0] for x in sums}]
        assert read
        assert put
        return read + put

    assert around_sums(written) == around_sums(model)
    pools = [node for node in onnx.load_from_string(written).graph.node if node.op_type == "MaxPool"]
    assert pools
    for pool in pools:  # what it gives is what it takes
        before, after = _scales_around(written, pool)
        assert before == after
        assert before != _scales_around(model, pool)[0]


def _scales_around(data: bytes, pool: onnx.NodeProto) -> tuple[float, float]:
    graph = onnx.load_from_string(data).graph
    arrays = {x.name: numpy_helper.to_array(x) for x in graph.initializer}
    before = next(node for node in graph.node if node.output[0] == pool.input[0])
    after = next(node for node in graph.node if node.input[0] == pool.output[0])
    return float(arrays[before.input[1]]), float(arrays[after.input[1]])


class Plain(nn.Sequential):
    """Convolutions and ReLUs, through which a channel can be scaled and scaled back."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 6),
        )  # fmt: skip

    def plant(self, factor: float) -> None:
        """One channel of each hidden tensor becomes `factor` times as large, and the function stays what it was."""
        for place in (0, 2):
            layer, following = self[place], self[place + 2]
            layer.weight.data[3] *= factor
            layer.bias.data[3] *= factor
            following.weight.data[:, 3] /= factor


@dataclasses.dataclass(frozen=True)
class Broken:
    """A network with an outlier, FP32 and INT8. Accuracies on the test patches."""

    fp32: bytes
    int8: bytes
    exact: float
    rough: float


def accuracy(model: bytes) -> float:
    pixels, targets = patches(1500, 9)
    return float((infer(model, pixels).argmax(1) == targets).mean())


@pytest.fixture(scope="module")
def broken() -> Broken:
    torch.manual_seed(0)
    network = Plain()
    pixels, targets = patches(1536, 5)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (SPEC.normalization.mean, SPEC.normalization.std))
    planes = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(8):
        for rows in torch.arange(len(planes)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(network(planes[rows]), torch.from_numpy(targets)[rows]).backward()
            optimizer.step()
    network.eval().plant(200)
    fp32 = to_onnx(network, SPEC)
    int8 = quantize(fp32, [pixels[:128]], PLAIN)
    return Broken(fp32, int8, accuracy(fp32), accuracy(int8))


def train(broken: Broken, epochs: int, **changes) -> tuple[bytes, list[QATEpoch]]:
    pixels, targets = patches(1024, 5)
    order = np.random.default_rng(0)

    def batches(epoch: int):
        rows = order.permutation(len(pixels)) if epoch else np.arange(len(pixels))
        return ((pixels[i], targets[i]) for i in np.array_split(rows, 32))

    epochs_seen: list[QATEpoch] = []
    session = onnxruntime.InferenceSession(broken.fp32)
    made = quantization_aware(
        broken.int8,
        lambda x: session.run(None, {"pixels": x})[0],
        batches,
        epochs,
        progress=epochs_seen.append,
        **changes,
    )
    return made, epochs_seen


def test_training_repairs_what_an_outlier_broke(broken):
    assert broken.exact - broken.rough >= 0.2, broken.rough
    made, epochs = train(broken, 6, learning_rate=0.1)
    assert accuracy(made) >= broken.exact - 0.01, epochs
    assert max(epoch.agreement for epoch in epochs) > epochs[0].agreement


def test_the_same_seed_gives_the_same_bytes(broken):
    assert train(broken, 1, learning_rate=0.1)[0] == train(broken, 1, learning_rate=0.1)[0]


def test_the_result_never_agrees_less_than_the_file_given(broken):
    """With a learning rate that destroys, the file given comes back."""
    good = dataclasses.replace(broken, int8=quantize(broken.fp32, [patches(128, 5)[0]], PLAIN.but(equalize=1.0)))
    made, epochs = train(good, 1, learning_rate=50.0)
    assert made == good.int8, epochs
