"""`edge-tl report RESULT [RESULT...]`: of training runs, of robustness evaluations or of benchmarks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import percent, table

COMPARISON = Path("comparison.html")

if TYPE_CHECKING:
    from edge_tl.report.bench.compare import BenchRow
    from edge_tl.report.common.pairs import Pair
    from edge_tl.report.run.compare import RunRow


@click.command(short_help="The page of a run, an attack or a benchmark, or several side by side.")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Page of several, or of a benchmark; comparison.html."
)
@click.option(
    "--dreams", type=click.Path(path_type=Path), help="Folder of `edge-tl dream`, for the page of one attack."
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(results: tuple[Path, ...], output: Path | None, dreams: Path | None, as_json: bool) -> None:
    """Write the page of RESULT anew: a folder of `edge-tl train` or `edge-tl attack`, or a file of `edge-tl bench`.

    Several of one kind are compared with the first, with a page of them all. A folder of files of `edge-tl bench`, as a fleet
    of devices leaves them, stands for all of these.
    """
    from edge_tl.adversarial.document import DOCUMENT
    from edge_tl_runtime.core.errors import UsageError

    attacks = [path for path in results if (path / DOCUMENT).is_file()]
    benches = [path for path in results if path.suffix == ".json" or (path not in attacks and _is_fleet(path))]
    runs = [path for path in results if path not in attacks and path not in benches]
    kinds = [(name, found[0]) for name, found in (("attack", attacks), ("bench", benches), ("train", runs)) if found]
    if len(kinds) > 1:
        (name, path), (_, other) = kinds[:2]
        raise UsageError(f"{path} is of `edge-tl {name}` and {other} is not; compare like with like")
    if dreams is not None and len(attacks) != 1:
        raise UsageError("--dreams belongs to the page of one attack; give one folder of `edge-tl attack`")
    if attacks:
        _report_attacks(attacks, output or COMPARISON, dreams, as_json)
    elif benches:
        _report_benches(benches, output, as_json)
    else:
        _report_runs(runs, output or COMPARISON, as_json)


def _is_fleet(path: Path) -> bool:
    """Whether a folder holds results of benchmarks and is no run."""
    if not path.is_dir() or (path / "settings.json").is_file():
        return False
    from edge_tl.report.bench.compare import is_result

    return any(map(is_result, path.glob("*.json")))


def _report_runs(folders: Sequence[Path], output: Path, as_json: bool) -> None:
    from edge_tl.report.run.compare import compare, write_comparison
    from edge_tl.report.run.page import write_page

    rows = compare(folders)
    page = write_page(folders[0]) if len(folders) == 1 else write_comparison(folders, rows, output)
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], ensure_ascii=False))
        return
    columns = ["run", "backbone", "px", "kept", "val", "test", "ECE", "only first / this", "p"]
    table("", columns, [_run_cells(row) for row in rows])
    click.echo(f"page: {page}")


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


def _report_attacks(folders: Sequence[Path], output: Path, dreams: Path | None, as_json: bool) -> None:
    from edge_tl.report.robustness.compare import all_epsilons, compare_robustness, write_robustness_comparison
    from edge_tl.report.robustness.page import epsilon_words, write_robustness_page

    rows = compare_robustness(folders)
    single = len(folders) == 1
    page = write_robustness_page(folders[0], dreams) if single else write_robustness_comparison(rows, output)
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], ensure_ascii=False))
        return
    keys, norm = all_epsilons(rows), rows[0].threat["norm"]
    names = [epsilon_words(norm, key) for key in keys]
    cells = [[row.name, row.title, _percent(row.clean["rate"]), *(row.words(key) for key in keys)] for row in rows]
    table("", ["attack", "model", "no attack", *names], cells)
    _print_pairs({row.name: row.pairs for row in rows}, lambda key: epsilon_words(norm, key))
    for row in rows:
        if row.unpaired:
            click.echo(f"{row.name}: {row.unpaired}")
    click.echo(f"page: {page}")


def _report_benches(given: Sequence[Path], output: Path | None, as_json: bool) -> None:
    from edge_tl.report.bench.compare import compare_benches, epsilons, results_in, write_bench_comparison
    from edge_tl.report.bench.page import write_bench_page

    paths = [found for path in given for found in (results_in(path) if path.is_dir() else [path])]
    rows = compare_benches(paths)
    single = len(rows) == 1
    page = (
        write_bench_page(paths[0], output or paths[0].with_suffix(".html"))
        if single
        else write_bench_comparison(rows, output or COMPARISON)
    )
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], ensure_ascii=False))
        return
    radii = epsilons(rows, "stored")
    columns = [
        "benchmark",
        "p50, ms",
        "p99, ms",
        "photos/s",
        "top-1",
        *(f"stored {r}" for r in radii),
    ]
    table("", columns, [_bench_cells(row, radii) for row in rows])
    _print_pairs({row.name: row.pairs for row in rows}, lambda key: "clean" if key == "0" else f"stored, {key}")
    for row in rows:
        click.echo(f"{row.name}: {row.title}" + (f"; {row.unpaired}" if row.unpaired else ""))
    click.echo(f"page: {page}")


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
