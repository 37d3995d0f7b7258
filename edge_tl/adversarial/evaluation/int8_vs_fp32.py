"""A quantized file beside the FP32 file that it was made from: on the same photos, in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.evaluation.evaluation import Attacked
from edge_tl.adversarial.evaluation.gradient_masking import NOISE_AS_WELL
from edge_tl.adversarial.evaluation.target import WHITE_BOX
from edge_tl_runtime.core.statistics import discordant, mcnemar, paired_interval, rate

if TYPE_CHECKING:
    from edge_tl.adversarial.documents import (
        PairDocument,
        QuantilesDocument,
        RobustnessDocument,
        SmallestDocument,
        TransferDocument,
    )

Robust = Mapping[float, NDArray[np.bool_]]
"""By epsilon, bool (N,): photos that stay right under the worst attack."""

BOOTSTRAPS = 2000


def paired(model: Robust, counterpart: Robust) -> dict[str, PairDocument]:
    """How many photos only one of the two files holds, by epsilon, with the difference and its interval."""
    pairs: dict[str, PairDocument] = {}
    for radius, held in model.items():
        only_model, only_counterpart = discordant(held, counterpart[radius])
        pairs[f"{radius:g}"] = {
            "only_model": only_model,
            "only_fp32_counterpart": only_counterpart,
            "n": len(held),
            "difference": (only_model - only_counterpart) / len(held),
            "ci95": list(paired_interval(only_model, only_counterpart, len(held))),
            "p": mcnemar(only_model, only_counterpart),
        }
    return pairs


def smallest(attacked: Mapping[str, Attacked], seed: int) -> SmallestDocument | None:
    """Quantiles of the smallest perturbations found, and their mean ratio in pairs (geometric, bootstrap interval)."""
    sizes = {
        role: result.smallest
        for role, result in attacked.items()
        if result.smallest is not None and np.isfinite(result.smallest).any()
    }
    if "model" not in sizes:
        return None
    found: SmallestDocument = {"norm": "l2", "unit": "L2 of pixels in 0..1", "model": _quantiles(sizes["model"])}
    if "fp32_counterpart" in sizes:
        found["fp32_counterpart"] = _quantiles(sizes["fp32_counterpart"])
        ratios = sizes["model"] / sizes["fp32_counterpart"]
        logs = np.log(ratios[np.isfinite(ratios) & (ratios > 0)])
        if len(logs) > 1:
            rng = np.random.default_rng(seed)
            means = [rng.choice(logs, len(logs)).mean() for _ in range(BOOTSTRAPS)]
            found["ratio"] = float(np.exp(logs.mean()))
            found["ci95"] = [float(x) for x in np.exp(np.quantile(means, (0.025, 0.975)))]
            found["pairs"] = len(logs)
    return found


def _quantiles(values: NDArray[np.float64]) -> QuantilesDocument:
    there = values[np.isfinite(values)]
    p10, median, p90 = (float(x) for x in np.quantile(there, (0.1, 0.5, 0.9)))
    return {"p10": p10, "median": median, "p90": p90, "n": len(there)}


def transfer(attacked: Mapping[str, Attacked], radii: Sequence[float]) -> list[TransferDocument]:
    """Successes of each file's own gradients, as they are, evaluated by the other file too.

    At each epsilon those photos whose smallest success is there.
    """
    if "fp32_counterpart" not in attacked:
        return []
    rows: list[TransferDocument] = []
    names = {role: result.under_test.name for role, result in attacked.items()}
    for radius in radii:
        for role, result in attacked.items():
            own = result.under_test.routes[0].name if result.under_test.routes else ""
            line = next((x for x in result.lines if (x.kind, x.name, x.route) == (WHITE_BOX, "pgd", own)), None)
            chosen = [] if line is None else [photo for photo, found in line.found.items() if found[2] == radius]
            if line is None or not chosen:
                continue
            photos, pictures = zip(*result.sweep.successes(line, chosen), strict=True)
            pixels, criterion = np.stack(pictures), result.sweep.criterion.take(np.array(photos))
            evaluated = {
                names[other]: rate(
                    int(criterion.fooled(by.under_test.without_gradients.evaluated(pixels)).sum()), len(chosen)
                )
                for other, by in attacked.items()
            }
            rows.append({"epsilon": radius, "crafted_on": names[role], "made": len(chosen), "fooled": evaluated})
    return rows


def about_quantization(document: RobustnessDocument) -> str | None:
    """What quantization did to robustness, in one sentence with its intervals."""
    if not document["paired"]:
        return None
    if any(alarm["name"] != NOISE_AS_WELL for alarm in document["alarms"]):
        return "What quantization did to robustness cannot be said while an alarm stands."
    radius = next((r for r in document["paired"] if float(r) > 0), "0")
    models = document["models_under_test"]
    both = [models["model"], *([models["fp32_counterpart"]] if "fp32_counterpart" in models else [])]
    if any(each["worst"][radius]["bound"] for each in both):
        return (
            "What quantization did to robustness cannot be said: the time limit came before both files were attacked."
        )
    pair = document["paired"][radius]
    low, high = (100 * x for x in pair["ci95"])
    name, counterpart = (document["models_under_test"][role]["name"] for role in ("model", "fp32_counterpart"))
    text = (
        f"On the same {pair['n']} photos robust accuracy of {name} minus {counterpart} at epsilon {radius} is "
        f"{100 * pair['difference']:+.1f} points (95 % {low:+.1f} to {high:+.1f}, McNemar p = {pair['p']:.2g})"
    )
    smallest = document["smallest"]
    if smallest and "ratio" in smallest:
        text += (
            f", and its smallest perturbation found is {smallest['ratio']:.3f} times as long "
            f"(95 % {smallest['ci95'][0]:.3f} to {smallest['ci95'][1]:.3f})"
        )
    return text + "."
