"""The plots of benchmark results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from edge_tl.report.common.html import BLUE, GREY, HALF, new_figure, short, styled, svg
from edge_tl.report.robustness.plots import COLORS, UNITS

MOST_LINES = 12
"""Results in a plot of lines; of a larger fleet only the table tells one from another."""


@styled
def windows(streams: Mapping[str, Mapping[str, Any]]) -> Markup | None:
    """Median latency of each window of time. streams: parts by title; None where none was long enough."""
    long = {title: part for title, part in streams.items() if part["drift"]["p50_ms"]}
    if not long:
        return None
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, (title, part) in enumerate(long.items()):
        values = part["drift"]["p50_ms"]
        seconds = (np.arange(len(values)) + 0.5) * part["drift"]["window_s"]
        axes.plot(seconds, values, color=COLORS[place % len(COLORS)], lw=1, label=title)
    axes.set(xlabel="seconds", ylabel="median latency, ms", title="latency over time", ylim=(0, None))
    _legend(axes)
    return svg(figure)


@styled
def throughput(part: Mapping[str, Any]) -> Markup | None:
    """Photos per second by photos per call, with least and most of the turns."""
    rows = [row for row in part["rows"] if row["photos_per_second"] is not None]
    if len(rows) < 2:
        return None
    figure = new_figure(*HALF)
    axes = figure.subplots()
    batches = [row["batch"] for row in rows]
    middle = np.array([row["photos_per_second"] for row in rows])
    low, high = np.array([row["spread"] for row in rows]).T
    axes.errorbar(
        batches, middle, [np.maximum(middle - low, 0), np.maximum(high - middle, 0)], color=BLUE, marker="o", ms=4
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.set(xlabel="photos per call", ylabel="photos per second", title="throughput", ylim=(0, None))
    return svg(figure)


@styled
def accuracies(curves: Mapping[str, Mapping[str, Mapping[str, Any]]], norm: str, title: str) -> Markup | None:
    """Accuracy left against epsilon, with 95 % intervals. curves: rates by epsilon, by name."""
    shown = dict(list(curves.items())[:MOST_LINES])
    keys = sorted({key for rates in shown.values() for key in rates}, key=float)
    if not shown or len(keys) < 2:
        return None
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, (name, rates) in enumerate(shown.items()):
        own = [key for key in keys if key in rates and rates[key]["rate"] is not None]
        x = np.array([keys.index(key) for key in own])
        y = np.array([100 * rates[key]["rate"] for key in own])
        low, high = 100 * np.array([rates[key]["ci95"] for key in own]).reshape(-1, 2).T
        color = COLORS[place % len(COLORS)]
        axes.plot(x, y, color=color, marker="osv^Dx"[place % 6], ms=4, lw=1.4, label=short(name))
        axes.fill_between(x, low, high, color=color, alpha=0.1, lw=0)
    axes.set_xticks(range(len(keys)), [f"{float(key):g}" for key in keys])
    axes.set(xlabel=UNITS.get(norm, UNITS["l2"]), ylabel="accuracy, %", title=title, ylim=(-3, 103))
    _legend(axes)
    return svg(figure)


@styled
def speed_and_accuracy(points: Sequence[tuple[str, float, Mapping[str, Any]]]) -> Markup | None:
    """Accuracy against median latency. points: name, ms, rate."""
    if len(points) < 2:
        return None
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, (name, ms, rate) in enumerate(points):
        low, high = rate["ci95"]
        y = 100 * rate["rate"]
        color = COLORS[place % len(COLORS)] if len(points) <= MOST_LINES else GREY
        label = short(name) if len(points) <= MOST_LINES else None
        axes.errorbar(
            [ms], [y], [[max(0, y - 100 * low)], [max(0, 100 * high - y)]], color=color, marker="o", label=label
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(axis="x", which="minor", labelsize=7, labelrotation=45)
    axes.set(xlabel="median latency per photo, ms", ylabel="top-1, %", title="accuracy against latency")
    _legend(axes)
    return svg(figure)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2, fontsize=8)
