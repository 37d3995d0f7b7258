"""Settings given by name in a call, checked before any time is spent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, TypeVar

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import check

_Settings = TypeVar("_Settings")


def settings_of(kind: type[_Settings], values: Mapping[str, Any], command: str) -> _Settings:
    """An instance of a settings class from the values of a call; settings inside it take theirs from the same values.

    command: whose --help lists them. Raises UsageError for a name that is none, with the one that was likely meant, and for a
    value of another type or outside its bounds.
    """
    known = names(kind)
    for name in values:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"edge-tl {command} --help lists them"
            raise UsageError(f"{command} has no setting {name!r}; {meant}")
    made: _Settings = _made(kind, values)
    check_bounds(made)
    return made


def check_bounds(settings: Any) -> None:
    """As `edge_tl_runtime.core.settings.check`, of fields that have bounds."""
    if all(
        item.metadata or dataclasses.is_dataclass(getattr(settings, item.name)) for item in dataclasses.fields(settings)
    ):
        check(settings)


def names(kind: Any) -> tuple[str, ...]:
    """Of all fields, those of settings inside in place of them."""
    found: list[str] = []
    for item in dataclasses.fields(kind):
        inner = _inner(item)
        found += [item.name] if inner is None else names(inner)
    return tuple(found)


def _inner(item: dataclasses.Field[Any]) -> Any:
    factory = item.default_factory
    return factory if dataclasses.is_dataclass(factory) else None


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    given: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        inner = _inner(item)
        if inner is not None:
            given[item.name] = _made(inner, values)
        elif item.name in values:
            given[item.name] = _fitting(item.name, values[item.name], item.default)
    return kind(**given)


def _fitting(name: str, value: Any, default: Any) -> Any:
    """The value as its field stores it. Raises UsageError for another type."""
    if default is None:
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
    elif isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
    raise UsageError(f"{name} is {value!r}; it takes {kinds.get(type(default), type(default).__name__)}")
