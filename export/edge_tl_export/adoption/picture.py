"""What a graph takes: which of its inputs is the picture, and in which layout, size, type and number."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_tl_export.adoption.graph import producers
from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.modelfile.spec import Normalization

KINDS: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "float64",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
}
LUMA = (19595, 38470, 7471)
"""Of 65536: the weights of red, green and blue in Pillow's `convert("L")`, ITU-R BT.601; OpenCV's are these in 14 bits."""
WHOLE = Normalization(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))
"""What a network of whole numbers gets: the pixels as they are."""


@dataclass(frozen=True)
class ImageInput:
    """name: of the input. planar: channels before rows and columns. channels: 3, or 1 for grey. kind: NumPy's name of its type.

    batch: how many pictures at once it is fixed to, 0 for any number. whole: pixels enter without normalisation.
    """

    name: str
    planar: bool
    channels: int
    height: int
    width: int
    kind: str
    batch: int

    @property
    def whole(self) -> bool:
        return "int" in self.kind

    def describe(self) -> str:
        planes = "grey" if self.channels == 1 else "colour"
        layout = f"N x {self.channels} x H x W" if self.planar else f"N x H x W x {self.channels}"
        return f"{planes} pictures, {layout}, {self.width}x{self.height} px, {self.kind}"

    def values(self, pixels: NDArray[np.uint8], order: str, normalization: Normalization) -> NDArray[np.generic]:
        """Pixels, uint8 (N, H, W, 3) in `order`, as the original takes them; computed in float64, apart from the graph."""
        if self.channels == 1:
            weights = np.array(LUMA if order == "RGB" else LUMA[::-1]) / 65536
            grey = self._real((pixels.astype(np.float64) @ weights)[..., None], normalization).astype(self.kind)
            return np.ascontiguousarray(grey.transpose(0, 3, 1, 2) if self.planar else grey)
        # A pixel has 256 values: looking them up is several times faster than computing each.
        table = self._real(np.repeat(np.arange(256.0)[:, None], 3, 1), normalization).astype(self.kind)
        planes = [np.take(np.ascontiguousarray(table[:, i]), pixels[..., i]) for i in range(3)]
        return np.stack(planes, axis=1 if self.planar else 3)

    def _real(self, x: NDArray[np.float64], normalization: Normalization) -> NDArray[np.float64]:
        """Values 0..255, (..., channels), normalised, in float64."""
        if self.whole:
            return np.rint(x) - (128 if self.kind == "int8" else 0)
        mean, std = (np.array(item)[: self.channels] for item in (normalization.mean, normalization.std))
        normalized: NDArray[np.float64] = (x / 255 - mean) / std
        return normalized


def fix_inputs(graph: onnx.GraphProto, fixed: Mapping[str, float], name: str) -> None:
    """Give inputs a value for ever. Raises UsageError for one that is not there or has no plain type."""
    for key, number in fixed.items():
        value = next((item for item in graph.input if item.name == key), None)
        if value is None:
            known = ", ".join(one_line(item.name, 40) for item in graph.input)
            raise UsageError(f"{name} has no input {one_line(key, 40)!r}; it has: {known}")
        tensor = value.type.tensor_type
        shape = [dim.dim_value or 1 for dim in tensor.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        graph.initializer.append(numpy_helper.from_array(np.full(shape, number).astype(kind), key))
        graph.input.remove(value)


def drop_stored_inputs(proto: onnx.ModelProto) -> int:
    """Initializers that are listed as inputs, as before IR version 4, are inputs no more. Returns how many there were."""
    stored = {tensor.name for tensor in proto.graph.initializer}
    listed = [value for value in proto.graph.input if value.name in stored]
    for value in listed:
        proto.graph.input.remove(value)
    proto.ir_version = max(proto.ir_version, 4)
    return len(listed)


def find_picture(graph: onnx.GraphProto, name: str, size: tuple[int, int] | None) -> ImageInput:
    """The one input that is left, as a picture. size: height and width where the graph leaves them free.
    Raises BadModelError for what takes no picture, UsageError where a size is needed or contradicts the graph.
    """
    if len(graph.input) != 1:
        raise BadModelError(_not_one(graph, name))
    value = graph.input[0]
    tensor = value.type.tensor_type
    kind = KINDS.get(tensor.elem_type)
    dims = [max(0, dim.dim_value) for dim in tensor.shape.dim]  # some write -1 for a free one
    shown = f"input {one_line(value.name, 40)!r} of shape {_shape(value)}"
    if kind is None:
        named = TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type else "no tensor"
        raise BadModelError(f"{name}: {shown} is {named}; it must be float32, float16, double or whole numbers")
    if not tensor.HasField("shape"):
        dims = [0, 0, 0, 0]
    if len(dims) != 4:
        raise BadModelError(
            f"{name}: {shown} is no batch of pictures, which has 4 axes (N, channels, height, width); export it with these"
        )
    planar, channels = _layout(graph, value.name, dims, shown, name)
    rows, columns = (dims[2], dims[3]) if planar else (dims[1], dims[2])
    if not rows or not columns:
        if size is None:
            raise UsageError(
                f"{name} leaves height and width free; say --size with those it was trained for, as --size 224"
            )
        if (rows or size[0], columns or size[1]) != size:
            raise UsageError(f"{name} takes pictures of {_free(columns)}x{_free(rows)} px; --size does not fit")
        rows, columns = size
    elif size is not None and size != (rows, columns):
        raise UsageError(f"{name} takes pictures of {columns}x{rows} px and no others; leave --size out")
    return ImageInput(value.name, planar, channels, rows, columns, kind, dims[0])


def _layout(graph: onnx.GraphProto, taken: str, dims: list[int], shown: str, name: str) -> tuple[bool, int]:
    places = [(planar, dims[place]) for planar, place in ((True, 1), (False, 3)) if dims[place] in (1, 3)]
    if len(places) == 2 and places[0][1] != places[1][1]:
        places.sort(key=lambda item: -item[1])  # 3 x H x 1 and 1 x H x 3 have no grey meaning worth a guess
    if places and dims[1] != dims[3]:
        return places[0]
    if places:
        return places[0][0], places[0][1]
    if dims[1] == 0 or dims[3] == 0:
        found = _channels_of_first_layer(graph, taken)
        if found is not None:
            return found
    many = next((dims[place] for place in (1, 3) if dims[place] in (2, 4)), None)
    why = f"has {many} channels" if many else "has neither 3 nor 1 channels"
    raise BadModelError(f"{name}: {shown} {why}; edge-tl gives colour (3) or grey (1) pictures")


def _channels_of_first_layer(graph: onnx.GraphProto, taken: str) -> tuple[bool, int] | None:
    """Layout by the first convolution, where the input's shape names no channels."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made = producers(graph)
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in stored:
            continue
        channels, planar, value = stored[node.input[1]].dims[1], True, node.input[0]
        for _ in range(16):
            if value == taken:
                return (planar, channels) if channels in (1, 3) else None
            before = made.get(value)
            if before is None or not before.input:
                return None
            planar = planar and before.op_type != "Transpose"
            value = before.input[0]
        return None
    return None


def _not_one(graph: onnx.GraphProto, name: str) -> str:
    listed = "; ".join(f"{one_line(value.name, 40)} {_shape(value)}" for value in list(graph.input)[:6])
    if not graph.input:
        return f"{name} takes no input: its scores do not depend on a picture; export it again"
    return (
        f"{name} needs {len(graph.input)} inputs ({listed}) and a camera gives one picture; fix the others with "
        "--fix NAME=NUMBER, or export it with the picture alone"
    )


def _shape(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return "[" + ", ".join(one_line(dim.dim_param, 20) or str(dim.dim_value or "?") for dim in dims) + "]"


def _free(size: int) -> str:
    return str(size) if size else "?"


def size_hint(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    """Height and width that Ultralytics writes into its files, as [224, 224]."""
    sizes = [int(part) for part in re.findall(r"\d{1,4}", metadata.get("imgsz", "")[:40])]
    if not sizes or len(sizes) > 2 or min(sizes) < 1:
        return None
    return sizes[0], sizes[-1]


def has_free_size(graph: onnx.GraphProto) -> bool:
    dims = [[max(0, dim.dim_value) for dim in value.type.tensor_type.shape.dim] for value in graph.input]
    return any(len(shape) == 4 and shape.count(0) > 1 for shape in dims)


def probe_pictures(picture: ImageInput, count: int) -> NDArray[np.uint8]:
    """Pictures of noise, coarse to fine, so that neither the mean nor the detail alone is asked: uint8 (N, H, W, 3)."""
    generator = np.random.default_rng(0)
    made = []
    for index in range(count):
        coarse = max(1, min(picture.height, picture.width) >> (3 * (index % 3)))
        rows = np.arange(picture.height) * coarse // picture.height
        columns = np.arange(picture.width) * coarse // picture.width
        made.append(generator.integers(0, 256, (coarse, coarse, 3), np.uint8)[rows][:, columns])
    return np.stack(made)
