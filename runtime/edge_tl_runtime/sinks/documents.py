"""What a sink says of its own work as JSON."""

from __future__ import annotations

from typing import TypedDict

from edge_tl_runtime.core.documents import Count, PluginDocument


class _Failed(TypedDict, total=False):
    error: str
    plugin: PluginDocument


class SinkCounts(_Failed):
    """Results of one sink.

    written: results that arrived.
    dropped: results that came faster than the sink takes them.
    failed: results that could not be written.
    error: why, where anything failed.
    plugin: the package that adds the sink, where it is none of edge-tl.
    """

    written: int
    dropped: Count
    failed: Count
