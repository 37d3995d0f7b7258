"""Why a video or a stream cannot be read, in words: from what FFmpeg says, and from a look at the file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.sources.address import Address, parse_address, shown_address

LOOK_BYTES = 1 << 20
"""How much of each end of a file is searched for the name of its codec."""
_SOLE = {
    "encv": "it is encrypted (DRM); its maker's player alone opens it",
    "drmi": "it is encrypted (DRM); its maker's player alone opens it",
}


def why_no_stream(name: str, error: Exception, log: Sequence[str]) -> str:
    """One line for a person. error: what FFmpeg raised; log: what it wrote meanwhile, the last line last."""
    shown = shown_address(name)
    address = parse_address(name)
    # Not str(error): it ends with the last line of any log, be it of another connection.
    told = " ".join([*log, str(getattr(error, "strerror", None) or error)])
    return f"cannot open {shown}: {_network_reason(address, type(error).__name__, told, error)}"


def _network_reason(address: Address | None, kind: str, told: str, error: Exception) -> str:
    host = address.told_host if address else "the server"
    where = f"{host}, port {address.port}" if address and address.port and not address.doubtful else host
    status = _status(told)
    if status in _ANSWERS or kind == "HTTPUnauthorizedError":
        return _answer(address, status or "401", told)
    if status:
        return f"{host} answered {_status_line(told, status)}; ask it again later, or look at its own page"
    for mark, words in _SIGNS:
        if mark.casefold() in told.casefold() or mark == kind:
            return words.format(host=host, where=where, port=address.port if address else 0, told=_last(told))
    if kind in ("InvalidDataError", "EOFError"):
        return f"{where} answered with something that is no video; check the address"
    reason = getattr(error, "strerror", None) or error
    return f"{one_line(reason)}; check the address, the camera and the network"


def _answer(address: Address | None, status: str, told: str) -> str:
    if status == "401" and (address is None or address.user is None):
        scheme = address.scheme if address else "rtsp"
        return (
            f"it wants a user name and a password (401); give them as {scheme}://USER:PASSWORD@HOST/..., "
            "or the whole address in EDGE_TL_SOURCE, which no other user sees"
        )
    if status == "404":
        return _ANSWERS[status].format(path=address.told_path if address else "this path")
    return _ANSWERS[status].format(line=_status_line(told, status))


_ANSWERS = {
    "401": "the user name or the password is wrong (401); put the address in quotes, so that the shell leaves it alone",
    "403": "this user may not see this stream (403); give the user that right, or take another one",
    "404": "it has no stream at {path} (404); the camera's manual or its page names the path",
    "453": "it has no bandwidth for one more viewer ({line}); end another one, or ask for its smaller stream",
    "454": "it forgot the session ({line}); try again",
    "461": "it offers the stream neither over TCP nor over UDP (461)",
    "503": "it is too busy ({line}); end other viewers of it, or wait",
}
# What FFmpeg writes or raises, and what that means. In order: the first that fits.
_SIGNS = (
    ("Protocol not supported", "it offers the stream neither over TCP nor over UDP (461)"),
    ("ConnectionRefusedError", "nothing listens at {where}; check the port (RTSP: mostly 554 or 8554)"),
    ("Connection refused", "nothing listens at {where}; check the port (RTSP: mostly 554 or 8554)"),
    ("Failed to resolve", "this network does not know {host}; check its spelling, or give the IP address"),
    ("Network is unreachable", "there is no way to {host} from here; is this machine in the camera's network?"),
    ("No route to host", "there is no way to {host} from here; is it switched on, and in this network?"),
    (
        "tls",
        "{where} speaks no TLS as this machine does ({told}); without encryption the address begins with rtsp:// or http://",
    ),
    ("certificate", "{where} has a certificate that is not accepted ({told})"),
    ("TimeoutError", "{host} does not answer; is it switched on, and in this network?"),
    ("ExitError", "{host} does not answer; is it switched on, and in this network?"),
    ("timed out", "{host} does not answer; is it switched on, and in this network?"),
    ("ConnectionResetError", "{host} ended the connection; try again, or restart the camera"),
    ("ProtocolNotFoundError", "there is no such protocol; rtsp, rtsps, http, https, rtmp, udp, srt and others are"),
)


def _status(told: str) -> str:
    found = re.findall(r"(?:failed: |error |returned )([1-5]\d\d)\b", told)
    return str(found[-1]) if found and found[-1][0] in "345" else ""


def _status_line(told: str, status: str) -> str:
    found = re.search(rf"{status}[ (]+([A-Za-z][A-Za-z /-]*)", told)
    return f"{status} {found[1].strip()}" if found else status


def _last(told: str) -> str:
    """What TLS said."""
    found = re.findall(r"([A-Z][^.\[\]]*(?:TLS|certificate|handshake)[^.\[\]]*)", told)
    return one_line(found[0].strip(), 80) if found else "the handshake failed"


def why_no_video(name: str, error: Exception | None = None, log: Sequence[str] = ()) -> str:
    """One line for a person about a file that does not open as a video."""
    path, shown = Path(name), one_line(name, 300)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            size = path.stat().st_size
    except OSError as failure:
        return f"cannot read {shown}: {failure.strerror or failure}"
    if not head:
        return f"{shown} is empty (0 bytes); copy it again"
    if not head.strip(b"\0"):
        return f"{shown} holds nothing but zeros: it was never written to the end; copy it again"
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"free", b"wide") and not _has_index(path, size):
        return (
            f"{shown} has no index (moov): the recording was cut off before it was closed, or the copy is not whole; "
            "copy it again, or record .mkv, which needs none"
        )
    if re.match(rb"\s*<(!doctype\s+html|html)", head, re.IGNORECASE):
        return f"{shown} is neither a photo nor a video but a web page; download the video itself"
    if _is_text(head):
        return f"{shown} is neither a photo nor a video but text, whatever its name says"
    reason = one_line(log[-1].strip() if log else getattr(error, "strerror", "") or error or "", 120)
    return f"{shown} is neither a photo nor a video that can be decoded{f' ({reason})' if reason else ''}"


def _has_index(path: Path, size: int) -> bool:
    """Whether an MP4 or MOV file has its `moov` (or `moof`) box. ISO/IEC 14496-12: 32 bits of size, a type, perhaps 64 more."""
    at = 0
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if kind in (b"moov", b"moof"):
                return at + 8 < size
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if length < 8:
                return False  # 0: to the end of the file
            at += length
    return False


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) - 3:  # else a letter was cut in two
            return False
        text = head[: error.start].decode("utf-8")
    return not any(ord(letter) < 32 and letter not in "\t\r\n\f" for letter in text)


def unknown_codec(name: str, log: Sequence[str]) -> str:
    """One line about a video track that no decoder here is for. log: of an RTSP stream, with what the server says of itself."""
    codec = _codec_in_description("\n".join(log)) or ("" if "://" in name else _codec_in_file(Path(name)))
    if codec in _SOLE:
        return f"{shown_address(name)} cannot be decoded: {_SOLE[codec]}"
    called = f" {one_line(codec, 40)}" if codec else ", which it does not name"
    return (
        f"{shown_address(name)} is coded with{called}: nothing here decodes that; set the camera to H.264, H.265 or MJPEG, "
        "or convert the file with: ffmpeg -i FILE -c:v libx264 out.mp4"
    )


def _codec_in_description(text: str) -> str:
    """What an SDP (RFC 8866) calls the codec of its first video track."""
    video = text.partition("m=video")[2].partition("\nm=")[0]
    found = re.search(r"a=rtpmap:\d+ ([^/\s]+)", video)
    return found[1] if found else ""


def _codec_in_file(path: Path) -> str:
    """The four letters of MP4 and AVI, or Matroska's name of the codec; "" where there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(LOOK_BYTES)
            file.seek(max(len(data), path.stat().st_size - LOOK_BYTES))
            data += file.read(LOOK_BYTES)
    except OSError:
        return ""
    for pattern in (rb"vide.*?stsd.{12}([ -~]{4})", rb"vids([ -~]{4})", rb"(V_[A-Z0-9_/]+)"):
        if found := re.search(pattern, data, re.DOTALL):
            return found[1].decode("ascii").strip()
    return ""


ADVICE = "pip install 'edge-tl[video]'"
"""What brings PyAV."""
