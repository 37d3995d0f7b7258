"""What a live source is asked for: one value that travels to the capture process and back in its answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from edge_tl_runtime.core.errors import UsageError

PIXEL_FORMATS = ("MJPG", "YUYV", "H264", "NV12", "GREY")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """kind: a name in `devices.DEVICES`; name: what it opens, credentials included.

    width, height, fps, pixel_format: asked of a camera, which may refuse; 0 and "" leave them to it.
    every: seconds from one request to the next for a still picture at an address; 0 leaves it to the device.
    handle: the open file that a pipe is read from, -1 where `name` is opened; head: what was read from it already, as base64.
    paced: frames are fetched only when the reader waits, for a reader slower than the camera by choice.
    frozen: see `Patience`; attempt: connections before this one; first_index: frames before this connection.
    open_ms, read_ms: time limits for network streams. ends: of a source that another package adds, `Device.ends`.
    """

    kind: str
    name: str
    width: int = 0
    height: int = 0
    fps: float = 0.0
    pixel_format: str = ""
    every: float = 0.0
    handle: int = -1
    head: str = ""
    paced: bool = False
    frozen: float = 10.0
    attempt: int = 0
    first_index: int = 0
    open_ms: int = 15_000
    read_ms: int = 10_000
    ends: bool = False

    def __post_init__(self) -> None:
        if bool(self.width) != bool(self.height) or not (0 <= self.width <= 16384 and 0 <= self.height <= 16384):
            raise UsageError(f"a camera cannot give {self.width}x{self.height} pixels; give a size such as 1280x720")
        if not 0 <= self.fps <= 1000:
            raise UsageError(f"a camera cannot give {self.fps:g} frames a second; give a rate such as 30")
        if self.pixel_format and not (len(self.pixel_format) == 4 and self.pixel_format.isascii()):
            raise UsageError(
                f"{self.pixel_format!r} is no pixel format; four letters are, such as {', '.join(PIXEL_FORMATS)}"
            )

    @property
    def finite(self) -> bool:
        """Whether the end of what is read is the end of the source, unlike that of a camera."""
        return self.ends or self.kind == "video" or self.handle >= 0 or (self.kind == "test" and "frames=" in self.name)

    def again(self, attempt: int, first_index: int, name: str) -> CaptureRequest:
        """The same for the next connection. name: where the device is to be found now."""
        return replace(self, attempt=attempt, first_index=first_index, name=name, head="" if attempt else self.head)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> CaptureRequest:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a device says of itself once it is open. 0 and "" where it does not tell.

    stable: a path that will still name this device after it was unplugged, or "". every: seconds between two looks at something
    that is asked again and again, 0 for what gives frames by itself.
    """

    backend: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    pixel_format: str = ""
    stable: str = ""
    every: float = 0.0

    def differences(self, request: CaptureRequest) -> str:
        """What was asked for and not obtained, in words; "" when all was."""
        found = []
        if request.width and (request.width, request.height) != (self.width, self.height):
            found.append(f"{request.width}x{request.height} was asked for, the camera gives {self.width}x{self.height}")
        if request.fps and self.fps and abs(request.fps - self.fps) > 0.5:
            found.append(f"{request.fps:g} frames a second were asked for, the camera gives {self.fps:g}")
        if request.pixel_format and request.pixel_format != self.pixel_format:
            found.append(
                f"{request.pixel_format} was asked for, the camera gives {self.pixel_format or 'another format'}"
            )
        return "; ".join(found)

    def __str__(self) -> str:
        parts = [f"{self.width}x{self.height}" if self.width else "", f"{self.fps:g} fps" if self.fps else ""]
        return ", ".join(text for text in (*parts, self.pixel_format, self.backend) if text)
