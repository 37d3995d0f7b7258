"""The page of one benchmark result: the figures that the terminal shows, with plots."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edge_tl.report.bench import plots as plots
from edge_tl.report.bench.compare import read_bench
from edge_tl.report.common.html import render
from edge_tl.report.run.page import flat
from edge_tl_runtime.bench.summary import lines, tables
from edge_tl_runtime.core.files import write_text

Document = Mapping[str, Any]

STREAMS = {"latency": "one photo", "frame": "whole frame", "sustained": "under load"}


def write_bench_page(result: Path, target: Path) -> Path:
    """Write the page of a result of `edge-tl bench`; returns `target`. Raises UsageError for what is none or was altered."""
    document = read_bench(result)
    page = render(
        "bench.html.j2",
        version=version("edge-tl"),
        name=result.stem,
        document=document,
        tiles=_tiles(document["parts"]),
        lines=lines(document),
        tables=tables(document),
        plots=[plot for plot in _plots(document) if plot is not None],
        settings=flat(document["settings"]),
        facts={**flat(document["machine"]), **flat({"versions": document["versions"]})},
    )
    write_text(target, page)
    return target


def _tiles(parts: Document) -> list[tuple[str, str, str]]:
    """Value, what it is, and its interval, of what most people look for."""
    found = []
    if "latency" in parts:
        part = parts["latency"]
        found.append(
            (
                f"{part['p50_ms']:.2f} ms",
                "per photo, median",
                f"90 % within {part['p90_ms']:.2f}, 99 % within {part['p99_ms']:.2f}",
            )
        )
    if "frame" in parts:
        part = parts["frame"]
        found.append(
            (
                f"{part['p50_ms']:.2f} ms",
                f"per frame of {part['size']}, median",
                f"{part['queries_per_second']:.0f} frames per second",
            )
        )
    if "accuracy" in parts:
        rate = parts["accuracy"]["top1"]
        found.append((_percent(rate), f"right, {rate['count']} of {rate['n']}", _interval(rate)))
    if "agreement" in parts:
        rate = parts["agreement"]["same_label"]
        found.append(
            (
                f"{rate['count']} of {rate['n']}",
                "the same label as on the workstation",
                f"{parts['agreement']['identical']} with identical logits",
            )
        )
    if "stored" in parts:
        key = max(parts["stored"]["accuracy"], key=float)
        rate = parts["stored"]["accuracy"][key]
        found.append((_percent(rate), f"right on stored adversarial pictures, epsilon {key}", _interval(rate)))
    if "square" in parts:
        found.append(_square(parts["square"], parts.get("stored")))
    if "corruptions" in parts:
        part = parts["corruptions"]
        low, high = part["mean_accuracy_ci95"]
        found.append(
            (
                f"{100 * part['mean_accuracy']:.1f} %",
                "right under corruptions, mean",
                f"{100 * low:.1f} to {100 * high:.1f} (95 %)",
            )
        )
    return found


def _square(part: Mapping[str, Any], stored: Mapping[str, Any] | None) -> tuple[str, str, str]:
    """The tile of a black-box attack: an upper bound, beside what is left under pictures made with gradients."""
    key = max(part["accuracy"], key=float)
    rate = part["accuracy"][key]
    what = (
        f"right under the Square attack, epsilon {key}: an upper bound, by {part['queries']} questions without the file"
    )
    beside = None if stored is None else stored["accuracy"].get(key)
    if beside is None:
        return f"≤ {_percent(rate)}", what, _interval(rate)
    return f"≤ {_percent(rate)}", what, f"{_interval(rate)}; {_percent(beside)} on the stored pictures of this epsilon"


def _plots(document: Document) -> list[Any]:
    parts = document["parts"]
    curves = {
        title: parts[name]["accuracy"]
        for name, title in (("stored", "stored pictures"), ("square", "Square, live"))
        if name in parts
    }
    said = (parts.get("stored") or {}).get("workstation") or {}
    if said.get("robust_accuracy"):
        curves["workstation's attacks"] = {"0": said["clean_accuracy"], **said["robust_accuracy"]}
    norm = (parts.get("stored") or parts.get("square") or {}).get("norm", "linf")
    return [
        plots.windows({title: parts[name] for name, title in STREAMS.items() if name in parts}),
        plots.throughput(parts["throughput"]) if "throughput" in parts else None,
        plots.accuracies(curves, norm, "accuracy under attack"),
    ]


def _percent(rate: Mapping[str, Any]) -> str:
    return "none" if rate["rate"] is None else f"{100 * rate['rate']:.1f} %"


def _interval(rate: Mapping[str, Any]) -> str:
    low, high = rate["ci95"]
    return f"{100 * low:.1f} to {100 * high:.1f} (95 %)"
