"""What a person is told at the end: how many photos were used, which were passed over, and which had their pixels changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edge_tl_runtime.core.text import one_line, plural
from edge_tl_runtime.images.datasets.survey import Unreadable, count_reasons

NAMED = 3
"""Files that a line names; the others are counted."""


def say_counts(used: int | None, passed_over: Sequence[Unreadable], root: Path | None = None) -> list[str]:
    """Lines for a person: how many photos were used, and what was passed over, by reason, with the first NAMED names.

    used: None where the caller says it elsewhere. root: names are told as paths below it. [] when there is nothing to say.
    """
    if not passed_over:
        return []
    reasons = count_reasons(passed_over)
    head = f"passed over {plural(len(passed_over), 'file')}"
    if used is not None:
        head = f"used {plural(used, 'photo')}, {head}"
    if len(reasons) == 1:
        reason, items = reasons[0]
        return [f"{head}: {reason} ({_first(items, root)})"]
    return [f"{head}:", *(f"  {len(items)}: {reason} ({_first(items, root)})" for reason, items in reasons)]


def say_adjusted(adjusted: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each kind of change that pixels needed: how many photos, what was done, the first name."""
    return [
        f"{plural(len(names), 'photo')}: {note} ({one_line(names[0])})" for note, names in adjusted.items() if names
    ]


def by_note(photos: Iterable[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Names of photos by each of their notes, in their order. photos: pairs of a name and its notes."""
    found: dict[str, list[str]] = {}
    for name, notes in photos:
        for note in notes:
            found.setdefault(note, []).append(name)
    return {note: tuple(names) for note, names in found.items()}


def shown_path(path: Path, root: Path | None) -> str:
    """The path below `root`, with forward slashes; the last two parts of one that lies elsewhere."""
    if root is not None and path != root and path.is_relative_to(root):
        return one_line(path.relative_to(root).as_posix())
    return one_line(Path(*path.parts[-2:]))


def _first(items: Sequence[Unreadable], root: Path | None) -> str:
    shown = ", ".join(shown_path(item.path, root) for item in items[:NAMED])
    return f"{shown}, ..." if len(items) > NAMED else shown
