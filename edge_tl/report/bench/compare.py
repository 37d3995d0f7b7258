"""Benchmark results side by side: devices, models, precisions; two, or those of a whole fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tl.report.bench import plots as plots
from edge_tl.report.common.html import render
from edge_tl.report.common.pairs import Pair, from_text, paired
from edge_tl.report.run.page import differing, flat
from edge_tl_runtime.bench.documents import BenchDocument
from edge_tl_runtime.bench.result import read_result
from edge_tl_runtime.core.documents import checked
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.files import write_text

if TYPE_CHECKING:
    from edge_tl.report.documents import BenchComparedDocument
    from edge_tl_runtime.core.documents import RateDocument

CLEAN = "0"


@dataclass(frozen=True)
class BenchRow:
    """A result. pairs: by epsilon of stored pictures ("0": clean), against the first; unpaired: why there are none."""

    name: str
    document: Mapping[str, Any]
    pairs: dict[str, Pair] = field(default_factory=dict)
    unpaired: str = ""

    @property
    def title(self) -> str:
        model = self.document["model"]
        return f"{model['arch']} {model['precision'].upper()}, {self.document['machine']['cpu']}"

    @property
    def parts(self) -> Mapping[str, Any]:
        parts: Mapping[str, Any] = self.document["parts"]
        return parts

    def number(self, part: str, key: str) -> float | None:
        value = self.parts.get(part, {}).get(key)
        return None if value is None else float(value)

    @property
    def photos_per_second(self) -> float | None:
        rates = [row["photos_per_second"] for row in self.parts.get("throughput", {}).get("rows", [])]
        return max((rate for rate in rates if rate is not None), default=None)

    @property
    def top1(self) -> RateDocument | None:
        found: RateDocument | None = self.parts.get("accuracy", {}).get("top1")
        return found

    def left(self, part: str) -> dict[str, RateDocument]:
        """Accuracy left by epsilon, of "stored" or "square"."""
        found: dict[str, RateDocument] = self.parts.get(part, {}).get("accuracy", {})
        return found

    def to_dict(self) -> BenchComparedDocument:
        """One object of `edge-tl report --json`."""
        return {
            "result": self.name,
            "sha256": self.document["sha256"],
            "model": self.document["model"],
            "machine": self.document["machine"]["cpu"],
            "p50_ms": self.number("latency", "p50_ms"),
            "p99_ms": self.number("latency", "p99_ms"),
            "photos_per_second": self.photos_per_second,
            "top1": self.top1,
            "stored": self.left("stored"),
            "square": self.left("square"),
            "pairs": {key: pair.to_dict() for key, pair in self.pairs.items()},
            "unpaired": self.unpaired,
        }


@dataclass(frozen=True)
class Column:
    """A figure of speed. value: None where a row did not measure it."""

    heading: str
    value: Callable[[BenchRow], float | None]
    form: str = ".2f"

    def cell(self, row: BenchRow) -> str:
        value = self.value(row)
        return "" if value is None else format(value, self.form)


def _of(part: str, key: str) -> Callable[[BenchRow], float | None]:
    return lambda row: row.number(part, key)


SPEED = (
    Column("photo, p50", _of("latency", "p50_ms")),
    Column("p90", _of("latency", "p90_ms")),
    Column("p99", _of("latency", "p99_ms")),
    Column("frame, p50", _of("frame", "p50_ms")),
    Column("photos per second", lambda row: row.photos_per_second, ".1f"),
    Column("load", _of("resources", "load_ms"), ".0f"),
    Column("memory, MB", _of("resources", "peak_mb"), ".0f"),
    Column("file, MB", lambda row: float(row.document["model"]["bytes"]) / 1e6, ".1f"),
)
"""Columns of the page; one that no row measured is left out."""


def read_bench(path: Path) -> dict[str, Any]:
    """A result whose every key is what it must be. Raises UsageError as `read_result`, and for a key that is missing or wrong."""
    document = read_result(path)
    try:
        checked(document, BenchDocument)
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}; measure again") from None
    return document


def compare_benches(results: Sequence[Path]) -> list[BenchRow]:
    """A row for each result, against the first. Raises UsageError for a file that is none, or was altered."""
    rows: list[BenchRow] = []
    for path in results:
        document = read_bench(path)
        pairs, why = _pairs(rows[0].document, document) if rows else ({}, "")
        rows.append(BenchRow(path.stem, document, pairs, why))
    return rows


def results_in(folder: Path) -> list[Path]:
    """The results in a folder, as a fleet leaves them, by name. Raises UsageError where there is none."""
    found = sorted(path for path in folder.glob("*.json") if is_result(path))
    if not found:
        raise UsageError(f"{folder} holds no result of `edge-tl bench`; give a folder of them, or the files")
    return found


def is_result(path: Path) -> bool:
    """Whether it claims to be one; a damaged one still is, and is refused when it is read."""
    try:
        with path.open("rb") as file:
            return b'"edge-tl bench"' in file.read(4096)
    except OSError:
        return False


def write_bench_comparison(rows: Sequence[BenchRow], target: Path) -> Path:
    """The rows as a page with plots, paired differences and the settings that differ."""
    points = [
        (row.name, p50, row.top1)
        for row in rows
        if (p50 := row.number("latency", "p50_ms")) is not None
        and row.top1 is not None
        and row.top1["rate"] is not None
    ]
    drawn = [plots.speed_and_accuracy(points)]
    for part, title in (("stored", "stored pictures"), ("square", "Square, live")):
        norms = {row.parts[part]["norm"] for row in rows if part in row.parts}
        drawn += [
            plots.accuracies(
                {row.name: row.left(part) for row in rows if part in row.parts and row.parts[part]["norm"] == norm},
                norm,
                title,
            )
            for norm in sorted(norms)
        ]
    settings = [{**flat(row.document["settings"]), **_facts(row.document)} for row in rows]
    page = render(
        "bench_compare.html.j2",
        version=version("edge-tl"),
        rows=rows,
        speed=[column for column in SPEED if any(column.value(row) is not None for row in rows)],
        corrupted=any("corruptions" in row.parts for row in rows),
        epsilons={part: epsilons(rows, part) for part in ("stored", "square")},
        plots=[plot for plot in drawn if plot is not None],
        differences=differing(settings),
    )
    write_text(target, page)
    return target


def epsilons(rows: Sequence[BenchRow], part: str) -> list[str]:
    """Radii above 0 of any row, ascending."""
    return sorted({key for row in rows for key in row.left(part) if float(key) > 0}, key=float)


def _facts(document: Mapping[str, Any]) -> dict[str, Any]:
    pack = document["pack"]
    return {
        "model SHA-256": document["model"]["sha256"][:16],
        "pack SHA-256": pack["sha256"][:16] if pack else "",
        **flat({"session": document["session"], "versions": document["versions"]}),
    }


def _pairs(first: Mapping[str, Any], this: Mapping[str, Any]) -> tuple[dict[str, Pair], str]:
    """By epsilon; and why there are none, or ""."""
    before, now = _outcomes(first), _outcomes(this)
    if not before or not now:
        return {}, "no labelled photos on one of them"
    if before[CLEAN]["photos"] != now[CLEAN]["photos"]:
        return {}, "measured on other photos than the first"
    pairs = {}
    for key in before:
        if key in now and before[key]["photos"] == now[key]["photos"]:
            pairs[key] = paired(from_text(before[key]["right"]), from_text(now[key]["right"]))
    return pairs, ""


def _outcomes(document: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """By epsilon; stored pictures are compared only where both files were evaluated on pictures of the same pack."""
    parts = document["parts"]
    if not parts.get("accuracy", {}).get("outcomes", {}).get("right"):
        return {}
    found = {CLEAN: parts["accuracy"]["outcomes"]}
    pack = (document["pack"] or {}).get("sha256", "")
    for key, outcome in parts.get("stored", {}).get("outcomes", {}).items():
        found[key] = {**outcome, "photos": outcome["photos"] + pack}
    return found
