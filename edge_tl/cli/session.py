"""How the device commands open a model: the options they share, the profile beside the file, and a word when it fits badly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_tl.cli.console import say
from edge_tl.cli.options import options
from edge_tl_runtime.inference.settings import OpenSettings

if TYPE_CHECKING:
    from edge_tl_runtime.inference.classifier import Classifier, SessionSettings

session_options = options(OpenSettings)
"""A decorator that adds --threads, --provider and --no-profile (as `profile`)."""


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
