"""The page of an export: what each file costs and gains, what was tried, which layers are delicate, which photos change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from markupsafe import Markup

from edge_tl.report.common.html import BLUE, GREY, HALF, ORANGE, new_figure, picture, render, styled, svg
from edge_tl_export import Candidate, CandidateRow, ExportReport, Layer
from edge_tl_export.fp32_source import STEM
from edge_tl_runtime.core.files import write_text
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.machine.cpu import cpu_name
from edge_tl_runtime.modelfile.spec import ModelSpec

CARDS = 24
THUMBNAIL = 156


def page_name(stem: str, ending: str = "html") -> str:
    """`export.html` for a run's model; for a file of its own name, which may have others beside it, `NAME-export.html`."""
    return f"export.{ending}" if stem == STEM else f"{stem}-export.{ending}"


def write_export_page(report: ExportReport, spec: ModelSpec) -> Path:
    """Write the page and the document of an export beside its files; returns the page. Raises OutputError."""
    folder = report.files[0].path.parent
    last = report.files[-1].row
    evaluated = [candidate for candidate in report.tried if candidate.row is not None]
    evaluation = report.files[0].row.evaluation
    page = render(
        "export.html.j2",
        version=version("edge-tl"),
        name=folder.resolve().name if report.stem == STEM else report.files[0].path.name,
        report=report,
        last=last,
        machine=cpu_name(),
        evaluated=0 if evaluation is None else evaluation.n,
        unevaluated=len(report.tried) - len(evaluated),
        chosen=report.chosen,
        checks=[(file.path.name, check) for file in report.files for check in file.checks],
        with_sets=[file for file in report.files if file.sets is not None],
        detecting=[file for file in report.files if file.detection is not None],
        front=front(evaluated, report.front, report.max_drop) if len(evaluated) > 1 and last.top1 is not None else None,
        sensitivity=sensitivity(report.layers) if report.layers else None,
        cards=[(item, picture(_bgr(item.pixels, spec), THUMBNAIL)) for item in report.changed[:CARDS]],
    )
    document = folder / page_name(report.stem, "json")
    write_text(document, json.dumps(report.to_dict(), ensure_ascii=False, indent=1))
    target = folder / page_name(report.stem)
    write_text(target, page)
    return target


@styled
def front(evaluated: Sequence[Candidate], best: Sequence[Candidate], max_drop: float) -> Markup:
    """Points of top-1 lost against speed, with paired intervals; the candidates that none beats in noise and speed are joined."""
    figures = new_figure(*HALF), new_figure(*HALF)
    left, right = (figure.subplots() for figure in figures)
    names = {candidate.name for candidate in best}
    for candidate in evaluated:
        row = _row(candidate)
        if row.paired is None:
            continue
        color = BLUE if candidate.name in names else GREY
        low, high = row.paired.interval
        bars = [[100 * (row.paired.drop - low)], [100 * (high - row.paired.drop)]]
        left.errorbar(row.speedup, 100 * row.paired.drop, yerr=bars, fmt="o", ms=5, color=color, lw=1)
        right.plot(row.speedup, candidate.sqnr, "o", ms=5, color=color)
    joined = [(_row(candidate).speedup, candidate.sqnr) for candidate in best]
    right.plot([x for x, _ in joined], [y for _, y in joined], color=BLUE, lw=1)
    left.axhline(100 * max_drop, color=ORANGE, ls="--", lw=1, label=f"allowed: {100 * max_drop:g}")
    for axes in (left, right):
        axes.axvline(1, color=ORANGE, ls=":", lw=1)
        axes.set(xlabel="speed over FP32")
    left.set(ylabel="points of top-1 lost")
    right.set(ylabel="SQNR of logits, dB", title="the front in blue")
    left.legend()
    return svg(*figures)


@styled
def sensitivity(layers: Sequence[Layer]) -> Markup:
    """SQNR of the logits with each layer alone in INT8, in the order of the graph."""
    ordered = sorted(layers, key=lambda layer: layer.place)
    figure = new_figure(*HALF)
    axes = figure.subplots()
    values = np.array([layer.sqnr for layer in ordered])
    delicate = values <= np.sort(values)[min(4, len(values) - 1)]
    axes.bar(range(len(values)), values, color=[ORANGE if x else BLUE for x in delicate])
    axes.set(xlabel="layer, from the pixels to the scores", ylabel="SQNR of logits, dB")
    return svg(figure)


def _row(candidate: Candidate) -> CandidateRow:
    assert candidate.row is not None
    return candidate.row


def _bgr(pixels: Frame, spec: ModelSpec) -> Frame:
    return np.ascontiguousarray(pixels[:, :, ::-1]) if spec.resize.color_order == "RGB" else pixels
