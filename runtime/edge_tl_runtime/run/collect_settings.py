"""What can be asked of `edge-tl collect`, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tl_runtime.core.settings import DURATION, check, option

IMAGE_FORMATS = ("jpg", "png")


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSettings:
    """How many pictures, over which time."""

    seconds: float = option(
        60.0,
        "How long to collect: 60s, 10m, 2h.",
        low=0.1,
        kind=DURATION,
        flags=("--for",),
        name="seconds",
        metavar="S",
    )
    photos: int = option(100, "Take at most this many photos, spread over the time.", low=1, high=100_000)
    image_format: str = option("jpg", "Format of the photos.", *IMAGE_FORMATS, flags=("--format",), name="image_format")

    def __post_init__(self) -> None:
        """Raises UsageError."""
        check(self)

    @property
    def interval(self) -> float:
        """Seconds between two pictures."""
        return self.seconds / self.photos
