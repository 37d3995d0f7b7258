"""What happens to pictures without anybody meaning harm: noise, blur, weather, compression, and the faults of cameras.

A new one is a function beside its like and an entry in the CORRUPTIONS of its module.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import BadFrame, UsageError
from edge_tl_runtime.robustness.corruptions import blur, camera, digital, noise, weather
from edge_tl_runtime.robustness.corruptions.base import Corruption, CorruptionStage, Group, Pixels, random_stream

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIDE = 32

CORRUPTIONS: Mapping[str, Corruption[Any]] = MappingProxyType(
    {item.name: item for module in (noise, blur, weather, digital, camera) for item in module.CORRUPTIONS}
)
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {group: tuple(n for n, item in CORRUPTIONS.items() if item.group == group) for group in get_args(Group)}
)
CAMERA = GROUPS["camera"]
IMAGENET_C = tuple(name for name in CORRUPTIONS if name not in CAMERA)
SETS: Mapping[str, tuple[str, ...]] = MappingProxyType({**GROUPS, "imagenet-c": IMAGENET_C, "all": tuple(CORRUPTIONS)})

TAKEN = frozenset({*SETS, *CORRUPTIONS})
"""Names that no plugin may take."""


def find_corruption(name: str) -> Corruption[Any]:
    """The corruption of an entry in CORRUPTIONS, or of a package that adds one. Raises UsageError with names that come near."""
    if name in CORRUPTIONS:
        return CORRUPTIONS[name]
    added = None if name in SETS else plugins.load("corruptions", name, checked_corruption)
    if added is None:
        there = [*SETS, *CORRUPTIONS, *plugins.names("corruptions", TAKEN)]
        near = difflib.get_close_matches(name, there, 3) or there
        raise UsageError(f"no corruption is called {name!r}; there are {', '.join(near)}")
    return added.part


def checked_corruption(part: object) -> Corruption[Any]:
    """Raises TypeError for what is no Corruption with its five strengths."""
    found: Corruption[Any] = plugins.instance(part, Corruption)
    if (
        len(found.strengths) != len(SEVERITIES)
        or found.stage not in get_args(CorruptionStage)
        or not callable(found.apply)
    ):
        raise TypeError("it needs 5 strengths, a stage of pixels or frame, and a function to apply")
    return found


def named_corruptions(text: str) -> tuple[str, ...]:
    """Names from a list with commas of corruptions and of SETS ("camera", "imagenet-c", "all", a group), each once.

    Raises UsageError with names that come near.
    """
    found: dict[str, None] = {}
    for part in (part.strip() for part in text.split(",")):
        if part not in SETS:
            find_corruption(part)
        found |= dict.fromkeys(SETS.get(part, (part,)))
    return tuple(found)


def named_severities(text: str) -> tuple[int, ...]:
    """Severities from "1-5", "3" or "1,3,5", ascending, each once. Raises UsageError."""
    first, dash, last = text.replace(" ", "").partition("-")
    parts = first.split(",") if not dash else [first, last]
    if all(part in map(str, SEVERITIES) for part in parts):
        numbers = [int(part) for part in parts]
        levels = range(numbers[0], numbers[1] + 1) if dash else sorted(set(numbers))
        if levels:
            return tuple(levels)
    raise UsageError(f"severities {text!r}: they are 1 to 5, as in 1-5 or 1,3,5")


def corrupt(frame: Pixels, name: str, severity: int, key: str, seed: int = 0) -> Pixels:
    """A corrupted copy of a picture: the same bytes again for the same picture, name, severity, key and seed, in any order.

    frame: uint8 (H, W, 3), BGR, or grey (H, W) or (H, W, 1); sides of at least MIN_SIDE. It is never written to. Lengths follow
        the shorter side; whether a frame or a network's pixels are meant is said by `CORRUPTIONS[name].stage`.
    severity: 1 to 5. key: which photo it is, for example its name.
    Returns a new array, uint8, of the same shape. Other versions of NumPy and OpenCV, or another processor, may round a value
    otherwise by one. Raises BadFrame for what is no such picture, UsageError for an unknown name or severity.
    """
    corruption = find_corruption(name)
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity!r} of {name}; they are 1 to 5")
    picture = _picture(frame)
    rng = random_stream(seed, key, name, severity)
    values = corruption.apply(picture, corruption.strengths[severity - 1], rng)
    if getattr(values, "size", 0) != picture.size:
        raise UsageError(
            f"the corruption {name} gives {getattr(values, 'shape', type(values).__name__)} for {picture.shape}"
        )
    if values.dtype != np.uint8:
        values = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    elif np.may_share_memory(values, frame):
        values = values.copy()
    return np.ascontiguousarray(values).reshape(frame.shape)


def _picture(frame: Pixels) -> Pixels:
    """(H, W, 1 or 3), contiguous. Raises BadFrame."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8:
        raise BadFrame(
            f"a picture to corrupt is an array of uint8, not {getattr(frame, 'dtype', type(frame).__name__)}"
        )
    if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] not in (1, 3)):
        raise BadFrame(f"a picture to corrupt has height, width and 3 channels, or is grey; not shape {frame.shape}")
    if min(frame.shape[:2]) < MIN_SIDE:
        raise BadFrame(
            f"a picture of {frame.shape[1]}x{frame.shape[0]} px is too small to corrupt; sides of {MIN_SIDE} are needed"
        )
    return np.ascontiguousarray(frame).reshape(*frame.shape[:2], -1)


__all__ = [
    "CAMERA", "CORRUPTIONS", "GROUPS", "IMAGENET_C", "MIN_SIDE", "SETS", "SEVERITIES", "Corruption",
    "checked_corruption", "corrupt", "find_corruption", "named_corruptions", "named_severities",
]  # fmt: skip
