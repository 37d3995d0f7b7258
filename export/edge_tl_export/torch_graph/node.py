"""One operator of an ONNX graph on its way to PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """One operator. inputs: keys of values ("" where one is left out). levels: smallest and largest integer of a quantization."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    levels: tuple[float, float] = (0.0, 255.0)
    done_with: tuple[str, ...] = ()
