"""Read and seal the contract inside an ONNX file without the onnx package.

An ONNX file is one protobuf message; `metadata_props` (field 14) are key/value pairs that every tool keeps and Netron shows.
Walking the top level needs a few lines, so a device reads the contract before it opens a session, and checks a seal that
covers every other byte of the file: graph, weights and contract.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edge_tl_runtime.errors import BadModelError
from edge_tl_runtime.spec import ModelSpec

SPEC_KEY = "edge_tl.spec"
SEAL_KEY = "edge_tl.sha256"
MAX_METADATA_BYTES = 16 * 2**20
MAX_MODEL_BYTES = 2**31 - 1  # protobuf's own limit for one message

_METADATA_FIELD = 14


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """The contract of a model file whose seal is intact.

    Raises BadModelError for a missing, truncated, altered or foreign file; UnknownSpecVersion for a newer contract.
    """
    return parse_spec(read_model(path), str(path))


def read_model(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a model file. Raises BadModelError when there is no such regular file or it exceeds protobuf's limit."""
    path = Path(path)
    if path.is_dir():
        exported = sorted(path.glob("*.onnx"))
        hint = f"use {exported[0]}" if exported else f"export it first: edge-tl export {path} --quantize"
        raise BadModelError(f"{path} is a folder, not a model file; {hint}")
    if not path.exists():
        raise BadModelError(f"no model file at {path}; make one with: edge-tl export RUN --quantize")
    if not path.is_file():
        raise BadModelError(f"{path} is not a regular file")
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise BadModelError(f"{path} is larger than 2 GiB, which one ONNX file cannot be")
        return path.read_bytes()
    except OSError as error:
        raise BadModelError(f"cannot read the model {path}: {error.strerror}") from None


def parse_spec(data: bytes, name: str) -> ModelSpec:
    """The contract in the bytes of a model file; `name` is for messages. Raises as `read_spec`."""
    entries: dict[str, str] = {}
    digest = hashlib.sha256()
    view = memoryview(data)
    try:
        for number, start, body, end in _fields(view):
            entry = _metadata_entry(view[body:end]) if number == _METADATA_FIELD else None
            if entry is not None:
                key, value = entry
                if key in entries:
                    raise BadModelError(f"{name}: metadata key {key!r} appears twice; export the model again")
                entries[key] = value
            if entry is None or entry[0] != SEAL_KEY:
                digest.update(view[start:end])
    except _Malformed:
        raise BadModelError(f"{name} is not an ONNX file, or it is truncated; copy or export it again") from None
    if SPEC_KEY not in entries:
        raise BadModelError(
            f"{name} carries no edge-tl contract (metadata key {SPEC_KEY!r}); make the file with: edge-tl export"
        )
    if entries.get(SEAL_KEY) != digest.hexdigest():
        raise BadModelError(f"{name} was altered or damaged after export (its seal does not match); copy it again")
    return ModelSpec.from_json(entries[SPEC_KEY])


def sealed(model: bytes, spec: ModelSpec) -> bytes:
    """A serialized ONNX model with the contract and the seal put in; a contract already there is replaced."""
    view = memoryview(model)
    kept = bytearray()
    try:
        for number, start, body, end in _fields(view):
            entry = _metadata_entry(view[body:end]) if number == _METADATA_FIELD else None
            if entry is None or entry[0] not in (SPEC_KEY, SEAL_KEY):
                kept += view[start:end]
    except _Malformed:
        raise BadModelError("the bytes to seal are not an ONNX model") from None
    kept += _encode_metadata(SPEC_KEY, spec.to_json())
    seal = hashlib.sha256(kept).hexdigest()
    return bytes(kept + _encode_metadata(SEAL_KEY, seal))


class _Malformed(Exception):
    pass


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise _Malformed
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """(field number, start of the tag, start of the content, end) of each field, in file order."""
    at = 0
    if not len(view):
        raise _Malformed
    while at < len(view):
        start = at
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        body = at
        if wire == 0:
            _, at = _varint(view, at)
        elif wire == 1:
            at += 8
        elif wire == 2:
            length, body = _varint(view, at)
            at = body + length
        elif wire == 5:
            at += 4
        else:
            raise _Malformed
        if number == 0 or at > len(view):
            raise _Malformed
        yield number, start, body, at


def _metadata_entry(content: memoryview) -> tuple[str, str]:
    if len(content) > MAX_METADATA_BYTES:
        raise _Malformed
    texts = {1: "", 2: ""}
    for number, _, body, end in _fields(content):
        if number in texts:
            try:
                texts[number] = bytes(content[body:end]).decode("utf-8")
            except UnicodeDecodeError:
                raise _Malformed from None
    return texts[1], texts[2]


def _encode_metadata(key: str, value: str) -> bytes:
    content = b"".join(_tagged(number, text.encode("utf-8")) for number, text in ((1, key), (2, value)))
    return _tagged(_METADATA_FIELD, content)


def _tagged(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | 2) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
