"""What is made plain before a network is lowered to ONNX: the same answers, whatever the network does with its layers."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_tl_export import to_onnx
from edge_tl_export.onnx_graph.trace import trace
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

SPEC = ModelSpec(
    labels=("a", "b", "c"),
    resize=ResizeRule(height=16, width=16, crop_pct=0.875, resample="area-cubic"),
    normalization=Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25)),
    arch="odd",
)


class Odd(nn.Module):
    """Every way in which a normalisation or an activation meets a network, most of which forbid to touch it."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.biased = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=4), nn.BatchNorm2d(8, eps=0.1), nn.Hardswish(True))
        self.twice, self.first, self.second = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.seen, self.seen_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.free, self.free_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False)
        self.before, self.after = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.biased(self.plain(x))
        x = self.first(self.twice(x)) + self.second(self.twice(functional.silu(x)))  # one weight, two normalisations
        y = self.seen(x)
        x = self.seen_norm(y) + y  # the sum reads what the normalisation reads
        x = self.free_norm(self.free(x))
        z = x * 2
        x = functional.relu6(z, inplace=True) + z  # z is what was written into it
        x = self.after(self.before(x))
        return self.head(functional.hardtanh(x, -2, 2).mean((2, 3)))


@pytest.fixture(scope="module")
def odd() -> nn.Module:
    torch.manual_seed(0)
    network = Odd()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.2, 2)
                if layer.affine:
                    layer.weight.uniform_(-1.5, 1.5)
                    layer.bias.normal_(0, 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def graph(odd) -> bytes:
    return to_onnx(odd, SPEC)


def test_the_answers_are_pytorchs(odd, graph):
    rng = np.random.default_rng(0)
    pixels = (rng.uniform(0, 1, (5, 16, 16, 3)) * rng.uniform(50, 256, (5, 1, 1, 3))).astype(np.uint8)
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (SPEC.normalization.mean, SPEC.normalization.std))
    with torch.inference_mode():
        expected = odd((planes - mean) / std).numpy()
    assert expected.std(0).min() > 1e-3, "photos that all look the same would show nothing"
    found = onnxruntime.InferenceSession(graph).run(None, {"pixels": pixels})[0]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_network_keeps_its_weights():
    torch.manual_seed(1)
    network = Odd().eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trace(network, torch.zeros(2, 3, 16, 16))
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_only_normalisations_that_nothing_forbids_go_into_a_convolution(odd):
    targets = [node.target for node in trace(odd, torch.zeros(2, 3, 16, 16)).graph.nodes]
    assert targets.count(torch.ops.aten.batch_norm.default) == 5, (
        "of seven: two weights, a reader, no scale, none before"
    )
    assert torch.ops.aten.hardswish_.default not in targets


def test_what_is_left_of_them_is_no_operator_of_training(graph):
    kinds = {node.op_type for node in onnx.load_from_string(graph).graph.node}
    assert "Dropout" not in kinds
    assert {"Conv", "Clip", "HardSwish"} <= kinds
