"""What `--recipe auto` does, decided from the training photos alone, and in words.

Each rule carries the measurement it stands on (docs/decisions/0005-recipes.md). The validation photos take no part in any of
them: they only choose, at the end, between the probe and what fine-tuning made of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tl.training.probe.probe import Probe

ENOUGH = 0.01
"""Error on held-out training photos at which nothing more is tried."""
LARGER = 9 / 7
"""Side of the larger input over the backbone's own: 288 for 224, with 1.65 times the work a frame."""
WORTH_A_LARGER_INPUT = 0.03
"""Share of the held-out loss that a larger input must take off."""
PHOTOS_A_CLASS = 20
"""Fewer photos of the smallest class do not carry the training of every weight."""

CHANGED = "layers of the network were just replaced"


@dataclass(frozen=True)
class RecipeChoice:
    """What was decided, and why."""

    yes: bool
    why: str


def held_out_error(probe: Probe, targets: NDArray[np.int64]) -> float | None:
    """Share of the training photos that the folds without them get wrong, the mean over classes where these are unequal;
    None where no folds could be made."""
    if probe.held_out is None:
        return None
    wrong = probe.held_out.argmax(1) != targets
    if not probe.balanced:
        return float(wrong.mean())
    return float(np.mean([wrong[targets == target].mean() for target in np.unique(targets)]))


def try_larger_input(error: float | None) -> RecipeChoice:
    """Whether a larger input is worth computing features for."""
    if error is None:
        return RecipeChoice(False, "classes with a single photo leave nothing to compare input sizes on")
    if error <= ENOUGH:
        return RecipeChoice(
            False, f"the probe errs on {error:.1%} of held-out training photos: a larger input has nothing to mend"
        )
    return RecipeChoice(True, f"the probe errs on {error:.1%} of held-out training photos")


def prefer_larger_input(own: Probe, larger: Probe, own_side: int, side: int) -> RecipeChoice:
    """Whether the larger input pays for its time on the device, by cross-validation."""
    before, after = min(own.cv_loss.values()), min(larger.cv_loss.values())
    work = (side / own_side) ** 2
    gain = 1 - after / before
    losses = f"held-out loss {before:.3f} at {own_side} px, {after:.3f} at {side} px"
    if gain < WORTH_A_LARGER_INPUT:
        return RecipeChoice(False, f"input of {own_side} px: {losses}")
    return RecipeChoice(
        True, f"input of {side} px: {losses}; {work:.2f} times the work a frame, --size {own_side} avoids it"
    )


def try_finetuning(error: float | None, smallest: int) -> RecipeChoice:
    """Whether training every weight has a chance to beat the probe. smallest: photos of the class that has fewest."""
    if error is not None and error <= ENOUGH:
        return RecipeChoice(False, f"no fine-tuning: the probe errs on {error:.1%} of held-out training photos")
    if smallest < PHOTOS_A_CLASS:
        photos = f"{smallest} photo{'s' if smallest != 1 else ''}"
        return RecipeChoice(False, f"no fine-tuning: {photos} of the smallest class are too few to train every weight")
    return RecipeChoice(
        True, f"fine-tuning is tried: {smallest} photos of the smallest class, and the probe leaves errors to mend"
    )


def try_larger_input_of_changed() -> RecipeChoice:
    """Like `try_larger_input`, for a network that `edge_tl.training.finetune.adapt` has just changed."""
    return RecipeChoice(False, f"the input stays: {CHANGED}, so the probe does not say what a larger one is worth")


def finetune_changed(recipe: str) -> RecipeChoice:
    """Like `try_finetuning`, for a network that `edge_tl.training.finetune.adapt` has just changed, under any recipe.

    No photos are too few, and no probe is too good: a probe on such features measures what was broken, not what is left to gain.
    """
    if recipe == "probe":
        return RecipeChoice(
            False, f"the network is frozen though {CHANGED}: --recipe finetune or auto would mend what that broke"
        )
    return RecipeChoice(True, f"every weight is trained: {CHANGED}")
