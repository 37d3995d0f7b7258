"""What can be chosen when a graph is quantized."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_tl_export.documents import RecipeDocument

ACTIVATIONS = ("uint8", "int8")
CALIBRATIONS = ("minmax", "average", "percentile", "entropy", "mse")


@dataclass(frozen=True)
class Recipe:
    """How a file is quantized; stored in its contract. Equal recipes on equal photos give equal bytes.

    activations: type of what flows between operators. On x86 onnxruntime is fast with uint8 only.
    weight_bits: 8, or 7 for x86 CPUs without VNNI, where the sum of two 8-bit products saturates at 16 bits.
    per_channel: a scale for each output channel of a convolution instead of one for all.
    calibration: how the range of an activation follows from what the calibration photos showed.
    pixels: whether pixels enter the first convolution as the integers they are, with the normalisation inside its weights.
    equalize: how far channels are rescaled for the range of their tensor rather than for that of the weights which read them
        (`edge_tl_export.quantization.equalize`); 0: not at all.
    correct_bias: whether biases take back the mean error of the rounded weights.
    rounding: "nearest", or "descent": for the inputs that the weights meet (`edge_tl_export.quantization.rounding`).
    hard_swish: whether hard-swish is done in integers (`edge_tl_export.quantization.prepare`) or stays float.
    float_nodes: names of operators that stay float.
    """

    activations: str = "uint8"
    weight_bits: int = 8
    per_channel: bool = True
    calibration: str = "minmax"
    pixels: bool = True
    equalize: float = 0.0
    correct_bias: bool = True
    rounding: str = "descent"
    hard_swish: bool = True
    float_nodes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (
            self.activations not in ACTIVATIONS
            or self.calibration not in CALIBRATIONS
            or self.weight_bits not in (7, 8)
        ):
            raise ValueError(f"no such recipe: {self}")

    def __str__(self) -> str:
        """In words, what differs from the plainest recipe."""
        said = [self.calibration]
        if self.equalize:
            said.append(f"equalized {self.equalize:g}")
        said += [] if self.pixels else ["float pixels"]
        said += [] if self.per_channel else ["per tensor"]
        said += [] if self.activations == "uint8" else [f"{self.activations} activations"]
        said += [] if self.weight_bits == 8 else [f"{self.weight_bits}-bit weights"]
        said += [] if self.hard_swish else ["float hard-swish"]
        said += [] if self.correct_bias else ["biases as they were"]
        said += [] if self.rounding == "descent" else [f"rounded to the {self.rounding}"]
        if self.float_nodes:
            said.append(f"{len(self.float_nodes)} layer{'s' if len(self.float_nodes) > 1 else ''} in float")
        return ", ".join(said)

    def but(self, **changes: Any) -> Recipe:
        """This recipe with some choices made differently."""
        return replace(self, **changes)

    def to_dict(self) -> RecipeDocument:
        return {
            "activations": self.activations,
            "weight_bits": self.weight_bits,
            "per_channel": self.per_channel,
            "calibration": self.calibration,
            "pixels": self.pixels,
            "equalize": self.equalize,
            "correct_bias": self.correct_bias,
            "rounding": self.rounding,
            "hard_swish": self.hard_swish,
            "float_nodes": list(self.float_nodes),
        }
