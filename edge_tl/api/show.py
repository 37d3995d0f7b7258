"""Shows a page: in a notebook below its cell, otherwise in the browser."""

from __future__ import annotations

import sys
import webbrowser
from html import escape
from pathlib import Path

HEIGHT = 720
"""Of a page in a notebook, in CSS pixels."""


def show_page(page: Path) -> Path:
    """Show an HTML file. Where there is neither a notebook nor a browser, its path is printed. Returns the path."""
    if _in_notebook():
        from importlib import import_module

        display = import_module("IPython.display")
        display.display(display.HTML(in_iframe(page.read_text("utf-8"))))
    elif not webbrowser.open(page.resolve().as_uri()):
        print(f"no browser here; the page is {page.resolve()}", file=sys.stderr)  # noqa: T201  # a person asked to see it
    return page


def in_iframe(document: str) -> str:
    """A whole page within another, apart from its styles and scripts."""
    style = f"width:100%;height:{HEIGHT}px;border:0"
    return f'<iframe srcdoc="{escape(document)}" style="{style}" sandbox="allow-scripts"></iframe>'


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
