"""Read and checksum the contract inside an ONNX file without the onnx package.

An ONNX file is one protobuf message; `metadata_props` (field 14) are key/value pairs that every tool keeps and Netron shows.
Walking the top level needs a few lines, so a device reads the contract before it opens a session, and checks a checksum that
covers every other byte of the file: graph, weights and contract.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.text import one_line, shell_command
from edge_tl_runtime.modelfile.not_a_model import instead_of_model
from edge_tl_runtime.modelfile.spec import MAX_CONTRACT_BYTES, ModelSpec

SPEC_KEY = "edge_tl.spec"
CHECKSUM_KEY = "edge_tl.sha256"
RUN_WEIGHTS = "model.safetensors"
"""What makes a folder a run of `edge-tl train`."""
MAX_MODEL_BYTES = 2**31 - 1  # protobuf's own limit for one message
MAX_TOP_FIELDS = 100_000
"""Fields of the outermost message: a network has its graph, some versions, metadata, and functions by the hundred."""
MAX_FIELDS = 2_000_000
"""Fields of the whole graph down to its tensors: with 60 for a node and its weights, a network of 30,000 nodes. Walking so many
takes 0.8 s; the 95 MB of 1000 convolutions take 19 ms."""

_METADATA_FIELD = 14
_VARINT, _BYTES = 0, 2  # wire types


def read_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """The contract of a model file whose checksum is intact.

    Raises BadModelError for a missing, truncated, altered or foreign file, and for one that keeps weights in other files;
    UnknownSpecVersion for a newer contract.
    """
    return parse_spec(read_model(path), str(path))


def read_model(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a model file. Raises BadModelError when there is no such regular file or it exceeds protobuf's limit."""
    path = Path(path)
    try:
        return read_regular(path, MAX_MODEL_BYTES)
    except IsADirectoryError:
        raise BadModelError(f"{path} is a folder, not a model file; {_model_in(path)}") from None
    except FileNotFoundError:
        raise BadModelError(f"no model file at {path}; make one with: edge-tl export RUN --quantize") from None
    except OSError as error:
        raise BadModelError(
            f"cannot read the model {path}: {error.strerror}; give a file that edge-tl export made"
        ) from None


def _model_in(folder: Path) -> str:
    """What to give instead of a folder."""
    exported: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that cannot be listed
        exported = sorted(folder.glob("*.onnx"))
    if exported:
        return f"use {exported[0]}"
    if (folder / RUN_WEIGHTS).is_file():
        return f"export the run in it first: {shell_command('export', folder, '--quantize')}"
    return "the model comes first: give the .onnx file that edge-tl export or adopt wrote"


def parse_spec(data: bytes, name: str) -> ModelSpec:
    """The contract in the bytes of a model file; `name` is for messages. Raises as `read_spec`."""
    view = memoryview(data)
    keys: set[bytes] = set()
    entries: dict[str, str] = {}
    digest = hashlib.sha256()
    try:
        for number, wire, start, body, end in _top_fields(view):
            key = None
            if (number, wire) == (_METADATA_FIELD, _BYTES):
                key, value = _metadata_entry(view[body:end])
                if key in keys:
                    shown = key[:80].decode("utf-8", "replace")
                    raise BadModelError(f"{name}: metadata key {shown!r} appears twice; export the model again")
                keys.add(key)
                if key in _OURS:
                    entries[_OURS[key]] = _text(value)
            if key != CHECKSUM_KEY.encode():
                digest.update(view[start:end])
        external = _external_tensor(view)
    except _Malformed as error:
        known = instead_of_model(data, name)
        raise BadModelError(f"{name} {known or f'{error}; copy or export it again'}") from None
    if SPEC_KEY not in entries:
        raise BadModelError(
            f"{name} carries no edge-tl contract (metadata key {SPEC_KEY!r}); make the file with: edge-tl export "
            "(or edge-tl adopt, from a classifier that was made elsewhere)"
        )
    if entries.get(CHECKSUM_KEY) != digest.hexdigest():
        raise BadModelError(f"{name} was altered or damaged after export (its checksum does not match); copy it again")
    if external:
        # onnxruntime would open the named files relative to the current folder, and the checksum does not cover them.
        raise BadModelError(f"{name} keeps weights in other files, which a file of edge-tl never does; export it again")
    return ModelSpec.from_json(entries[SPEC_KEY])


def with_checksum(model: bytes, spec: ModelSpec) -> bytes:
    """A serialized ONNX model with the contract and the checksum put in; a contract already there is replaced."""
    view = memoryview(model)
    kept = bytearray()
    try:
        contract = spec.current().to_json()
        size = len(contract.encode("utf-8"))
    except ValueError as error:  # half a surrogate pair, as in names that are not UTF-8 on the disk; infinity
        raise BadModelError(f"the contract cannot be written ({one_line(error)}); rename what it names") from None
    if size > MAX_CONTRACT_BYTES:
        raise BadModelError(f"the contract is larger than {MAX_CONTRACT_BYTES >> 20} MB; shorten the labels")
    try:
        for number, wire, start, body, end in _top_fields(view):
            metadata = (number, wire) == (_METADATA_FIELD, _BYTES)
            if not metadata or _metadata_entry(view[body:end])[0] not in _OURS:
                kept += view[start:end]
    except _Malformed:
        raise BadModelError("the bytes to checksum are not an ONNX model") from None
    kept += _encode_metadata(SPEC_KEY, contract)
    checksum = hashlib.sha256(kept).hexdigest()
    return bytes(kept + _encode_metadata(CHECKSUM_KEY, checksum))


_OURS = {key.encode(): key for key in (SPEC_KEY, CHECKSUM_KEY)}

# Where tensors are, by onnx.proto: the message, its field, the message in it.
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor


class _Malformed(Exception):
    """Why a file cannot be a model, to follow its name in a sentence."""

    def __init__(self, reason: str = "is not an ONNX file, or it is truncated") -> None:
        super().__init__(reason)


def _external_tensor(model: memoryview) -> bool:
    """Whether any tensor, however deep in subgraphs and functions, says that its content is in another file."""
    waiting: list[tuple[str, memoryview]] = [
        ("model", model)
    ]  # not recursion: files can nest deeper than Python's stack
    left = MAX_FIELDS
    while waiting:
        kind, view = waiting.pop()
        nested, tensor = _NESTED[kind], kind == "tensor"
        for number, wire, _, body, end in _fields(view):
            left -= 1
            if left < 0:
                raise _Malformed("has more parts than a network")
            if number in nested:
                if wire != _BYTES:
                    raise _Malformed
                waiting.append((nested[number], view[body:end]))
            elif tensor and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and bytes(view[body:end]) != b"\0")):
                return True
    return False


def _top_fields(view: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """`_fields` of the outermost message, which is never empty and never has very many."""
    if not len(view):
        raise _Malformed
    for count, found in enumerate(_fields(view)):
        if count >= MAX_TOP_FIELDS:
            raise _Malformed("has more parts than a network")
        yield found


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


def _fields(view: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """(field number, wire type, start of the tag, start of the content, end) of each field, in file order."""
    at, size = 0, len(view)
    while at < size:
        start = at
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        body = at
        if wire == _BYTES:
            length, body = _varint(view, at)
            at = body + length
        elif wire == _VARINT:
            _, at = _varint(view, at)
        elif wire == 1:
            at += 8
        elif wire == 5:
            at += 4
        else:
            raise _Malformed
        # A tag of over 32 bits would be another field to readers that cut it off.
        if number == 0 or tag >> 32 or at > size:
            raise _Malformed
        yield number, wire, start, body, at


def _metadata_entry(content: memoryview) -> tuple[bytes, memoryview]:
    """Key and value of an entry; only its last key and value count, as for every reader of protobuf."""
    found = {1: content[:0], 2: content[:0]}
    for count, (number, _, _, body, end) in enumerate(_fields(content)):
        if count >= 16:  # an entry has two
            raise _Malformed
        if number in found:
            found[number] = content[body:end]
    return bytes(found[1]), found[2]


def _text(value: memoryview) -> str:
    if len(value) > MAX_CONTRACT_BYTES:
        raise _Malformed(f"carries a contract of more than {MAX_CONTRACT_BYTES >> 20} MB")
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise _Malformed from None


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
