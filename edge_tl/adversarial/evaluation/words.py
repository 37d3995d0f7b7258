"""Sentences of a report that figures alone do not make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_tl.adversarial.evaluation.sweep import AttackRun
from edge_tl.adversarial.evaluation.target import ModelUnderTest
from edge_tl_runtime.core.text import plural

if TYPE_CHECKING:
    from edge_tl_runtime.core.documents import RateDocument


def still_climbing(name: str, line: AttackRun, n: int) -> str:
    """Where an attack of one start fooled more than a few photos in its last quarter, or ""."""
    steps = getattr(line.attack, "steps", 0)
    if steps <= 4 or getattr(line.attack, "restarts", 1) > 1:
        return ""
    found, before = [], np.zeros(n, np.bool_)  # what a smaller epsilon fooled is no news at a larger one
    for radius, fooled in line.fooled.items():
        late = int((fooled & ~before & (line.queries[radius] > 2 + 0.75 * steps)).sum())
        if late > max(2, 0.05 * n):
            found.append(f"{late} photos at epsilon {radius:g}")
        before |= fooled
    if not found:
        return ""
    told = ", ".join(found)
    return f"{name} {line.title} still found {told} in its last quarter: more steps would find more"


def blocked_values(under_test: ModelUnderTest) -> str:
    """What a file with constant values inside is noted with."""
    names = under_test.constant
    more = ", ..." if len(names) > 3 else ""
    return (
        f"{under_test.name}: {plural(len(names), 'value')} inside the graph ({', '.join(names[:3])}{more}) "
        "are the same for every photo, with noise or without; they have slopes all the same, which attacks do not follow"
    )


def in_words(share: RateDocument) -> str:
    """A rate with its interval."""
    if share["rate"] is None:
        return "n/a"
    low, high = share["ci95"]
    return f"{100 * share['rate']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
