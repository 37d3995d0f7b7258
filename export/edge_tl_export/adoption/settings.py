"""What can be asked of an adoption, with its default and its help line. Needs no onnx."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import FLAG, check, option

PRESET_NAMES = ("imagenet", "0..1", "-1..1", "0..255", "caffe", "openmmlab", "clip", "mnist")
"""Those of `edge_tl_export.adoption.preprocessing.PRESETS`."""
READINGS = ("auto", "logits", "probabilities", "log-probabilities", "sigmoid")
"""What scores can mean; auto: it is found out."""


@dataclass(frozen=True, kw_only=True)
class AdoptSettings:
    """What a person says about a file where it does not say it itself."""

    repeated_labels: str = option(
        "refuse", "What to do with two equal labels; number: add the index to the second.", "refuse", "number"
    )
    background_first: bool = option(False, "Class 0 is the background, which the labels leave out.", kind=FLAG)
    normalize: str | None = option(
        None,
        "Normalization that the network was trained with; docs/how-to/adopt-a-model.md explains each.",
        *PRESET_NAMES,
        kind=str,
    )
    crop_pct: float | None = option(
        None,
        "Share of a photo's side that the network sees.  [default: 0.875]",
        low=0.05,
        high=1,
        kind=float,
    )
    count: int = option(200, "Number of photos to use, spread over the classes.", low=1)
    output: str = option("", "Name of the output with the scores, if there are several.")
    scores: str = option("auto", "What the output means, if the command cannot find out.", *READINGS)

    def __post_init__(self) -> None:
        """Raises UsageError for a value outside its choices or bounds."""
        check(self)
