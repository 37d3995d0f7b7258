"""What a notebook shows of a result: a small table, everything in it escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def html_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of texts and numbers with a line above it; no row: the line alone."""
    from html import escape

    cells = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table>" if cells else ""
    return f"<div><p>{escape(title)}</p>{table}</div>"
