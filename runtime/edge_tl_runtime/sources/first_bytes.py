"""What a stream of bytes holds, by its first ones: pictures, a video, a page of text."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from edge_tl_runtime.images.formats.kinds import BMP, HEAD, JPEG, PNG, SVG, WEBP, FileGroup, kind_of

LOOK_BYTES = 4096
"""So many bytes tell; a preamble may stand before the first picture."""
ENOUGH = 512
"""Where nothing is recognised in so many, more are waited for up to LOOK_BYTES."""
_UNIT = re.compile(rb"\x00\x00\x00\x01[\x27\x67\x40\x42]")
"""The parameter sets of H.264 and H.265, with which a decoder can begin."""
_ANNEX_B = re.compile(rb"\A\x00{2,}\x01(.)", re.DOTALL)
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Content:
    """kind: "pictures", "other pictures" (of a kind that is not taken from a stream), "video", "page", "text", "empty" or
    "unknown"; name: JPEG, H.264, ... for a person; format: FFmpeg's name for the demuxer of a video, "" for all else."""

    kind: str
    name: str
    format: str = ""


def content(head: bytes) -> Content:
    """What begins so. Videos and pictures are told by their standards' own marks; where none stands first, by the first one that
    follows: a preamble may stand before a picture, and a pipe may be joined midway."""
    if not head:
        return Content("empty", "nothing")
    known = _picture(head) or _video(head)
    if known is not None:
        return known
    start = head.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return Content("page", "a web page")
    if start.startswith(b"#extm3u"):
        return Content("video", "HLS", "hls")
    if b"\xff\xd8\xff" in head:
        return Content("pictures", "JPEG")
    midway = _UNIT.search(head)
    if midway is not None and (unit := _annex_b(head[midway.start() :])) is not None:
        return unit
    if _is_text(head[:256]):
        return Content("text", "text")
    return Content("unknown", "data of an unknown kind")


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; the last letter may be cut in two."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n\f\ufeff" for letter in text)


def title(head: bytes) -> str:
    """The title of a web page, or ""."""
    found = _TITLE.search(head)
    return " ".join(found[1].decode("utf-8", "replace").split())[:80] if found else ""


def _picture(head: bytes) -> Content | None:
    kind = kind_of(head[:HEAD])
    if kind in (JPEG, PNG, WEBP, BMP):
        return Content("pictures", kind.name)
    other = kind.group in (FileGroup.PHOTO, FileGroup.OTHER_PICTURE) and kind is not SVG  # a web page may hold SVG
    return Content("other pictures", kind.name) if other else None


def _video(head: bytes) -> Content | None:
    if head.startswith(b"\x1aE\xdf\xa3"):
        return Content("video", "Matroska", "matroska")
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Content("video", "AVI", "avi")
    if head[4:8] in (b"ftyp", b"styp", b"moof", b"moov"):
        return Content("video", "MP4", "mp4")
    if head.startswith(b"YUV4MPEG2 "):
        return Content("video", "YUV4MPEG2", "yuv4mpegpipe")
    if head.startswith(b"FLV\x01"):
        return Content("video", "FLV", "flv")
    if head.startswith(b"OggS"):
        return Content("video", "Ogg", "ogg")
    if head.startswith(b"\0\0\x01\xba"):
        return Content("video", "MPEG program stream", "mpeg")
    if head[:1] == b"\x47" and (len(head) < 189 or head[188:189] == b"\x47"):
        return Content("video", "MPEG-TS", "mpegts") if len(head) >= 189 else None
    return _annex_b(head)


def _annex_b(head: bytes) -> Content | None:
    """ITU-T H.264 and H.265, annex B: a start code, then the type of the unit. A stream that is joined midway begins with any."""
    found = _ANNEX_B.match(head)
    if found is None:
        return None
    byte = found[1][0]
    if byte >> 7:
        return None
    # H.265: two bytes of header, layer 0 and temporal id 1; its parameter sets and delimiter are types 32 to 35.
    after = head[found.end() : found.end() + 1]
    if (byte >> 1) & 0x3F in (32, 33, 34, 35) and not byte & 1 and after == b"\x01":
        return Content("video", "H.265", "hevc")
    if byte == 0xB3:
        return Content("video", "MPEG-2", "mpegvideo")
    if byte & 0x1F in (1, 5, 6, 7, 8, 9):
        return Content("video", "H.264", "h264")
    return None
