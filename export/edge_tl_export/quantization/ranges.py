"""What calibration photos show of a graph's tensors, and the ranges that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from edge_tl_export.quantization.rounding import Moments
from edge_tl_runtime.inference.classifier import INPUT_NAME, SessionSettings, open_session

VALUES_A_PHOTO = 2048
"""Values kept of each tensor of each photo for what needs a distribution; the extremes are those of all values."""
BINS = 2048
PERCENTILE = 99.99
LEVELS = 256


@dataclass(frozen=True)
class Range:
    """Real values that the smallest and the largest integer stand for; holds 0 and is not empty."""

    low: float
    high: float

    @classmethod
    def around(cls, low: float, high: float) -> Range:
        low, high = min(low, 0.0), max(high, 0.0)
        return cls(low, high) if high > low else cls(low, low + 1.0)


@dataclass
class TensorRange:
    """One tensor over all calibration photos.

    low, high: by channel, float32 (C,). photo_low, photo_high: by photo, float32 (N,). values: a sample, float32 (S,).
    chosen: what `choose_range` found, by method.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    photo_low: NDArray[np.float32]
    photo_high: NDArray[np.float32]
    values: NDArray[np.float32]
    chosen: dict[str, Range] = field(default_factory=dict, repr=False)

    @property
    def extremes(self) -> tuple[float, float]:
        return float(self.low.min()), float(self.high.max())


@dataclass(frozen=True)
class Observations:
    """tensors: by name. moments: of the inputs of convolutions and matrix products, by the node's name."""

    tensors: Mapping[str, TensorRange]
    moments: Mapping[str, Moments]


def observe(
    model: ir.Model, names: Sequence[str], batches: Iterable[NDArray[np.uint8]], weighted: Sequence[ir.Node] = ()
) -> Observations:
    """Run a float graph on photos and keep what its tensors `names`, and the inputs of the nodes `weighted`, showed.

    batches: uint8 (N, H, W, 3) each. Memory is that of one batch and of what is kept, whatever the number of photos.
    """
    values = values_by_name(model)
    probe = ir.from_proto(ir.to_proto(model))
    found = values_by_name(probe)
    moments = {str(node.name): Moments(node) for node in weighted}
    read = {str(node.name): str(node.inputs[0].name) for node in weighted}  # type: ignore[union-attr]
    wanted = list(dict.fromkeys(name for name in (*names, *read.values()) if name in values))
    probe.graph.outputs[:] = [found[name] for name in wanted]
    for name in wanted:
        found[name].type = ir.TensorType(ir.DataType.FLOAT)
    session = open_session(ir.to_proto(probe).SerializeToString(), "the graph under calibration", SessionSettings())
    collectors = {name: _Collector() for name in names if name in values}
    for batch in batches:
        tensors = dict(zip(wanted, session.run(wanted, {INPUT_NAME: batch}), strict=True))
        for name, collector in collectors.items():
            collector.add(tensors[name])
        for name, collected in moments.items():
            collected.add(tensors[read[name]])
    return Observations({name: collector.seen() for name, collector in collectors.items()}, moments)


def values_by_name(model: ir.Model) -> dict[str, ir.Value]:
    """Every value a node of the graph gives, by name."""
    return {str(value.name): value for node in model.graph for value in node.outputs}


class _Collector:
    def __init__(self) -> None:
        self._extremes: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._samples: list[NDArray[np.float32]] = []

    def add(self, tensor: NDArray[np.float32]) -> None:
        flat = tensor.reshape(len(tensor), -1)
        # NumPy has no fast reduction over an inner axis, and these are most of the time that calibration takes.
        planes = torch.from_numpy(tensor).reshape(*tensor.shape[:2], -1)
        self._extremes.append((planes.amin(2), planes.amax(2)))
        places = np.random.default_rng(len(self._samples)).integers(
            0, flat.shape[1], min(VALUES_A_PHOTO, flat.shape[1])
        )
        self._samples.append(flat[:, places].ravel())

    def seen(self) -> TensorRange:
        low, high = (torch.cat(parts) for parts in zip(*self._extremes, strict=True))
        return TensorRange(
            low=low.amin(0).numpy(),
            high=high.amax(0).numpy(),
            photo_low=low.amin(1).numpy(),
            photo_high=high.amax(1).numpy(),
            values=np.concatenate(self._samples),
        )


def choose_range(seen: TensorRange, method: str) -> Range:
    """The range of a tensor by one of `CALIBRATIONS`. Every method stays within the extremes and holds 0.

    Found once: it was most of the time of a file with one layer in INT8, of which a page asks for fifty.
    """
    if method not in seen.chosen:
        seen.chosen[method] = _METHODS[method](seen)
    return seen.chosen[method]


def _minmax(seen: TensorRange) -> Range:
    return Range.around(*seen.extremes)


def _average(seen: TensorRange) -> Range:
    """The mean over photos of what each of them spans."""
    return Range.around(float(seen.photo_low.mean()), float(seen.photo_high.mean()))


def _percentile(seen: TensorRange) -> Range:
    tail = (100 - PERCENTILE) / 2
    low, high = np.percentile(seen.values, [tail, 100 - tail])
    return Range.around(float(low), float(high))


def _mse(seen: TensorRange) -> Range:
    """The range with the least squared error of rounding and clipping together, by shrinking either end in turn."""
    low, high = seen.extremes
    full = Range.around(low, high)
    counts, centres = _histogram(seen, full)
    best, least = full, _squared_error(full, counts, centres)
    for fraction in np.linspace(1.0, 0.3, 57)[1:]:
        tried = Range.around(full.low * fraction, full.high * fraction)
        error = _squared_error(tried, counts, centres)
        if error < least:
            best, least = tried, error
    for fraction in np.linspace(1.0, 0.5, 41)[1:]:
        for tried in (Range.around(best.low * fraction, best.high), Range.around(best.low, best.high * fraction)):
            error = _squared_error(tried, counts, centres)
            if error < least:
                best, least = tried, error
    return best


def _entropy(seen: TensorRange) -> Range:
    """The range whose 256 levels keep most of the distribution, by Kullback-Leibler divergence (Migacz 2017)."""
    full = Range.around(*seen.extremes)
    counts, centres = _histogram(seen, full)
    best, least = full, np.inf
    for fraction in np.linspace(1.0, 0.2, 81):
        tried = Range.around(full.low * fraction, full.high * fraction)
        divergence = _divergence(tried, counts, centres)
        if divergence < least:
            best, least = tried, divergence
    return best


_METHODS: Mapping[str, Callable[[TensorRange], Range]] = {
    "minmax": _minmax,
    "average": _average,
    "percentile": _percentile,
    "entropy": _entropy,
    "mse": _mse,
}


def _histogram(seen: TensorRange, full: Range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Zeros, half of what a ReLU gives, are exact in any range; counted, they would drown the rest.
    counts, edges = np.histogram(seen.values[seen.values != 0], BINS, (full.low, full.high))
    return counts.astype(np.float64), (edges[:-1] + edges[1:]) / 2


def _squared_error(tried: Range, counts: NDArray[np.float64], centres: NDArray[np.float64]) -> float:
    scale = (tried.high - tried.low) / (LEVELS - 1)
    clipped = np.clip(centres, tried.low, tried.high)
    # Inside the range rounding errs evenly over one step; outside, the distance to the end counts.
    return float((counts * ((centres - clipped) ** 2 + np.where(centres == clipped, scale**2 / 12, 0.0))).sum())


def _divergence(tried: Range, counts: NDArray[np.float64], centres: NDArray[np.float64]) -> float:
    inside = (centres >= tried.low) & (centres <= tried.high)
    reference = counts[inside].copy()
    if not reference.sum():
        return np.inf
    reference[0] += counts[centres < tried.low].sum()
    reference[-1] += counts[centres > tried.high].sum()
    levels = np.minimum(((centres[inside] - tried.low) / (tried.high - tried.low) * LEVELS).astype(int), LEVELS - 1)
    filled = counts[inside] > 0
    totals = np.bincount(levels, counts[inside], LEVELS)
    members = np.bincount(levels, filled, LEVELS)
    spread = np.where(filled, (totals / np.maximum(members, 1))[levels], 0.0)
    p, q = reference / reference.sum(), spread / max(spread.sum(), 1.0)
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-12))).sum())
