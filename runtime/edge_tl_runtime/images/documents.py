"""What files that were passed over look like as JSON."""

from __future__ import annotations

from typing import Literal, TypedDict

SkippedGroup = Literal[
    "unreadable",
    "needs an extra",
    "other picture",
    "video",
    "empty",
    "no picture",
    "system file",
    "link",
    "no regular file",
    "folder",
]


class _Grouped(TypedDict, total=False):
    group: SkippedGroup


class SkippedDocument(_Grouped):
    """A file that was passed over.

    group: the kind of reason.
    """

    path: str
    reason: str
