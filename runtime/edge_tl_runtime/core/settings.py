"""Settings as frozen dataclasses whose fields know their help line, choices and bounds.

Commands make their options from such fields (`edge_tl.cli.options`), documents store them: a new setting is one field and its
use.
"""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any

from edge_tl_runtime.core.errors import UsageError


def option(default: Any, text: str, *choices: str, low: float | None = None, high: float | None = None) -> Any:
    """A field with its help line. choices: allowed strings; low, high: inclusive bounds of a number."""
    return field(default=default, metadata={"help": text, "choices": choices, "low": low, "high": high})


def check(settings: Any) -> None:
    """Raises UsageError for a value outside its choices or bounds, nested settings included."""
    for item in fields(settings):
        value, rules = getattr(settings, item.name), item.metadata
        if not rules:
            check(value)
            continue
        if rules["choices"] and value not in rules["choices"]:
            raise UsageError(f"{item.name} is {value!r}; there are {', '.join(rules['choices'])}")
        low, high = rules["low"], rules["high"]
        # Not (value < low): NaN is outside every bound.
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
            raise UsageError(f"{item.name} is {value}; it must be {bounds}")
