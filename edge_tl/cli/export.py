"""`edge-tl export RUN --quantize`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tl.cli.console import percent, progress, say, say_skipped, table


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
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    run: str,
    folder: Path | None,
    quantize: str | None,
    data: Path | None,
    weights: str,
    calibration_photos: int,
    seed: int,
    as_json: bool,
) -> None:
    """Export RUN, a run folder or the name of a backbone (with its ImageNet head), to verified ONNX files.

    INT8 is calibrated on training photos; both files are judged on the validation photos.
    """
    from edge_tl.deploy import deploy

    report = deploy(run, folder, quantize, data, weights, calibration_photos, seed, progress, say)
    say_skipped(report.skipped)
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False))
        return
    rows = [
        [
            row.precision.upper(),
            f"{row.bytes / 1e6:.2f}",
            f"{row.latency_ms:.2f}",
            f"{row.speedup:.2f}x",
            "n/a" if row.top1 is None else percent(row.top1),
            "n/a" if row.agreement is None else percent(row.agreement),
            row.verdict,
        ]
        for row in (file.row for file in report.files)
    ]
    columns = ["file", "MB", "ms a photo", "speed", "top-1", "agrees with FP32", "on this machine"]
    table("", columns, rows)
    click.echo(
        f"parity with PyTorch: largest logit difference {report.parity.max_difference:.2g} "
        f"on {report.parity.n} photos (bound {report.parity.tolerance:g})"
    )
    for file in report.files:
        click.echo(f"wrote {file.path}")
    click.echo(f"next: edge-tl predict {report.files[-1].path} PHOTO")
