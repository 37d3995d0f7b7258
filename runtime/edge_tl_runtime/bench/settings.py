"""Everything that can be asked of a benchmark on the device, with its default and its help line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import check, option
from edge_tl_runtime.core.text import one_line

QUICK: dict[str, Any] = {
    "seconds": 10.0,
    "calls": 100,
    "severities": "3",
    "queries": 100,
    "photos": 32,
}
"""What `quick` takes in place of a default; what was asked for otherwise stays."""

EPSILONS = (2, 4, 8)
"""Of the Square attack where no pack holds pictures to compare with."""

_UNMEASURED = ("time_limit",)
"""Fields that no finished figure depends on, so that a run may go on with another value."""


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What was asked for; written into the result as it is, `quick` applied."""

    quick: bool = option(
        False, "A first look: 10 s of latency, 32 photos, fewer queries; other options that you give still count."
    )
    seconds: float = option(
        60.0, "Measure latency for at least this many seconds, one photo per call.", low=0.1, high=1e6
    )
    calls: int = option(1024, "Measure latency for at least this many calls.", low=1, high=10**7)
    batches: str = option("1,2,4,8,16", "Batch sizes for the throughput.")
    frame_size: str = option("640x480", "Frame size for the latency of a whole camera frame.")
    sustained: float = option(
        0.0, "Seconds under load, to see whether heat slows the machine; 0: not measured.", low=0, high=1e6
    )
    photos: int = option(100, "Number of labelled photos to evaluate, spread over the classes; 0: all.", low=0)
    corruptions: str = option("camera", "Measure accuracy under these corruptions: camera, imagenet-c, all, or names.")
    severities: str = option("1-5", "Severities of the corruptions: 1-5, or 1,3,5.")
    epsilons: str = option("", "Epsilons of the Square attack, in /255.  [default: those of the pack, or 2,4,8]")
    queries: int = option(300, "Queries of the Square attack per photo and epsilon.", low=1)
    parts: str = option("", "Measure only these parts, with commas: latency,accuracy...  [default: all]")
    time_limit: float = option(0.0, "Stop after this many minutes and write what was measured; 0: no limit.", low=0)
    seed: int = option(0, "Seed of random pixels, corruptions and the Square attack.", low=0)

    def __post_init__(self) -> None:
        """Raises UsageError: what is wrong is known before a minute is spent on measuring."""
        check(self)
        from edge_tl_runtime.robustness.corruptions import named_corruptions, named_severities

        named_corruptions(self.corruptions)
        named_severities(self.severities)
        self.batch_sizes()
        self.radii()
        self.frame_shape()

    def shortened(self) -> BenchSettings:
        """These settings with the values of QUICK in place of defaults, where `quick` is asked for."""
        if not self.quick:
            return self
        defaults = {item.name: item.default for item in fields(self)}
        return replace(self, **{name: v for name, v in QUICK.items() if getattr(self, name) == defaults[name]})

    def comparable(self, stored: Sequence[float]) -> BenchSettings:
        """With epsilons of the Square attack: those asked for, else those of stored pictures in /255, so that both stand side by
        side. `quick` takes the middle one alone."""
        if self.epsilons:
            return self
        whole = [int(value) for value in stored if value == int(value)] or list(EPSILONS)
        chosen = [whole[len(whole) // 2]] if self.quick else whole
        return replace(self, epsilons=",".join(map(str, chosen)))

    def batch_sizes(self) -> tuple[int, ...]:
        """Ascending, each once."""
        return _numbers("batches", self.batches, 1, 1024)

    def radii(self) -> tuple[int, ...]:
        """Epsilons in steps of a pixel value, ascending, each once, 0 left out."""
        asked = self.epsilons or ",".join(map(str, EPSILONS))
        return tuple(value for value in _numbers("epsilons", asked, 0, 255) if value)

    def frame_shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        found = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", self.frame_size)
        if found is None:
            raise UsageError(f"--frame-size {one_line(self.frame_size)!r} is no size; give one such as 640x480")
        return int(found[2]), int(found[1])

    def wanted(self) -> tuple[str, ...]:
        """Names of the parts that were asked for; () for every one."""
        return tuple(part.strip() for part in self.parts.split(",") if part.strip())

    def identity(self) -> dict[str, Any]:
        """What figures depend on: a run is gone on with by the same alone."""
        return {name: value for name, value in asdict(self).items() if name not in _UNMEASURED}


def _numbers(name: str, text: str, low: int, high: int) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,6}", part) and low <= int(part) <= high for part in parts):
        raise UsageError(f"--{name} {one_line(text)!r}: whole numbers from {low} to {high} with commas between")
    return tuple(sorted({int(part) for part in parts}))
