"""What can be asked where a model file is opened and where photos are classified, with defaults and help lines."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import FLAG, option


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Of an answer."""

    top_k: int = option(5, "Classes in each answer.", low=1)
    unknown: float | None = option(
        None,
        "Call unknown what is unlike the training photos. KEEP: fraction of photos like those that stays known, 0.95 or 0.99; "
        "0: all.  [default: 0.99 where the file tells by its features]",
        kind=float,
        low=0,
        high=0.999,
        metavar="KEEP",
    )


@dataclass(frozen=True, kw_only=True)
class OpenSettings:
    """Of a session; None: the profile's, or what suits the machine."""

    threads: int | None = option(None, "Threads of the model; the profile's or all cores.", kind=int, low=1)
    provider: str | None = option(None, "Execution provider: cpu, openvino, cuda...; the profile's or cpu.", kind=str)
    profile: bool = option(True, "Ignore what edge-tl tune found.", kind=FLAG, flags=("--no-profile",))
