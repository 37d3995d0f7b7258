"""Opens a model file as the device commands do: by the profile beside it, with a word when it fits badly."""

from __future__ import annotations

from pathlib import Path

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.progress import Say
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.machine.cpu import target_warning
from edge_tl_runtime.machine.tuning_profile import choose_settings, profile_path


def open_classifier(
    model: Path,
    threads: int | None,
    provider: str | None,
    profile: bool,
    task: str,
    untuned: SessionSettings | None,
    say: Say,
) -> Classifier:
    """The classifier of `model`, with the settings of its profile for `task` where nothing else was asked for, then `untuned`.

    say: is told when a profile is ignored and when the file was made for another kind of machine.
    Raises BadModelError, and UsageError for a provider that is not here or refuses the file.
    """
    settings, ignored = choose_settings(model, threads, provider, profile, task, untuned or SessionSettings())
    if ignored:
        say(ignored)
    try:
        classifier = Classifier(model, settings)
    except UsageError as error:
        if provider is not None or not profile or not profile_path(model).is_file():
            raise
        raise UsageError(
            f"{error}; {profile_path(model)} chose it: run edge-tl tune again or give --no-profile"
        ) from None
    warning = target_warning(classifier.spec)
    if warning:
        say(warning)
    return classifier
