"""What files that were passed over look like as JSON."""

from __future__ import annotations

from typing import Annotated, TypedDict

from edge_tl_runtime.core.documents import one_of
from edge_tl_runtime.images.formats.kinds import FileGroup

SkippedGroup = Annotated[str, one_of(group.value for group in FileGroup if group is not FileGroup.PHOTO)]


class _Grouped(TypedDict, total=False):
    group: SkippedGroup


class SkippedDocument(_Grouped):
    """A file that was passed over.

    group: the kind of reason.
    """

    path: str
    reason: str
