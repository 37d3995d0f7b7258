"""What reads a video or a stream: PyAV where it is installed, else OpenCV, which tells less and is checked more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from edge_tl_runtime.images.decode import Frame


class Reader(Protocol):
    """grab, then retrieve, until grab says False.

    rejections: frames that were not given, by reason. notes: lines for a person. error: why it ended, "" after a proper end.
    seconds: position of the frame just grabbed. captured: `time.monotonic()` when it arrived. key_frame: whether it was coded by
    itself; intra_only: whether all are.
    """

    shown: str
    rejections: Counter[str]
    notes: list[str]
    ended: bool
    error: str
    key_frame: bool
    seconds: float
    captured: float

    @property
    def codec(self) -> str: ...
    @property
    def intra_only(self) -> bool: ...
    @property
    def fps(self) -> float: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def grab(self) -> bool: ...
    def retrieve(self, out: Frame | None) -> Frame | None: ...
    def missing(self) -> str: ...
    def close(self) -> None: ...


def open_reader(
    name: str,
    *,
    live: bool = False,
    open_s: float = 15.0,
    read_s: float = 10.0,
    file: Any = None,
    format: str | None = None,
) -> Reader:
    """See `pyav_reader.Decoder`. Raises SourceError with the reason in words."""
    if file is None and "://" not in name:
        from edge_tl_runtime.sources.animation import AnimationReader, ffmpeg_format, read_by_opencv

        if read_by_opencv(Path(name)):
            return AnimationReader(Path(name))
        format = format or ffmpeg_format(Path(name))
    # Some 60 ms and 20 MB that a command which reads photos need not spend.
    try:
        from edge_tl_runtime.sources.decoding.pyav_reader import Decoder
    except ImportError:
        from edge_tl_runtime.sources.decoding.opencv_reader import OpenCvReader

        return OpenCvReader(name, live=live, open_s=open_s, read_s=read_s, file=file)
    return Decoder(name, live=live, open_s=open_s, read_s=read_s, file=file, format=format)


def library() -> str:
    """What `open_reader` decodes with, and its version."""
    try:
        import av
    except ImportError:
        import cv2

        return f"OpenCV {cv2.__version__}"
    return f"PyAV {av.__version__}"
