"""Options made from a settings class, so that a setting is written down once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import click

from edge_tl.cli.kinds import KINDS
from edge_tl_runtime.core.settings import FLAG, MEGABYTES, called

_Command = TypeVar("_Command", bound=Callable[..., Any])

Settings = type[Any]


def options(settings: Settings, *only: str, without: Sequence[str] = ()) -> Callable[[_Command], _Command]:
    """A decorator that adds an option for every field that has a help line and is not rare, in the order of the class.

    only: these fields; none: all. without: fields that keep their defaults.

    Settings are in modules that bring no torch, no onnxruntime and no OpenCV: `--help` of every command imports them.
    """

    def add(command: _Command) -> _Command:
        for item in reversed(_fields(settings)):
            if item.name not in without and not item.metadata["rare"] and (not only or item.name in only):
                command = _option(item, item.metadata["help"])(command)
        return command

    return add


def option_of(settings: Settings, name: str, text: str) -> Callable[[_Command], _Command]:
    """A decorator that adds the option of one field with a help line of its own, for a command that takes no others of it."""
    (item,) = (item for item in _fields(settings) if item.name == name)
    return _option(item, text)


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


class Sections(click.Command):
    """A command whose help lists its options under headings. sections: the option that each begins with, to its heading."""

    sections: ClassVar[Mapping[str, str]] = {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        heading, rows = "Options", dict[str, list[tuple[str, str]]]()
        for param in self.get_params(ctx):
            heading = "Options" if param.name == "help" else self.sections.get(param.name or "", heading)
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record:
                rows.setdefault(heading, []).append(record)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


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


def _option(item: dataclasses.Field[Any], text: str) -> Callable[[_Command], _Command]:
    rules, default = item.metadata, cast(Any, item.default)
    flags = rules["flags"] or ("--" + called(item).replace("_", "-"),)
    names = (*flags, called(item))
    if rules["kind"] == FLAG:
        if default:
            return click.option(*names, flag_value=False, default=True, help=text)
        return click.option(*names, is_flag=True, help=text)
    if isinstance(default, bool) or (default is None and rules["kind"] is None):  # None: yes, no, or decided later
        yes_or_no = f"{flags[0]}/--no-{flags[0][2:]}"
        return click.option(
            yes_or_no, called(item), default=default, show_default=default is not None, help=text or None
        )
    more: dict[str, Any] = {"metavar": rules["metavar"], "envvar": rules["env"], "hidden": rules["hidden"]}
    if rules["kind"] == MEGABYTES:
        default = f"{default / 2**20:g}"  # as a person writes it, for its type takes it like any other value
    if rules["bare"]:
        more |= {"is_flag": False, "flag_value": rules["bare"]}
    if rules["plugins"]:
        more |= {"cls": PluginOption, "kind": rules["plugins"]}
    if default == ():
        more["multiple"] = True
    else:
        more |= {"default": default, "show_default": default not in (None, ""), "type": _type(item)}
    return click.option(*names, help=text or None, **more)


def _type(item: dataclasses.Field[Any]) -> Any:
    """What click makes of the text of a value."""
    rules = item.metadata
    kind = rules["kind"] or type(item.default)
    if rules["choices"]:
        return click.Choice(rules["choices"])
    if isinstance(kind, str):
        return KINDS[kind]
    if issubclass(kind, Path):
        return click.Path(path_type=Path)
    bounds = (rules["low"], rules["high"])
    if kind in (int, float) and bounds != (None, None):
        return click.IntRange(*bounds) if kind is int else click.FloatRange(*bounds)
    return kind
