"""How work tells a person what happens and how far it is: lines of text, and counts of finished items."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

Say = Callable[[str], None]
"""Takes a line for a person."""
Progress = Callable[[int], None]
"""Called with the number of items just done."""
Stage = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a stage of the work: what is done, and on how many items. Gives the Progress of that stage."""


def silent(news: object) -> None:
    """A Say, or a Progress, that tells nobody."""


def say_if_heard(say: Say, line: str) -> None:
    """Tell a line. A listener that went away, as a closed terminal does, is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        say(line)
