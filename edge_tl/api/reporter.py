"""How a function tells how far it is: bars and lines on standard error, as the commands print them, or nothing."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_tl_runtime.core.progress import Stage

KEPT = 1000
"""Lines that a reporter remembers, the newest: a stream may run for weeks."""


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
    import click

    click.echo(message, err=True)


class Reporter:
    """Where progress goes. `notes` holds the lines, whether they were printed or not."""

    def __init__(self, stage: Stage = silent, tell: Callable[[str], None] | None = None) -> None:
        """stage: makes the bars. tell: takes each line; None only keeps them."""
        self.stage, self._tell = stage, tell
        self.notes: deque[str] = deque(maxlen=KEPT)

    def say(self, line: str) -> None:
        self.notes.append(line)
        if self._tell is not None:
            self._tell(line)


def reporter(progress_: bool | Reporter) -> Reporter:
    """True: bars and lines on standard error, as the command prints them. False: quiet. A Reporter is taken as it is."""
    if isinstance(progress_, Reporter):
        return progress_
    return Reporter(progress, say) if progress_ else Reporter()
