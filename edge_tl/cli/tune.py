"""`edge-tl tune MODEL`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import percent, progress, say, table
from edge_tl.cli.options import options
from edge_tl_runtime.machine.settings import TuneSettings

if TYPE_CHECKING:
    from edge_tl_runtime.machine.tune import Measured
    from edge_tl_runtime.machine.tuning_profile import TunedChoice


@click.command(short_help="Find the fastest way to run a model file on this machine.")
@click.argument("model", type=click.Path(path_type=Path))
@options(TuneSettings)
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
def command(model: Path, seconds: float, as_json: bool) -> None:
    """Find the fastest provider, number of threads and spinning setting for MODEL on this machine.

    Files of the same export beside MODEL are measured too. The fastest settings are written into a profile beside MODEL, which
    `run` and `predict` use. Close other programs first.
    """
    from edge_tl_runtime.core.text import shell_command
    from edge_tl_runtime.machine.tune import BUSY, tune
    from edge_tl_runtime.machine.tuning_profile import require_writable, write_profile

    if model.is_file():
        require_writable(model)
    with progress("tuning, seconds", int(seconds)) as done:
        tuning = tune(model, seconds, done)
    path = write_profile(model, tuning.profile)
    if as_json:
        click.echo(json.dumps(tuning.to_dict(), ensure_ascii=False))
    else:
        profile = tuning.profile
        columns = [
            "file",
            "provider",
            "threads",
            "spin",
            "ms a frame",
            "CPU ms a frame",
            "ms in a row",
            "ms in batches",
            "",
        ]
        table("", columns, [_row(measured, profile.batch_size) for measured in tuning.measured])
        click.echo(f"frames of a camera: {_describe(profile.frame, 1, 'frame')}")
        click.echo(f"frames in a row: {_describe(profile.row, 1, 'frame')}")
        click.echo(f"batches of {profile.batch_size}: {_describe(profile.batch, profile.batch_size, 'photo')}")
        click.echo(f"measured in {tuning.seconds:.0f} s; run and predict follow the profile {path}")
    if tuning.others > BUSY:
        say(
            f"other programs took {percent(tuning.others)} of the processor meanwhile; tune again when the machine is idle"
        )
    for faster, factor in tuning.faster[:1]:
        say(
            f"{faster.name} is {factor:.1f}x as fast; use it if its accuracy is enough: {shell_command('tune', faster)}"
        )


def _row(measured: Measured, photos: int) -> list[str]:
    frame, row, batch, settings = measured.frame, measured.row, measured.batch, measured.settings
    return [
        measured.file,
        settings.provider,
        str(settings.threads or "-"),
        "yes" if settings.spin else "",
        "" if frame is None else f"{frame.median_ms:.2f}",
        "" if frame is None else f"{frame.cpu_ms:.2f}",
        "" if row is None else f"{row.median_ms:.2f}",
        "" if batch is None else f"{batch.median_ms / photos:.2f}",
        measured.note,
    ]


def _describe(choice: TunedChoice, photos: int, unit: str) -> str:
    return f"{choice.settings}: {choice.median_ms / photos:.2f} ms a {unit}, {choice.cpu_ms / photos:.2f} ms of processor time"
