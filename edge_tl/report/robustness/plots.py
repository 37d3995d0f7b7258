"""The plots of a robustness page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_tl.report.common.html import BLUE, GREY, HALF, ORANGE, new_figure, short, styled
from edge_tl.report.robustness.pictures import Heat

Rates = Mapping[str, Mapping[str, Any]]
"""By epsilon, as the document writes it: {"rate", "count", "n", "ci95"} and perhaps "bound"."""

COLORS = (BLUE, ORANGE, "#3da35d", "#7b4fa3", "#b8860b", "#1d2433")
MARKERS = "os^Dvx"
UNITS = {"linf": "epsilon, of 255", "l2": "epsilon, L2 of pixels in 0..1"}


@styled
def worst(curves: Mapping[str, Rates], norm: str, targeted: bool, noise: Rates | None = None) -> Figure:
    """What the worst of all attacks leaves right, or with a target how many reach it, against epsilon, with 95 % bands.

    noise: the same under random noise of that size.
    """
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, (name, rates) in enumerate(curves.items()):
        _curve(axes, rates, "^" if targeted else "v", label=short(name), **_style(place, len(curves)))
        low, high = np.array([rates[key]["ci95"] for key in _known(rates)]).reshape(-1, 2).T
        axes.fill_between(_points(rates)[0], 100 * low, 100 * high, color=COLORS[place % len(COLORS)], alpha=0.12, lw=0)
    if noise:
        x, y = _points(noise)
        axes.plot(x, y, color=GREY, ls="--", lw=1, label="random noise")
    _epsilon_axis(axes, {key for rates in curves.values() for key in rates}, norm)
    ylabel = "get the wanted answer, %" if targeted else "accuracy, %"
    axes.set(ylabel=ylabel, ylim=(-3, 103), title="under the worst of all attacks")
    _legend(axes)
    return figure


@styled
def success(route: str, attacks: Sequence[Mapping[str, Any]], norm: str, noise: Rates | None) -> Figure:
    """Success of one route's attacks against epsilon, among the photos that were right before."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, attack in enumerate(attacks):
        _curve(axes, attack["success"], "^", label=attack["name"], **_style(place, len(attacks)))
    if noise:
        x, y = _points(noise)
        axes.plot(x, y, color=GREY, ls="--", lw=1, label="random noise")
    _epsilon_axis(axes, {key for attack in attacks for key in attack["success"]}, norm)
    axes.set(ylabel="fooled, %", ylim=(-3, 103), title=route)
    _legend(axes)
    return figure


@styled
def queries(route: str, attacks: Sequence[Mapping[str, Any]], key: str, text: str) -> Figure | None:
    """Success of one route's attacks against the queries to the file, at one epsilon. None where no curve was kept.

    key: of the epsilon in the document. text: the epsilon in words.
    """
    drawn = [(place, attack) for place, attack in enumerate(attacks) if attack.get("curve", {}).get(key)]
    if not drawn:
        return None
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, attack in drawn:
        steps, shares = _climb(attack, key)
        axes.step(steps, shares, where="post", markevery=[-1], label=attack["name"], **_style(place, len(attacks)))
    axes.set(
        xscale="log",
        xlabel="queries to the file, per photo",
        ylabel="fooled, %",
        ylim=(-3, 103),
        title=f"{route}, {text}",
    )
    _round_ticks(axes)
    _legend(axes)
    return figure


@styled
def heat_map(heat: Heat) -> Figure:
    """Mean absolute difference at each place of the network's picture."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    image = axes.imshow(heat.mean, cmap="magma", vmin=0)
    axes.grid(False)
    axes.set(xlabel="column", ylabel="row", title=f"{heat.photos} examples, {heat.epsilon}")
    figure.colorbar(image, ax=axes, label="mean change, of 255")
    return figure


@styled
def heat_profile(heat: Heat) -> Figure:
    """Mean absolute difference against the distance from the centre."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    axes.plot(100 * heat.distance, heat.profile, color=BLUE, marker="o", ms=3, label="in the ring")
    axes.axhline(float(heat.mean.mean()), color=GREY, ls="--", lw=1, label="in the whole picture")
    axes.set(
        xlabel="distance from the centre to the edge, %",
        ylabel="mean change, of 255",
        xlim=(0, 100),
        title="from the centre",
    )
    axes.set_ylim(0, 1.3 * float(heat.profile.max()) or 1)
    _legend(axes)
    return figure


@styled
def severities(groups: Mapping[str, Mapping[int, float]], clean: float) -> Figure:
    """Accuracy, 0..1, against severity for each group of corruptions. clean: accuracy on the photos as they are."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, (name, by_severity) in enumerate(groups.items()):
        levels = sorted(by_severity)
        axes.plot(levels, [100 * by_severity[level] for level in levels], label=name, **_style(place, len(groups)))
    axes.axhline(100 * clean, color=GREY, ls="--", lw=1, label="as they are")
    axes.set(xlabel="severity", ylabel="accuracy, %", ylim=(-3, 103), title="mean over the corruptions of a group")
    axes.set_xticks(sorted({level for by_severity in groups.values() for level in by_severity}))
    _legend(axes)
    return figure


def _style(place: int, count: int) -> dict[str, Any]:
    """Of a line. Attacks and files are often equally good: earlier lines are broader, to be seen below the later."""
    above = count - 1 - place
    return {
        "color": COLORS[place % len(COLORS)],
        "marker": MARKERS[place % len(MARKERS)],
        "ms": 4 + 1.7 * above,
        "lw": 1.3 + 1.2 * above,
    }


def _legend(axes: Axes) -> None:
    """Below the axes, where it hides no line."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(loc="outside lower center", ncols=4 if len(axes.get_lines()) > 3 else 3, handlelength=1.8)


def _climb(attack: Mapping[str, Any], key: str) -> tuple[list[float], list[float]]:
    """Queries and the percentage fooled with no more of them: from nothing to the attack's budget, where that is known."""
    points = [(max(1, steps), count) for steps, count in attack["curve"][key]]
    points.insert(0, (1, 0))
    points.append((max(points[-1][0], attack.get("budget") or 0), points[-1][1]))
    total = attack["success"][key]["n"] or 1
    return [steps for steps, _ in points], [100 * count / total for _, count in points]


def _curve(axes: Axes, rates: Rates, beyond: str, **style: Any) -> None:
    """A line through the rates. beyond: the mark of a rate that the time limit made a bound, which points to where it may be."""
    axes.plot(*_points(rates), **style)
    bounds = {key: rate for key, rate in rates.items() if rate.get("bound")}
    axes.plot(*_points(bounds), color=style["color"], marker=beyond, ms=style["ms"] + 6, mfc="none", ls="")


def _known(rates: Rates) -> list[str]:
    return sorted((key for key, rate in rates.items() if rate["rate"] is not None), key=float)


def _points(rates: Rates) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = _known(rates)
    return np.array([float(key) for key in known]), np.array([100 * rates[key]["rate"] for key in known])


def _epsilon_axis(axes: Axes, keys: Iterable[str], norm: str) -> None:
    """Doubling is one step to the right; 0 is one step left of the smallest radius."""
    radii = sorted(float(key) for key in keys)
    positive = [radius for radius in radii if radius > 0]
    if positive:
        forward, back = _doublings(positive[0])
        axes.set_xscale("function", functions=(forward, back))
    axes.set_xticks(radii, [f"{radius:g}" for radius in radii])
    axes.minorticks_off()
    axes.set_xlabel(UNITS.get(norm, "epsilon"))


def _round_ticks(axes: Axes) -> None:
    """1, 2, 5, 10, ... on a logarithmic axis, or the tens alone where these would crowd."""
    right = axes.get_xlim()[1]
    steps = (1, 2, 5) if right < 2000 else (1,)
    ticks = [step * 10**power for power in range(7) for step in steps if step * 10**power <= right]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _doublings(smallest: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The scale that is linear up to the smallest radius, logarithmic beyond, and its inverse."""

    def forward(values: Any) -> Any:
        ratio = np.asarray(values, np.float64) / smallest
        return np.where(ratio <= 1, ratio, 1 + np.log2(np.maximum(ratio, 1)))

    def back(places: Any) -> Any:
        places = np.asarray(places, np.float64)
        return smallest * np.where(places <= 1, places, 2 ** np.maximum(places - 1, 0))

    return forward, back


@styled
def climb(traces: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Confidence of the file in each class against the steps of its dream."""
    figure = new_figure(*HALF)
    axes = figure.subplots()
    for place, (label, trace) in enumerate(traces.items()):
        steps, confidence = np.array([(point["step"], point["confidence"]) for point in trace]).T
        axes.plot(steps, 100 * confidence, label=short(label), **_style(place, len(traces)))
    axes.set(xlabel="step", ylabel="confidence, %", ylim=(-3, 103), title="what the file says at each step")
    _legend(axes)
    return figure
