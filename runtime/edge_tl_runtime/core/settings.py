"""Settings as frozen dataclasses whose fields know their help line, choices and bounds.

Commands make their options from such fields (`edge_tl.cli.options`), calls take values by the same names (`assembled`), documents
store them: a new setting is one field and its use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.text import one_line

_Settings = TypeVar("_Settings")

SIZE, DURATION, MEGABYTES = "size", "duration", "megabytes"
"""Kinds of value that people write in a form of their own: 1280x720; 2s, 500ms, 1m; a number of megabytes, kept in bytes."""
FLAG = "flag"
"""A kind: an option without a value that changes the default; no option changes it back."""


def option(
    default: Any,
    text: str,
    *choices: str | int,
    low: float | None = None,
    high: float | None = None,
    rare: bool = False,
    name: str = "",
    flags: Sequence[str] = (),
    kind: type | str | None = None,
    metavar: str | None = None,
    env: str | None = None,
    bare: str | None = None,
    plugins: str = "",
    hidden: bool = False,
) -> Any:
    """A field with its help line. choices: allowed strings or numbers; low, high: inclusive bounds of a number.

    rare: the command line takes it by `--set NAME=VALUE` alone. name: what calls and commands know it by; "": its own.
    flags: how it is written on the command line; (): from its name. kind: of the value, where the default does not tell it;
    a type, SIZE, DURATION, MEGABYTES or FLAG. metavar: what stands for the value in the help. env: a variable of the
    environment that gives it. bare: the value of the option without one. plugins: the kind of plugins that the help lists.
    hidden: whether the short help leaves it out.
    """
    rules = {
        "help": text, "choices": choices, "low": low, "high": high, "rare": rare, "name": name, "flags": flags, "kind": kind,
        "metavar": metavar, "env": env, "bare": bare, "plugins": plugins, "hidden": hidden,
    }  # fmt: skip
    return field(default=default, metadata=rules)


def called(item: Field[Any]) -> str:
    """The name that calls and commands know a field by."""
    return item.metadata.get("name") or item.name


def inner(item: Field[Any]) -> Any:
    """The class of a field that holds settings itself; None for any other."""
    return item.default_factory if is_dataclass(item.default_factory) else None


def assembled(kind: type[_Settings], values: Mapping[str, Any]) -> _Settings:
    """An instance with `values`, by the names of `called`, in place of defaults; settings inside it are filled from the same.

    Values of other names are passed over. Raises UsageError for a value of another type; bounds are `check`'s.
    """
    given: dict[str, Any] = {}
    for item in fields(kind):  # type: ignore[arg-type]
        nested, name = inner(item), called(item)
        if nested is not None:
            given[item.name] = assembled(nested, values)
        elif name in values:
            given[item.name] = fitting(name, values[name], item.default)
    return kind(**given)


def fitting(name: str, value: Any, default: Any) -> Any:
    """The value as a field with this default stores it; any value for a default of None. Raises UsageError for another type."""
    if default is None or default is MISSING:
        return value
    if isinstance(default, bool) or isinstance(value, bool):
        if type(default) is type(value):
            return value
    elif isinstance(default, int):
        if isinstance(value, Integral):
            return int(value)
    elif isinstance(default, float):
        if isinstance(value, Real):
            return float(value)
    elif isinstance(default, tuple):
        if isinstance(value, (tuple, list)):
            return tuple(value)
    elif isinstance(value, (str, os.PathLike)):
        return Path(value) if isinstance(default, Path) else os.fspath(value)
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text", tuple: "a list"}
    raise UsageError(f"{name} is {one_line(repr(value))}; it takes {kinds.get(type(default), 'a path')}")


def check(settings: Any) -> None:
    """Raises UsageError for a value outside its choices or bounds, nested settings included."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if item.metadata:
            check_value(item, value, called(item))
        elif is_dataclass(value):
            check(value)


def check_value(item: Field[Any], value: Any, name: str) -> None:
    """Raises UsageError for a value outside the choices or bounds of its field. name: as the person knows it."""
    rules = item.metadata
    if value is None and item.default is None:
        return
    if rules["choices"] and value not in rules["choices"]:
        raise UsageError(f"{name} is {value!r}; there are {', '.join(map(str, rules['choices']))}")
    low, high = rules["low"], rules["high"]
    if (low, high) != (None, None) and (isinstance(value, bool) or not isinstance(value, Real)):
        raise UsageError(f"{name} is {value!r}; it takes a number")
    # Not (value < low): NaN is outside every bound.
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise UsageError(f"{name} is {value}; it must be {bounds}")


def typed(item: Field[Any], value: Any = None, prefix: str = "") -> str:
    """How a person asks for it on the command line: `--no-mirror`, `--epochs 4`, `--set finetune.mixup=0.2`; None: any value."""
    given = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if item.metadata.get("rare"):
        return f"--set {prefix}{item.name}" + (f"={given}" if given else "")
    flag = (item.metadata.get("flags") or ("--" + called(item).replace("_", "-"),))[-1]
    if isinstance(value, bool):
        return flag if value else f"--no-{flag[2:]}"
    return f"{flag} {given}".strip()
