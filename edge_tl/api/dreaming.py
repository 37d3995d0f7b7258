"""The picture that a model file takes for the best example of a class, as one call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_tl.adversarial.settings import DreamSettings
from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.results import DreamResult
from edge_tl.api.settings import PathLike, settings_of
from edge_tl.api.train_extra import train_extra


def dream(
    model: PathLike,
    classes: str | Sequence[str],
    folder: PathLike = "dreams",
    *,
    photo: PathLike | None = None,
    progress: bool | Reporter = False,
    **settings: Any,
) -> DreamResult:
    """Make the picture that a model file takes for the best example of each class, and write it; as `edge-tl dream`.

    classes: labels, words of labels or indices. photo: to start from and to stay near. settings: fields of
    `edge_tl.adversarial.settings.DreamSettings`, such as steps, control, seed.
    Raises UsageError, BadModelError, ExportError, BadImage, OutputError, MissingPackage.
    """
    made, report, into = settings_of(DreamSettings, settings, "dream"), reporter(progress), Path(folder)
    with train_extra("dream"):
        from edge_tl.adversarial.dreams.files import write_dreams
    wanted = [classes] if isinstance(classes, str) else list(classes)
    start = None if photo is None else Path(photo)
    return DreamResult(into, write_dreams(Path(model), wanted, into, made, start, report.stage))
