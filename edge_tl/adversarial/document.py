"""The documents of an evaluation and of dreams: their names, their formats, and how a rate is written. Imports nothing heavy."""

from __future__ import annotations

from typing import Any

from edge_tl_runtime.statistics import wilson

DOCUMENT = "robustness.json"
FORMAT = 1
DREAMS_DOCUMENT = "dream.json"
DREAMS_FORMAT = 1

Document = dict[str, Any]


def rate(count: int, n: int, **more: Any) -> Document:
    """A share with its Wilson interval; the rate is None when n is 0."""
    low, high = wilson(count, n)
    return {"rate": None if not n else count / n, "count": count, "n": n, "ci95": [low, high], **more}
