"""`edge-tl pack MODEL DATA -o FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tl.adversarial.settings import PackSettings
from edge_tl.cli.console import progress, say, table
from edge_tl.cli.options import options

if TYPE_CHECKING:
    from edge_tl_runtime.bench.pack.documents import PackSummaryDocument


@click.command(short_help="Make a benchmark pack of a model, for `edge-tl bench` on a device.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the pack.  [default: MODEL.pack]")
@options(PackSettings, without=("target", "source", "attacks"))
@click.option("--json", "as_json", is_flag=True, help="Print what the pack holds as JSON.")
def command(model: Path, data: Path, output: Path | None, as_json: bool, **values: Any) -> None:
    """Attack MODEL on labelled photos of DATA and write a benchmark pack, one file for `edge-tl bench` on devices without torch.

    The pack holds the photos at the network's size, the scores that MODEL gives them here, and the pictures that fooled it. The
    same command gives the same file on the same machine. After an interruption, give it again: it goes on.
    """
    from edge_tl.api.packing import pack
    from edge_tl.api.reporter import Reporter

    result = pack(model, data, output, count=values.pop("photos"), progress=Reporter(progress, say), **values)
    document = result.document
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    table(*result.table())
    _print(document)
    size = f"{document['bytes'] / 2**20:.1f} MB"
    click.echo(f"wrote {result.path}: {size}, {document['photos']} photos, {document['sha256']}")


def _print(document: PackSummaryDocument) -> None:
    said = document["workstation"]
    for item in document["expected"]:
        click.echo(f"{item['name']} ({item['precision']}) is right for {item['right']} of {document['photos']} photos")
    for alarm in said["alarms"]:
        if alarm["role"] == "model":
            click.echo(f"ALARM: {alarm['name']}: {alarm['text']}")
    click.echo(said["headline"])
    for note in said.get("notes", []):
        click.echo(f"note: {note}")
    if not document["complete"]:
        click.echo("note: the time limit came first; the same command with more time goes on")
