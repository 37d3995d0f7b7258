"""Values that documents share, with their bounds, and the reading back of a document through its class.

A document is a `TypedDict` beside the code that makes it: `to_dict` returns one, so mypy finds a key that is missing, misspelt or
of another type. JSON Schemas are made of the same classes (`python -m edge_tl.schemas`). A command that only writes documents
imports none of this while it runs: their classes are named in annotations alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, TypedDict, TypeVar

import msgspec
from msgspec import Meta

from edge_tl_runtime.core.text import one_line

_Document = TypeVar("_Document")

Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Interval = Annotated[list[float], Meta(min_length=2, max_length=2, description="95 % interval: low, high.")]
Labels = Annotated[list[str], Meta(min_length=2)]


class HitsDocument(TypedDict):
    """Photos classified right, a share of n, with Wilson's interval; rate is null when n is 0."""

    rate: Share | None
    count: Count
    n: Count
    ci95: Interval


class _Bounded(TypedDict, total=False):
    bound: bool


class RateDocument(HitsDocument, _Bounded):
    """A share of n, with Wilson's interval; rate is null when n is 0.

    bound: true where an attack was cut short, so that a robust accuracy is at most this, a success at least.
    """


def one_of(words: Iterable[str]) -> Meta:
    """The bound of a text that is one of these words, which stay the program's own: `Annotated[str, one_of(PRECISIONS)]`."""
    listed = list(words)
    return Meta(pattern=f"^(?:{'|'.join(map(re.escape, listed))})$", extra_json_schema={"enum": listed})


class PluginDocument(TypedDict):
    """A part that another package added."""

    name: str
    package: str
    version: str


def checked(document: Any, kind: type[_Document]) -> _Document:
    """A JSON value as the document that it must be; keys that the class does not know stay in it.

    Raises ValueError in a line that names the key: `top1 is wrong: expected `float`, got `str``.
    """
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_told(str(error))) from None
    known: _Document = document
    return known


_PLACE = re.compile(r"^(?P<why>.*?)(?: - at `(?P<keys>key in )?\$(?P<place>.*)`)?$", re.DOTALL)


def _told(message: str) -> str:
    """msgspec's message in our words: which key, what should be, what is there."""
    found = _PLACE.match(message)
    assert found is not None
    why, place = found["why"], (found["place"] or "").removeprefix(".")
    lacking = re.fullmatch(r"Object missing required field `(.*)`", why)
    if lacking is not None:
        return f"{one_line(f'{place}.{lacking[1]}'.lstrip('.'))} is missing"
    where = one_line(place) or "the document"
    if found["keys"]:
        where = f"a key of {where.removesuffix('[...]') or 'the document'}"
    return f"{where} is wrong: {one_line(why[:1].lower() + why[1:])}"
