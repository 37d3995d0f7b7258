"""What a file is by its first bytes, whatever its name says, and what to do with one that is no photo."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

HEAD = 512
"""Bytes of a file that are enough to know its kind."""


class Damaged(Exception):
    """A header contradicts itself or lies outside the file."""


class FileGroup(str, Enum):
    """Why a file below a folder of photos is none that is used. The value is the word in documents."""

    PHOTO = "photo"
    """Not passed over: its content is a photo that is read here."""
    UNREADABLE = "unreadable"
    """A photo by its first bytes that is damaged, too large, or may not be read."""
    EXTRA = "needs an extra"
    OTHER_PICTURE = "other picture"
    """A picture of a kind that is not read here."""
    VIDEO = "video"
    EMPTY = "empty"
    NO_PICTURE = "no picture"
    SYSTEM = "system file"
    LINK = "link"
    SPECIAL = "no regular file"
    FOLDER = "folder"
    """A folder that cannot be listed."""


class Kind(NamedTuple):
    """name: in words, "JPEG". reason: why it is passed over and what to do next, "" for photos. plain: it is only something else,
    such as a text beside the photos: there is nothing to be done."""

    name: str
    group: FileGroup
    reason: str = ""
    plain: bool = False


def _photo(name: str) -> Kind:
    return Kind(name, FileGroup.PHOTO)


def _picture(name: str, reason: str = "") -> Kind:
    return Kind(
        name, FileGroup.OTHER_PICTURE, reason or f"{name} is a picture that is not read here; save it as JPEG or PNG"
    )


def _video(name: str) -> Kind:
    advice = "take pictures out of it (ffmpeg -i FILE -vf fps=1 %04d.png), or play it (edge-tl run MODEL --source FILE)"
    return Kind(name, FileGroup.VIDEO, f"a video ({name}), not a photo; {advice}")


def _none(name: str, reason: str = "") -> Kind:
    return Kind(name, FileGroup.NO_PICTURE, reason or f"not a photo ({name})", plain=not reason)


def _pointer(name: str, command: str) -> Kind:
    return _none(name, f"a pointer to a file that is not there ({name}); fetch the files with `{command}`")


GIF = _picture("GIF", "GIF holds a palette or an animation, not a photo; save a PNG or JPEG")
RAW = _picture(
    "camera raw",
    "camera raw, the sensor's data before it is developed; export JPEG or PNG from the camera's program or darktable",
)
EMPTY = Kind("nothing", FileGroup.EMPTY, "empty file")
SYSTEM = Kind("system file", FileGroup.SYSTEM, "left by a system or program, nothing of yours")
JPEG, PNG, WEBP, BMP, TIFF, PNM = (_photo(name) for name in ("JPEG", "PNG", "WebP", "BMP", "TIFF", "PNM"))
HEIC, AVIF = _photo("HEIC"), _photo("AVIF")
HTML = _none("a web page", "a web page, not a picture: the download went wrong; fetch the photo again")
PLAIN_PNM = _picture("PNM written as text")
SVG = _picture("SVG", "SVG is a drawing, not a photo")
_ARCHIVE = "an archive ({}), not a photo; unpack it first"

# First bytes, their offset, what the file is. Longer and surer ones first.
_MAGICS: tuple[tuple[bytes, int, Kind], ...] = (
    (b"\xff\xd8\xff", 0, JPEG),
    (b"\x89PNG\r\n\x1a\n", 0, PNG),
    (b"GIF8", 0, GIF),
    (b"\xff\x0a", 0, _picture("JPEG XL")),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", 0, _picture("JPEG XL")),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", 0, _picture("JPEG 2000")),
    (b"\xff\x4f\xff\x51", 0, _picture("JPEG 2000")),
    (b"II\xbc\x01", 0, _picture("JPEG XR")),
    (b"FUJIFILMCCD-RAW", 0, RAW),
    (b"IIU\x00", 0, RAW),  # Panasonic, Leica
    (b"IIRO", 0, RAW),  # Olympus
    (b"IIRS", 0, RAW),
    (b"MMOR", 0, RAW),
    (b"FOVb", 0, RAW),  # Sigma
    (b"\x00MRM", 0, RAW),  # Minolta
    (b"II\x1a\x00\x00\x00HEAPCCDR", 0, RAW),  # Canon's first
    (b"8BPS", 0, _picture("Photoshop")),
    (b"%PDF", 0, _picture("PDF", "PDF is a document; take its pictures out (pdfimages) or save the page as PNG")),
    (b"%!PS", 0, _picture("PostScript")),
    (b"\xc5\xd0\xd3\xc6", 0, _picture("PostScript")),
    (b"gimp xcf", 0, _picture("GIMP")),
    (b"v/1\x01", 0, _picture("OpenEXR")),
    (b"#?RADIANCE", 0, _picture("Radiance HDR")),
    (b"#?RGBE", 0, _picture("Radiance HDR")),
    (b"\x59\xa6\x6a\x95", 0, _picture("Sun raster")),
    (b"qoif", 0, _picture("QOI")),
    (b"FLIF", 0, _picture("FLIF")),
    (b"BPG\xfb", 0, _picture("BPG")),
    (b"DDS ", 0, _picture("DDS texture")),
    (b"icns", 0, _picture("icon")),
    (b"\x00\x00\x01\x00", 0, _picture("icon")),
    (b"\x8aMNG\r\n\x1a\n", 0, _picture("MNG")),
    (b"SIMPLE  =", 0, _picture("FITS")),
    (b"DICM", 128, _picture("DICOM", "DICOM, a medical picture; export PNG with the right window from its viewer")),
    (b"P7\n", 0, _picture("PAM")),
    (b"PF\n", 0, _picture("PFM")),
    (b"Pf\n", 0, _picture("PFM")),
    (b"\x1aE\xdf\xa3", 0, _video("Matroska or WebM")),
    (b"FLV\x01", 0, _video("FLV")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, _video("WMV")),
    (b"\x00\x00\x01\xba", 0, _video("MPEG")),
    (b"\x00\x00\x01\xb3", 0, _video("MPEG")),
    (b"OggS", 0, _none("Ogg")),
    (b"ID3", 0, _none("sound")),
    (b"fLaC", 0, _none("sound")),
    (b"\x00\x05\x16\x07", 0, SYSTEM),  # AppleDouble: a resource fork
    (b"\x00\x05\x16\x00", 0, SYSTEM),  # AppleSingle
    (b"\x00\x00\x00\x01Bud1", 0, SYSTEM),  # .DS_Store under another name
    (b"version https://git-lfs", 0, _pointer("Git LFS", "git lfs pull")),
    (b"/annex/objects/", 0, _pointer("git-annex", "git annex get .")),
    (b"PK\x03\x04", 0, _none("ZIP", _ARCHIVE.format("ZIP"))),
    (b"PK\x05\x06", 0, _none("ZIP", _ARCHIVE.format("ZIP, empty"))),
    (b"7z\xbc\xaf\x27\x1c", 0, _none("7z", _ARCHIVE.format("7z"))),
    (b"Rar!\x1a\x07", 0, _none("RAR", _ARCHIVE.format("RAR"))),
    (b"\x1f\x8b", 0, _none("gzip", _ARCHIVE.format("gzip"))),
    (b"BZh", 0, _none("bzip2", _ARCHIVE.format("bzip2"))),
    (b"\xfd7zXZ\x00", 0, _none("xz", _ARCHIVE.format("xz"))),
    (b"\x28\xb5\x2f\xfd", 0, _none("Zstandard", _ARCHIVE.format("Zstandard"))),
    (b"ustar", 257, _none("tar", _ARCHIVE.format("tar"))),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, _none("an Office document or thumbnail cache")),
    (b"SQLite format 3\x00", 0, _none("a database")),
    (b"\x93NUMPY", 0, _none("a NumPy array")),
    (b"\x89HDF\r\n\x1a\n", 0, _none("HDF5")),
    (b"\x7fELF", 0, _none("a program")),
)
TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""TIFF and BigTIFF, either byte order."""
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
AVIF_BRANDS = frozenset({b"avif", b"avis", b"avio"})
HEIF_BRANDS = frozenset({b"mif1", b"msf1", b"mif2", b"miaf", b"MiHE", b"MiHB", b"MiPr", b"mif3"})
OTHER_PICTURES = {b"jpeg": "JPEG", b"j2ki": "JPEG 2000", b"avci": "AVC", b"vvic": "VVC", b"evbi": "EVC", b"unif": "raw"}
"""Pictures of other encoders in the same boxes, by brand."""
_RIFF = {b"WEBP": WEBP, b"AVI ": _video("AVI"), b"WAVE": _none("sound")}
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_PNM = rb"P([1-6])\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s"
_QUICKTIME = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})


def kind_of(head: bytes) -> Kind:
    """The kind of a file that starts with `head`: its first HEAD bytes, or all of them where it has fewer.

    A TIFF may still turn out to be camera raw, which its directory tells.
    """
    if not head:
        return EMPTY
    if head[:4] in TIFF_MAGICS:
        return RAW if head[8:10] == b"CR" else TIFF
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], _none("RIFF"))
    for magic, offset, kind in _MAGICS:
        if head.startswith(magic, offset):
            return kind
    if head[4:8] == b"ftyp":
        return _boxed(brands(head))
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return BMP
    if numbered := re.match(_PNM, head):
        return PNM if numbered[1] in b"456" else PLAIN_PNM
    if head[4:8] in _QUICKTIME:
        return _video("QuickTime")
    if head[0] == 0x47 and len(head) > 376 and head[188] == head[376] == 0x47:
        return _video("MPEG-TS")
    return _text(head)


def brands(head: bytes) -> tuple[bytes, ...]:
    """Brands of the file, the main one first, as far as `head` goes; () when it is no file of boxes."""
    if head[4:8] != b"ftyp" or len(head) < 12:
        return ()
    end = min(len(head), max(16, int.from_bytes(head[:4], "big")))
    return (head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4)))


def _boxed(found: tuple[bytes, ...]) -> Kind:
    """A file of ISO boxes: pictures, camera raw and videos share them."""
    main, every = found[0] if found else b"", frozenset(found)
    if main == b"crx ":
        return RAW
    if main == b"avis":
        return _picture("an animated AVIF", "AVIF of several pictures, an animation; save one as JPEG or PNG")
    if main in AVIF_BRANDS or (main in HEIF_BRANDS and every & AVIF_BRANDS):
        return AVIF
    if main in HEIC_BRANDS or (main in HEIF_BRANDS and every & HEIC_BRANDS):
        return HEIC
    other = next((OTHER_PICTURES[brand] for brand in found if brand in OTHER_PICTURES), "")
    if other or main in HEIF_BRANDS:
        return _picture(f"HEIF of {other}") if other else HEIC
    return _video("MP4 or QuickTime")


def _text(head: bytes) -> Kind:
    text = _as_text(head)
    if text is None:
        return _none("unknown content")
    start = text.lstrip("\ufeff \t\r\n").lower()
    if "<svg" in start:
        return SVG
    if start.startswith(("<!doctype html", "<html")) or "<html" in start or "<head" in start:
        return HTML
    return _none("text")


def _as_text(head: bytes) -> str | None:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return head.decode("utf-16", "ignore")
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head):
        return None
    try:
        return head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The last character may be cut; and text of older encodings is text too, where letters are the most of it.
        if len(head) - error.start < 4:
            return head[: error.start].decode("utf-8", "ignore")
        letters = sum(byte < 0x80 for byte in head)
        return head.decode("latin-1") if letters > 0.85 * len(head) else None
