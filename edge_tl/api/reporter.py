"""How a function tells how far it is: bars and lines on standard error, as the commands print them, or nothing."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge_tl_runtime.core.progress import Stage
from edge_tl_runtime.core.text import duration

KEPT = 1000
"""Lines that a reporter remembers, the newest: a stream may run for weeks."""


EVERY_S = 30.0
"""Between two lines of progress where no bar can be drawn: in a file, a pipe, the log of a service."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error that takes the number of items just done; lines now and then where that is no terminal."""
    if not sys.stderr.isatty():
        yield LinesOfProgress(what, total, say)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)


class LinesOfProgress:
    """Tells how far a stage is every EVERY_S seconds; a stage that is done sooner says nothing."""

    def __init__(
        self, what: str, total: int, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._total, self._tell, self._clock = what, total, tell, clock
        self._done, self._started = 0, clock()
        self._told = self._started

    def __call__(self, done: int) -> None:
        self._done += done
        now = self._clock()
        if now - self._told < EVERY_S or not 0 < self._done < self._total:
            return
        self._told = now
        left = (now - self._started) * (self._total - self._done) / self._done
        self._tell(f"{self._what}: {self._done} of {self._total}, about {duration(left)} left")


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
