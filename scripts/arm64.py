"""edge-tl on a Raspberry Pi's core without the board: `python scripts/arm64.py --help`. See docs/arm64.md.

Arithmetic under emulation is the core's own, instruction by instruction; time under emulation says nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from boards import Board, Here, Remote, emulated
from sysroot import CORES

from edge_tl.cli.console import percent, say, table
from edge_tl.data.cache import cache_folder
from edge_tl_runtime.core.errors import EdgeTLError

if TYPE_CHECKING:
    from agreement import Agreement

SAID_EVERY_S = 10.0
CORES_OF = ", ".join(f"{name} of {core.board}" for name, core in CORES.items())


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("arguments", nargs=-1, metavar="MODEL... | -- COMMAND...")
@click.option(
    "--core",
    "cores",
    multiple=True,
    type=click.Choice(list(CORES)),
    help=f"{CORES_OF}; may be repeated; without it, each.",
)
@click.option("--compare", is_flag=True, help="Compare each MODEL's answers there with those here.")
@click.option("--data", type=click.Path(path_type=Path), help="For --compare: a folder of photos, labelled or not.")
@click.option("--photos", "count", default=20, show_default=True, type=click.IntRange(1), help="Of --data, at most.")
@click.option("--ssh", "target", metavar="USER@BOARD", help="For --compare: a real board instead of emulated cores.")
@click.option("--python", default="python3", show_default=True, help="For --ssh: the board's Python.")
@click.option("--sysroot", type=click.Path(path_type=Path), help="Where the emulated system is kept; the user's cache.")
@click.option("--json", "as_json", is_flag=True, help="For --compare: print the result as JSON.")
def command(
    arguments: tuple[str, ...],
    cores: tuple[str, ...],
    compare: bool,
    data: Path | None,
    count: int,
    target: str | None,
    python: str,
    sysroot: Path | None,
    as_json: bool,
) -> None:
    """Run `edge-tl COMMAND` of the device on an emulated ARM core, or --compare models there with this machine.

    \b
    python scripts/arm64.py --core cortex-a72 -- predict model-int8.onnx bee.jpg
    python scripts/arm64.py --compare model-int8.onnx --data photos
    """
    if not arguments:
        raise click.UsageError("nothing to run; give a command after -- or, with --compare, model files")
    folder = sysroot or cache_folder("arm64")
    if not compare:
        if data is not None or target is not None or as_json:
            raise click.UsageError("--data, --ssh and --json are for --compare; a command's own options follow --")
        codes = [board.run(arguments) for board in emulated(cores or tuple(CORES), folder)]
        sys.exit(next((code for code in codes if code), 0))
    if data is None:
        raise click.UsageError("--compare needs photos: --data FOLDER")
    boards: Sequence[Board] = emulated(cores or tuple(CORES), folder) if target is None else [Remote(target, python)]
    rows = compared([Path(name) for name in arguments], data, count, boards)
    if as_json:
        click.echo(json.dumps([row.to_dict() for row in rows], ensure_ascii=False))
    else:
        show(rows)


def compared(models: Sequence[Path], data: Path, count: int, boards: Sequence[Board]) -> list[Agreement]:
    """Each model on each board against this machine. Raises EdgeTLError."""
    from agreement import agreement, job

    rows = []
    with job(models, data, count) as (folder, photos):
        with lines(Here().name, photos) as done:
            here = Here().answers(folder, done)
        for board in boards:
            started = time.perf_counter()
            with lines(board.name, photos) as done:
                there = board.answers(folder, done)
            seconds = (time.perf_counter() - started) / photos / len(models)
            rows += [
                agreement(model, board.name, mine, theirs, seconds)
                for model, mine, theirs in zip(models, here, there, strict=True)
            ]
    return rows


@contextmanager
def lines(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress as a line every few seconds, which a log keeps too: emulation takes seconds a photo."""
    finished, said = 0, time.monotonic()

    def done(count: int) -> None:
        nonlocal finished, said
        finished += count
        if time.monotonic() - said >= SAID_EVERY_S or finished == total:
            said = time.monotonic()
            say(f"{what}: {finished} of {total} photos")

    yield done


def show(rows: Sequence[Agreement]) -> None:
    """The table, then what it was measured with."""
    table(
        "Against this machine, from the photo's bytes to the logits; the network alone: on the board's pixels on both sides",
        [
            "file",
            "board",
            "labels equal",
            "95 %",
            "largest",
            "median",
            "network alone",
            "decoded equal",
            "pixels equal",
        ],
        [_cells(row) for row in rows],
    )
    spreads = {_short(row.model): row.spread for row in rows}
    click.echo(
        "largest and median difference of logits, whose standard deviation here is "
        + ", ".join(f"{spread:.2f} ({model})" for model, spread in spreads.items())
    )
    for row in rows:
        if row.refused:
            click.echo(f"{row.board} refuses {row.model}: {row.refused}")
    machines = {Here().name: rows[0].here, **{row.board: row.there for row in rows}}
    for name, machine in machines.items():
        versions = [f"{library} {machine[library]}" for library in ("onnxruntime", "opencv", "numpy")]
        click.echo(f"{name}: " + ", ".join([machine["processor"], machine["target"], *versions]))


def _cells(row: Agreement) -> list[str]:
    whole, graph = row.whole, row.graph
    return [
        _short(row.model),
        row.board,
        f"{whole.equal} of {whole.n}",
        " to ".join(percent(end) for end in whole.interval),
        f"{whole.largest:.3g}",
        f"{whole.median:.2g}",
        f"{graph.equal} of {graph.n}, " + ("identical" if graph.identical else f"{graph.largest:.3g}"),
        f"{row.decoded_equal} of {whole.n}",
        f"{row.pixels_equal} of {whole.n}" + (f", by {row.pixels_largest}" if row.pixels_largest else ""),
    ]


def _short(model: str) -> str:
    """The last folder and the name, which tells the files of two runs apart."""
    return "/".join(Path(model).parts[-2:])


def main() -> None:
    """Run and exit; an expected failure is one line on standard error."""
    try:
        command(prog_name="arm64.py")
    except EdgeTLError as error:
        say(f"arm64: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
