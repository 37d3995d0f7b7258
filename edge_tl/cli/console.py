"""What commands share when they talk to a person: standard output is data, standard error is progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edge_tl_runtime.images.datasets.survey import Unreadable


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error that takes the number of items just done; silent when that is no terminal."""
    if not sys.stderr.isatty():
        with silent(what, total) as done:
            yield done
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)


@contextmanager
def silent(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """No progress bar."""
    yield lambda done: None


def say(message: str) -> None:
    """A line for the person, on standard error."""
    click.echo(message, err=True)


def say_skipped(
    skipped: Sequence[Unreadable],
    used: int | None = None,
    root: Path | None = None,
    adjusted: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Say how many photos were used, which files were passed over, by reason, and which photos had to be changed to be read.

    used: None where that is said elsewhere. root: the paths are told below it. adjusted: names by what was done.
    """
    from edge_tl_runtime.images.datasets.tally import say_adjusted, say_counts

    for line in (*say_counts(used, list(dict.fromkeys(skipped)), root=root), *say_adjusted(adjusted)):
        say(line)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output; every column after the first is right-aligned, labels are wrapped, never cut."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    out = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        out.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        out.add_row(*(cell.replace("[", r"\[") for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    if title:
        console.print(f"\n{title}")
    console.print(out)


def percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"
