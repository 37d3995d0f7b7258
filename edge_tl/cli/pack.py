"""`edge-tl pack MODEL DATA -o FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tl.adversarial.settings import PackSettings
from edge_tl.cli.console import progress, say, table
from edge_tl.cli.options import options
from edge_tl_runtime.core.settings import assembled

if TYPE_CHECKING:
    from edge_tl_runtime.bench.pack.documents import PackSummaryDocument


@click.command(short_help="Photos and misleading pictures in one file, for the benchmark on devices.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File that the pack becomes; MODEL.pack.")
@options(PackSettings, without=("target", "source", "attacks"))
@click.option("--json", "as_json", is_flag=True, help="Print what the pack holds as JSON.")
def command(model: Path, data: Path, output: Path | None, as_json: bool, **values: Any) -> None:
    """Attack MODEL on labelled photos of DATA and write one file for `edge-tl bench` on devices that have no training library.

    It holds the photos at the network's size, what the file said of them here, and every picture that fooled it. The same
    command gives the same file on the same machine; interrupted, it goes on.
    """
    from edge_tl.adversarial.packing import write_pack

    output = output or Path(f"{model.stem}.pack")
    document = write_pack(model, data, output, assembled(PackSettings, values), progress, say)
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    _print(document)
    click.echo(f"wrote {output}: {document['bytes'] / 2**20:.1f} MB, {document['photos']} photos, {document['sha256']}")


def _print(document: PackSummaryDocument) -> None:
    said, radii = document["workstation"], [f"{radius:g}" for radius in document["epsilons"]]
    rows = []
    for stored, line in zip(document["stored"], said["attacks"], strict=True):
        route = f", {stored['route']}" if stored["route"] else ""
        fooled = (f"{100 * (line['success'][radius]['rate'] or 0):.1f}" for radius in radii)
        rows.append([stored["attack"] + route, str(stored["pictures"]), *fooled])
    unit = "/255" if document["norm"] == "linf" else "L2"
    table(
        f"stored pictures, and the % of photos that each attack fools, by epsilon ({unit})",
        ["", "stored", *radii],
        rows,
    )
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
