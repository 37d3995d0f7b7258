"""The accuracy and robustness of a result as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_tl_runtime.bench.result import Document


@dataclass(frozen=True, slots=True)
class SummaryTable:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def corruptions(part: Document) -> list[SummaryTable]:
    rows = [
        [row["name"], *(_share(cell) for cell in row["by_severity"].values()), _share(row["mean"])]
        for row in part["rows"]
    ]
    return [SummaryTable("", ["% right, by severity", *map(str, part["severities"]), "mean"], rows)]


def stored(part: Document) -> list[SummaryTable]:
    radii = list(part["accuracy"])
    there = part["workstation"].get("robust_accuracy") or {}
    clean = part["workstation"].get("clean_accuracy")
    rows = [["all stored pictures, here", *(_share(part["accuracy"][radius]) for radius in radii)]]
    if there:
        said = {"0": clean, **there}
        rows.append(["the attacked file, workstation", *(_share(said.get(radius)) for radius in radii)])
    rows += [
        [f"  {route}", *(_share(by.get(radius)) for radius in radii)] for route, by in sorted(part["routes"].items())
    ]
    return [SummaryTable("", [_heading(part), *radii], rows)]


def square(part: Document) -> list[SummaryTable]:
    radii = list(part["accuracy"])
    asked = [
        "" if (found := part["queries_to_success"].get(r, {}).get("median")) is None else f"{found:.0f}" for r in radii
    ]
    rows = [
        [f"Square, {part['queries']} queries", *(_share(part["accuracy"][radius]) for radius in radii)],
        ["  queries to success, median", *asked],
    ]
    return [SummaryTable("", [_heading(part), *radii], rows)]


def accuracy(part: Document) -> list[str]:
    unreadable = f"; {part['unreadable']} could not be read" if part["unreadable"] else ""
    return [f"accuracy {_interval(part['top1'])}{unreadable}"]


def agreement(part: Document) -> list[str]:
    same = part["same_label"]
    off = (
        f"else off by {part['largest_difference']:.3g} at most, {part['median_difference']:.3g} in the median photo, of a span "
        f"of {part['spread']:.3g}"
    )
    found = [
        f"same label as on the workstation: {same['count']} of {same['n']}; logits identical for {part['identical']}"
        + (f", {off}" if part["largest_difference"] else "")
    ]
    found += [f"  {item['photo']}: here {item['here']}, there {item['workstation']}" for item in part["differing"][:5]]
    return found


def corruption_mean(part: Document) -> list[str]:
    low, high = part["mean_accuracy_ci95"]
    return [
        f"mean accuracy under {len(part['rows'])} corruptions {_share(part['mean_accuracy'])} % (interval {100 * low:.1f} to "
        f"{100 * high:.1f}), error {100 * part['mean_error_over_clean']:+.1f} points over clean"
    ]


def _heading(part: Document) -> str:
    return f"% right, {part['norm']} epsilon{' /255' if part['norm'] == 'linf' else ''}"


def _interval(share: Document) -> str:
    low, high = share["ci95"]
    return f"{_share(share)} % ({share['count']} of {share['n']}, 95 % interval {100 * low:.1f} to {100 * high:.1f})"


def _share(value: Any) -> str:
    """A rate, or a document that holds one, in percent; "-" where there is none."""
    rate = value.get("rate") if isinstance(value, dict) else value
    return "-" if rate is None else f"{100 * rate:.1f}"
