"""Where frames come from: photos, video files, cameras, network streams. One string names any of them.

Photo sources give every picture; live ones give the newest frame and count what they dropped; files do either. A kind is an
entry in SOURCES: a test that says whether a string names it, and what opens it.
"""

from __future__ import annotations

import errno
import glob
import os
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.progress import Say, silent
from edge_tl_runtime.images.datasets.survey import is_still
from edge_tl_runtime.sources.address import parse_address, shown_address
from edge_tl_runtime.sources.base import Counts, FrameRecord, Source, State, mask_credentials
from edge_tl_runtime.sources.capture.watchdog import Patience
from edge_tl_runtime.sources.names import descriptor, is_pipe, pi_camera_index, suggestion
from edge_tl_runtime.sources.plugin_sources import PREFIX, added_device, added_name, checked_maker
from edge_tl_runtime.sources.stills import LISTS, Photos, StandardInput
from edge_tl_runtime.sources.v4l import camera_path, found_cameras
from edge_tl_runtime.sources.video import Video

__all__ = [
    "SOURCES", "VIDEO_ENDINGS", "Counts", "FrameRecord", "LiveOptions", "Patience", "Photos", "Source", "StandardInput",
    "State", "Video", "is_live", "mask_credentials", "open_source", "source_kind",
]  # fmt: skip

VIDEO_ENDINGS = frozenset(
    {".mp4", ".m4v", ".mkv", ".avi", ".mov", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """What a live source is asked for; photos and videos that are read whole ignore it.

    width, height, fps, pixel_format: asked of a camera. realtime: a video file is played at its own pace, newest frame only, and
    pictures on standard input are a camera's. every: seconds between two looks at a still picture at an address; 0: the usual.
    max_fps: frames a second to take at most, 0 for all; where the camera is faster, the others are not even decoded.
    rests: whoever reads will need fewer frames at times (`Source.rest_s`), and these are not decoded either.
    wait: go on trying when the source is not there at the start. say: told of what happens to the connection.
    """

    width: int = 0
    height: int = 0
    fps: float = 0.0
    pixel_format: str = ""
    realtime: bool = False
    max_fps: float = 0.0
    every: float = 0.0
    rests: bool = False
    wait: bool = False
    patience: Patience = field(default_factory=Patience)
    say: Say = silent


def _live(kind: str, ends: bool = False) -> Callable[..., Source]:
    def open_live(name: str, options: LiveOptions, handle: int = -1, head: bytes = b"") -> Source:
        # Processes, sockets and what they bring: a tenth of the start of a command that only reads photos.
        from edge_tl_runtime.sources.capture.live import Live
        from edge_tl_runtime.sources.patterns import Pattern
        from edge_tl_runtime.sources.request import CaptureRequest

        request = CaptureRequest(
            kind=kind,
            name=name,
            width=options.width,
            height=options.height,
            fps=options.fps,
            pixel_format=options.pixel_format,
            every=options.every,
            handle=handle,
            head=b64encode(head).decode("ascii"),
            paced=options.max_fps > 0 or options.rests,
            frozen=options.patience.frozen if kind != "video" else 0.0,
            open_ms=round(1e3 * options.patience.first_frame),
            read_ms=round(1e3 * options.patience.lost),
            ends=ends,
        )
        if kind == "test":
            Pattern(request)  # a string that makes no sense is refused here, not in another process
        if kind.startswith(PREFIX):
            added_device(request)
        if kind == "rpicam":
            pi_camera_index(name)
        return Live(request, options.patience, options.wait, options.max_fps, options.say)

    return open_live


def _added(name: str, options: LiveOptions) -> Source:
    # Imported here too: a package that is broken is refused before another process is started.
    found = plugins.load("sources", added_name(name), checked_maker)
    assert found is not None
    source = _live(PREFIX + found.plugin.name, bool(getattr(found.part, "ends", False)))(name, options)
    source.plugin = found.plugin.to_dict()
    return source


def _video(name: str, options: LiveOptions) -> Source:
    whole = Video(name, options.say)  # also says in words what cannot be decoded
    if not options.realtime:
        return whole
    whole.close()
    return _live("video")(name, options)


def _standard_input(name: str, options: LiveOptions) -> Source:
    from edge_tl_runtime.sources.standard_input import open_standard_input

    return open_standard_input(name, options, _live("pipe"), _video)


def _photos(name: str, options: LiveOptions) -> Source:
    if (not name or not Path(name).exists()) and not glob.has_magic(name) and (told := suggestion(name)):
        raise UsageError(told)
    return Photos(name, options.say)


def _address(kind: str) -> Callable[[str, LiveOptions], Source]:
    def open_address(name: str, options: LiveOptions) -> Source:
        if told := suggestion(name):
            raise UsageError(told)
        return _live(kind)(name, options)

    return open_address


MAX_CAMERA_DIGITS = 6
"""More than any index of a camera has; drivers count in 32 bits, and from 0."""
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def _is_video_url(name: str) -> bool:
    address = None if name.lower().startswith("file:") else parse_address(name)
    path = re.split(r"[?#]", address.rest, maxsplit=1)[0] if address else ""
    return Path(path).suffix.lower() in VIDEO_ENDINGS


def _is_camera(name: str) -> bool:
    if name.startswith("/dev/"):
        return not (Path(name).is_file() or Path(name).is_dir())  # /dev/shm holds files as any folder does
    return (name.isascii() and name.isdecimal()) or camera_path(name) != name


def _is_stills(name: str) -> bool:
    path = Path(name)
    if path.is_file() and is_still(path):
        from edge_tl_runtime.sources.animation import is_animation

        return not is_animation(path)
    return path.is_dir() or not path.exists() or path.suffix.lower() in LISTS or is_still(path)


STANDARD_INPUT, VIDEO, VIDEO_AT_URL = "standard input", "video", "video at a URL"
"""Kinds of source that other places ask about."""

# In order: the first whose test says yes opens the string.
SOURCES: tuple[tuple[str, Callable[[str], bool], Callable[[str, LiveOptions], Source]], ...] = (
    (STANDARD_INPUT, lambda name: descriptor(name) is not None, _standard_input),
    ("pipe", is_pipe, _live("pipe")),
    ("test pattern", lambda name: name.lower().startswith("test://"), _live("test")),
    ("Pi camera", lambda name: bool(re.match(r"(?i)rpicam:", name)), _live("rpicam")),
    ("camera", _is_camera, _live("camera")),
    ("plugin", lambda name: bool(added_name(name)), _added),
    (VIDEO_AT_URL, _is_video_url, _video),
    ("HTTP stream", lambda name: bool(re.match(r"(?i)https?://", name)), _address("http")),
    ("stream", lambda name: bool(_URL.match(name)), _address("stream")),
    ("photos", _is_stills, _photos),
    (VIDEO, lambda name: True, _video),
)
LIVE_KINDS = frozenset({"pipe", "test pattern", "Pi camera", "camera", "HTTP stream", "stream", "plugin"})


def source_kind(name: str) -> str:
    """What `open_source` takes a string for: the name of an entry in SOURCES. Nothing is opened. Raises UsageError for a string
    that cannot name anything."""
    _check(name)
    return next(kind for kind, test, _ in SOURCES if test(name))


def _check(name: str) -> None:
    """Raises UsageError for what no file, address or camera can be called."""
    if "\0" in name:
        raise UsageError(f"the source '{shown_address(name)}' holds a NUL character, which no name has; write it again")
    if name.isascii() and name.isdecimal() and len(name) > MAX_CAMERA_DIGITS:
        raise UsageError(f"there is no camera of a number as long as {shown_address(name)}; {found_cameras()}")
    try:
        os.stat(name)
    except OSError as error:
        # What cannot be opened is told by what tries to; of a name that is too long, most questions about it fail.
        if error.errno == errno.ENAMETOOLONG and not _URL.match(name):
            raise UsageError(
                f"{shown_address(name)} is longer than the name of a file can be; check the quotes around the source"
            ) from None
    except ValueError:
        raise UsageError(f"'{shown_address(name)}' holds characters that no name has; write it again") from None


def is_live(name: str, realtime: bool = False) -> bool:
    """Whether a string names a source that gives its newest frame. realtime: as in LiveOptions."""
    kind = source_kind(name)
    return kind in LIVE_KINDS or (realtime and kind in (STANDARD_INPUT, VIDEO, VIDEO_AT_URL))


def open_source(name: str, options: LiveOptions | None = None) -> Source:
    """Open what `name` means: a camera (index, path or stable id), a URL, a photo, a folder, a glob, a list file, a video, `-` or
    a `test://` pattern.

    Raises SourceError with what was found and what to do, UsageError for a string or an option that makes no sense. A live source
    connects when it is iterated, and raises then.
    """
    _check(name)
    return next(make for _, test, make in SOURCES if test(name))(name, options or LiveOptions())
