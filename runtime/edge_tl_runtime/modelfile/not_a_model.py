"""What a file is that was given in place of a model, by its first bytes, and what to do about it."""

from __future__ import annotations

from pathlib import PurePath

from edge_tl_runtime.core.text import shell_command

_MODEL_FIRST = "; the model comes first, as in: edge-tl predict MODEL PHOTO"
_FROM_ELSEWHERE = "; export the network to ONNX with the tool that made it, then: edge-tl adopt FILE.onnx"

# First bytes, where they stand, what such a file is, and what to do.
_KINDS: tuple[tuple[bytes, int, str, str], ...] = (
    (b"\xff\xd8\xff", 0, "a JPEG photo", _MODEL_FIRST),
    (b"\x89PNG\r\n\x1a\n", 0, "a PNG picture", _MODEL_FIRST),
    (b"WEBP", 8, "a WebP picture", _MODEL_FIRST),
    (b"GIF8", 0, "a GIF", _MODEL_FIRST),
    (b"BM", 0, "a BMP picture", _MODEL_FIRST),
    (b"II*\x00", 0, "a TIFF picture", _MODEL_FIRST),
    (b"MM\x00*", 0, "a TIFF picture", _MODEL_FIRST),
    (b"ftyphei", 4, "a HEIC photo", _MODEL_FIRST),
    (b"ftypmif", 4, "a HEIC photo", _MODEL_FIRST),
    (b"ftypavif", 4, "an AVIF photo", _MODEL_FIRST),
    (b"ftyp", 4, "a video", "; the model comes first, as in: edge-tl run MODEL --source VIDEO"),
    (b"\x1aE\xdf\xa3", 0, "a video", "; the model comes first, as in: edge-tl run MODEL --source VIDEO"),
    (b"AVI ", 8, "a video", "; the model comes first, as in: edge-tl run MODEL --source VIDEO"),
    (b"TFL3", 4, "a TensorFlow Lite model", _FROM_ELSEWHERE),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file, as Keras writes them", _FROM_ELSEWHERE),
    (b"ORTM", 4, "a model in onnxruntime's own format", "; give the .onnx file that it was made from"),
    (b"\x80\x02", 0, "a pickle, as PyTorch writes its weights", _FROM_ELSEWHERE),
    (b"version https://git-lfs", 0, "a pointer of Git LFS", "; fetch the file itself with: git lfs pull"),
    (b"<!doctype html", 0, "a web page", "; download the file itself"),
    (b"<html", 0, "a web page", "; download the file itself"),
    (b"<?xml", 0, "XML, as OpenVINO describes its networks", _FROM_ELSEWHERE),
)


def instead_of_model(data: bytes, name: str) -> str:
    """Words that follow the name of a file that is no ONNX model: what it is and the next step. "" where that is not known.

    data: the file's bytes, or the first hundred of them. name: its path, for the advice.
    """
    head = bytes(data[:100])
    if head.startswith(b"PK\x03\x04"):
        if PurePath(name).suffix == ".pack":
            return "is not an ONNX file but a benchmark pack; the model comes first, as in: edge-tl bench MODEL PACK"
        return f"is not an ONNX file but a ZIP archive, as PyTorch writes its weights{_FROM_ELSEWHERE}"
    if head[8:9] == b"{" and head[4:8] == b"\x00\x00\x00\x00":  # a header of JSON after its length: safetensors
        return f"is not an ONNX file but weights alone (safetensors); {_of_weights(name)}"
    head = head.lower()
    for magic, at, kind, advice in _KINDS:
        if head.startswith(magic.lower(), at):
            return f"is not an ONNX file but {kind}{advice}"
    return ""


def _of_weights(name: str) -> str:
    folder = PurePath(name).parent
    return f"if they are a run's, export it: {shell_command('export', folder, '--quantize')}"
