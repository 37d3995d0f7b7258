"""`edge-tl doctor [MODEL]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edge_tl.cli.console import say


@click.command(short_help="Show what this machine can do, and what is wrong.")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(model: Path | None, as_json: bool) -> None:
    """Show processor, memory, execution providers, OpenCV, cameras and training packages; with MODEL, whether it runs here.

    The exit code is 1 if MODEL cannot be used on this machine.
    """
    from edge_tl.cli.broken_imports import broken_libraries

    broken = broken_libraries()
    if broken:
        if as_json:
            click.echo(json.dumps({"broken": broken, "problems": list(broken.values())}, ensure_ascii=False))
        for problem in broken.values():
            say(problem)
        sys.exit(0 if model is None else 1)

    from edge_tl.doctor import diagnose

    diagnosis = diagnose(model)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), ensure_ascii=False))
    else:
        lines = diagnosis.lines()
        width = max(map(len, lines))
        for name, text in lines.items():
            click.echo(f"{name:<{width}}  {text}")
    for problem in diagnosis.problems:
        say(problem)
    if diagnosis.model is not None and diagnosis.model.problem:
        sys.exit(1)
