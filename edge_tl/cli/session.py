"""How the device commands open a model: the options they share, the profile beside the file, and a word when it fits badly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_tl.cli.console import say

if TYPE_CHECKING:
    from edge_tl_runtime.inference.classifier import Classifier, SessionSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--threads", type=click.IntRange(1), help="Threads of the model; the profile's or all cores."),
    click.option("--provider", help="Execution provider: cpu, openvino, cuda...; the profile's or cpu."),
    click.option("--no-profile", "profile", flag_value=False, default=True, help="Ignore what edge-tl tune found."),
)


def session_options(command: _Command) -> _Command:
    """A decorator that adds --threads, --provider and --no-profile (as `profile`)."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_classifier(
    model: Path,
    threads: int | None,
    provider: str | None,
    profile: bool,
    task: str = "frame",
    untuned: SessionSettings | None = None,
) -> Classifier:
    """The classifier of `model`, with the settings of its profile for `task` where nothing else was asked for, then `untuned`.

    Says on standard error when a profile is ignored and when the file was made for another kind of machine.
    Raises BadModelError, and UsageError for a provider that is not here or refuses the file.
    """
    from edge_tl_runtime.machine.open_classifier import open_classifier as opened

    return opened(model, threads, provider, profile, task, untuned, say)
