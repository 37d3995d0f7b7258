"""The plots of a run's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from edge_tl.report.common.html import BLUE, GREY, HALF, ORANGE, new_figure, short, styled, svg
from edge_tl_runtime.evaluation.reliability import BINS, Reliability

Records = Sequence[Mapping[str, Any]]
WHITE_FROM = 0.7
"""Share from which white is easier to read than black on the blue of the confusion matrix."""


@styled
def curves(runs: Mapping[str, Records]) -> Markup | None:
    """Loss and validation top-1 by epoch, each run's probe as a dashed line; None when no run was fine-tuned."""
    tuned = {
        name: epochs for name, records in runs.items() if (epochs := [r for r in records if r["stage"] == "finetune"])
    }
    if not tuned:
        return None
    figures = new_figure(*HALF), new_figure(*HALF)
    left, right = (figure.subplots() for figure in figures)
    colors = [BLUE, ORANGE, "#3da35d", "#7b4fa3", "#b8860b", GREY]
    for place, (name, epochs) in enumerate(tuned.items()):
        color, single = colors[place % len(colors)], len(tuned) == 1
        numbers = [e["epoch"] for e in epochs]
        probe = next((r for r in runs[name] if r["stage"] == "probe"), None)
        left.plot(
            numbers,
            [e["loss"] for e in epochs],
            color=color,
            marker="o",
            ms=3,
            label="train" if single else short(name),
        )
        left.plot(
            numbers,
            [e["val_loss"] for e in epochs],
            color=ORANGE if single else color,
            ls="-" if single else ":",
            marker="o",
            ms=3,
            label="validation" if single else None,
        )
        if single:
            low, high = zip(*(e["ci95"] for e in epochs), strict=True)
            right.fill_between(numbers, 100 * np.array(low), 100 * np.array(high), color=color, alpha=0.12, lw=0)
        right.plot(numbers, [100 * e["top1"] for e in epochs], color=color, marker="o", ms=3, label=short(name))
        if probe:
            right.axhline(100 * probe["top1"], color=GREY if single else color, ls="--", lw=1)
    left.set(xlabel="epoch", ylabel="cross-entropy", title="" if len(tuned) == 1 else "dotted: validation")
    right.set(xlabel="epoch", ylabel="validation top-1, %", title="dashed: the linear probe")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend()
    if len(tuned) > 1:
        right.legend()
    return svg(*figures)


@styled
def rate_search(records: Records) -> Markup | None:
    """Loss against learning rate, when a rate was searched."""
    found = next((r for r in records if r["stage"] == "rate"), None)
    if found is None:
        return None
    figure = new_figure(*HALF)
    axes = figure.subplots()
    axes.semilogx(found["rates"], found["losses"], color=BLUE)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(found["suggestion"], color=ORANGE, ls="--", label=f"chosen: {found['suggestion']:.1e}")
    axes.set(xlabel="learning rate", ylabel="loss of the step")
    axes.legend()
    return svg(figure)


@styled
def reliability_diagram(before: Reliability, after: Reliability, temperature: float) -> Markup:
    """Accuracy against confidence, with and without the temperature; a dot's area is the number of photos."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
    for result, color, label in ((before, GREY, "temperature 1"), (after, BLUE, f"temperature {temperature:.2f}")):
        there = result.counts > 0
        sizes = 12 + 240 * result.counts[there] / result.counts.sum()
        axes.scatter(result.confidence[there], result.accuracy[there], s=sizes, color=color, alpha=0.6, lw=0)
        axes.plot([], [], "o", ms=6, color=color, label=f"{label}: ECE {result.ece:.3f}")
    axes.set(xlabel="confidence", ylabel=f"accuracy, {BINS} bins", xlim=(0, 1.02), ylim=(0, 1.04))
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.18))
    return svg(figure)


@styled
def confusion_matrix(confusion: NDArray[np.int64], labels: Sequence[str]) -> Markup:
    """Rows are the truth; counts are written where they can be read."""
    classes = len(labels)
    widest = max(len(short(label)) for label in labels)
    side = min(10.0, (0.24 * classes if classes > 6 else 1.8) + 0.9 + 0.08 * widest)
    figure = new_figure(side, side * 0.92)
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    axes.set(xlabel="answer", ylabel="truth", xticks=range(classes), yticks=range(classes))
    names = [short(label) for label in labels]
    axes.set_xticklabels(names, rotation=90 if classes > 6 or max(map(len, names)) > 40 // classes else 0)
    axes.set_yticklabels(names)
    if classes <= 50:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            # Black or white, whichever of them differs more: no shade then leaves less than 4.5 to 1 (WCAG 2).
            color = "white" if shares[row, column] > WHITE_FROM else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=color, fontsize=7)
    return svg(figure)
