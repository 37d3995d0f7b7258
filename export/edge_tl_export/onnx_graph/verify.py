"""Checks that a file must pass before it is handed over.

What each file owes: a valid graph whose shapes infer strictly, everything inside one file, nothing of training, no tensor stored
twice; the same answers as PyTorch on real photos, one at a time and many at once, with a free and with a fixed batch; the
same bytes for the same input, also from a second session.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from edge_tl_export.errors import ExportError
from edge_tl_export.onnx_graph.pixel_model import PixelModel
from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.modelfile.spec import ModelSpec, SelfTest, spread

PARITY_TOLERANCE = 1e-3
FIXED_BATCHES = (1, 4)
TRAINING_ONLY = ("Dropout", "BatchNormalization", "Identity")
SMALL = 64
"""Bytes up to which an equal tensor may be stored again: scales that happen to agree."""
THUMBNAIL = 28
SMALLEST = 1e-6
"""Tolerance of a self-test whose scores hardly differ: they are stored with six digits behind the point."""


@dataclass(frozen=True)
class Parity:
    """PyTorch against onnxruntime on the same pixels. max_difference: largest absolute one between two logits.

    reference: what was compared with: "PyTorch", or "the file" where an existing file was brought into another form.
    tolerance: what was allowed: PARITY_TOLERANCE, scaled up where the largest logit exceeds 10 (float32 has 7 digits).
    """

    max_difference: float
    tolerance: float
    top1_equal: int
    n: int
    reference: str = "PyTorch"


def check_structure(model: bytes) -> None:
    """Raises ExportError for a graph that is invalid, not self-contained, or carries what a device has no use for."""
    proto = onnx.load_from_string(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"the exported graph is not valid ONNX: {str(error).splitlines()[0]}; nothing was written"
        ) from None
    graph = proto.graph
    faults = [f"operator {node.op_type}" for node in graph.node if node.op_type in TRAINING_ONLY]
    faults += [
        f"tensor {tensor.name} outside the file"
        for tensor in graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    stored = Counter(
        (tensor.data_type, tuple(tensor.dims), tensor.raw_data)
        for tensor in graph.initializer
        if len(tensor.raw_data) > SMALL
    )
    faults += [f"a tensor of shape {key[1]} stored {count} times" for key, count in stored.items() if count > 1]
    if faults:
        raise ExportError(f"the exported graph holds {', '.join(faults[:3])}; nothing was written")


def check_repeatable(model: bytes, open_model: Callable[[bytes, str], Logits], pixels: NDArray[np.uint8]) -> None:
    """Raises ExportError unless two sessions give the same bytes for the same input, each of them twice."""
    first, second = open_model(model, "the exported file"), open_model(model, "the exported file")
    answers = {logits(pixels).tobytes() for logits in (first, second) for _ in range(2)}
    if len(answers) > 1:
        raise ExportError("the exported file gives different scores for the same photo; nothing was written")


def with_batch(model: bytes, batch: int) -> bytes:
    """The model for a fixed number of photos at once."""
    proto = onnx.load_from_string(model)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    serialized: bytes = proto.SerializeToString()
    return serialized


def parity(
    network: nn.Module, spec: ModelSpec, logits: Logits, pixels: NDArray[np.uint8], fixed: Mapping[int, Logits] = {}
) -> Parity:
    """Compare a network with its exported form, one photo at a time and all at once. pixels: uint8 (N, H, W, 3).

    fixed: the same graph for other numbers of photos at once, by that number.

    Raises ExportError when logits differ by more than the tolerance.
    """
    model = PixelModel(network, spec.normalization).eval()
    expected = np.concatenate([model.infer(pixels[i : i + 8]) for i in range(0, len(pixels), 8)])
    single = np.concatenate([logits(pixels[i : i + 1]) for i in range(len(pixels))])
    together = logits(pixels)
    worst = float(max(np.abs(single - expected).max(), np.abs(together - expected).max()))
    for batch, of_batch in fixed.items():
        for start in range(0, len(pixels) - batch + 1, batch):
            part = slice(start, start + batch)
            worst = max(worst, float(np.abs(of_batch(pixels[part]) - expected[part]).max()))
    tolerance = PARITY_TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10)
    if not worst <= tolerance:
        raise ExportError(
            f"the exported graph differs from PyTorch by {worst:.3g} on logits, allowed {tolerance:.3g}; "
            "nothing was written. Check that the network is in evaluation mode and free of random layers"
        )
    equal = int((single.argmax(1) == expected.argmax(1)).sum())
    return Parity(worst, tolerance, equal, len(pixels))


def graph_parity(reference: Logits, rewritten: Logits, pixels: NDArray[np.uint8]) -> Parity:
    """Compare a file with its graph in another form, pixels uint8 (N, H, W, 3). Raises ExportError as `parity`."""
    expected, got = reference(pixels), rewritten(pixels)
    worst = float(np.abs(got - expected).max())
    tolerance = PARITY_TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10)
    if not worst <= tolerance:
        raise ExportError(
            f"the graph in the form that can be quantized differs from the file by {worst:.3g} on logits, allowed "
            f"{tolerance:.3g}; nothing was written. Use the file as it is"
        )
    return Parity(worst, tolerance, int((got.argmax(1) == expected.argmax(1)).sum()), len(pixels), "the file")


def make_self_test(
    logits: Logits, spec: ModelSpec, candidates: Sequence[NDArray[np.uint8]], precision: str
) -> SelfTest:
    """The candidate (uint8 (H, W, 3) each) whose thumbnail the file classifies with the widest margin, with its answer.

    Float kernels agree between CPUs to rounding, so the tolerance is tight; integer kernels need not, so INT8 logits may move
    by half the margin: the label may not change.
    """
    best: tuple[float, NDArray[np.uint8], NDArray[np.float32]] | None = None
    for pixels in candidates:
        thumbnail = _thumbnail(pixels)
        scores = logits(spread(thumbnail, spec.resize))[0]
        second, first = np.sort(scores)[-2:]
        if best is None or first - second > best[0]:
            best = float(first - second), thumbnail, scores
    assert best is not None
    margin, thumbnail, scores = best
    relative = {"fp32": 1e-3, "fp16": 5e-2}
    largest = max(1.0, float(np.abs(scores).max()))
    tolerance = margin / 2 if precision == "int8" else relative[precision] * largest
    return SelfTest(
        thumbnail=SelfTest.encode(thumbnail),
        side=THUMBNAIL,
        top1=int(scores.argmax()),
        logits=tuple(round(float(x), 6) for x in scores),
        tolerance=max(round(tolerance, 6), SMALLEST),
    )


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = np.arange(THUMBNAIL) * pixels.shape[0] // THUMBNAIL
    columns = np.arange(THUMBNAIL) * pixels.shape[1] // THUMBNAIL
    return np.ascontiguousarray(pixels[rows][:, columns])
