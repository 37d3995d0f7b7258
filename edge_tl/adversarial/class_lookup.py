"""A class by what a person types."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from edge_tl_runtime.core.errors import UsageError


def find_class(text: str, labels: Sequence[str]) -> int:
    """The index of the label that is meant: the label itself, the only one that contains the text, or an index.

    Whole labels go before parts of them, parts before numbers; capital letters do not matter. Raises UsageError with labels that
    come near.
    """
    folded, names = text.casefold(), [label.casefold() for label in labels]
    exact = [i for i, label in enumerate(labels) if label == text] or [
        i for i, name in enumerate(names) if name == folded
    ]
    if exact:
        return exact[0]
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    # A word of its own goes before a part of one: "cat" is no "caterpillar".
    worded = [i for i, name in enumerate(names) if folded in name.replace(",", " ").replace("_", " ").split()]
    containing = [i for i, name in enumerate(names) if folded in name]
    for found in (worded, containing):
        if len(found) == 1:
            return found[0]
    near = [labels[i] for i in containing] or difflib.get_close_matches(text, labels, 5, 0.5)
    shown = ", ".join(near[:8]) if near else ", ".join(list(labels)[:8]) + (", ..." if len(labels) > 8 else "")
    why = "is one of several" if len(containing) > 1 else "is no class of this model"
    raise UsageError(f"{text!r} {why}; {'near it' if near else 'there are'}: {shown}")
