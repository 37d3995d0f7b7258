"""The live page: picture, label and health of a run for a browser, on a device that has no screen."""

from __future__ import annotations

from edge_tl_runtime.sinks.web.sink import WebPage

__all__ = ["WebPage"]
