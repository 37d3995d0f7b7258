"""Several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tl.report.common.html import render
from edge_tl.report.run import plots
from edge_tl.report.run.page import differing, flat
from edge_tl.training.run_folder import ValidationLogits, load_run, read_evaluated, read_metrics
from edge_tl_runtime.core.files import write_text
from edge_tl_runtime.core.statistics import discordant, mcnemar
from edge_tl_runtime.evaluation.evaluate import Evaluation, score
from edge_tl_runtime.evaluation.reliability import reliability

if TYPE_CHECKING:
    from edge_tl.report.documents import RunComparedDocument
    from edge_tl.training.documents import FiguresDocument


@dataclass(frozen=True)
class RunRow:
    """only_first, only_this: photos that only the first run or only this one gets right; p: of that difference.

    p is None for the first run and for one that was evaluated on other photos; ece is NaN without stored answers.
    """

    name: str
    arch: str
    size: int
    best: str
    parts: dict[str, Evaluation]
    ece: float
    settings: dict[str, Any]
    only_first: int = 0
    only_this: int = 0
    p: float | None = None

    def to_dict(self) -> RunComparedDocument:
        """One object of `edge-tl report --json`."""
        found: RunComparedDocument = {
            "run": self.name,
            "arch": self.arch,
            "size": self.size,
            "best": self.best,
            "ece": None if math.isnan(self.ece) else self.ece,
            "only_first": self.only_first,
            "only_this": self.only_this,
            "p": self.p,
        }
        if "val" in self.parts:
            found["val"] = _accuracy(self.parts["val"])
        if "test" in self.parts:
            found["test"] = _accuracy(self.parts["test"])
        return found


def _accuracy(evaluation: Evaluation) -> FiguresDocument:
    return {"top1": evaluation.top1, "n": evaluation.n, "ci95": list(evaluation.ci95)}


def compare(folders: Sequence[Path]) -> list[RunRow]:
    """A row for each run, against the first. Raises UsageError or BadModelError for what is no run."""
    rows: list[RunRow] = []
    first: ValidationLogits | None = None
    for folder in folders:
        run, evaluated = load_run(folder), read_evaluated(folder)
        parts = {
            part: score(a.logits, a.targets, run.spec.labels, part, groups=a.groups) for part, a in evaluated.items()
        }
        answers = evaluated.get("test") or evaluated.get("val")
        ece, only_first, only_this, p = float("nan"), 0, 0, None
        if answers is not None:
            ece = reliability(run.spec.scores.probabilities(answers.logits), answers.targets).ece
            if first is None and not rows:
                first = answers
            elif first is not None and first.names == answers.names:
                before, now = (a.logits.argmax(1) == a.targets for a in (first, answers))
                only_first, only_this = discordant(before, now)
                p = mcnemar(only_first, only_this)
        rows.append(
            RunRow(
                folder.resolve().name,
                run.spec.arch,
                run.spec.resize.height,
                run.spec.training.get("best", ""),
                parts,
                ece,
                flat({k: v for k, v in run.settings.items() if k not in ("seconds", "versions")}),
                only_first,
                only_this,
                p,
            )
        )
    return rows


def write_comparison(folders: Sequence[Path], rows: Sequence[RunRow], target: Path) -> Path:
    """The rows as a page with the runs' curves and the settings that differ."""
    page = render(
        "compare.html.j2",
        version=version("edge-tl"),
        rows=rows,
        parts=[part for part in ("val", "test") if any(part in row.parts for row in rows)],
        curves=plots.curves({row.name: read_metrics(folder) for row, folder in zip(rows, folders, strict=True)}),
        differences=differing([row.settings for row in rows]),
    )
    write_text(target, page)
    return target
