"""A result as a person reads it: tables and lines, of the same numbers that the document holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_tl_runtime.bench import summary_accuracy as evaluated
from edge_tl_runtime.bench.result import Document
from edge_tl_runtime.bench.summary_accuracy import SummaryTable
from edge_tl_runtime.machine.tune import BUSY

_STREAMS = {"latency": "one photo", "frame": "frame", "sustained": "under load"}
_RANKS = ("p50_ms", "p90_ms", "p95_ms", "p99_ms")


@dataclass(frozen=True, slots=True)
class SummaryLine:
    """warns: it says that a figure is doubtful or that the machine slowed down."""

    text: str
    warns: bool = False

    def __str__(self) -> str:
        return self.text


def tables(document: Mapping[str, Any]) -> list[SummaryTable]:
    """Tables of the parts that have one, in the order in which they were measured."""
    parts = document["parts"]
    found = [_streams(parts)] if set(_STREAMS) & set(parts) else []
    for name, part in parts.items():
        if name in TABLES:
            found += TABLES[name](part)
    return found


def lines(document: Mapping[str, Any]) -> list[SummaryLine]:
    """What was measured of what, and everything that is no table: start, memory, drift, energy, conditions, what is missing."""
    model, machine, session = document["model"], document["machine"], document["session"]
    threads = f"{session['threads']} thread{'' if session['threads'] == 1 else 's'}"
    spin = ", spinning" if session["spin"] else ""
    first = (
        f"{model['name']} ({model['arch']}, {model['precision']}) on {machine['cpu']}; {session['provider']}, {threads}{spin}; "
        f"onnxruntime {document['versions']['onnxruntime']}"
    )
    found = [SummaryLine(first)]
    for name, part in document["parts"].items():
        found += LINES[name](part) if name in LINES else []
        if not part.get("complete", True):
            found.append(SummaryLine(f"{name}: cut short by the time limit; the same command goes on"))
    found += _conditions(document["runs"])
    reasons: dict[str, list[str]] = {}
    for name, why in document["absent"].items():
        reasons.setdefault(why, []).append(name)
    return found + [SummaryLine(f"not measured: {', '.join(names)}: {why}") for why, names in reasons.items()]


def _streams(parts: Document) -> SummaryTable:
    rows = [
        [
            f"{title} {parts[name]['size']}" if "size" in parts[name] else title,
            str(parts[name]["queries"]),
            *(f"{parts[name][rank]:.2f}" for rank in _RANKS),
            f"{parts[name]['mean_ms']:.2f}",
            f"{parts[name]['jitter_ms']:.2f}",
            f"{parts[name]['queries_per_second']:.1f}",
        ]
        for name, title in _STREAMS.items()
        if name in parts
    ]
    columns = ["latency, ms", "queries", "p50", "p90", "p95", "p99", "mean", "jitter", "per second"]
    return SummaryTable("", columns, rows)


def _throughput(part: Document) -> list[SummaryTable]:
    rows = [
        [f"{row['batch']} per call", "-", "-", row["why"]]
        if row["photos_per_second"] is None
        else [
            f"{row['batch']} per call",
            f"{row['photos_per_second']:.1f}",
            f"{row['ms_a_photo']:.2f}",
            "best" if row["batch"] == part["best"] else "",
        ]
        for row in part["rows"]
    ]
    return [SummaryTable("", ["throughput", "photos per second", "ms per photo", ""], rows)]


def _resources(part: Document) -> list[SummaryLine]:
    if part["processes"] == 0:
        return [SummaryLine(f"start and memory: {part['why'] or 'not measured'}")]
    peak = "" if part["peak_mb"] is None else f", {part['peak_mb']:.0f} MB of memory at most"
    threads = "" if part["threads"] is None else f", {part['threads']:.0f} threads"
    said = (
        f"a fresh process: {part['load_ms']:.0f} ms to load, {part['first_query_ms']:.2f} ms for the first query{peak}, "
        f"{part['cpu_ms_a_frame']:.2f} ms of processor time per frame{threads}; the file takes {part['file_bytes'] / 1e6:.1f} MB"
    )
    return [SummaryLine(said)]


def _stream(name: str) -> Callable[[Document], list[SummaryLine]]:
    def told(part: Document) -> list[SummaryLine]:
        drift, energy = part["drift"], part["energy"]
        found: list[SummaryLine] = []
        if drift["first_ms"] is not None:
            low, high = drift["ms_per_minute_ci95"]
            verdict = "SLOWED" if drift["slowed"] else "no clear slowing"
            said = (
                f"{_STREAMS[name]}: {verdict} over {part['seconds']:.0f} s: first tenth {drift['first_ms']:.2f} ms, last "
                f"{drift['last_ms']:.2f} ms ({100 * drift['change']:+.1f} %); {low:+.3f} to {high:+.3f} ms per minute"
            )
            found.append(SummaryLine(said, warns=drift["slowed"]))
        if energy["joules"] is not None:
            sensors = ", ".join(energy["sensors"])
            found.append(
                SummaryLine(f"{_STREAMS[name]}: {1e3 * energy['joules_per_query']:.1f} mJ per query by {sensors}")
            )
        return found

    return told


def _conditions(runs: dict[str, Document]) -> list[SummaryLine]:
    if not runs:
        return []
    first, last = next(iter(runs.values()))["before"], list(runs.values())[-1]["after"]
    told = [
        f"{name} {first[key]:g} to {last[key]:g} {unit}"
        for key, name, unit in (("temperature_c", "temperature", "C"), ("mhz", "clock", "MHz"))
        if first[key] is not None and last[key] is not None
    ]
    busiest = max(runs, key=lambda name: float(runs[name]["others"]))
    others = runs[busiest]["others"]
    doubt = "; figures of speed are doubtful, measure again when the machine is idle" if others > BUSY else ""
    told.append(f"other programs took up to {100 * others:.0f} % of the processor ({busiest}){doubt}")
    ends = [run[when] for run in runs.values() for when in ("before", "after")]
    slowed = any(end["throttled"] for end in ends)
    if slowed:
        told.append("THROTTLED: the board slowed itself down, for heat or a weak supply")
    return [SummaryLine("; ".join(told), warns=slowed or others > BUSY)]


def _plain(told: Callable[[Document], list[str]]) -> Callable[[Document], list[SummaryLine]]:
    return lambda part: [SummaryLine(line) for line in told(part)]


TABLES: dict[str, Callable[[Document], list[SummaryTable]]] = {
    "throughput": _throughput,
    "corruptions": evaluated.corruptions,
    "stored": evaluated.stored,
    "square": evaluated.square,
}
"""Part, then the tables of its document."""

LINES: dict[str, Callable[[Document], list[SummaryLine]]] = {
    "resources": _resources,
    **{name: _stream(name) for name in _STREAMS},
    "accuracy": _plain(evaluated.accuracy),
    "agreement": _plain(evaluated.agreement),
    "corruptions": _plain(evaluated.corruption_mean),
}
"""Part, then the lines of its document."""
