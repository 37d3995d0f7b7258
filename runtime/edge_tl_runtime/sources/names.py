"""Strings that name a source without a look at a device, and advice for strings that name none."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.sources.address import shown_address, why_no_address
from edge_tl_runtime.sources.v4l import cameras, pi_program

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "tcp", "rtp", "mms", "hls")
"""Addresses that are handed to the HTTP client or to FFmpeg."""
_HOSTLESS = ("udp://", "rtp://", "tcp://", "srt://")
_OTHERS = {
    **dict.fromkeys(
        ("csi", "nvarguscamera", "libcamera", "picamera"), "the camera module of a Raspberry Pi is rpicam:{number}"
    ),
    "v4l2": "a camera is given by its path: /dev/video{number}",
    **dict.fromkeys(("webcam", "usb"), "a camera is given by its index: {number}"),
    "onvif": "ONVIF is not spoken; the camera's own page shows its rtsp:// address",
    "webrtc": "WebRTC is not spoken; most such servers offer RTSP or MJPEG as well",
    **dict.fromkeys(("ws", "wss"), "WebSocket is not spoken; most such servers offer RTSP or MJPEG as well"),
    **dict.fromkeys(("ftp", "sftp", "s3", "gs"), "files are not fetched; copy them here first"),
    **dict.fromkeys(("smb", "nfs"), "mount the share, then give the folder"),
    "mqtt": "MQTT is where results can go (--mqtt); frames come from a camera, a stream or files",
    "data": "give a file",
}
_PI_SOURCE = re.compile(r"(?i)rpicam:(?://)?(\d{1,2})?", re.ASCII)
_PI = re.compile(
    r"(?i)(?:rpi-?cam(?:era)?|pi-?cam(?:era)?2?|raspi-?cam|libcamera|csi|camera[ -]?module|imx\d{3}|ov\d{4})[:/ _-]*(\d?)"
)
_WEBCAM = re.compile(
    r"(?i)(?:web-?cam|usb-?cam|cam(?:era)?|usb|video|default|/?dev/video|/dev/cam(?:era)?)[:/ _-]*(\d*)"
)
_NEARLY_SCHEME = re.compile(r"(?i)([a-z][a-z0-9+]{1,12})(:/+|//|;//|:\\\\)(.*)")
_HOST = re.compile(
    r"(?i)(?:\d{1,3}(?:\.\d{1,3}){3}|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:local|lan|home|com|net|org|io|de|uk|th|fr))(?::\d{1,5})?(?=/|$)"
)


def is_pipe(name: str) -> bool:
    """Whether a path is a FIFO."""
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def descriptor(name: str) -> int | None:
    """The open file that `-`, /dev/stdin and /dev/fd/N mean, or None for other names."""
    if name in ("-", "/dev/stdin"):
        return 0
    for start in ("/dev/fd/", "/proc/self/fd/"):
        number = name.removeprefix(start)
        if name.startswith(start) and number.isascii() and number.isdecimal():
            return int(number)
    return None


def pi_camera_index(name: str) -> int:
    """The number in `rpicam:0`. Raises UsageError for anything else."""
    found = _PI_SOURCE.fullmatch(name)
    if found is None:
        raise UsageError(
            f"{shown_address(name)} names no camera; the first camera module of a Pi is rpicam:0, the second rpicam:1"
        )
    return int(found[1] or 0)


def suggestion(name: str) -> str:
    """What a string that names nothing seems to be, and what to write instead; "" where it is like nothing that is known."""
    text = name.strip().strip("\"'\u201c\u201d\u2018\u2019")
    shown = shown_address(name)
    if not text:
        return f"the source is empty; give a camera index, an address, a photo, a folder or a video{_here()}"
    found = _of_scheme(text) or _of_camera(text) or _of_address(text) or _of_path(text)
    return f"'{shown}' names no source: {found}" if found else ""


def _close(word: str, known: tuple[str, ...], cutoff: float) -> str:
    from difflib import get_close_matches

    for scheme in known:
        if sorted(word) == sorted(scheme):  # letters that changed places
            return scheme
    return next(iter(get_close_matches(word, known, 1, cutoff)), "")


def _of_scheme(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if separator and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        low = scheme.lower()
        if low in SCHEMES:
            return "" if text.lower().startswith(_HOSTLESS) else why_no_address(text)
        if low in _OTHERS:
            number = found[0] if (found := re.findall(r"\d+", rest)) else "0"
            return _OTHERS[low].format(number=number)
        if low == "file":
            return f"give the path itself: {shown_address(rest)}"
        close = _close(low, (*SCHEMES, "test"), 0.7)
        return (
            f"did you mean {shown_address(f'{close}://{rest}')}?"
            if close
            else f"{low}:// is none of {', '.join(SCHEMES)}"
        )
    nearly = _NEARLY_SCHEME.fullmatch(text)
    if nearly and (close := _close(nearly[1].lower(), (*SCHEMES, "test"), 0.75)):
        rest = nearly[3].lstrip("/\\")
        whole = shown_address(f"{close}://{rest or '192.168.1.5/stream'}")
        return f"an address has a colon and two slashes: {whole}"
    return ""


def _of_camera(text: str) -> str:
    if found := _PI.fullmatch(text):
        return f"the camera module of a Raspberry Pi is rpicam:{found[1] or 0}{_here()}"
    if found := _WEBCAM.fullmatch(text):
        return f"a camera is given by its index, such as {found[1] or 0}, or its path{_here()}"
    if re.fullmatch(r"[-+]?\d+(?:\.\d+)?", text):
        return f"a camera is given by its index, 0 or more{_here()}"
    if " ! " in text or text.startswith(("nvarguscamerasrc", "libcamerasrc", "v4l2src")):
        return "GStreamer pipelines are not taken; the camera module of a Raspberry Pi is rpicam:0, a USB camera 0"
    return ""


def _of_address(text: str) -> str:
    if "://" in text or not _HOST.match(text.rpartition("@")[2]):
        return ""
    shown = shown_address(f"rtsp://{text}")
    return f"an address begins with its protocol: {shown} or http{shown[4:]}"


def _of_path(text: str) -> str:
    if text.startswith("~"):
        path = Path(text).expanduser()
        return f"the shell did not open the ~ ({'there is' if path.exists() else 'and there is nothing at'} {path})"
    if re.match(r"[A-Za-z]:\\", text):
        return "that is a path of Windows; give the path as this system has it"
    if "," in text and all(Path(part.strip()).exists() for part in text.split(",")):
        return "one source at a time; several photos are given as a folder, a pattern or a list in a file"
    if text != (stripped := text.strip()) and Path(stripped).exists():
        return f"did you mean {stripped}?"
    return ""


def _here() -> str:
    """Cameras of this machine, for the end of a sentence."""
    found = [camera.path for camera in cameras()]
    if pi_program():
        found.append("rpicam:0")
    return f" (here: {', '.join(found)})" if found else " (none is connected here)"
