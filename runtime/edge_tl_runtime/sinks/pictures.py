"""Results as pictures: an annotated video, and a snapshot at each change of the label."""

from __future__ import annotations

import itertools
import re
import shutil
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.core.files import make_folder, name_part, write_bytes
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sinks.base import Sink
from edge_tl_runtime.sinks.draw.overlay import Overlay
from edge_tl_runtime.sinks.draw.view import dim_outside, draw_answers, picture_of

RESERVE_BYTES = 64 * 2**20
"""What is left free on a disk: FFmpeg does not say when it could not write."""
CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".avi": "MJPG", ".mkv": "mp4v", ".mov": "mp4v"}
LEAST_SIDE = 64
"""Of a recording, in pixels; smaller frames are enlarged. FFmpeg's MJPEG encoder corrupts the memory of the process at 4x4."""
MAX_GAP_S = 2.0
"""A pause of the source that is kept in a recording; a longer one is cut."""


def drawn(overlay: Overlay, result: Result, dims: bool = True) -> Frame:
    """The result's frame as BGR with its labels and what the model saw; drawn in place where it has three channels.

    dims: whether what the model did not see is dimmed.
    """
    return draw_answers(overlay, picture_of(result), result.decision, result.seen, f"{result.fps:.1f} fps", dims)


class Record(Sink):
    """The annotated frames as a video. Its size is that of the first frame; others are fitted into it.

    fps: of the video that is read, each frame of which is written once; 0 for a live source: the video then has 25 frames a
    second and shows each result for as long as it was the newest.
    """

    name = "recording"
    pixels = True
    depth = 8

    def __init__(self, path: Path, overlay: Overlay, fps: float = 0.0, dims: bool = True) -> None:
        """Raises UsageError for an ending that names no video, OutputError where the file cannot be written."""
        if path.suffix.lower() not in CODECS:
            raise UsageError(f"{path}: a recording ends in {', '.join(CODECS)}")
        make_folder(path.parent)
        self.path, self._overlay, self._dims = path, overlay, dims
        self._timed, self._fps = fps <= 0, fps if fps > 0 else 25.0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._frames = 0
        self._newest: Frame | None = None
        self._clock = 0.0
        self._last = 0.0
        self._checked = 0.0
        require_space(path)

    def wants(self, result: Result) -> bool:
        return result.last  # it shows all regions of the frame

    def write(self, result: Result) -> None:
        now = time.monotonic()
        if now - self._checked > 1.0:
            require_space(self.path)
            self._checked = now
        frame = drawn(self._overlay, result, self._dims)
        if self._writer is None:
            self._open(frame)
        frame = fitted(frame, self._size)
        if self._timed:
            self._repeat_until(result.record.captured)
            self._newest = frame
        else:
            self._put(frame)

    def close(self) -> None:
        if self._writer is None:
            return
        if self._newest is not None:
            self._put(self._newest)
        self._writer.release()
        self._writer = self._newest = None

    def _repeat_until(self, captured: float) -> None:
        """Show the frame before for as long as it was the newest, so that the video plays at the pace of the world."""
        self._clock += min(MAX_GAP_S, max(0.0, captured - self._last)) if self._last else 0.0
        self._last = captured
        while self._newest is not None and self._frames < int(self._clock * self._fps + 1e-6):
            self._put(self._newest)

    def _put(self, frame: Frame) -> None:
        assert self._writer is not None
        self._writer.write(frame)
        self._frames += 1

    def _open(self, frame: Frame) -> None:
        # Codecs of 4:2:0 want even sides.
        self._size = max(LEAST_SIDE, frame.shape[1] // 2 * 2), max(LEAST_SIDE, frame.shape[0] // 2 * 2)
        code = cv2.VideoWriter.fourcc(*CODECS[self.path.suffix.lower()])
        writer = cv2.VideoWriter(str(self.path), cv2.CAP_FFMPEG, code, self._fps, self._size)
        if not writer.isOpened():
            raise OutputError(f"cannot write the video {self.path}; choose another place or another ending")
        self._writer = writer


def fitted(frame: Frame, size: tuple[int, int]) -> Frame:
    """The frame as large as fits into `size` (width, height), centred on black."""
    width, height = size
    if frame.shape[1::-1] == size:
        return frame
    if frame.shape[1] - width in (0, 1) and frame.shape[0] - height in (0, 1):
        return frame[:height, :width]
    scale = min(width / frame.shape[1], height / frame.shape[0])
    small = cv2.resize(
        frame,
        (max(1, min(width, round(frame.shape[1] * scale))), max(1, min(height, round(frame.shape[0] * scale)))),
        interpolation=cv2.INTER_AREA,
    )
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    return out


def require_space(path: Path) -> None:
    """Raises OutputError when the disk of `path` is full but for RESERVE_BYTES."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    if free < RESERVE_BYTES:
        raise OutputError(f"cannot write {path}: only {free >> 20} MB are free; free some space")


class Snapshots(Sink):
    """A JPEG of the frame at each change of the label of a region. The oldest are deleted beyond a quota.

    dims: what the model did not see is dimmed; else the frame is as it came from the camera.
    Names are TIME-LABEL.jpg, TIME-REGION-LABEL.jpg with the time in UTC; only files of that form are counted and deleted.
    """

    name = "snapshots"
    pixels = True
    depth = 8
    _FORM = re.compile(r"\d{8}T\d{6}\.\d{3}Z-.+\.jpg")

    def __init__(
        self, folder: Path, quota_bytes: int = 200 * 2**20, clock: Callable[[], float] = time.time, dims: bool = True
    ) -> None:
        """Raises OutputError when the folder cannot be made."""
        if quota_bytes < 2**20:
            raise UsageError(f"a quota of {quota_bytes} bytes; give at least 1 MB")
        self.folder, self._quota, self._clock = make_folder(folder), quota_bytes, clock
        try:
            found = sorted(path for path in folder.iterdir() if self._FORM.fullmatch(path.name) and path.is_file())
            self._files = deque((path, path.lstat().st_size) for path in found)
        except OSError as error:
            raise OutputError(f"cannot read the folder {folder}: {error.strerror}; choose another") from None
        self._total = sum(size for _, size in self._files)
        self._last: dict[str, str] = {}
        self._dims = dims

    def wants(self, result: Result) -> bool:
        changed = result.label != self._last.get(result.region)
        self._last[result.region] = result.label
        return changed

    def write(self, result: Result) -> None:
        frame = picture_of(result)
        if self._dims:
            own = [region.box for region in result.seen if region.name == result.region]
            frame = dim_outside(frame, own)  # the sink's own copy
        good, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])
        if not good:
            raise OutputError(f"cannot encode a snapshot of {result.record.frame.shape}")
        now = self._clock()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f".{int(now * 1e3) % 1000:03d}Z"
        name = "-".join(filter(None, (stamp, result.region, name_part(result.label))))
        path = self._free(name)
        self._make_room(len(data))
        write_bytes(path, data.tobytes())
        self._files.append((path, len(data)))
        self._total += len(data)

    def _free(self, name: str) -> Path:
        """A path that no file has: a label may come back within the same millisecond."""
        for number in itertools.count(1):
            path = self.folder / (f"{name}.jpg" if number == 1 else f"{name}-{number}.jpg")
            if not path.exists():
                return path
        raise AssertionError

    def _make_room(self, size: int) -> None:
        if size > self._quota:
            raise OutputError(f"a snapshot of {size} bytes is larger than the quota of all; give a larger one")
        while self._files and self._total + size > self._quota:
            path, old = self._files[0]
            path.unlink(missing_ok=True)
            self._files.popleft()
            self._total -= old
