"""Every failure a person can meet, named by what they must do about it.

The command line turns an ``EdgeTLError`` into one line and ``exit_code``; any other exception is a bug.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (Unicode's Cc), which terminals obey; line breaks; marks that turn the direction of the rest;
and lone surrogates, which cannot be encoded."""


def one_line(value: object, limit: int = 200) -> str:
    """A text from elsewhere for use in a message: one line that a terminal prints and does not obey."""
    text = str(value)
    text = text if len(text) <= limit else text[:limit] + "..."
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


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


class EdgeTLError(Exception):
    """Base of all expected failures. The message says what was being done, what was found and what to do next.

    exit_code: 1 when the work failed, 2 when the request itself was wrong.
    """

    exit_code = 1


class UsageError(EdgeTLError):
    """Ask differently: the request contradicts itself, or a name in it (backbone, data set, run, provider) means nothing.

    A photo, folder or model file that is missing is no wrong use: the same words are right once it is there.
    """

    exit_code = 2


class DataError(EdgeTLError):
    """Mend the photos: an empty class, a single class, nothing readable."""


class BadImage(DataError):
    """One file is not a readable photo. Callers that walk folders count it and go on."""


class BadFrame(DataError):
    """An array is not a camera frame (empty, not uint8, or not 1, 3 or 4 channels)."""


class BadModelError(EdgeTLError):
    """Replace the model file: damaged, not ours, or its own self-test failed."""


class UnknownSpecVersion(BadModelError):
    """Upgrade edge-tl: the file was written by a release with a newer contract."""


class BadPackError(EdgeTLError):
    """Make or fetch the benchmark pack again: damaged, altered, not one, or of another model."""


class SourceError(EdgeTLError):
    """Fix the camera, video or folder that frames were to come from."""


class OutputError(EdgeTLError):
    """Free or open the place that results were to be written to (full disk, read-only folder)."""


class PeerFailed(EdgeTLError):
    """Look at another process of the training, which ended. told: whether that process gave its reason in a line of its own."""

    def __init__(self, message: str, told: bool = False) -> None:
        super().__init__(message)
        self.told = told


class WeightsError(EdgeTLError):
    """Get or choose other weights: no network and none installed, or a file that does not fit the network."""
