"""A variant of a network that INT8 computes well: ReLU6 for hard-swish and SiLU, no squeeze-excite.

Hard-swish, SiLU and the gates of squeeze-excite are passes over memory that no convolution takes in, and INT8 saves little on
them. ReLU6 is a bound on a convolution's output, which quantization has anyway.

A gate that never changed could move into the weights beside it without changing an output. So `watch_gates` finds the constant
nearest to each gate, `fold_gates` puts it there, and `make_friendly` then takes the gates out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

ACTIVATIONS = frozenset({"Hardswish", "SiLU", "HardSwish", "HardSwishMe", "Swish", "SwishMe"})
"""Class names, torch's and timm's, of what ReLU6 takes the place of."""
GATES = frozenset({"SqueezeExcitation", "SqueezeExcite", "SEModule", "EffectiveSEModule"})
"""Class names, torchvision's and timm's, of squeeze-excite blocks: they multiply channels (N, C, H, W) by (N, C, 1, 1)."""
_LIBRARIES = frozenset({"torch", "torchvision", "timm"})
_PLAIN_CONVOLUTIONS = frozenset({"Conv2d", "Conv2dSame"})
"""Convolutions whose weight is what multiplies; others standardise or mix theirs first."""


@dataclass(frozen=True)
class Change:
    """A layer that was replaced. path: its dotted name. was, now: class names."""

    path: str
    was: str
    now: str


def make_friendly(module: nn.Module) -> tuple[Change, ...]:
    """Replace in place what INT8 computes badly; returns what was replaced. () for a network that is friendly already.

    The names of all other tensors stay.
    """
    changes = []
    for path, layer in list(module.named_modules()):
        if is_gate(layer):
            _replace(module, path, nn.Identity())
            changes.append(Change(path, type(layer).__name__, "Identity"))
        elif _is(layer, ACTIVATIONS) and not any(path.startswith(f"{c.path}.") for c in changes):
            _replace(module, path, nn.ReLU6(inplace=bool(getattr(layer, "inplace", False))))
            changes.append(Change(path, type(layer).__name__, "ReLU6"))
    return tuple(changes)


def describe(changes: Sequence[Change]) -> str:
    """In words: how many of which kind became what."""
    counts = Counter((change.was, change.now) for change in changes)
    return ", ".join(f"{n} {was} {'removed' if now == 'Identity' else f'to {now}'}" for (was, now), n in counts.items())


def is_gate(layer: nn.Module) -> bool:
    """Whether the layer is a squeeze-excite block."""
    return _is(layer, GATES)


@dataclass
class _Sums:
    """Over photos and places, by channel, float64 (C,): of input times output, and of the input's square."""

    product: torch.Tensor | float = 0.0
    square: torch.Tensor | float = 0.0


@dataclass
class GateMeter:
    """What the gates of a network do to the photos that go through it."""

    sums: dict[str, _Sums] = field(default_factory=dict)

    def constants(self) -> dict[str, torch.Tensor]:
        """By the gate's name, float32 (C,): the constant that comes nearest to the gate's output in the least squares.

        That is the mean of the gate over photos, each weighted by the energy of its channel: photos that leave a channel
        dark have no say in it. 1 for a channel that was dark in all of them.
        """
        found = {}
        for path, sums in self.sums.items():
            product, square = torch.as_tensor(sums.product), torch.as_tensor(sums.square)
            found[path] = torch.where(square > 0, product / square.clamp(min=1e-30), 1.0).float().cpu()
        return found

    def add(self, path: str, before: torch.Tensor, after: torch.Tensor) -> None:
        """before, after: (N, C, H, W), in front of and behind the gate `path`."""
        # One photo's planes are summed in float32, photos in float64: fast, and exact enough for any number of them.
        product, square = ((before * other).sum((2, 3)).double().sum(0) for other in (after, before))
        sums = self.sums.setdefault(path, _Sums())
        sums.product, sums.square = sums.product + product, sums.square + square


@contextmanager
def watch_gates(module: nn.Module) -> Iterator[GateMeter]:
    """Measures every squeeze-excite block of `module` for the time of the block."""
    meter = GateMeter()

    def watch(path: str, layer: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return layer.register_forward_hook(
            lambda _, inputs, output: meter.add(path, inputs[0].detach(), output.detach())
        )

    handles = [watch(path, layer) for path, layer in module.named_modules() if is_gate(layer)]
    try:
        yield meter
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def fold_gates(module: nn.Module, constants: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Multiply the weights beside each gate by its constant (C,), in place; returns the names of the gates that could be.

    They go into the input columns of the convolutions that read the gate, or else into the normalisation that it alone
    reads. Once the gates are taken out, the network computes what it would have with gates of these constants.
    """
    graph = _trace(module)
    if graph is None:
        return ()
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    layers = dict(module.named_modules())
    folded = []
    for node in graph.nodes:
        path = str(node.target)
        if node.op != "call_module" or path not in constants or calls[path] != 1:
            continue
        readers = list(_readers(node, layers))
        if readers and all(_is(layer, _PLAIN_CONVOLUTIONS) and calls[name] == 1 for name, layer in readers):
            for _, layer in readers:
                _scale_columns(layer, constants[path])
            folded.append(path)
            continue
        norm = _normalisation_before(node, layers)
        if norm is not None and calls[norm[0]] == 1:
            for tensor in (norm[1].weight, norm[1].bias):
                tensor.mul_(constants[path].to(tensor))
            folded.append(path)
    return tuple(folded)


class _Tracer(fx.Tracer):
    """Looks into blocks, but not into convolutions, normalisations and gates, whatever library they come from."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = is_gate(m) or isinstance(m, nn.Conv2d | _BatchNorm)
        return known or super().is_leaf_module(m, module_qualified_name)


def _trace(module: nn.Module) -> fx.Graph | None:
    """Who reads whom; None for a network whose path depends on its input, or that fx cannot follow for another reason."""
    try:
        return _Tracer().trace(module.eval())
    except Exception:  # noqa: BLE001  # whatever the network's own code raises on a placeholder
        return None


def _readers(node: fx.Node, layers: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """What takes a node's output, by name, past layers that leave it as it is; an addition or its like as ("", Identity)."""
    for user in node.users:
        layer = layers.get(str(user.target)) if user.op == "call_module" else None
        if layer is None:
            yield "", nn.Identity()
        elif isinstance(layer, nn.Identity | nn.Dropout):
            yield from _readers(user, layers)
        else:
            yield str(user.target), layer


def _normalisation_before(node: fx.Node, layers: Mapping[str, nn.Module]) -> tuple[str, _BatchNorm] | None:
    """The batch normalisation that this layer alone reads, when it is nothing but that: timm's may end in an activation."""
    source = node.args[0]
    if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
        return None
    layer = layers[str(source.target)]
    if not isinstance(layer, _BatchNorm) or not layer.affine:
        return None
    return (str(source.target), layer) if all(_is(c, frozenset({"Identity"})) for c in layer.children()) else None


def _scale_columns(layer: nn.Module, constant: torch.Tensor) -> None:
    """weight: (O, I / groups, H, W); constant: (I,)."""
    assert isinstance(layer, nn.Conv2d)
    groups = layer.groups
    split = layer.weight.unflatten(0, (groups, -1))
    scaled = split * constant.to(layer.weight).view(groups, 1, -1, 1, 1)
    layer.weight.copy_(scaled.flatten(0, 1))


def _is(layer: nn.Module, names: frozenset[str]) -> bool:
    kind = type(layer)
    return kind.__name__ in names and kind.__module__.partition(".")[0] in _LIBRARIES


def _replace(module: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)
