"""`edge-tl collect --background FOLDER --source S --for 60s`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_tl.cli.console import progress, say
from edge_tl.cli.options import options
from edge_tl.cli.run import stopped_by_signals
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import assembled
from edge_tl_runtime.core.text import shell_command
from edge_tl_runtime.run.collect_settings import CollectSettings
from edge_tl_runtime.run.plan import RunPlan

OF_A_RUN = ("source", "size", "fps", "pixel_format", "realtime", "wait", "stall", "first_frame", "frozen")
"""Options that mean what they mean for `run`."""


@click.command(short_help="Take photos from a camera, to train with.")
@click.option(
    "--background",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Take photos of the empty scene, or of other things, into this folder; a folder that exists is continued.",
)
@options(RunPlan, *OF_A_RUN)
@options(CollectSettings)
def command(background: Path | None, **values: Any) -> None:
    """Take photos of what is no class from the camera that will be used, for `train --background`.

    Pictures are spread over the time; one that nearly equals another is left out. Ctrl-C ends it and keeps what there is.
    """
    from edge_tl_runtime.run.assemble import opened
    from edge_tl_runtime.run.collect import collect

    if background is None:
        raise UsageError("say what the photos are of: --background FOLDER for the empty scene and for other things")
    settings = assembled(CollectSettings, values)
    plan = assembled(RunPlan, {**values, "model": Path()})
    with opened(plan, say) as source, stopped_by_signals(source), progress("collecting", settings.photos) as done:
        found = collect(source, background, settings, done)
    for line in found.lines():
        click.echo(line)
    click.echo(f"next: {shell_command('train', 'PHOTOS', '--background', background)}")
