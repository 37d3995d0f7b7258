"""Everything that can be asked of a robustness evaluation and of a dream, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import check, option
from edge_tl_runtime.robustness.corruptions import named_corruptions

ATTACK_NAMES = ("fgsm", "pgd", "pgd-margin", "apgd-ce", "apgd-dlr", "apgd-t", "deepfool", "square", "noise")
"""Those of `edge_tl.adversarial.attacks.registry`, which brings torch."""
PRESETS = ("quick", "standard", "full")
"""What they spend is in `edge_tl.adversarial.evaluation.presets`."""


@dataclass(frozen=True, kw_only=True)
class AttackSettings:
    """What was asked for; written into the report as it is."""

    preset: str = option("standard", "How much is spent.", *PRESETS)
    attacks: str = option(
        "", f"Run these instead of the preset's attacks: {', '.join(ATTACK_NAMES)}.", plugins="attacks", metavar="A,B"
    )
    norm: str = option("linf", "Shape of the perturbations.", "linf", "l2")
    epsilons: str = option("", "Radii; linf: in /255, 0,1,2,4,8,16; l2: of pixels in 0..1, 0,0.25,0.5,1,2.")
    photos: int = option(0, "Photos to attack; 0: what the preset takes.", low=0)
    split: str = option("val", "Part of DATA.", "val", "test", "train", "all")
    target: str = option("", "Class to be reached; otherwise any wrong class will do.")
    source: str = option("", "Attack photos of this class alone.")
    queries: int = option(0, "Questions to the file for each photo, of black-box attacks; 0: as the preset.", low=0)
    time_limit: float = option(0.0, "Minutes after which the report gives bounds; 0 for none.", low=0)
    corruptions: str = option("", "Also accuracy under corruptions: camera, imagenet-c, all, or names.")
    device: str = option(
        "auto", "Where gradients are computed; auto takes a GPU when there is one.", "auto", "cpu", "cuda"
    )
    seed: int = option(0, "Of random starts and black-box attacks.", low=0)

    def __post_init__(self) -> None:
        check(self)
        self.radii()
        if self.corruptions:
            named_corruptions(self.corruptions)

    def radii(self) -> tuple[float, ...]:
        """Epsilons in ascending order, 0 first, as asked for: whole /255 for linf, of pixels in 0..1 for l2."""
        text = self.epsilons or ("0,1,2,4,8,16" if self.norm == "linf" else "0,0.25,0.5,1,2")
        try:
            found = sorted({0.0, *(float(part) for part in text.split(","))})
        except ValueError:
            raise UsageError(f"--epsilons {text!r} is no list of numbers; for example 1,2,4,8") from None
        whole = self.norm != "linf" or all(value % 1 == 0 for value in found)
        if not whole or not all(0 <= value <= 255 for value in found) or len(found) < 2:
            kind = "whole numbers from 0 to 255, in /255" if self.norm == "linf" else "numbers from 0 to 255"
            raise UsageError(f"--epsilons {text!r}: {self.norm} takes {kind}, one above 0 at least")
        return tuple(found)

    @property
    def unit(self) -> float:
        """Pixel values in one of the person's units."""
        return 1.0 if self.norm == "linf" else 255.0


@dataclass(frozen=True, kw_only=True)
class PackSettings(AttackSettings):
    """Those of the evaluation that a pack is made of."""

    preset: str = option("quick", "How much is spent on the stored pictures.", *PRESETS)
    photos: int = option(100, "Photos in the pack; 0: what the preset takes.", low=0)


@dataclass(frozen=True, kw_only=True)
class DreamSettings:
    """What was asked for; written to dream.json. Weights are in logits, of terms that do not depend on the input's size."""

    steps: int = option(400, "Steps of gradient ascent.", low=1)
    learning_rate: float = option(0.005, "Of the first step; it falls to 0 on a cosine.", low=1e-6, high=1)
    basis: str = option(
        "fourier", "What is moved: frequencies of uncorrelated colours, or each pixel.", "fourier", "pixels"
    )
    tv: float = option(250.0, "Weight of total variation; more is smoother.", low=0)
    l2: float = option(300.0, "Weight of the squared distance from grey, or from the photo.", low=0)
    jitter: int = option(16, "Pixels that the picture is moved at most, at each step.", low=0)
    scale: float = option(0.3, "Share by which it is enlarged or reduced at most.", low=0, high=0.9)
    rotation: float = option(10.0, "Degrees by which it is turned at most.", low=0, high=180)
    start: str = option("noise", "What it starts from without a photo.", "noise", "grey")
    gradients: str = option(
        "own", "Of the file itself, or of the FP32 file that it was made from.", "own", "fp32-counterpart"
    )
    control: bool = option(True, "Also climb without anything that holds the picture.")
    animation: str = option("gif", "How the climb is shown.", "gif", "mp4", "none")
    frames: int = option(40, "Pictures of the animation.", low=2, high=1000)
    seed: int = option(0, "Of the start and of all movements.", low=0)
    device: str = option("auto", "auto takes a GPU when there is one.", "auto", "cpu", "cuda", "mps")

    def __post_init__(self) -> None:
        check(self)

    def unheld(self) -> DreamSettings:
        """The control: as many steps from the same start, on the pixels alone."""
        return replace(self, basis="pixels", tv=0.0, l2=0.0, jitter=0, scale=0.0, rotation=0.0)
