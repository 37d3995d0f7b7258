"""The commands that a page of the documentation shows, and whether the program takes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from edge_tl.cli import cli

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def fenced(page: Path) -> Iterator[str]:
    """Commands in the fenced and indented blocks of a page, comments cut off, lines that go on joined."""
    text = page.read_text("utf-8")
    blocks = [block for _, block in FENCE.findall(text)]
    blocks += re.findall(r"(?:^    edge-tl .*\n)+", text, re.MULTILINE)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("edge-tl "):
                yield line.strip()


def inline(page: Path) -> Iterator[str]:
    """Whole commands between backticks."""
    text = FENCE.sub("", page.read_text("utf-8"))
    yield from re.findall(r"`(edge-tl [^`\n]+)`", text)


def understood(line: str) -> None:
    """Parse a command as the program would, and run nothing. Raises click's errors for what it does not take."""
    words = shlex.split(line, comments=True)[1:]
    while words and words[0] == "--debug":
        words = words[1:]
    if words[0].startswith("-"):
        return
    command, arguments = found(words)
    with command.make_context(words[0], arguments):
        pass


def found(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command, of a group if need be, and what is left for it."""
    command: click.Command | None = cli
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        command = command.get_command(click.Context(command), name)
        assert command is not None, f"there is no command {name}"
    return command, words
