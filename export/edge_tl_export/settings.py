"""Everything that can be asked of an export, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import check, option
from edge_tl_runtime.machine.cpu import TARGETS, this_target


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What was asked for. max_drop is in points, as people say it; `allowed_drop` is the fraction that is computed with."""

    quantization: str | None = option(
        None,
        "Also write a quantized file (int8 when no kind is given).",
        "int8",
        "fp16",
        name="quantize",
        kind=str,
        bare="int8",
    )
    calibration_size: int = option(200, "Photos that INT8 is calibrated on.", low=1, name="calibration_photos")
    target: str = option("auto", "Kind of processor that INT8 is for; auto: this one.", "auto", *TARGETS)
    max_drop: float = option(
        0.5,
        "Points of top-1 that a quantized file may be seen to lose against FP32; none is written that loses more.",
        low=0,
        high=100,
    )
    search: str = option(
        "first",
        "Take the first INT8 file that passes, or evaluate every candidate and print the front.",
        "first",
        "full",
    )
    qat_epochs: int = option(
        0,
        "Train in INT8 for so many epochs on the training photos when no candidate passes.",
        low=0,
        flags=("--qat",),
        metavar="EPOCHS",
    )
    layers: bool = option(True, "Measure what each layer alone costs, for the page.")
    seed: int = option(0, "Decides which photos calibrate.")

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
