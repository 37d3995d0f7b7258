"""Weights rounded for what they are multiplied with, not each to its nearest integer.

The error that rounding leaves at a convolution's output is d' H d for the error d of a row of weights and the second moments H of
the patches it meets. Neighbouring pixels agree, so errors of one sign add up and errors of both signs cancel. Descent by one
weight at a time (Behdin et al. 2023, "QuantEase"; the objective is that of Nagel et al. 2020, "Up or Down?") finds integers
that cancel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_tl_export.onnx_graph.cleanup import constant

PATCHES_A_PHOTO = 32
MAX_INPUTS = 300
"""Weights a row above which rounding stays to the nearest: so long a row averages its errors (efficientnet_lite0: 25.20 dB of
logits with this bound, 25.25 without, 23.9 for the nearest everywhere), and the moments grow with the square."""
DAMPING = 0.01
SWEEPS = 3


class Moments:
    """Mean and covariance of the patches that one convolution, or matrix product, multiplies its weights with."""

    def __init__(self, node: ir.Node) -> None:
        weight = constant(node.inputs[1])
        assert weight is not None
        self._node, self._groups = node, node.attributes.get_int("group", 1)
        self.inputs = int(np.prod(weight.shape[1:])) if node.op_type == "Conv" else max(weight.shape)
        self._kernel = weight.shape[2:]
        self._sum: NDArray[np.float64] | float = 0.0
        self._squares: NDArray[np.float64] | float = 0.0
        self._count, self._batches = 0, 0
        self._rounded: tuple[tuple[bytes, bytes, int], NDArray[np.float64]] | None = None

    def add(self, tensor: NDArray[np.float32]) -> None:
        """tensor: what the node reads, float32 (N, C, H, W) or (N, C)."""
        patches = tensor[:, None] if tensor.ndim == 2 else self._patches(tensor)
        flat = patches.reshape(patches.shape[0] * patches.shape[1], self._groups, -1).transpose(1, 0, 2)
        self._sum = self._sum + flat.sum(1)
        if self.inputs <= MAX_INPUTS:
            self._squares = self._squares + np.matmul(flat.transpose(0, 2, 1), flat)
        self._count += flat.shape[1]

    def _patches(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Some patches of each photo: (N, P, C * kh * kw)."""
        attributes = self._node.attributes
        top, left, bottom, right = attributes.get_ints("pads", (0, 0, 0, 0))
        step_y, step_x = attributes.get_ints("strides", (1, 1))
        padded = tensor
        if top or left or bottom or right:
            padded = np.pad(tensor, ((0, 0), (0, 0), (top, bottom), (left, right)))
        # numpy before 2.3 declares it with a single axis.
        view: Callable[..., NDArray[np.float32]] = np.lib.stride_tricks.sliding_window_view
        windows = view(padded, self._kernel, axis=(2, 3))[:, :, ::step_y, ::step_x]
        generator = np.random.default_rng(self._batches)
        self._batches += 1
        rows = generator.integers(0, windows.shape[2], (len(tensor), PATCHES_A_PHOTO))
        columns = generator.integers(0, windows.shape[3], (len(tensor), PATCHES_A_PHOTO))
        chosen: NDArray[np.float32] = windows[np.arange(len(tensor))[:, None], :, rows, columns]
        return chosen.reshape(len(tensor), PATCHES_A_PHOTO, -1)

    @functools.cached_property
    def mean(self) -> NDArray[np.float64]:
        """float64 (groups, K)."""
        return np.asarray(self._sum / self._count)

    @functools.cached_property
    def covariance(self) -> NDArray[np.float64] | None:
        """float64 (groups, K, K), damped so that directions never seen are not free; None above MAX_INPUTS."""
        if self.inputs > MAX_INPUTS:
            return None
        mean = self.mean
        moments = self._squares / self._count - mean[:, :, None] * mean[:, None, :]
        diagonal = np.einsum("gkk->gk", moments)
        size = np.maximum(diagonal.mean(1), 1e-12)
        return np.asarray(moments + (DAMPING * size)[:, None, None] * np.eye(moments.shape[1]))

    def round(self, rows: NDArray[np.float64], steps: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
        """`round_weights` for these inputs; the last answer is kept, since candidates often differ in activations alone."""
        key = rows.tobytes(), steps.tobytes(), limit
        if self._rounded is None or self._rounded[0] != key:
            self._rounded = key, round_weights(rows, steps, limit, self.covariance)
        return self._rounded[1]


def round_weights(
    rows: NDArray[np.float64], steps: NDArray[np.float64], limit: int, covariance: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Integers in [-limit, limit], as float64 (rows, K), for weights (rows, K) with a step a row.

    covariance: (groups, K, K), the rows falling into groups in order; None rounds to the nearest.
    """
    scaled = rows / steps[:, None]
    integers = np.clip(np.rint(scaled), -limit, limit)
    if covariance is None:
        return np.asarray(integers)
    groups, inputs, _ = covariance.shape
    shape = (groups, len(rows) // groups, inputs)
    wanted, integers, covariance = scaled.reshape(shape), integers.reshape(shape), covariance.astype(np.float32)
    for _ in range(SWEEPS):
        changed = False
        # Anew in each sweep, so that the errors of single precision do not add up: (groups, rows, K).
        loss_and_gradient = np.matmul((integers - wanted).astype(np.float32), covariance)
        for k in range(inputs):
            own = covariance[:, k, k][:, None]
            best = np.clip(np.rint(integers[:, :, k] - loss_and_gradient[:, :, k] / own), -limit, limit)
            move = best - integers[:, :, k]
            group, row = np.nonzero(move)
            if len(row):
                changed = True
                integers[:, :, k] = best
                loss_and_gradient[group, row] += move[group, row, None] * covariance[group, k]
        if not changed:
            break
    return np.asarray(integers.reshape(rows.shape))
