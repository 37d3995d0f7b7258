"""`edge-tl report RUN [RUN...]`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tl.cli.console import percent, table


@click.command(short_help="The page of a run, or several runs side by side.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default="comparison.html", show_default=True, type=click.Path(path_type=Path), help="Page."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(runs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Write the page of RUN anew; of several runs, compare them with the first and write a page of them all."""
    from edge_tl.report.compare import compare, write_comparison
    from edge_tl.report.page import write_page

    rows = compare(runs)
    page = write_page(runs[0]) if len(runs) == 1 else write_comparison(runs, rows, output)
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], ensure_ascii=False))
        return
    cells = []
    for row in rows:
        val = row.parts.get("val")
        test = row.parts.get("test")
        cells.append(
            [
                row.name,
                row.arch,
                str(row.size),
                row.best,
                percent(val.top1) if val else "",
                percent(test.top1) if test else "",
                f"{row.ece:.3f}",
                "" if row.p is None else f"{row.only_first} / {row.only_this}",
                "" if row.p is None else f"{row.p:.3f}",
            ]
        )
    columns = ["run", "backbone", "px", "kept", "val", "test", "ECE", "only first / this", "p"]
    table("", columns, cells)
    click.echo(f"page: {page}")
