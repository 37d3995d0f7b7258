"""Settings as frozen dataclasses whose fields know their help line, choices and bounds.

Commands make their options from such fields (`edge_tl.cli.options`), documents store them: a new setting is one field and its
use.
"""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import Any

from edge_tl_runtime.core.errors import UsageError


def option(
    default: Any, text: str, *choices: str, low: float | None = None, high: float | None = None, rare: bool = False
) -> Any:
    """A field with its help line. choices: allowed strings; low, high: inclusive bounds of a number.

    rare: the command line takes it by `--set NAME=VALUE` alone.
    """
    rules = {"help": text, "choices": choices, "low": low, "high": high, "rare": rare}
    return field(default=default, metadata=rules)


def check(settings: Any) -> None:
    """Raises UsageError for a value outside its choices or bounds, nested settings included."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.metadata:
            check_value(item, value, item.name)
        else:
            check(value)


def check_value(item: Field[Any], value: Any, name: str) -> None:
    """Raises UsageError for a value outside the choices or bounds of its field. name: as the person knows it."""
    rules = item.metadata
    if rules["choices"] and value not in rules["choices"]:
        raise UsageError(f"{name} is {value!r}; there are {', '.join(rules['choices'])}")
    low, high = rules["low"], rules["high"]
    # Not (value < low): NaN is outside every bound.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise UsageError(f"{name} is {value}; it must be {bounds}")


def typed(item: Field[Any], value: Any = None, prefix: str = "") -> str:
    """How a person asks for it on the command line: `--no-mirror`, `--epochs 4`, `--set finetune.mixup=0.2`; None: any value."""
    given = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if item.metadata.get("rare"):
        return f"--set {prefix}{item.name}" + (f"={given}" if given else "")
    dashed = item.name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{dashed}" if value else f"--no-{dashed}"
    return f"--{dashed} {given}".strip()
