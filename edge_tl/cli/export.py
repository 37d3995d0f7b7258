"""`edge-tl export RUN --quantize`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import percent, progress, say, say_skipped, table
from edge_tl_runtime.machine import TARGETS

if TYPE_CHECKING:
    from edge_tl_export import Row


@click.command(short_help="Make verified ONNX files, FP32 and INT8, from a run.")
@click.argument("run")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Folder for the files; the run's own.")
@click.option(
    "--quantize",
    is_flag=False,
    flag_value="int8",
    type=click.Choice(["int8", "fp16"]),
    help="Also write a quantized file (int8 when no kind is given).",
)
@click.option("--data", type=click.Path(path_type=Path), help="Photos to calibrate and judge on; the run's own.")
@click.option("--weights", default="pretrained", show_default=True, help="For a backbone's name instead of a run.")
@click.option("--calibration-photos", default=200, show_default=True, type=click.IntRange(1))
@click.option(
    "--target",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", *TARGETS]),
    help="Kind of processor that INT8 is for; auto: this one.",
)
@click.option(
    "--max-drop",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="Points of top-1 that a quantized file may lose against FP32; none is written that loses more.",
)
@click.option(
    "--search",
    default="first",
    show_default=True,
    type=click.Choice(["first", "full"]),
    help="Take the first INT8 file that passes, or judge every candidate and print the front.",
)
@click.option(
    "--qat",
    "qat_epochs",
    default=0,
    metavar="EPOCHS",
    type=click.IntRange(0),
    help="Train in INT8 for so many epochs on the training photos when no candidate passes.",
)
@click.option(
    "--layers/--no-layers", default=True, show_default=True, help="Measure what each layer alone costs, for the page."
)
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    run: str,
    folder: Path | None,
    quantize: str | None,
    data: Path | None,
    weights: str,
    calibration_photos: int,
    target: str,
    max_drop: float,
    search: str,
    qat_epochs: int,
    layers: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Export RUN, a run folder or the name of a backbone (with its ImageNet head), to verified ONNX files.

    INT8 is calibrated on training photos; every candidate is judged on the validation photos, and one is written only when it
    keeps the accuracy and is faster than FP32. What was measured is kept in export.html and export.json.
    """
    from edge_tl.deploy import deploy
    from edge_tl.report.export_page import PAGE
    from edge_tl_export import ExportSettings

    settings = ExportSettings(
        quantization=quantize,
        target=target,
        max_drop=max_drop / 100,
        search=search,
        calibration_size=calibration_photos,
        qat_epochs=qat_epochs,
        layers=layers,
        seed=seed,
    )
    report = deploy(run, folder, settings, data, weights, seed, progress, say)
    for warning in report.warnings:
        say(f"warning: {warning}")
    say_skipped(report.skipped)
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False))
        return
    if search == "full" and report.tried:
        table("every candidate, least noise first", COLUMNS, [_cells(c.name, c.row) for c in report.by_noise if c.row])
        table(
            "the front: none is both faster and less noisy",
            COLUMNS,
            [_cells(c.name, c.row) for c in report.front if c.row],
        )
    refused = report.nearest[:SHOWN_REFUSED] if report.refused else []
    table(
        "",
        COLUMNS,
        [_cells(file.row.precision.upper(), file.row) for file in report.files]
        + [_cells(f"not written: INT8, {c.name}", c.row) for c in refused if c.row],
    )
    if report.refused:
        click.echo(report.refused)
    click.echo(
        f"parity with PyTorch: largest logit difference {report.parity.max_difference:.2g} "
        f"on {report.parity.n} photos (bound {report.parity.tolerance:g})"
    )
    for path in (*(file.path for file in report.files), report.files[0].path.parent / PAGE):
        click.echo(f"wrote {path}")
    click.echo(f"next: edge-tl predict {report.files[-1].path} PHOTO")


SHOWN_REFUSED = 3
COLUMNS = ["file", "MB", "ms a photo", "speed", "top-1", "drop, points", "agrees with FP32", "on this machine"]


def _cells(name: str, row: Row) -> list[str]:
    against = row.against
    drop = "n/a"
    if against is not None:
        low, high = against.interval
        drop = f"{100 * against.drop:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    return [
        name,
        f"{row.bytes / 1e6:.2f}",
        f"{row.latency_ms:.2f}",
        f"{row.speedup:.2f}x",
        row.accuracy,
        drop if row.precision != "fp32" else "",
        "n/a" if against is None and row.precision != "fp32" else "" if against is None else percent(against.agreement),
        row.verdict,
    ]
