"""What can be asked of `edge-tl tune`, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import option


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Of the measuring."""

    seconds: float = option(45.0, "Seconds to measure, in all.", low=1, high=3600)
