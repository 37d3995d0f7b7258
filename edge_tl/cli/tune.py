"""`edge-tl tune MODEL`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tl.cli.console import progress, say, table
from edge_tl.cli.options import options
from edge_tl_runtime.machine.settings import TuneSettings


@click.command(short_help="Find the fastest way to run a model file on this machine.")
@click.argument("model", type=click.Path(path_type=Path))
@options(TuneSettings)
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON.")
def command(model: Path, seconds: float, as_json: bool) -> None:
    """Find the fastest provider, number of threads and spinning setting for MODEL on this machine.

    Files of the same export beside MODEL are measured too. The fastest settings are written into a profile beside MODEL, which
    `run` and `predict` use. Close other programs first.
    """
    from edge_tl.api.reporter import Reporter
    from edge_tl.api.tuning import tune

    result = tune(model, seconds, progress=Reporter(progress, say))
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
    else:
        table("", *result.table())
        for line in result.lines():
            click.echo(line)
    for line in result.warnings():
        say(line)
