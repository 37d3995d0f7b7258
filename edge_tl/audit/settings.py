"""What can be asked of `edge-tl data check`, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_tl.training.settings import TrainSettings
from edge_tl_runtime.core.settings import option


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """The page, and the backbone whose features look at the labels: the one that a training takes unless told otherwise."""

    page: Path = option(Path("data-check.html"), "File for the page.", flags=("-o", "--output"))
    arch: str = option(TrainSettings.arch, "Backbone whose features check the labels.")
    weights: str = option(TrainSettings.weights, "Weights of the backbone.")
    device: str = option("auto", "Device to compute on; auto: a GPU if there is one.", "auto", "cpu", "cuda", "mps")
