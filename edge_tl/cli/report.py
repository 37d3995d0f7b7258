"""`edge-tl report RESULT [RESULT...]`: of training runs, of robustness evaluations or of benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import percent, table

if TYPE_CHECKING:
    from edge_tl.report.bench.compare import BenchRow
    from edge_tl.report.common.pairs import Pair
    from edge_tl.report.robustness.compare import AttackRow
    from edge_tl.report.run.compare import RunRow


@click.command(short_help="Write the page of a run, an attack or a benchmark, or compare several.")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File for the page of a comparison or a benchmark.  [default: comparison.html]",
)
@click.option(
    "--dreams", type=click.Path(path_type=Path), help="Folder of `edge-tl dream` to show on the page of an attack."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(results: tuple[Path, ...], output: Path | None, dreams: Path | None, as_json: bool) -> None:
    """Write the page of RESULT again: a folder of `edge-tl train` or `edge-tl attack`, or a file of `edge-tl bench`.

    Several results of one kind are compared with the first, on one page. A folder with results of `edge-tl bench` stands for
    all results in it.
    """
    from edge_tl.api.comparing import compare

    found = compare(*results, page=output, dreams=dreams)
    if as_json:
        click.echo(json.dumps(found.to_list(), ensure_ascii=False))
        return
    if found.attacks:
        _print_attacks(found.attacks)
    elif found.benches:
        _print_benches(found.benches)
    else:
        columns = ["run", "backbone", "px", "kept", "val", "test", "ECE", "only first / this", "p"]
        table("", columns, [_run_cells(row) for row in found.runs])
    click.echo(f"page: {found.page}")


def _run_cells(row: RunRow) -> list[str]:
    from edge_tl.report.common.pairs import p_words

    val, test = row.parts.get("val"), row.parts.get("test")
    return [
        row.name,
        row.arch,
        str(row.size),
        row.best,
        percent(val.top1) if val else "",
        percent(test.top1) if test else "",
        "" if isnan(row.ece) else f"{row.ece:.3f}",
        "" if row.p is None else f"{row.only_first} / {row.only_this}",
        "" if row.p is None else p_words(row.p),
    ]


def _print_attacks(rows: Sequence[AttackRow]) -> None:
    from edge_tl.report.robustness.compare import all_epsilons
    from edge_tl.report.robustness.page import epsilon_words

    keys, norm = all_epsilons(rows), rows[0].threat["norm"]
    names = [epsilon_words(norm, key) for key in keys]
    cells = [[row.name, row.title, _percent(row.clean["rate"]), *(row.words(key) for key in keys)] for row in rows]
    table("", ["attack", "model", "no attack", *names], cells)
    _print_pairs({row.name: row.pairs for row in rows}, lambda key: epsilon_words(norm, key))
    for row in rows:
        if row.unpaired:
            click.echo(f"{row.name}: {row.unpaired}")


def _print_benches(rows: Sequence[BenchRow]) -> None:
    from edge_tl.report.bench.compare import epsilons

    radii = epsilons(rows, "stored")
    columns = ["benchmark", "p50, ms", "p99, ms", "photos/s", "top-1", *(f"stored {r}" for r in radii)]
    table("", columns, [_bench_cells(row, radii) for row in rows])
    _print_pairs({row.name: row.pairs for row in rows}, lambda key: "clean" if key == "0" else f"stored, {key}")
    for row in rows:
        click.echo(f"{row.name}: {row.title}" + (f"; {row.unpaired}" if row.unpaired else ""))


def _bench_cells(row: BenchRow, radii: Sequence[str]) -> list[str]:
    speed = [row.number("latency", "p50_ms"), row.number("latency", "p99_ms"), row.photos_per_second]
    rates = [row.top1, *(row.left("stored").get(radius) for radius in radii)]
    return [
        row.name,
        *("" if value is None else f"{value:.2f}" for value in speed),
        *("" if rate is None else _percent(rate["rate"]) for rate in rates),
    ]


def _percent(rate: float | None) -> str:
    return "" if rate is None else percent(rate)


def _print_pairs(pairs: Mapping[str, Mapping[str, Pair]], words: Callable[[str], str]) -> None:
    """pairs: by name of the result and epsilon. words: an epsilon as a person reads it."""
    from edge_tl.report.common.pairs import p_words

    cells = [
        [
            name,
            words(key),
            f"{pair.only_first} / {pair.only_this}",
            f"{100 * pair.difference:+.1f}",
            f"{100 * pair.ci95[0]:.1f} to {100 * pair.ci95[1]:.1f}",
            p_words(pair.p),
        ]
        for name, by_epsilon in pairs.items()
        for key, pair in by_epsilon.items()
    ]
    if cells:
        table("", ["against the first", "epsilon", "only first / this", "points", "95 % interval", "p"], cells)
