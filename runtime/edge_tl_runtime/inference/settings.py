"""What can be asked where a model file is opened and where photos are classified, with defaults and help lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_tl_runtime.core.settings import FLAG, option
from edge_tl_runtime.images.settings import crop_option, fit_option, flip_option, rotate_option


def unknown_option(what: str) -> Any:
    """The field for the fraction of known photos that keep their label. what: is classified, in words."""
    return option(
        None,
        f"Show `unknown` for {what} unlike the training photos. KEEP is the fraction of similar photos that keep their label: "
        "0.95 or 0.99; 0 turns it off.  [default: 0.99 if the file compares features]",
        kind=float,
        low=0,
        high=0.999,
        metavar="KEEP",
    )


def coverage_option() -> Any:
    """The field for how often a set of labels holds the right one."""
    return option(
        None,
        "Also give the set of labels that holds the right one with this probability, such as 0.95: `cat or dog` where the model "
        "cannot decide. A frame that is `unknown` has no set.",
        kind=float,
        low=0.01,
        high=0.9999,
        metavar="P",
    )


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Of an answer."""

    top_k: int = option(5, "Number of classes in each answer.", low=1)
    unknown: float | None = unknown_option("photos")
    coverage: float | None = coverage_option()
    crop: str = crop_option()
    rotate: int | None = rotate_option()
    flip: str | None = flip_option()
    fit: str | None = fit_option()


@dataclass(frozen=True, kw_only=True)
class OpenSettings:
    """Of a session; None: the profile's, or what suits the machine."""

    threads: int | None = option(None, "Threads of the model.  [default: the profile's, or all cores]", kind=int, low=1)
    provider: str | None = option(
        None, "Execution provider: cpu, openvino, cuda...  [default: the profile's, or cpu]", kind=str
    )
    profile: bool = option(True, "Ignore the profile that `edge-tl tune` wrote.", kind=FLAG, flags=("--no-profile",))
