"""Checks that a file must pass before it is handed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edge_tl_export.graph import PixelModel
from edge_tl_runtime.errors import EdgeTLError
from edge_tl_runtime.evaluate import Logits
from edge_tl_runtime.spec import ModelSpec, SelfTest, spread

PARITY_TOLERANCE = 1e-3
THUMBNAIL = 28


class ExportError(EdgeTLError):
    """The exported file does not do what the network does; nothing was written."""


@dataclass(frozen=True)
class Parity:
    """PyTorch against onnxruntime on the same pixels. max_difference: largest absolute one between two logits.

    tolerance: what was allowed: PARITY_TOLERANCE, scaled up where the largest logit exceeds 10 (float32 has 7 digits).
    """

    max_difference: float
    tolerance: float
    top1_equal: int
    n: int


def parity(network: nn.Module, spec: ModelSpec, logits: Logits, pixels: NDArray[np.uint8]) -> Parity:
    """Compare a network with its exported form, one photo at a time and all at once. pixels: uint8 (N, H, W, 3).

    Raises ExportError when logits differ by more than the tolerance.
    """
    model = PixelModel(network, spec.normalization).eval()
    expected = np.concatenate([model.infer(pixels[i : i + 8]) for i in range(0, len(pixels), 8)])
    single = np.concatenate([logits(pixels[i : i + 1]) for i in range(len(pixels))])
    together = logits(pixels)
    worst = float(max(np.abs(single - expected).max(), np.abs(together - expected).max()))
    tolerance = PARITY_TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10)
    if not worst <= tolerance:
        raise ExportError(
            f"the exported graph differs from PyTorch by {worst:.3g} on logits, allowed {tolerance:.3g}; "
            "nothing was written. Check that the network is in evaluation mode and free of random layers"
        )
    equal = int((single.argmax(1) == expected.argmax(1)).sum())
    return Parity(worst, tolerance, equal, len(pixels))


def make_self_test(
    logits: Logits, spec: ModelSpec, candidates: Sequence[NDArray[np.uint8]], precision: str
) -> SelfTest:
    """The candidate (uint8 (H, W, 3) each) whose thumbnail the file judges with the widest margin, with its answer.

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
        tolerance=round(tolerance, 6),
    )


def _thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = np.arange(THUMBNAIL) * pixels.shape[0] // THUMBNAIL
    columns = np.arange(THUMBNAIL) * pixels.shape[1] // THUMBNAIL
    return np.ascontiguousarray(pixels[rows][:, columns])
