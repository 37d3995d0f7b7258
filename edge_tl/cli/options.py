"""Options made from a settings class, so that a setting is written down once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

Settings = type[Any]


def options(settings: Settings, without: Sequence[str] = ()) -> Callable[[_Command], _Command]:
    """A decorator that adds an option for every field that has a help line and is not rare, in the order of the class.

    without: fields that keep their defaults.

    The settings live beside torch, which must not be imported for `--help` of other commands; that of a training may.
    """

    def add(command: _Command) -> _Command:
        for item in reversed(_fields(settings)):
            if item.name not in without and not item.metadata["rare"]:
                command = _option(item)(command)
        return command

    return add


def collect(settings: Settings, values: Mapping[str, Any]) -> Any:
    """An instance from the values click gives. Fields that are settings themselves take theirs from the same values."""
    own = {item.name: values[item.name] for item in _fields(settings) if item.name in values}
    return settings(**own)


class PluginOption(click.Option):
    """An option whose help lists what installed packages add. kind: of `edge_tl_runtime.core.plugins.KINDS`.

    They are looked up for the help alone, and not imported.
    """

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind = kind

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from edge_tl_runtime.core.plugins import names

        record = super().get_help_record(ctx)
        return record and (record[0], f"{record[1]} From installed packages: {', '.join(names(self.kind)) or 'none'}.")


class Sectioned(click.Command):
    """A command whose help lists the options of `section`'s settings under a heading of their own."""

    section: tuple[str, Settings]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        title, settings = self.section
        apart = {item.name for item in _fields(settings)}
        records = [(p.name in apart, p.get_help_record(ctx)) for p in self.get_params(ctx)]
        for heading, wanted in (("Options", False), (title, True)):
            with formatter.section(heading):
                formatter.write_dl([record for is_apart, record in records if record and is_apart == wanted])


def moved(settings: Settings, prefix: str = "") -> Callable[[_Command], _Command]:
    """A decorator that answers what were options of rare fields with the form that takes them now: --set NAME=VALUE."""

    def refuse(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None:
            name = f"{prefix}{parameter.name}"
            shown = str(value).lower() if isinstance(value, bool) else value
            option = f"--{str(parameter.name).replace('_', '-')}"
            raise click.UsageError(f"{option} is a setting now; write it as: --set {name}={shown}", context)

    def add(command: _Command) -> _Command:
        for item in _fields(settings):
            if item.metadata["rare"]:
                name, yes_or_no = "--" + item.name.replace("_", "-"), isinstance(item.default, bool)
                declared = f"{name}/--no-{name[2:]}" if yes_or_no else name
                kind = {"default": None} if yes_or_no else {"type": str}
                command = click.option(declared, hidden=True, expose_value=False, callback=refuse, **kind)(command)
        return command

    return add


def _fields(settings: Settings) -> list[dataclasses.Field[Any]]:
    return [item for item in dataclasses.fields(settings) if "help" in item.metadata]


def _option(item: dataclasses.Field[Any]) -> Callable[[_Command], _Command]:
    name, rules = "--" + item.name.replace("_", "-"), item.metadata
    if isinstance(item.default, bool) or item.default is None:  # None: yes, no, or decided later
        shown = item.default is not None
        return click.option(f"{name}/--no-{name[2:]}", default=item.default, show_default=shown, help=rules["help"])
    kind: Any = type(item.default)
    if rules["choices"]:
        kind = click.Choice(rules["choices"])
    elif kind in (int, float):
        bounds = (rules["low"], rules["high"])
        if bounds != (None, None):
            kind = click.IntRange(*bounds) if kind is int else click.FloatRange(*bounds)
    return click.option(
        name, default=item.default, show_default=item.default != "", type=kind, help=rules["help"] or None
    )
