"""Settings of a training by name: `finetune.mixup=0.2` on the command line, or a TOML file of them, as every run folder holds.

Names are those of the fields, with a dot for fine-tuning's. A value is checked where it is read: type, choices, bounds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import check_value, fitting
from edge_tl_runtime.core.text import UNPRINTABLE, one_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "settings.toml"
MAX_BYTES = 2**20
NESTED = "finetune"
UNDECIDED = "auto"
"""Stands for None, of a setting that is decided later unless it is asked for."""
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Chosen:
    """settings: of the training. given: what was asked for, by dotted name. lines: what was set from where, for a person."""

    settings: TrainSettings
    given: dict[str, Any]
    lines: tuple[str, ...]


def by_name() -> dict[str, Field[Any]]:
    """Every setting by its dotted name, in the order of the classes."""
    own = {item.name: item for item in fields(TrainSettings) if item.metadata}
    return own | {f"{NESTED}.{item.name}": item for item in fields(FinetuneSettings)}


def choose(file: Path | None, assignments: Sequence[str], options: Mapping[str, Any]) -> Chosen:
    """Defaults, over them the file, over it `assignments` (NAME=VALUE), over them `options` (by dotted name).

    Raises UsageError for a name that does not exist, with the nearest, and for a value of the wrong type or out of bounds.
    """
    given: dict[str, Any] = {}
    origin: dict[str, str] = {}
    lines = []
    table, typed = by_name(), [_assignment(text) for text in assignments]
    from_file = {} if file is None else read(file)
    layers = [(str(file), from_file), ("--set", dict(typed)), ("the command line", dict(options))]
    for name, layer in layers:
        for key, value in layer.items():
            if key in given and given[key] != value:
                origin[key] = f"{name}, over {_shown(given[key])} from {origin[key].split(',')[0]}"
            elif key not in given:
                origin[key] = name
            given[key] = value
    for key, value in given.items():
        if origin[key] != "the command line" and value != table[key].default:
            lines.append(f"setting {key} = {_shown(value)} (from {one_line(origin[key])})")
    if file is not None:
        changed = sum(value != table[key].default for key, value in from_file.items())
        lines.insert(0, f"{one_line(file)}: {len(from_file)} settings, {changed} of them other than the default")
    return Chosen(by_dotted_name(given), given, tuple(lines))


def by_dotted_name(given: Mapping[str, Any]) -> TrainSettings:
    """The settings with values by dotted name in place of defaults."""
    nested = {key.split(".")[1]: value for key, value in given.items() if "." in key}
    own = {key: value for key, value in given.items() if "." not in key}
    return replace(TrainSettings(), **own, finetune=replace(FinetuneSettings(), **nested))


def read(file: Path) -> dict[str, Any]:
    """The values of a TOML file, or of the run in a folder, by dotted name. Raises UsageError."""
    path = file / FILE if file.is_dir() else file
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1).decode("utf-8-sig")
        if len(text) > MAX_BYTES:
            raise UsageError(f"{path} is larger than a settings file can be; give one of NAME = VALUE lines")
        content = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"--settings cannot read {path}: {error.strerror}; give a TOML file or a run folder") from None
    except ValueError as error:
        raise UsageError(
            f"{path} is not TOML ({one_line(error)}); a line of it reads: seed = 1, below [finetune]: mixup = 0.2"
        ) from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply for settings; it has one table, [{NESTED}]") from None
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key == NESTED and isinstance(value, dict):
            found |= {f"{NESTED}.{_plain(name)}": one for name, one in value.items()}
        else:
            found[_plain(key)] = value
    return {key: _checked(key, value, str(path)) for key, value in found.items()}


def written(settings: TrainSettings) -> str:
    """`settings` as a TOML file that `read` takes, each with its help line."""
    lines = ["# Settings of a training; `edge-tl train PHOTOS -o RUN --settings THIS_FILE` takes them."]
    for key, item in by_name().items():
        nested = key.startswith(f"{NESTED}.")
        if nested and f"[{NESTED}]" not in lines:
            lines += ["", f"[{NESTED}]"]
        value = getattr(settings.finetune if nested else settings, item.name)
        lines += ["", f"# {item.metadata['help']}"]
        lines.append(f"{item.name} = {_toml(value)}" if _writable(value) else f"# {item.name}: its value is not UTF-8")
    return "\n".join(lines) + "\n"


def _writable(value: object) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in str(value))


def _toml(value: object) -> str:
    if value is None:
        return f'"{UNDECIDED}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's; what else no TOML string may hold is spelled out.
        return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    return repr(value)


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {one_line(text)!r} has no value; write it as finetune.mixup=0.2")
    key = _plain(name.strip())
    return key, _checked(key, _parsed(_field(key, "--set"), key, value.strip()), "--set")


def _parsed(item: Field[Any], key: str, text: str) -> Any:
    default = item.default
    if default is None and text == UNDECIDED:
        return text
    if isinstance(default, bool) or default is None:
        return _WORDS.get(text.lower(), text)
    if isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            return text
    return text


def _checked(key: str, value: Any, where: str) -> Any:
    item = _field(key, where)
    default = item.default
    if default is None and value in (None, UNDECIDED):
        return None
    try:
        # What is decided later unless it is asked for is a matter of yes or no.
        value = fitting(key, value, False if default is None else default)
        check_value(item, value, key)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return value


def _field(key: str, where: str) -> Field[Any]:
    table = by_name()
    if key in table:
        return table[key]
    last = {name.split(".")[-1]: name for name in table}
    near = (
        [last[key]]
        if key in last
        else get_close_matches(key, table, n=1)
        or [last[name] for name in get_close_matches(key.split(".")[-1], last, n=1)]
    )
    advice = f"did you mean {near[0]}?" if near else "edge-tl train --help-all lists them"
    raise UsageError(f"{where}: there is no setting {one_line(key)!r}; {advice}")


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _shown(value: object) -> str:
    return one_line(_toml(value))
