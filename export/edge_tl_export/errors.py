"""The errors of exporting."""

from __future__ import annotations

from edge_tl_runtime.core.errors import EdgeTLError


class ExportError(EdgeTLError):
    """The exported file does not do what the network does; nothing was written."""
