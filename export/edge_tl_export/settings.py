"""Everything that can be asked of an export, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import check, option
from edge_tl_runtime.machine.cpu import TARGETS, this_target

LEAST_BACKGROUND = 20
"""Background photos at least: half of them choose what is called unknown, the other half are the check."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What was asked for. max_drop is in points, as people say it; `allowed_drop` is the fraction that is computed with."""

    quantization: str | None = option(
        None,
        "Also write a quantized file; int8 if no kind is given.",
        "int8",
        "fp16",
        name="quantize",
        kind=str,
        bare="int8",
    )
    calibration_size: int = option(200, "Number of photos to calibrate INT8 on.", low=1, name="calibration_photos")
    target: str = option("auto", "Processor to make INT8 for; auto: this machine's.", "auto", *TARGETS)
    max_drop: float = option(
        0.5,
        "Points of top-1 that a quantized file may lose against FP32; a file that loses more is not written.",
        low=0,
        high=100,
    )
    search: str = option(
        "first",
        "first: take the first INT8 file that passes; full: evaluate every candidate and print the best trade-offs.",
        "first",
        "full",
    )
    qat_epochs: int = option(
        0,
        "If no candidate passes, train in INT8 for this many epochs on the training photos.",
        low=0,
        flags=("--qat",),
        metavar="EPOCHS",
    )
    layers: bool = option(True, "Measure the noise of each layer alone in INT8, for the page.")
    seed: int = option(0, "Decides which photos are used for calibration.")

    def __post_init__(self) -> None:
        """Raises UsageError: what is wrong is known before a model is opened."""
        check(self)

    @property
    def for_target(self) -> str:
        return this_target() if self.target == "auto" else self.target

    @property
    def allowed_drop(self) -> float:
        """Loss of top-1 against FP32, as a fraction, up to which a quantized file is handed over."""
        return self.max_drop / 100
