"""Suspicion: signs that a model looks robust because the attack failed (Athalye et al. 2018, Croce and Hein 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.criteria import Criterion
from edge_tl.adversarial.attacks.losses import LOSSES
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.evaluation.sweep import GROUP, AttackRun
from edge_tl.adversarial.evaluation.target import BLACK_BOX, CONTROL_KIND, TRANSFER, WHITE_BOX
from edge_tl_runtime.core.statistics import SIGNIFICANT, discordant, significantly_more
from edge_tl_runtime.evaluation.evaluate import Logits

if TYPE_CHECKING:
    from edge_tl.adversarial.documents import SanityDocument
    from edge_tl_runtime.robustness.documents import AlarmDocument

NEGLIGIBLE = 0.05
"""Share of photos left right that is reported in spite of an alarm, as a bound: it is too high by no more than itself."""
NOISE_SHARE = 0.5
NOISE_AT_LEAST = 0.1

ANSWERS_DIFFER = "answers differ"
LARGE_RESISTED = "large perturbations do not fool it"
NOISE_AS_WELL = "noise does as well"
NO_GRADIENT = "no gradient"
NO_WAY_IN = "no way in by gradients"
ONE_STEP = "one step beats many"
PROBABILITIES = "probabilities, not logits"
QUANTIZED_BETTER = "quantized file looks more robust"
SLOPES_MISLEAD = "gradients do not lead where they point"
QUERIES_BETTER = "query attack beats gradients"
TRANSFER_BETTER = "transfer beats the file's own gradients"

EXPLANATIONS: Mapping[str, str] = {
    QUERIES_BETTER: (
        "An attack that only asks questions fooled photos that the attacks with gradients could not. It knows less, so the "
        "gradients must be misleading: something in the model hides them. Do not quote the robust accuracy; look for layers "
        "that round, saturate or draw random numbers."
    ),
    ONE_STEP: (
        "A single large step fooled more photos than many small ones, which can take the same step and more. The loss is so "
        "rugged that small steps get lost, which is typical of a model that learned to hide its gradients. "
        "Take attacks that need none."
    ),
    NO_GRADIENT: (
        "For some photos the slope of the loss is exactly zero or not a number, so an attack that follows it cannot "
        "start. Scores that are scaled up, or layers that round or saturate, do that without making the model any harder to fool."
    ),
    TRANSFER_BETTER: (
        "Pictures made against the FP32 file fooled this one more often than those made with its own gradients. Who has the file "
        "has the FP32 way too, but it shows that the gradients through the integers are poor and their figure too good."
    ),
    QUANTIZED_BETTER: (
        "INT8 resisted more photos than the FP32 file it was made from, by more than chance. Rounding hides gradients; it has "
        "not been seen to protect. Treat the difference as a failure of the attack."
    ),
    ANSWERS_DIFFER: (
        "The same pixels got different scores when asked twice. Attacks that compare scores are misled by that, and one lucky "
        "answer counts as a success. Make the model deterministic, or average over many answers before attacking it."
    ),
    PROBABILITIES: (
        "The outputs of the graph sum to 1: the last layer is a softmax. Where the model is sure it rounds to 1 and the loss has "
        "no slope left. Export the model without it."
    ),
    LARGE_RESISTED: (
        "Even when nearly every pixel may take any value, some photos still get their label. No classifier can be right about a "
        "picture of anything: the attack is broken for this model."
    ),
    NOISE_AS_WELL: (
        "Random noise of the same size does nearly as much harm as the attack. Either the model cannot bear any noise, "
        "which the table of corruptions would show, or the attack does no better than chance."
    ),
    SLOPES_MISLEAD: (
        "After small steps along the gradient, the file's own answers changed far less than the gradient says. The gradients are "
        "those of something that the answers do not depend on, so attacks that follow them fail whatever the model can bear. "
        "Look for branches that are rounded away or added in order to mislead."
    ),
    NO_WAY_IN: (
        "The graph cannot be rebuilt with gradients, so only attacks that ask questions were run. A stronger attacker would do "
        "better: the figures are upper bounds."
    ),
}
"""What each alarm means and what to do, in plain words. A new alarm is a function below and an entry here."""


@dataclass(frozen=True)
class SanityCheck:
    """A check whose answer is known. name: for a person. text: the figures. holds: None where time ended before that was known.

    large: the attack that had to fool every photo at a large epsilon; "" where the check is another.
    """

    name: str
    text: str
    holds: bool | None
    large: str = ""

    def to_dict(self) -> SanityDocument:
        return {"name": self.name, "text": self.text, "holds": self.holds}


@dataclass(frozen=True)
class Sign:
    """Something that an attack which works does not show. text: the figures. radii: where it was seen, if at one epsilon it says
    nothing about others; None for what concerns the model, and with it every epsilon."""

    name: str
    text: str
    radii: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Alarm:
    """role: "model" or "fp32_counterpart". text: one line with the figures. radii: epsilons whose figure may be too high."""

    name: str
    text: str
    role: str
    radii: tuple[float, ...]

    def to_dict(self) -> AlarmDocument:
        return {
            "name": self.name,
            "text": self.text,
            "explanation": EXPLANATIONS[self.name],
            "role": self.role,
            "epsilons": list(self.radii),
        }


def may_be_too_high(robust: Mapping[float, NDArray[np.bool_]]) -> tuple[float, ...]:
    """The epsilons, ascending, at which so many photos, bool (N,), are left right that an attack which failed would matter."""
    return tuple(radius for radius, held in robust.items() if radius > 0 and held.mean() > NEGLIGIBLE)


def union(lines: Sequence[AttackRun], radius: float, count: int) -> NDArray[np.bool_]:
    """Photos, bool (N,), that any of these attacks fooled within an epsilon."""
    fooled = np.zeros(count, np.bool_)
    for line in lines:
        fooled |= line.fooled[radius]
    return fooled


def compare_attacks(lines: Sequence[AttackRun], radii: Sequence[float], count: int) -> list[Sign]:
    """Attacks that won and should not have."""
    white = [line for line in lines if line.kind == WHITE_BOX]
    steps = [line for line in white if line.name != "fgsm" and not line.attack.finds_smallest]
    own = [line for line in steps if line.route != "BPDA"]
    suspects = (
        (QUERIES_BETTER, [line for line in lines if line.kind == BLACK_BOX], white),
        (ONE_STEP, [line for line in white if line.name == "fgsm"], steps),
        (TRANSFER_BETTER, [line for line in lines if line.kind == TRANSFER], own),
    )
    found = []
    for name, weaker, stronger in suspects:
        if not weaker or not stronger:
            continue
        for radius in radii:
            fooled_by_weaker, fooled_by_stronger = union(weaker, radius, count), union(stronger, radius, count)
            won, lost = discordant(fooled_by_weaker, fooled_by_stronger)
            if significantly_more(won, lost):
                text = f"{won} photos that only the weaker attack fooled at epsilon {radius:g}, {lost} the other way"
                found.append(Sign(name, text))
                break
    return found


def noise_does_as_well(lines: Sequence[AttackRun], radii: Sequence[float], count: int) -> list[Sign]:
    """Noise that does as much as the attacks do. radii: where photos are left that a better attack could fool."""
    noise = [line for line in lines if line.kind == CONTROL_KIND]
    others = [line for line in lines if line.kind != CONTROL_KIND]
    if not noise or not others:
        return []
    seen = {}
    for radius in radii:
        random, attacked = (int(union(group, radius, count).sum()) for group in (noise, others))
        if random >= NOISE_SHARE * attacked and random >= NOISE_AT_LEAST * count:
            seen[radius] = f"at epsilon {radius:g} noise fooled {random} photos, all attacks together {attacked}"
    return [Sign(NOISE_AS_WELL, next(iter(seen.values())), tuple(seen))] if seen else []


def quantized_looks_better(pairs: Mapping[str, Mapping[str, Any]]) -> list[Sign]:
    """A quantized file that keeps more photos than its FP32 counterpart, beyond chance. pairs: by epsilon, clean at "0"."""
    seen = {}
    for radius, pair in pairs.items():
        if float(radius) > 0 and pair["ci95"][0] > 0 and pair["p"] < SIGNIFICANT:
            only = pair["only_model"], pair["only_fp32_counterpart"]
            seen[float(radius)] = (
                f"at epsilon {radius} {only[0]} photos that only it got right, {only[1]} the other way"
            )
    return [Sign(QUANTIZED_BETTER, next(iter(seen.values())), tuple(seen))] if seen else []


def differing_answers(logits: Logits, pixels: NDArray[np.uint8]) -> str:
    """Figures when the same pixels, uint8 (N, H, W, 3), get different scores, or ""."""
    first, second = logits(pixels), logits(pixels)
    differing = int((first != second).any(1).sum())
    if not differing:
        return ""
    return f"{differing} of {len(pixels)} photos got other scores the second time, by up to {np.abs(first - second).max():.3g}"


def looks_like_probabilities(logits: NDArray[np.float32]) -> str:
    """Figures when rows of scores, (N, C), are distributions, or ""."""
    alike = (logits >= 0).all() and (logits <= 1).all() and np.allclose(logits.sum(1), 1, atol=1e-3)
    return f"all {len(logits)} rows of scores are within 0 and 1 and sum to 1" if alike else ""


def clean_gradients(
    model: AttackedModel, pixels: NDArray[np.uint8], criterion: Criterion, losses: Sequence[str]
) -> Iterator[tuple[NDArray[np.float32], dict[str, torch.Tensor]]]:
    """At photos, uint8 (N, H, W, 3), a group at a time: the file's scores, and the gradient (n, H, W, 3) of each loss named."""
    for start in range(0, len(pixels), GROUP):
        part = pixels[start : start + GROUP]
        wish = criterion.take(np.arange(start, start + len(part)))
        scores = model.evaluated(part)
        inputs = torch.from_numpy(part).to(model.device).float()
        gradients = {}
        for name in losses:
            _, gradients[name] = model.loss_and_gradient(
                inputs,
                scores,
                lambda logits, n=name, w=wish: LOSSES[n](logits, w),  # type: ignore[misc]
            )
        yield scores, gradients


def missing_gradients(model: AttackedModel, pixels: NDArray[np.uint8], criterion: Criterion) -> str:
    """Figures when a loss has a slope of exactly zero, or none that is a number, at clean photos; or ""."""
    worst: dict[str, int] = {}
    for _, gradients in clean_gradients(model, pixels, criterion, ("cross-entropy", "margin")):
        for name, gradient in gradients.items():
            flat = gradient.flatten(1)
            bad = ~torch.isfinite(flat).all(1) | (flat == 0).all(1)
            worst[name] = worst.get(name, 0) + int(bad.sum())
    texts = [f"{bad} of {len(pixels)} photos with the {name} loss" for name, bad in worst.items() if bad]
    return " and ".join(texts)
