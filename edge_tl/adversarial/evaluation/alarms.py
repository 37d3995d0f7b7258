"""Which signs of a failed attack an evaluation shows, and which of its figures they make doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.evaluation.evaluation import PGD_NAME, Attacked, RobustnessEvaluation
from edge_tl.adversarial.evaluation.gradient_masking import (
    ANSWERS_DIFFER,
    LARGE_RESISTED,
    NO_GRADIENT,
    NO_WAY_IN,
    PROBABILITIES,
    SLOPES_MISLEAD,
    Alarm,
    SanityCheck,
    Sign,
    compare_attacks,
    differing_answers,
    looks_like_probabilities,
    may_be_too_high,
    missing_gradients,
    noise_does_as_well,
    quantized_looks_better,
)
from edge_tl.adversarial.evaluation.slopes import misleading_slopes
from edge_tl.adversarial.evaluation.target import WHITE_BOX
from edge_tl_runtime.images.datasets.choosing import spread_over

ASKED_TWICE = 16
SLOPES_ON = 32
"""Photos whose gradients are held against the file's answers."""


def raise_alarms(
    evaluation: RobustnessEvaluation,
    attacked: Mapping[str, Attacked],
    robust: Mapping[str, Mapping[float, NDArray[np.bool_]]],
    sanity: Sequence[SanityCheck],
    pairs: Mapping[str, Mapping[str, Any]],
) -> list[Alarm]:
    """Every sign that an attack failed, with the epsilons whose figure it makes doubtful.

    robust: by role and epsilon, photos, bool (N,), that stay right under the worst attack. sanity: checks of the file itself.
    pairs: the file beside its FP32 counterpart, by epsilon; none where an attack was cut short.
    """
    signs = {role: _signs(evaluation, result, robust[role]) for role, result in attacked.items()}
    large = [check for check in sanity if check.large]
    reached = any(check.holds for check in large)
    for check in large:
        # Questions may be too few to reach it, which proves nothing once gradients did.
        if check.holds is False and (check.large == PGD_NAME or not reached):
            signs["model"].append(Sign(LARGE_RESISTED, check.text))
    signs["model"] += quantized_looks_better(pairs)
    alarms = []
    for role, found in signs.items():
        doubtful = may_be_too_high(robust[role])
        for sign in found:
            radii = tuple(radius for radius in doubtful if sign.radii is None or radius in sign.radii)
            alarms.append(Alarm(sign.name, sign.text, role, radii))
    return alarms


def _signs(evaluation: RobustnessEvaluation, result: Attacked, robust: Mapping[float, NDArray[np.bool_]]) -> list[Sign]:
    """What one file's own attacks, answers and gradients show."""
    photos, lines, logits = evaluation.photos, result.lines, result.under_test.classifier.logits
    # Of an attack of another package nobody knows whether its gradients should have won.
    added = evaluation.chosen.added
    known = [line for line in lines if not (line.name in added and line.attack.needs_gradients)]
    figures = {
        ANSWERS_DIFFER: differing_answers(logits, photos.pixels[:ASKED_TWICE]),
        PROBABILITIES: looks_like_probabilities(result.logits),
    }
    own = next((route for route in result.under_test.routes if route.kind == WHITE_BOX), None)
    places = np.flatnonzero(result.attackable)
    if own is None:
        figures[NO_WAY_IN] = "; ".join(item.why for item in result.under_test.absent)
    elif len(places) and not evaluation.stop():
        wish = result.sweep.criterion
        figures[NO_GRADIENT] = missing_gradients(own.model, photos.pixels[places], wish.take(places))
        few = places[spread_over(photos.targets[places].tolist(), SLOPES_ON)]
        figures[SLOPES_MISLEAD] = misleading_slopes(
            own.model, photos.pixels[few], wish.take(few), evaluation.settings.seed
        )
    return [
        *compare_attacks(known, evaluation.settings.radii()[1:], len(photos)),
        *noise_does_as_well(lines, may_be_too_high(robust), len(photos)),
        *(Sign(name, text) for name, text in figures.items() if text),
    ]
