"""JSON from files and servers that are not trusted: what is ambiguous, or would fail later, is refused."""

from __future__ import annotations

import json
import math
from typing import Any

from edge_tl_runtime.core.text import one_line


def strict_json(text: str) -> Any:
    """The document of a text. Raises ValueError, in a line, for what is no JSON, has a key twice in an object, a number that is
    not finite or has more than 300 digits, containers nested more than 50 deep, or text that could not be written again."""
    try:
        document = json.loads(
            text,
            object_pairs_hook=_unambiguous,
            parse_constant=_finite,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({one_line(error)})") from None
    if not _shallow(document):
        raise ValueError("nested more than 50 deep")
    # An escape can name half of a surrogate pair.
    if not _encodable(text) or ("\\u" in text and not _encodable(json.dumps(document, ensure_ascii=False))):
        raise ValueError("not text")
    return document


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice in an object")
    return document


def _finite(text: str) -> float:
    """JSON's numbers have no NaN and no infinity, which Python's reader allows, and makes of 1e999."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]}")
    return number


def _bounded(text: str) -> int:
    if len(text) > 300:  # time to read one grows with the square of its length
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _shallow(document: object) -> bool:
    """Whether containers nest at most 50 deep, so that nothing later meets Python's limit of recursion."""
    level = [document]
    for _ in range(50):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        level = [item for items in inner for item in items if isinstance(item, (dict, list))]
        if not level:
            return True
    return False


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
