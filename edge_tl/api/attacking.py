"""How robust a model file is, as one call."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.results import AttackResult
from edge_tl.api.settings import PathLike, settings_of
from edge_tl.api.train_extra import train_extra
from edge_tl_runtime.core.errors import UsageError


def attack(
    model: PathLike,
    photos: PathLike,
    folder: PathLike | None = None,
    *,
    eps: Iterable[float] | float | None = None,
    count: int = 0,
    progress: bool | Reporter = False,
    **settings: Any,
) -> AttackResult:
    """Attack an ONNX file with gradients and without, on labelled photos; as `edge-tl attack`.

    Interrupted, the same call goes on. folder: for the report and the pictures; None: attack-NAME. eps: radii, in /255 for
    linf. count: photos to attack; 0: what the preset takes. settings: fields of
    `edge_tl.adversarial.settings.AttackSettings`, such as preset, norm, seed.
    Raises UsageError, DataError, BadModelError, OutputError, MissingPackage.
    """
    from edge_tl.adversarial.settings import AttackSettings

    path = Path(model)
    if eps is not None:
        if "epsilons" in settings:
            raise UsageError("eps and epsilons say the same thing twice; give one of them")
        values: list[Any] = [eps] if isinstance(eps, (int, float)) else list(eps)
        if not all(isinstance(value, (int, float)) for value in values):
            raise UsageError(f"eps is {eps!r}; give numbers such as eps=[1, 2]")
        settings["epsilons"] = ",".join(f"{value:g}" for value in values)
    made = settings_of(AttackSettings, {**settings, "photos": count}, "attack")
    report = reporter(progress)
    with train_extra("attack"):
        from edge_tl.adversarial.evaluation.report import evaluate_robustness
        from edge_tl.report.robustness.page import write_robustness_page
    into = Path(f"attack-{path.stem}") if folder is None else Path(folder)
    document = evaluate_robustness(path, Path(photos), into, made, report.stage, report.say)
    return AttackResult(into, write_robustness_page(into), dict(document))
