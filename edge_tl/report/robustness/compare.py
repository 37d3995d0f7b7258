"""Several robustness evaluations side by side: before and after hardening, or one model and another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_tl.report.common.html import render, styled, svg
from edge_tl.report.common.pairs import Pair, from_text, paired
from edge_tl.report.robustness import plots as plots
from edge_tl.report.robustness.page import (
    Document,
    epsilon_words,
    is_targeted,
    read_robustness,
    shown_rates,
    withheld_epsilons,
)
from edge_tl.report.run.page import differing, flat
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import write_text

if TYPE_CHECKING:
    from edge_tl.adversarial.documents import AttackedModelDocument
    from edge_tl.report.documents import AttackComparedDocument
    from edge_tl_runtime.core.documents import RateDocument

CLEAN = "0"
"""The epsilon of photos without an attack."""


@dataclass(frozen=True)
class AttackRow:
    """An attack's folder. robust: by epsilon, accuracy under the worst attack, or with a target how many reach it, but where an
    alarm withholds it. pairs: by epsilon, against the first folder; unpaired: why some are missing. withheld: epsilons."""

    name: str
    model: AttackedModelDocument
    threat: Mapping[str, Any]
    clean: RateDocument
    robust: Mapping[str, RateDocument]
    alarms: tuple[str, ...]
    settings: Mapping[str, Any]
    targeted: bool = False
    pairs: dict[str, Pair] = field(default_factory=dict)
    unpaired: str = ""
    withheld: Sequence[str] = ()

    @property
    def title(self) -> str:
        return f"{self.model['arch']} {self.model['precision'].upper()}"

    def words(self, key: str) -> str:
        """The figure at an epsilon as text; "withheld" where an alarm forbids it."""
        rate = self.robust.get(key)
        if rate is None:
            return "withheld" if key in self.withheld else ""
        if rate["rate"] is None:
            return ""
        sign = ("≥ " if self.targeted else "≤ ") if rate.get("bound") else ""
        return f"{sign}{100 * rate['rate']:.1f} %"

    def to_dict(self) -> AttackComparedDocument:
        """One object of `edge-tl report --json`."""
        return {
            "attack": self.name,
            "model": self.model,
            "clean": self.clean,
            "robust": dict(self.robust),
            "alarms": list(self.alarms),
            "pairs": {key: pair.to_dict() for key, pair in self.pairs.items()},
            "unpaired": self.unpaired,
        }


def compare_robustness(folders: Sequence[Path]) -> list[AttackRow]:
    """A row for each attack's folder, against the first.

    Raises UsageError for a folder that is none, and for evaluations under different threats.
    """
    documents = [read_robustness(folder) for folder in folders]
    for folder, document in zip(folders, documents, strict=True):
        for key in ("norm", "goal"):
            wanted, found = documents[0]["threat"][key], document["threat"][key]
            if wanted != found:
                raise UsageError(
                    f"{folders[0]} and {folder} are not about the same threat ({key} {wanted} and {found}); "
                    "attack both models alike to compare them"
                )
    rows: list[AttackRow] = []
    for folder, document in zip(folders, documents, strict=True):
        pairs, why = _pairs(documents[0], document) if rows else ({}, "")
        withheld = withheld_epsilons(document)
        rows.append(
            AttackRow(
                folder.resolve().name,
                document["model"],
                document["threat"],
                document["clean_accuracy"],
                shown_rates(document),
                tuple(alarm["name"] for alarm in document["alarms"]) if withheld else (),
                flat(document["settings"]),
                is_targeted(document),
                pairs,
                why,
                withheld,
            )
        )
    return rows


def all_epsilons(rows: Sequence[AttackRow]) -> list[str]:
    """The radii above 0 of any row, ascending, one key a radius."""
    radii = {radius for row in rows for radius in (*map(float, row.threat["epsilons"]), *map(float, row.robust))}
    return [f"{radius:g}" for radius in sorted(radii) if radius > 0]


def write_robustness_comparison(rows: Sequence[AttackRow], target: Path) -> Path:
    """The rows as a page with their curves, the paired differences and the settings that differ."""
    norm = rows[0].threat["norm"]
    drawn = {f"{place}: {row.name}": row.robust for place, row in enumerate(rows, start=1) if row.robust}
    page = render(
        "robustness_compare.html.j2",
        version=version("edge-tl"),
        rows=rows,
        keys=all_epsilons(rows),
        norm=norm,
        targeted=rows[0].targeted,
        epsilon=lambda key: epsilon_words(norm, key),
        curves=styled(svg)(plots.worst(drawn, norm, rows[0].targeted)) if drawn else None,
        differences=differing([row.settings for row in rows]),
    )
    write_text(target, page)
    return target


def _pairs(first: Document, this: Document) -> tuple[dict[str, Pair], str]:
    """By epsilon; and why there are none, or fewer, or ""."""
    places, others = _outcomes(first), _outcomes(this)
    if places is None or others is None:
        return {}, "the photos' outcomes were not kept"
    if first["data"] != this["data"] or set(places) != set(others):
        return {}, "attacked on other photos than the first"
    names = sorted(places)
    robust = [document["outcomes"]["model"]["robust"] for document in (first, this)]
    keys, why = [key for key in robust[0] if key in robust[1] and float(key) > 0], ""
    hidden = {*withheld_epsilons(first), *withheld_epsilons(this)}
    if hidden:
        keys = [key for key in keys if key not in hidden]
        rest = f"at {', '.join(keys)} alone" if keys else "without an attack alone"
        why = f"withheld by an alarm at {', '.join(sorted(hidden, key=float))}: answers are compared {rest}"
    pairs = {}
    for key in (CLEAN, *keys):
        before, now = (_bits(document, key, names, at) for document, at in ((first, places), (this, others)))
        pairs[key] = paired(before, now)
    return pairs, why


def _outcomes(document: Document) -> dict[str, int] | None:
    """Places of the photos in the strings of outcomes by name; None where these were not kept or do not fit."""
    kept = document.get("outcomes") or {}
    names, model = kept.get("photos", []), kept.get("model", {})
    strings = [model.get("correct", ""), *model.get("robust", {}).values()]
    if not names or any(len(text) != len(names) for text in strings):
        return None
    return {name: place for place, name in enumerate(names)}


def _bits(document: Document, key: str, names: Sequence[str], places: Mapping[str, int]) -> NDArray[np.bool_]:
    """Whether each of `names` stayed right at an epsilon, bool (N,)."""
    model = document["outcomes"]["model"]
    text = model["correct"] if key == CLEAN else model["robust"][key]
    return from_text("".join(text[places[name]] for name in names))
