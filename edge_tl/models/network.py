"""A backbone with a linear head: the one shape every network here has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from edge_tl.models.backbones import Backbone
from edge_tl.models.friendly import Change, make_friendly
from edge_tl.models.weights import LoadedWeights, WeightsSource, load_weights
from edge_tl_export import PixelModel
from edge_tl_runtime.core.errors import UsageError


@dataclass
class Network:
    """module: normalised float32 (N, 3, H, W) to logits (N, C). head_path: dotted name of its last linear layer.

    labels: class names of the head, () while the head is not trained. weights: where the weights came from, with their
    SHA-256 in weights_sha256 ("" for random ones).
    """

    backbone: Backbone
    module: nn.Module
    head_path: str
    labels: tuple[str, ...] = ()
    weights: str = "none"
    weights_sha256: str = ""

    @property
    def head(self) -> nn.Linear:
        head = self.module.get_submodule(self.head_path)
        assert isinstance(head, nn.Linear)
        return head

    def pixel_model(self, device: torch.device) -> PixelModel:
        """The network in evaluation mode on `device`, from pixels to logits."""
        model = PixelModel(self.module.eval(), self.backbone.normalization)
        model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def make_edge_friendly(self, backbone: Backbone) -> tuple[Change, ...]:
        """Become `backbone`, the edge-friendly variant of what this network is; says what was replaced."""
        assert backbone.origin.name == self.backbone.name
        changes = make_friendly(self.module)
        self.backbone = backbone
        return changes

    def set_head(self, weight: torch.Tensor, bias: torch.Tensor, labels: tuple[str, ...]) -> None:
        """Give the network a head. weight: (C, D); bias: (C,)."""
        head = nn.Linear(weight.shape[1], weight.shape[0])
        head.load_state_dict({"weight": weight.detach().float().cpu(), "bias": bias.detach().float().cpu()})
        self._put(head.to(self.head.weight.device))
        self.labels = labels

    @contextmanager
    def headless(self) -> Iterator[nn.Module]:
        """The module with its head taken off, for the time of the block: it gives features (N, D)."""
        head = self.head
        self._put(nn.Identity())
        try:
            yield self.module
        finally:
            self._put(head)

    def _put(self, layer: nn.Module) -> None:
        parent, _, name = self.head_path.rpartition(".")
        setattr(self.module.get_submodule(parent), name, layer)


def build_network(backbone: Backbone, source: WeightsSource) -> Network:
    """A network with the weights of `source` and the head that comes with them (random weights: a random head).

    An edge-friendly variant made from a plain network's weights has lost its gates and is not what they were trained for;
    `edge_tl.training.finetune.adapt` begins with `build_origin` and does better.
    Raises WeightsError when the weights cannot be had or do not fit.
    """
    network = build_origin(backbone, source)
    if network.backbone.name != backbone.name:
        network.make_edge_friendly(backbone)
    return network


def build_origin(backbone: Backbone, source: WeightsSource) -> Network:
    """A network whose structure is that of the weights: `backbone`, or its plain network when they are the plain one's.

    Raises WeightsError when the weights cannot be had or do not fit.
    """
    loaded = load_weights(backbone.origin, source)
    if loaded.of_plain(backbone):
        backbone = backbone.origin
    module = backbone.create(loaded.classes or 1000)
    loaded.apply(module)
    return Network(backbone, module, _head_path(module, backbone.name), loaded.labels, str(source), loaded.sha256)


def restore_network(
    backbone: Backbone, state: dict[str, torch.Tensor], labels: tuple[str, ...], origin: str
) -> Network:
    """The network whose tensors are `state`. Raises WeightsError when they do not fit; `origin` is for messages."""
    module = backbone.create(len(labels))
    LoadedWeights(state, len(labels), labels, origin=origin).apply(module)
    return Network(backbone, module.eval(), _head_path(module, backbone.name), labels)


def _head_path(module: nn.Module, name: str) -> str:
    linear = [path for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    configured = getattr(module, "default_cfg", {}).get("classifier")  # timm says which layer it is
    path = configured if isinstance(configured, str) else (linear[-1] if linear else "")
    if path not in linear:
        raise UsageError(
            f"{name} does not end in a linear layer, so it cannot be given a new head; choose another backbone"
        )
    return path
