"""Names of classes: one spelling of each (Unicode's NFC), and none that a person could take for another."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.text import INVISIBLE, UNPRINTABLE, one_line

_SHAPES = re.compile("[\ufe00-\ufe0f\U000e0020-\U000e007f\U000e0100-\U000e01ef]")
"""Invisible letters that belong to the one before them, also at the end of a name: variation selectors, the tags of flags."""
_MEANT = re.compile("[\u200c\u200d\ufe00-\ufe0f\U000e0100-\U000e01ef]|\U0001f3f4[\U000e0020-\U000e007f]+")
"""Joiners and variation selectors, which Persian, Hindi, Mongolian and emoji need, and the tags behind a black flag."""


def clean_label(name: str) -> str:
    """The label that a folder's name or a cell stands for: NFC, without spaces and letters of no width around it.

    macOS stores the names of folders decomposed (NFD), so the same folder copied through it has another name in bytes.
    """
    text = unicodedata.normalize("NFC", name).strip()
    while text and _is_unseen(text[0]):
        text = text[1:].strip()
    while text and _is_unseen(text[-1]) and not _SHAPES.match(text[-1]):
        text = text[:-1].strip()
    return text


def _is_unseen(letter: str) -> bool:
    """Of those that are dropped; marks that turn the direction of a line are not: whoever checks the name refuses them."""
    return bool(INVISIBLE.match(letter)) and not UNPRINTABLE.match(letter)


def unseen_inside(label: str) -> bool:
    """Whether a clean label holds letters that nobody sees and that change the shape of no word: they came by mistake."""
    return bool(INVISIBLE.search(_MEANT.sub("", label)))


def alike(label: str) -> str:
    """Equal for labels that a person reads as the same: those that differ in case, normalisation, or in what is not seen."""
    text = unicodedata.normalize("NFKC", INVISIBLE.sub("", label))
    return " ".join(unicodedata.normalize("NFC", text.lower()).split())


def refuse_unusable(name: str, what: str) -> None:
    """Raises DataError for a name that could not be a label: better now than after the training. what: `in data, the folder`."""
    if UNPRINTABLE.search(name):
        raise DataError(f"{what} '{one_line(name)}' has control characters, or a name that is not UTF-8; rename it")
    if not clean_label(name):
        raise DataError(f"{what} {name!a} has no letter that can be seen; rename it")
    if unseen_inside(clean_label(name)):
        raise DataError(f"{what} {name!a} has letters that are not seen; rename it")


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
    return ascii(name) if INVISIBLE.search(name) or name != name.strip() else f"'{one_line(name)}'"


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
    if INVISIBLE.sub("", first).lower() == INVISIBLE.sub("", second).lower():
        return "letters that are not seen"
    return "spaces, case or the form of their letters"
