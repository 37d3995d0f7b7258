"""Text from elsewhere on its way into messages and commands: one line that a terminal prints and a shell takes as it stands."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path

from edge_tl_runtime.core.errors import EdgeTLError

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (Unicode's Cc), which terminals obey; line breaks; marks that turn the direction of the rest;
and lone surrogates, which cannot be encoded."""

INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""What nobody sees: Unicode's Default_Ignorable_Code_Point, and the empty pattern of Braille. Inside a word some of them change
its shape (Persian, Hindi, emoji) and are kept; two names that differ only in them are one to a person."""


def without_invisible(text: str) -> str:
    """What is seen of a text: NFC, without letters of no width and spaces around it. "" where nothing is."""
    return unicodedata.normalize("NFC", INVISIBLE.sub("", text)).strip()


def one_line(value: object, limit: int = 200) -> str:
    """A text from elsewhere for use in a message: one line that a terminal prints and does not obey."""
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + "..."
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def error_line(error: BaseException) -> str:
    """What went wrong in one line: the message of an EdgeTLError or OSError, the type and message of any other error."""
    expected = isinstance(error, (EdgeTLError, OSError))
    return one_line(str(error) if expected else f"{type(error).__name__}: {error}", 300)


def plural(number: int, word: str) -> str:
    """`1 photo`, `3 photos`, `1,200 classes`."""
    ending = "" if number == 1 else "es" if word.endswith("s") else "s"
    return f"{number:,} {word}{ending}"


def shell_command(*words: object) -> str:
    """`edge-tl` and these words as one line that a shell takes as it stands, whatever characters a path has.

    A Path that begins with a hyphen is given as `./-name`, so that it is not taken for an option.
    """
    return " ".join(["edge-tl", *map(_quoted, words)])


def _quoted(word: object) -> str:
    text = str(word)
    if isinstance(word, Path) and text.startswith("-"):
        text = f"./{text}"
    if not UNPRINTABLE.search(text):
        return shlex.quote(text)
    # Line breaks and bytes that are no UTF-8, spelled out as bash, zsh and ksh read them.
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    spelled = UNPRINTABLE.sub(lambda found: "".join(f"\\x{byte:02x}" for byte in _bytes(found[0])), plain)
    return f"$'{spelled}'"


def _bytes(character: str) -> bytes:
    """Of a file name's character; a byte that was no UTF-8 is a surrogate from U+DC80 on (PEP 383)."""
    return character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`: as exact as a guess can be."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def percent(rate: float) -> str:
    """0.948 as `94.8 %`."""
    return f"{100 * rate:.1f} %"
