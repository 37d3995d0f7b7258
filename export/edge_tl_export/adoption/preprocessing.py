"""What a network wants its pixels to be: named presets, figures as people write them, and what the graph itself says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_tl_export.adoption.graph import constant
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.modelfile.spec import Normalization

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Preset:
    """A usual preprocessing. mean, std: in units of pixel / 255, as the contract has them. order: of the colours.

    what: the same in words, with who uses it. grey: made for pictures of one channel.
    rare: so near to a commoner one that only photos which tell them apart speak for it.
    """

    mean: Three
    std: Three
    order: str
    what: str
    grey: bool = False
    rare: bool = False

    @property
    def normalization(self) -> Normalization:
        return Normalization(mean=self.mean, std=self.std)


def _over_255(*values: float) -> Three:
    first, second, third = (value / 255 for value in values)
    return first, second, third


PRESETS: dict[str, Preset] = {
    "imagenet": Preset(
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        "RGB",
        "(pixel/255 - mean) / std with ImageNet's figures: torchvision, timm, most of Hugging Face",
    ),
    "0..1": Preset((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "RGB", "pixel/255: Ultralytics, many small trainings"),
    "-1..1": Preset(
        (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "RGB", "(pixel/255 - 0.5) / 0.5: Keras 'tf' mode, Inception, timm's ViT"
    ),
    "0..255": Preset(
        (0.0, 0.0, 0.0),
        _over_255(1, 1, 1),
        "RGB",
        "pixels as they are: networks that normalise inside, such as Keras EfficientNet",
    ),
    "caffe": Preset(
        _over_255(103.939, 116.779, 123.68),
        _over_255(1, 1, 1),
        "BGR",
        "pixel - mean, in BGR: Caffe, Keras 'caffe' mode (ResNet50, VGG)",
    ),
    "openmmlab": Preset(
        _over_255(123.675, 116.28, 103.53),
        _over_255(58.395, 57.12, 57.375),
        "RGB",
        "(pixel - mean) / std in 0..255: mmpretrain; the same as imagenet to the last digit",
    ),
    "clip": Preset(
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
        "RGB",
        "(pixel/255 - mean) / std with CLIP's figures: OpenAI, OpenCLIP",
        rare=True,
    ),
    "mnist": Preset(
        (0.1307,) * 3, (0.3081,) * 3, "RGB", "(pixel/255 - 0.1307) / 0.3081: PyTorch's MNIST example, grey", grey=True
    ),
}
DEFAULT, DEFAULT_GREY = "imagenet", "0..1"


def for_channels(channels: int) -> list[str]:
    """Names of the presets that pictures of so many channels can have, each figure once."""
    names: dict[str, str] = {}
    for name, preset in PRESETS.items():
        plain = len(set(preset.mean)) == 1 and len(set(preset.std)) == 1
        if (plain if channels == 1 else not preset.grey) and name_of(preset.normalization) not in names:
            names[name_of(preset.normalization)] = name
    return list(names.values())


def check_channels(normalization: Normalization, channels: int, name: str) -> None:
    """Raises UsageError for figures that differ between colours where the network sees grey."""
    if channels == 1 and (len(set(normalization.mean)) > 1 or len(set(normalization.std)) > 1):
        raise UsageError(
            f"{name} takes grey pictures, and {name_of(normalization)} has a figure for each colour; "
            f"say --normalize {', '.join(for_channels(1))}, or one number each for --mean and --std"
        )


def name_of(normalization: Normalization) -> str:
    """The first preset with these figures, or the figures themselves, for a person."""
    for name, preset in PRESETS.items():
        if np.allclose((preset.mean, preset.std), (normalization.mean, normalization.std), rtol=1e-9, atol=1e-12):
            return name
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (normalization.mean, normalization.std))
    return f"mean {mean} and std {std} of pixel/255"


def figures(mean: Sequence[float], std: Sequence[float]) -> tuple[Normalization, str]:
    """Mean and standard deviation as a person gives them, in units of pixel/255 or of 0..255; and a line on what was done.

    mean, std: three numbers, or one for all channels. Raises UsageError for what cannot be either unit, or for both at once.
    """
    given = {"mean": _three("mean", mean), "std": _three("std", std)}
    for name, values in given.items():
        if not all(map(math.isfinite, values)):
            raise UsageError(f"--{name} {_shown(values)} has a value that is no number; give three finite ones")
        if max(values) > 255:
            raise UsageError(
                f"--{name} {_shown(values)} is beyond 255, the largest pixel; give figures of 0..1 or 0..255"
            )
    if min(given["mean"]) < 0:
        raise UsageError(f"--mean {_shown(given['mean'])} is negative and no pixel is; give it without the sign")
    if min(given["std"]) <= 0:
        raise UsageError(f"--std {_shown(given['std'])} must be above 0: the pixels are divided by it")
    large_mean, large_std = (max(given[name]) > 1 for name in ("mean", "std"))
    if large_mean and min(given["mean"]) <= 1 and min(given["mean"]) > 0:
        raise UsageError(f"--mean {_shown(given['mean'])} mixes figures of 0..1 and of 0..255; give one unit")
    if large_std and min(given["std"]) < 1:
        raise UsageError(f"--std {_shown(given['std'])} mixes figures of 0..1 and of 0..255; give one unit")
    zero_mean = max(given["mean"]) == 0
    small_std = max(given["std"]) < 1
    if (large_mean and small_std) or (large_std and not large_mean and not zero_mean):
        raise UsageError(
            f"--mean {_shown(given['mean'])} and --std {_shown(given['std'])} are in different units (0..255 and 0..1); "
            "give both in one of them"
        )
    if large_mean or large_std:
        scaled = Normalization(mean=_over_255(*given["mean"]), std=_over_255(*given["std"]))
        return scaled, f"mean and std are of 0..255 and were divided by 255: {name_of(scaled)}"
    plain = Normalization(mean=given["mean"], std=given["std"])
    line = f"mean and std are of pixel/255: {name_of(plain)}"
    if zero_mean and given["std"] == (1.0, 1.0, 1.0):
        line += "; for pixels as they are say --normalize 0..255"
    return plain, line


def _three(name: str, values: Sequence[float]) -> Three:
    if len(values) == 1:
        return values[0], values[0], values[0]
    if len(values) != 3:
        raise UsageError(f"--{name} has {len(values)} numbers; give three, or one for all channels")
    return values[0], values[1], values[2]


def _shown(values: Three) -> str:
    return ",".join(f"{value:g}" for value in values)


# What the graph itself does with its input


@dataclass(frozen=True)
class Inside:
    """Arithmetic with stored numbers before the first layer. scale, offset: of the whole of it, one or per channel."""

    operators: tuple[str, ...]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    def preset(self) -> str | None:
        """The preset whose values this arithmetic turns into the usual few units around 0, if there is one."""
        scale = float(np.abs(self.scale).max())
        for name, width in (("0..255", 255.0), ("0..1", 1.0)):
            low = float((self.offset).min())
            if 0.5 <= scale * width <= 8.0 and -4.0 <= low <= 4.0:
                return name
        return None


def inside(graph: onnx.GraphProto, taken: str) -> Inside | None:
    """Normalisation that the graph does itself, right behind its input `taken`; None where there is none."""
    scale, offset = np.ones(1), np.zeros(1)
    operators: list[str] = []
    value = taken
    for _ in range(16):
        users = [node for node in graph.node if value in node.input]
        if len(users) != 1:
            break
        node = users[0]
        if node.op_type in ("Cast", "Transpose", "Identity", "Gather", "Reshape"):
            value = node.output[0]
            continue
        step = _step(graph, node, value)
        if step is None:
            break
        times, plus = step
        scale, offset = scale * times, offset * times + plus
        operators.append(node.op_type)
        value = node.output[0]
    return Inside(tuple(operators), scale, offset) if operators else None


def _step(
    graph: onnx.GraphProto, node: onnx.NodeProto, value: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Factor and summand of one operator with stored numbers; None for any other."""
    if node.op_type == "BatchNormalization":
        stored = [constant(graph, name) for name in node.input[1:5]]
        if any(item is None for item in stored):
            return None
        weight, bias, mean, variance = (np.asarray(item, np.float64) for item in stored)
        times = weight / np.sqrt(variance + 1e-5)
        return times, bias - mean * times
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == value
    other = constant(graph, node.input[1] if first else node.input[0])
    if other is None or other.size not in (1, 3):
        return None
    number = np.asarray(other, np.float64).reshape(-1)
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type == "Add":
        return one, number
    if node.op_type == "Mul":
        return number, zero
    if node.op_type == "Sub":
        return (one, -number) if first else (-one, number)
    return (1 / number, zero) if first and np.all(number) else None
