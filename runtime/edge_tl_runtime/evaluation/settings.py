"""What can be asked of `edge-tl evaluate`, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import option
from edge_tl_runtime.images.settings import crop_option, fit_option, flip_option, rotate_option

SPLITS = ("val", "test", "train", "all")
"""Parts of labelled photos that can be evaluated on."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Which photos, and under which corruptions (None: clean alone)."""

    split: str = option(
        "val",
        "Part of DATA to evaluate on. val and test leave out photos that MODEL was trained on; train and all include them.",
        *SPLITS,
    )
    corruptions: str | None = option(
        None,
        "Also measure accuracy under corruptions: camera, imagenet-c, all, a group (noise, blur, ...), or names with commas.",
        kind=str,
    )
    severities: str = option("1-5", "Severities of the corruptions: 1-5, or 1,3,5.")
    seed: int = option(0, "Seed of the corruptions.", low=0)
    count: int | None = option(
        None, "Evaluate only this many photos, spread over the classes.", kind=int, low=1, flags=("--photos",)
    )
    crop: str = crop_option()
    rotate: int | None = rotate_option()
    flip: str | None = flip_option()
    fit: str | None = fit_option()
