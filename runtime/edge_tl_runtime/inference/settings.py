"""What can be asked where a model file is opened and where photos are classified, with defaults and help lines."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import FLAG, option


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Of an answer."""

    top_k: int = option(5, "Number of classes in each answer.", low=1)


@dataclass(frozen=True, kw_only=True)
class OpenSettings:
    """Of a session; None: the profile's, or what suits the machine."""

    threads: int | None = option(None, "Threads of the model.  [default: the profile's, or all cores]", kind=int, low=1)
    provider: str | None = option(
        None, "Execution provider: cpu, openvino, cuda...  [default: the profile's, or cpu]", kind=str
    )
    profile: bool = option(True, "Ignore the profile that `edge-tl tune` wrote.", kind=FLAG, flags=("--no-profile",))
