"""`edge-tl report FOLDER [FOLDER...]`: of training runs or of robustness evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import percent, table

if TYPE_CHECKING:
    from edge_tl.report.compare import RunRow
    from edge_tl.report.robustness_compare import AttackRow


@click.command(short_help="The page of a run or an attack, or several side by side.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", default="comparison.html", show_default=True, type=click.Path(path_type=Path), help="Page."
)
@click.option(
    "--dreams", type=click.Path(path_type=Path), help="Folder of `edge-tl dream`, for the page of one attack."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(folders: tuple[Path, ...], output: Path, dreams: Path | None, as_json: bool) -> None:
    """Write the page of FOLDER, which `edge-tl train` or `edge-tl attack` made, anew.

    Several of one kind are compared with the first, with a page of them all.
    """
    from edge_tl.adversarial.document import DOCUMENT
    from edge_tl_runtime.errors import UsageError

    attacks = [folder for folder in folders if (folder / DOCUMENT).is_file()]
    others = [folder for folder in folders if folder not in attacks]
    if attacks and others:
        raise UsageError(f"{attacks[0]} is of `edge-tl attack` and {others[0]} is not; compare like with like")
    if dreams is not None and len(attacks) != 1:
        raise UsageError("--dreams belongs to the page of one attack; give one folder of `edge-tl attack`")
    if attacks:
        _report_attacks(attacks, output, dreams, as_json)
    else:
        _report_runs(others, output, as_json)


def _report_runs(folders: Sequence[Path], output: Path, as_json: bool) -> None:
    from edge_tl.report.compare import compare, write_comparison
    from edge_tl.report.page import write_page

    rows = compare(folders)
    page = write_page(folders[0]) if len(folders) == 1 else write_comparison(folders, rows, output)
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], ensure_ascii=False))
        return
    columns = ["run", "backbone", "px", "kept", "val", "test", "ECE", "only first / this", "p"]
    table("", columns, [_run_cells(row) for row in rows])
    click.echo(f"page: {page}")


def _run_cells(row: RunRow) -> list[str]:
    val, test = row.parts.get("val"), row.parts.get("test")
    return [
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


def _report_attacks(folders: Sequence[Path], output: Path, dreams: Path | None, as_json: bool) -> None:
    from edge_tl.report.robustness_compare import all_epsilons, compare_robustness, write_robustness_comparison
    from edge_tl.report.robustness_page import epsilon_words, write_robustness_page

    rows = compare_robustness(folders)
    single = len(folders) == 1
    page = write_robustness_page(folders[0], dreams) if single else write_robustness_comparison(rows, output)
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], ensure_ascii=False))
        return
    keys = all_epsilons(rows)
    names = [epsilon_words(rows[0].threat["norm"], key) for key in keys]
    cells = [[row.name, row.title, percent(row.clean["rate"]), *(row.words(key) for key in keys)] for row in rows]
    table("", ["attack", "model", "no attack", *names], cells)
    pairs = [cells for row in rows for cells in _pair_cells(row)]
    if pairs:
        table("", ["against the first", "epsilon", "only first / this", "points", "95 % interval", "p"], pairs)
    for row in rows:
        if row.unpaired:
            click.echo(f"{row.name}: {row.unpaired}")
    click.echo(f"page: {page}")


def _pair_cells(row: AttackRow) -> list[list[str]]:
    from edge_tl.report.robustness_page import epsilon_words

    return [
        [
            row.name,
            epsilon_words(row.threat["norm"], key),
            f"{pair.only_first} / {pair.only_this}",
            f"{100 * pair.difference:+.1f}",
            f"{100 * pair.ci95[0]:.1f} to {100 * pair.ci95[1]:.1f}",
            f"{pair.p:.3f}",
        ]
        for key, pair in row.pairs.items()
    ]
