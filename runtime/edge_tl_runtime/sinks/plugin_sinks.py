"""Sinks that other packages add: `edge-tl run --sink NAME:key=value,key=value`."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.sinks.base import Sink

MakeSink = Callable[..., Sink]


def make_sink(text: str) -> Sink:
    """The sink of `NAME` or `NAME:key=value,...`, made and opened.

    Raises UsageError for a name that no package adds and for options that the sink does not have, OutputError for a sink that
    cannot be made.
    """
    name, _, rest = text.partition(":")
    found = plugins.load("sinks", name.strip(), checked_maker)
    if found is None:
        there = ", ".join(plugins.names("sinks")) or "none; a package that adds one is installed beside edge-tl"
        raise UsageError(f"--sink {text!r}: no installed package adds a sink {name!r}; there are: {there}")
    options = _options(text, rest)
    _check_options(found, options)
    sink = plugins.guarded(
        found.plugin, lambda: found.part(**options), OutputError, "cannot start", "check its options"
    )
    if not isinstance(sink, Sink):
        raise UsageError(f"{found.plugin}: it gives {type(sink).__name__}, not a Sink; tell its author")
    if sink.name == Sink.name:
        sink.name = found.plugin.name
    sink.plugin = found.plugin.to_dict()
    return sink


def checked_maker(part: object) -> MakeSink:
    """Raises TypeError for what is no Sink class and no function."""
    return plugins.maker(part, Sink)


def _options(text: str, rest: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise UsageError(f"--sink {text!r}: {item!r} is no key=value; write NAME:key=value,key=value")
        if key in options:
            raise UsageError(f"--sink {text!r}: {key} is given twice")
        options[key] = value
    return options


def _check_options(found: plugins.LoadedPlugin[MakeSink], options: dict[str, str]) -> None:
    signature = inspect.signature(found.part)
    known = [p.name for p in signature.parameters.values() if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [key for key in options if key not in known and not open_ended]
    if unknown:
        raise UsageError(f"{found.plugin} has no option {unknown[0]!r}; its options are: {', '.join(known) or 'none'}")
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UsageError(f"{found.plugin}: {error}; its options are: {', '.join(known) or 'none'}") from None
