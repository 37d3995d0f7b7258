"""A benchmark pack of a model file, as one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_tl.adversarial.settings import PackSettings
from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.results import PackResult
from edge_tl.api.settings import PathLike, settings_of
from edge_tl.api.train_extra import train_extra


def pack(
    model: PathLike,
    photos: PathLike,
    output: PathLike | None = None,
    *,
    count: int = PackSettings.photos,
    progress: bool | Reporter = False,
    **settings: Any,
) -> PackResult:
    """Attack a model file on labelled photos and write a pack for `edge-tl bench` on devices; as `edge-tl pack`.

    Interrupted, the same call goes on. output: the file; None: NAME.pack. count: photos in the pack; 0: what the preset takes.
    settings: fields of `edge_tl.adversarial.settings.PackSettings`, such as preset, epsilons, seed.
    Raises UsageError, DataError, BadModelError, OutputError, MissingPackage.
    """
    path, report = Path(model), reporter(progress)
    made = settings_of(PackSettings, {**settings, "photos": count}, "pack")
    with train_extra("pack"):
        from edge_tl.adversarial.packing import write_pack
    target = Path(f"{path.stem}.pack") if output is None else Path(output)
    return PackResult(target, write_pack(path, Path(photos), target, made, report.stage, report.say))
