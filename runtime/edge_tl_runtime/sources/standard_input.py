"""`--source -`: photos, each of which is classified, or a live video, by what its first bytes are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_tl_runtime.core.errors import SourceError, UsageError
from edge_tl_runtime.sources.base import Source
from edge_tl_runtime.sources.first_bytes import content
from edge_tl_runtime.sources.names import descriptor
from edge_tl_runtime.sources.pipe import first_bytes, unfit
from edge_tl_runtime.sources.stills import TERMINAL, StandardInput

if TYPE_CHECKING:
    from edge_tl_runtime.sources import LiveOptions

OpenLive = Callable[[str, "LiveOptions", int, bytes], Source]
OpenVideo = Callable[[str, "LiveOptions"], Source]


def open_standard_input(name: str, options: LiveOptions, open_live: OpenLive, open_video: OpenVideo) -> Source:
    """Open `-`, /dev/stdin or /dev/fd/N.

    The content decides, not how fast it arrives, and the person is told: JPEG and other pictures are photos, each of which is
    classified; with `realtime` they come from a camera, and the newest is taken. A video is live. What was redirected from a
    file is that file. open_live: makes a live source of a descriptor and what was read from it; open_video: of a path.
    Raises SourceError, UsageError for a terminal.
    """
    handle = descriptor(name) or 0
    try:
        mode = os.fstat(handle).st_mode
    except OSError:
        raise SourceError("standard input is closed; give photos or a video on it") from None
    if os.isatty(handle):
        raise UsageError(TERMINAL)
    head = first_bytes(handle, options.say)
    found = content(head)
    if found.kind == "video" and stat.S_ISREG(mode):
        return open_video(os.path.realpath(f"/proc/self/fd/{handle}"), options)
    if found.kind == "video":
        options.say(f"standard input: {found.name} video, the newest frame wins; give a file to have every frame")
        return open_live(name, options, handle, head)
    if found.kind != "pictures":
        raise unfit("standard input", found, head)
    if options.realtime:
        options.say(f"standard input: {found.name} pictures of a camera, the newest wins")
        return open_live(name, options, handle, head)
    options.say(
        f"standard input: {found.name} pictures, each is classified; --realtime takes the newest, as of a camera"
    )
    return StandardInput(name, os.fdopen(os.dup(handle), "rb", buffering=0), head, options.say)
