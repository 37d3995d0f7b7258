"""What commands share when they talk to a person: standard output is data, standard error is progress."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge_tl.api.reporter import progress, say, silent
from edge_tl_runtime.core.text import percent

if TYPE_CHECKING:
    from edge_tl_runtime.images.datasets.survey import Unreadable

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
