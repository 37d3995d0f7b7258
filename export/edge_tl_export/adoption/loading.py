"""Read somebody's ONNX file, with the weights that it keeps beside itself, or say in a line why not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from onnx import TensorProto

from edge_tl_export.adoption.graph import graphs, sort, tensors
from edge_tl_export.adoption.notes import Notes
from edge_tl_export.onnx_graph.cleanup import lift_constants
from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.modelfile.not_a_model import instead_of_model
from edge_tl_runtime.modelfile.onnx import MAX_MODEL_BYTES, SPEC_KEY

OLDEST = 7
"""The first opset that onnxruntime promises to run."""
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Operators that onnxruntime has."""


@dataclass
class LoadedFile:
    """proto: one graph without functions, constants as initializers, all weights inside. name: for messages.

    sha256: of the .onnx file and the weights beside it. metadata: what the file says of itself. opset: of the default domain.
    """

    proto: onnx.ModelProto
    name: str
    sha256: str
    notes: Notes = field(default_factory=Notes)

    @property
    def metadata(self) -> dict[str, str]:
        return {item.key: item.value for item in self.proto.metadata_props}

    @property
    def opset(self) -> int:
        return opset(self.proto)


def opset(proto: onnx.ModelProto) -> int:
    """The opset of the default domain, 0 where the file names none."""
    return next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)


def load(path: str | os.PathLike[str]) -> LoadedFile:
    """A model file with everything that belongs to it. Raises BadModelError."""
    path = Path(path)
    try:
        data = read_regular(path, MAX_MODEL_BYTES)
    except IsADirectoryError:
        found = sorted(path.glob("*.onnx"))
        hint = f"give the file in it: {found[0]}" if found else "give an .onnx file"
        raise BadModelError(f"{path} is a folder; {hint}") from None
    except FileNotFoundError:
        raise BadModelError(f"no file at {path}; check the path") from None
    except OSError as error:
        raise BadModelError(f"cannot read {path}: {error.strerror}; give an .onnx file") from None
    return load_bytes(data, str(path), path)


def load_bytes(data: bytes, name: str, path: Path | None = None) -> LoadedFile:
    """The same from the bytes of an .onnx file. path: where it lies, for weights beside it; None refuses such weights."""
    if other := instead_of_model(data, name):
        raise BadModelError(f"{name} {other}")
    if not data:
        raise BadModelError(f"{name} is empty; copy it again")
    try:
        proto = onnx.load_from_string(data)
    except Exception as error:  # noqa: BLE001  # protobuf raises types of its own
        raise BadModelError(
            f"{name} is no valid ONNX model: {one_line(str(error).splitlines()[0])}; copy or export it again"
        ) from None
    if any(item.key == SPEC_KEY for item in proto.metadata_props):
        raise BadModelError(f"{name} is an edge-tl file already; use it as it is")
    digest = hashlib.sha256(data)
    del data
    loaded = LoadedFile(proto, name, "")
    beside = _take_in(proto, name, path, digest.update)
    loaded.sha256 = digest.hexdigest()
    if beside:
        loaded.notes.changed.append(f"weights from {', '.join(beside[:3])} were taken in")
    _check_versions(proto, name)
    if sum(sort(graph) for graph in graphs(proto.graph)):
        loaded.notes.changed.append("its operators were not in the order in which they are computed, and are now")
    try:
        _check(proto)
        if proto.functions:
            from onnx import inliner

            proto = inliner.inline_local_functions(proto)
            loaded.proto = proto
        lift_constants(proto)
    except Exception as error:  # noqa: BLE001  # the checker raises types of its own
        raise BadModelError(
            f"{name} is no valid ONNX model: {one_line(str(error).splitlines()[0])}; export it again"
        ) from None
    _check_domains(proto, name)
    return loaded


def _check(proto: onnx.ModelProto) -> None:
    """As onnx's checker, but that an output may leave its shape out, which exporters do and onnxruntime takes."""
    nameless = [value for value in proto.graph.output if not value.type.tensor_type.HasField("shape")]
    nameless = [value for value in nameless if value.type.HasField("tensor_type")]
    for value in nameless:
        value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    finally:
        for value in nameless:
            value.type.tensor_type.ClearField("shape")


def _check_versions(proto: onnx.ModelProto, name: str) -> None:
    newest, version = onnx.defs.onnx_opset_version(), opset(proto)
    if version > newest:
        raise BadModelError(
            f"{name} is of opset {version} and the installed onnx knows {newest}; "
            "export it with an older opset, or run: pip install -U onnx onnxruntime"
        )
    if version < OLDEST and any(node.domain in ("", "ai.onnx") for node in proto.graph.node):
        raise BadModelError(
            f"{name} is of opset {version}, older than onnxruntime runs; export it again with 13 or later"
        )
    if proto.ir_version > onnx.IR_VERSION:
        proto.ir_version = onnx.IR_VERSION


def _check_domains(proto: onnx.ModelProto, name: str) -> None:
    foreign = sorted(
        {
            f"{node.domain}:{node.op_type}"
            for graph in graphs(proto.graph)
            for node in graph.node
            if node.domain not in KNOWN_DOMAINS
        }
    )
    if foreign:
        raise BadModelError(
            f"{name} needs operators that onnxruntime does not have: {one_line(', '.join(foreign[:5]))}; "
            "export it with the standard operators"
        )


# Weights in other files


def _take_in(proto: onnx.ModelProto, name: str, path: Path | None, hashed: Callable[[bytes], None]) -> list[str]:
    """Bring tensors from other files into the model. Returns the files' names. Raises BadModelError."""
    outside = [tensor for tensor in tensors(proto) if tensor.data_location == TensorProto.EXTERNAL]
    if not outside:
        return []
    if path is None:
        raise BadModelError(f"{name} keeps weights in other files; give its path, so that they are found")
    pieces = [_piece(tensor, name, path) for tensor in outside]
    total = proto.ByteSize() + sum(length for _, _, length in pieces)
    if total > MAX_MODEL_BYTES:
        raise BadModelError(
            f"{name} with its weights has {total / 2**30:.1f} GB, and one file holds at most 2 GB; "
            "export it in half precision, or use a smaller network"
        )
    files: dict[Path, str] = {}
    for tensor, (file, offset, length) in zip(outside, pieces, strict=True):
        content = _read_piece(file, offset, length, name)
        tensor.raw_data = content
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT
        hashed(content)
        files[file] = file.name
    return list(files.values())


def _piece(tensor: TensorProto, name: str, path: Path) -> tuple[Path, int, int]:
    """File, offset and length of a tensor outside. Raises BadModelError for a place that is not the model's own folder."""
    keys = {item.key: item.value for item in tensor.external_data}
    location = keys.get("location", "")
    shown = one_line(location, 80)
    pure = PurePosixPath(location)
    if location.strip() in ("", ".", "./") or "\0" in location:
        raise BadModelError(
            f"{name} says that weights are in another file and does not name it (location {shown!r}); export it again"
        )
    if pure.is_absolute() or PureWindowsPath(location).drive or ".." in (*pure.parts, *PureWindowsPath(location).parts):
        how = "by a path with '..'" if ".." in location else "by an absolute path"
        raise BadModelError(
            f"{name} asks for weights at {shown!r}, {how}; only its own folder is read: "
            "put both files into one folder and export it again"
        )
    try:
        offset, length = int(keys.get("offset", 0)), int(keys.get("length", _bytes_of(tensor)))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or length != _bytes_of(tensor):
        raise BadModelError(f"{name} says of its weights in {shown!r} a size that they cannot have; export it again")
    file = path.parent / location
    _check_inside(file, path, shown, name)
    if file.exists() and not file.is_file():
        what = "a folder" if file.is_dir() else "no plain file"
        raise BadModelError(f"{name} keeps weights in {shown!r}, which is {what}; put the file of weights there")
    if not file.is_file():
        raise BadModelError(
            f"{name} keeps weights in {shown!r}, which is not in {path.parent}; copy that file there too"
        )
    size = file.stat().st_size
    if offset + length > size:
        raise BadModelError(
            f"{file} has {size} bytes and {name} needs {offset + length}; it is truncated, copy it again"
        )
    return file, offset, length


def _check_inside(file: Path, path: Path, shown: str, name: str) -> None:
    """A link may lead elsewhere only as the model's own does: download caches keep both beside each other."""
    real = Path(os.path.realpath(file))
    own = (Path(os.path.realpath(path.parent)), Path(os.path.realpath(path)).parent)
    if not any(real.is_relative_to(folder) for folder in own):
        raise BadModelError(
            f"{name} asks for weights at {shown!r}, a link out of its own folder; a file that does so is not taken"
        )


def _bytes_of(tensor: TensorProto) -> int:
    """Bytes of a tensor by its type and shape. Raises ValueError for types that have no fixed size."""
    count = 1
    for size in tensor.dims:
        count *= max(0, size)
    four_bits = {getattr(TensorProto, kind, None) for kind in ("INT4", "UINT4", "FLOAT4E2M1")}
    if tensor.data_type in four_bits:
        return (count + 1) // 2
    try:
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError):
        raise ValueError("unknown type") from None
    if kind.hasobject:
        raise ValueError("strings are never outside")
    return count * kind.itemsize


def _read_piece(file: Path, offset: int, length: int, name: str) -> bytes:
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            opened.seek(offset)
            content = opened.read(length)
    except OSError as error:
        raise BadModelError(f"cannot read the weights of {name} in {file}: {error.strerror}") from None
    if len(content) != length:
        raise BadModelError(f"{file} is truncated; copy it again")
    return content
