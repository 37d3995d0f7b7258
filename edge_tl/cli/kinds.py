"""Values that people write in a form of their own: sizes, times, megabytes."""

from __future__ import annotations

import re
from typing import Any

import click

from edge_tl_runtime.core.settings import DURATION, MEGABYTES, SIZE


class Size(click.ParamType[tuple[int, int]]):
    """1280x720."""

    name = "WIDTHxHEIGHT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", str(value))
        if found is None:
            self.fail(f"{value!r} is no size; give one such as 1280x720", param, ctx)
        return int(found[1]), int(found[2])


class Seconds(click.ParamType[float]):
    """2, 2s, 500ms or 1m, as seconds."""

    name = "SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h)?\s*", str(value))
        seconds = (
            float(found[1]) * {"ms": 1e-3, "m": 60, "min": 60, "h": 3600}.get(found[2] or "s", 1) if found else 0.0
        )
        if not 0.01 <= seconds <= 86400:
            self.fail(f"{value!r} is no time of 10 ms to a day; give one such as 2s, 500ms or 1m", param, ctx)
        return seconds


class Megabytes(click.ParamType[int]):
    """A number of megabytes, as bytes."""

    name = "MB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(float(value) * 2**20)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no number of megabytes", param, ctx)


KINDS: dict[str, click.ParamType[Any]] = {SIZE: Size(), DURATION: Seconds(), MEGABYTES: Megabytes()}
"""By the name that a field gives its kind."""
