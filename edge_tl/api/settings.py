"""What calls take: paths, and settings by name, checked before any time is spent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import assembled, called, check, inner

PathLike = str | os.PathLike[str]

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
    made = assembled(kind, values)
    check(made)
    return made


def names(kind: Any) -> tuple[str, ...]:
    """Of all fields, those of settings inside in place of them."""
    found: list[str] = []
    for item in fields(kind):
        nested = inner(item)
        found += [called(item)] if nested is None else names(nested)
    return tuple(found)
