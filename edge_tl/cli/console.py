"""What commands share when they talk to a person: standard output is data, standard error is progress."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from edge_tl.api.reporter import progress, say, silent
from edge_tl_runtime.core.text import percent

if TYPE_CHECKING:
    from edge_tl_runtime.images.datasets.survey import Unreadable

LEAST_LABEL = 10
"""Columns of a terminal that the first column of a table has at least before figures are wrapped, too."""

__all__ = ["percent", "progress", "say", "say_skipped", "silent", "table"]


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
    """Print a table on standard output; every column after the first is right-aligned, labels are wrapped, never cut.

    Where it is too wide for the terminal (120 columns for a file or a pipe), headings and the first column are wrapped, so that
    figures stay whole as long as there is room for them.
    """
    import click
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=120)
    out = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1), header_style="")
    widths = _widths(columns, rows, console.width)
    for position, (column, width) in enumerate(zip(columns, widths, strict=True)):
        justify: Literal["left", "right"] = "right" if position else "left"
        out.add_column(Text(column), justify=justify, overflow="fold", width=width)
    for row in rows:
        # As text: a label may look like markup, [red] or :bee:
        out.add_row(*map(Text, row))
    with console.capture() as capture:
        console.print(out)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    click.echo("\n".join(["", *([title] if title else []), *filter(None, lines), ""]))


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int | None]:
    """Of each column; None: as the table finds best."""
    from rich.cells import cell_len

    cells = [max(map(cell_len, column), default=0) for column in zip(*rows, strict=True)] or [0] * len(columns)
    room -= 2 * (len(columns) - 1)
    fitting = sum(max(cell_len(column), cell) for column, cell in zip(columns, cells, strict=True)) <= room
    words = [max(map(cell_len, column.split()), default=0) for column in columns]
    narrow = [max(pair) for pair in zip(words[1:], cells[1:], strict=True)]
    return [None] * len(columns) if fitting or room - sum(narrow) < LEAST_LABEL else [None, *narrow]
