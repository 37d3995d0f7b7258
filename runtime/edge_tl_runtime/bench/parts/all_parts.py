"""The parts of a benchmark in the order in which they are measured: what heat and other work would spoil comes first."""

from __future__ import annotations

from edge_tl_runtime.bench.parts.accuracy import AccuracyPart, Agreement
from edge_tl_runtime.bench.parts.corruptions import Corruptions
from edge_tl_runtime.bench.parts.latency import Latency, Sustained, WholeFrame
from edge_tl_runtime.bench.parts.live_square import LiveSquare
from edge_tl_runtime.bench.parts.part import Part
from edge_tl_runtime.bench.parts.resources import Resources
from edge_tl_runtime.bench.parts.stored import StoredAttackPart
from edge_tl_runtime.bench.parts.throughput import Throughput

PARTS: tuple[Part, ...] = (
    Latency(),
    WholeFrame(),
    Throughput(),
    Resources(),
    Sustained(),
    AccuracyPart(),
    Agreement(),
    Corruptions(),
    StoredAttackPart(),
    LiveSquare(),
)
"""A new one is a class with its own module and a place here; what a person sees of it, in `summary`."""
