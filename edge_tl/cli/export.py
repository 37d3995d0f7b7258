"""`edge-tl export RUN|FILE.onnx --quantize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from edge_tl.cli.console import percent, progress, say, say_skipped, table
from edge_tl.cli.options import Sections, option_of, options
from edge_tl.training.settings import TrainSettings
from edge_tl_export.settings import ExportSettings
from edge_tl_runtime.core.settings import assembled
from edge_tl_runtime.core.text import shell_command

if TYPE_CHECKING:
    from edge_tl_export import CandidateRow, ExportReport


class ExportCommand(Sections):
    """What is made, of what, what it must hold, how it runs."""

    sections: ClassVar = {"folder": "Results", "photos": "Source", "calibration_photos": "Quantization"}


@click.command(cls=ExportCommand, short_help="Make verified ONNX files, FP32 and INT8, from a run or an ONNX file.")
@click.argument("model", metavar="RUN")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder for the files.  [default: that of RUN]",
)
@options(ExportSettings, "quantization")
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Labelled photos: some to calibrate on, others to evaluate on.  [default: the run's own]",
)
@click.option(
    "--background",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Photos of the empty scene or of other things: they choose how much is called unknown.  [default: the run's own]",
)
@option_of(TrainSettings, "weights", "Weights of a backbone that RUN names.")
@options(ExportSettings, without=("quantization",))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: str,
    folder: Path | None,
    photos: Path | None,
    background: Path | None,
    weights: str,
    as_json: bool,
    **values: Any,
) -> None:
    """Export RUN to verified ONNX files. RUN is a run folder, the name of a backbone (with its ImageNet head), or an FP32 file
    of edge-tl, exported or adopted.

    INT8 is calibrated on some photos and evaluated on others. An INT8 file is written only if it is faster than FP32 and loses no
    more accuracy than allowed. All that was measured is in export.html and export.json.
    """
    from edge_tl.deploy import deploy
    from edge_tl.report.export.page import page_name

    settings = assembled(ExportSettings, values)
    report = deploy(model, folder, settings, photos, weights, progress, say, background)
    for warning in report.warnings:
        say(f"warning: {warning}")
    say_skipped(report.skipped, root=photos if photos is not None and photos.is_dir() else None)
    if used := report.photos_used:
        say(used)
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False))
        return
    if settings.search == "full" and report.tried:
        table("every candidate, least noise first", COLUMNS, [_cells(c.name, c.row) for c in report.by_noise if c.row])
        table(
            "the front: none is both faster and less noisy",
            COLUMNS,
            [_cells(c.name, c.row) for c in report.front if c.row],
        )
    refused = report.nearest[:SHOWN_REFUSED] if report.refused else []
    named = [(file.row.precision.upper(), file.row) for file in report.files]
    named += [(f"not written: INT8, {candidate.name}", candidate.row) for candidate in refused if candidate.row]
    table("", COLUMNS, [_cells(name, row) for name, row in named])
    for name, row in named:
        if row.precision != "fp32":
            click.echo(f"{name}: {row.verdict}")
    if report.refused:
        click.echo(report.refused)
    for line in _told(report):
        click.echo(line)
    click.echo(
        f"parity with {report.parity.reference}: largest logit difference {report.parity.max_difference:.2g} "
        f"on {report.parity.n} photos (bound {report.parity.tolerance:g})"
    )
    written = [file.path for file in report.files if file.is_new]
    for path in (*written, report.files[0].path.parent / page_name(report.stem)):
        click.echo(f"wrote {path}")
    click.echo(f"next: {shell_command('predict', report.files[-1].path, 'PHOTO')}")


SHOWN_REFUSED = 3
COLUMNS = [
    "file",
    "MB",
    "ms per photo",
    "FP32 beside it, ms",
    "speed",
    "top-1",
    "drop, points",
    "agrees with FP32",
]


def _told(report: ExportReport) -> list[str]:
    """How large sets of labels of the last file are, what it notices of pictures that are like none of its training
    photos, and whether a camera may have it."""
    last = report.files[-1]
    sets = [] if last.sets is None else [f"{last.path.name} {last.sets.describe()}"]
    if last.detection is None:
        return [*sets, f"{last.path.name} cannot tell what it does not know: {report.no_detection}"]
    lines = [f"{last.path.name} {last.detection.describe()}"]
    lines += [*filter(None, [last.detection.caution]), *last.detection.odd]
    if last.background is not None:
        lines += filter(None, [f"{last.path.name}, {last.background.describe()}", last.background.caution])
    missed = ", ".join(f"{trial.n - trial.noticed} of {trial.n} {trial.kind}" for trial in last.detection.missed)
    if missed:
        fewer = "" if last.detection.keep <= 0.95 else ", or keep fewer: run --unknown 0.95"
        lines.append(
            f"not ready for a camera that sees other things: it gives {missed} a class; add photos to each class{fewer}"
        )
    else:
        lines.append("ready for a camera that also sees other things")
    return [*sets, *lines]


def _cells(name: str, row: CandidateRow) -> list[str]:
    paired = row.paired
    drop = "n/a"
    if paired is not None:
        low, high = paired.interval
        drop = f"{100 * paired.drop:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    return [
        name,
        f"{row.bytes / 1e6:.2f}",
        row.time.this_shown,
        "" if row.precision == "fp32" else row.time.fp32_shown,
        "" if row.precision == "fp32" else f"{row.speedup:.2f}x",
        row.accuracy,
        drop if row.precision != "fp32" else "",
        "n/a" if paired is None and row.precision != "fp32" else "" if paired is None else percent(paired.agreement),
    ]
