"""Names of classes: one spelling of each (Unicode's NFC), and none that a person could take for another."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.text import UNPRINTABLE, one_line

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
"""Letters of no width. Inside a word some of them change its shape (Persian, Hindi, emoji), so labels keep them there."""


def clean_label(name: str) -> str:
    """The label that a folder's name or a cell stands for: NFC, without spaces and letters of no width around it.

    macOS stores the names of folders decomposed (NFD), so the same folder copied through it has another name in bytes.
    """
    text = unicodedata.normalize("NFC", name).strip()
    while text and (_INVISIBLE.match(text[0]) or _INVISIBLE.match(text[-1])):
        text = text.strip().strip("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff").strip()
    return text


def alike(label: str) -> str:
    """Equal for labels that a person reads as the same: those that differ in case, normalisation, or in what is not seen."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", label))
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())


def refuse_unusable(name: str, what: str) -> None:
    """Raises DataError for a name that could not be a label: better now than after the training. what: `in data, the folder`."""
    if UNPRINTABLE.search(name):
        raise DataError(f"{what} '{one_line(name)}' has control characters, or a name that is not UTF-8; rename it")
    if not clean_label(name):
        raise DataError(f"{what} {name!a} has no letter that can be seen; rename it")


def refuse_look_alikes(names: Mapping[str, str] | Iterable[str], where: str) -> None:
    """Raises DataError where two names could be taken for one class. names: as they are spelled, with where each was found."""
    found = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "")
    seen: dict[str, str] = {}
    for name, place in found.items():
        first = seen.setdefault(alike(name), name)
        if first != name:
            one, other = (_spelled(spelling, first, name) for spelling in (first, name))
            places = f" ({found[first]} and {place})" if place and found[first] != place else ""
            raise DataError(
                f"{where} has the classes {one} and {other}{places}, which differ only in {_difference(first, name)}; "
                "give both one spelling, or other names if they are two classes"
            )


def label_places(labels: Sequence[str]) -> dict[str, int]:
    """Where each label of a model stands, by every spelling that can mean no other: as stored, and in NFC."""
    places: dict[str, int] = {}
    for place, label in enumerate(labels):
        places.setdefault(clean_label(label), place)
    return places | {label: place for place, label in enumerate(labels)}


def unknown_label(name: str, labels: Sequence[str], where: str) -> DataError:
    """What to say of a class that the model does not know, with the label that it nearly is."""
    known = f"{', '.join(list(labels)[:5])}{', ...' if len(labels) > 5 else ''}"
    near = next((label for label in labels if alike(label) == alike(name)), None)
    if near is not None:
        known = f"{ascii_where_needed(near)}, which differs only in {_difference(name, near)}: rename the class"
        return DataError(
            f"{where} holds class {ascii_where_needed(name)}, which the model does not know (it knows {known})"
        )
    by_spelling = {alike(label): label for label in labels}
    close = difflib.get_close_matches(alike(name), by_spelling, 1)
    hint = (
        f"if {ascii_where_needed(by_spelling[close[0]])} is meant, rename it" if close else "give it one of these names"
    )
    return DataError(
        f"{where} holds class {ascii_where_needed(name)}, which the model does not know (it knows {known}); {hint}, move it "
        "away, or train a model with it"
    )


def ascii_where_needed(name: str) -> str:
    """The name in quotes; letters that are not seen are written out."""
    return ascii(name) if _INVISIBLE.search(name) or name != name.strip() else f"'{one_line(name)}'"


def _spelled(name: str, first: str, second: str) -> str:
    same_on_screen = unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second)
    return ascii(name) if same_on_screen else ascii_where_needed(name)


def _difference(first: str, second: str) -> str:
    if unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second):
        return "their Unicode normalisation (NFC, NFD)"
    if clean_label(first) == clean_label(second):
        return "spaces or invisible letters around them"
    if clean_label(first).lower() == clean_label(second).lower():
        return "upper and lower case"
    if _INVISIBLE.sub("", first).lower() == _INVISIBLE.sub("", second).lower():
        return "letters that are not seen"
    return "spaces, case or the form of their letters"
