"""What a person asks to be looked at, checked before time is spent, and what it means for a frame of a given size."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.geometry import region_box, seen_box, turned_size
from edge_tl_runtime.images.sizes import common_size
from edge_tl_runtime.modelfile.sections import FITS, FLIPS, TURNS, Geometry, numbers
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule

LEAST_SIDE = 16
"""Pixels of a crop: with fewer there is nothing left to recognise, and it is rather a slip of the pen."""
LEAST_FRACTION = 0.01
MAX_REGIONS = 16
WHOLE = (0.0, 0.0, 1.0, 1.0)
_FLIPPED = {"horizontal": "horizontally", "vertical": "vertically", "both": "both ways"}
_NAME = re.compile(r"[\w-]{1,40}")
_FORMS = "give x,y,w,h: pixels such as 200,0,720,720, or fractions such as 0,0,0.5,1"


@dataclass(frozen=True, slots=True)
class Region:
    """One part of the frame and the rule that makes the network's input of it. name: "" where there is one."""

    name: str
    rule: ResizeRule


@dataclass(frozen=True, slots=True)
class AskedCrop:
    """x, y, width, height as they were written. pixels: whether they count pixels; else they are fractions of the frame.

    Four numbers of at most 1 are fractions: as pixels they would be a crop of one pixel, which is refused.
    """

    name: str
    values: tuple[float, float, float, float]
    pixels: bool

    @classmethod
    def parse(cls, value: Any, name: str = "") -> AskedCrop:
        """value: `[NAME=]x,y,w,h` or four numbers. Raises UsageError."""
        if isinstance(value, str):
            before, mark, after = value.rpartition("=")
            if mark:
                name, value = _named(before.strip()), after
        given: Any = value
        try:
            given = [float(part) for part in value.split(",")] if isinstance(value, str) else list(value)
            x, y, width, height = map(float, given)
        except (TypeError, ValueError):
            given = [math.nan]
        if not numbers(given):
            raise UsageError(f"--crop {one_line(str(value))}: {_FORMS}")
        made = cls(name, (x, y, width, height), max(x, y, width, height) > 1)
        made._check()
        return made

    def _check(self) -> None:
        x, y, width, height = self.values
        if min(x, y) < 0 or min(width, height) <= 0:
            raise UsageError(f"--crop {self}: x and y are at least 0, width and height above 0; {_FORMS}")
        if not self.pixels:
            if x + width > 1 + 1e-9 or y + height > 1 + 1e-9:
                raise UsageError(
                    f"--crop {self} are fractions that leave the frame: x + w and y + h are at most 1; "
                    "pixels are whole numbers above 1"
                )
            if min(width, height) < LEAST_FRACTION:
                raise UsageError(f"--crop {self} is less than {100 * LEAST_FRACTION:g} % of a side; give a larger part")
        elif any(value != int(value) for value in self.values):
            raise UsageError(f"--crop {self} mixes pixels and fractions: {_FORMS}")
        elif min(width, height) < LEAST_SIDE:
            raise UsageError(f"--crop {self} is {width:g}x{height:g} px; give at least {LEAST_SIDE}x{LEAST_SIDE}")

    def fractions(self, columns: int, rows: int) -> tuple[float, float, float, float]:
        """Of a turned frame of that size. Raises UsageError for a crop that leaves it or is a few pixels of it."""
        x, y, width, height = self.values
        if self.pixels:
            if x + width > columns or y + height > rows:
                raise UsageError(
                    f"--crop {self} leaves the frame, which is {columns}x{rows} px; give one inside it, "
                    "or fractions such as 0,0,0.5,1"
                )
            return x / columns, y / rows, width / columns, height / rows
        box = region_box(rows, columns, _geometry(crop=self.values))
        if min(box.width, box.height) < min(LEAST_SIDE, columns, rows):
            raise UsageError(
                f"--crop {self} is {box.width}x{box.height} px of a frame of {columns}x{rows}; "
                f"give at least {LEAST_SIDE}x{LEAST_SIDE}"
            )
        return x, y, width, height

    def __str__(self) -> str:
        return ",".join(f"{value:.9g}" for value in self.values)


def _geometry(**changes: Any) -> Geometry:
    return replace(Geometry(rotate=0, flip="none", crop=WHOLE, fit="crop"), **changes)


@dataclass(frozen=True, slots=True)
class AskedGeometry:
    """Crops, rotation, flip and fit as asked for; None or empty: as the model file says. False where nothing is asked."""

    crops: tuple[AskedCrop, ...] = ()
    rotate: int | None = None
    flip: str | None = None
    fit: str | None = None

    @classmethod
    def parse(cls, crop: Any = (), rotate: Any = None, flip: Any = None, fit: Any = None) -> AskedGeometry:
        """crop: `x,y,w,h`, four numbers, several of them each with its `NAME=` before it, or a mapping of names to either.

        Raises UsageError for what makes no sense, whatever the frames will be.
        """
        for name, value, choices in (("rotate", rotate, TURNS), ("flip", flip, FLIPS), ("fit", fit, FITS)):
            if value is not None and (isinstance(value, bool) or value not in choices):
                raise UsageError(f"{name} is {one_line(repr(value))}; there are {', '.join(map(str, choices))}")
        return cls(_crops(crop), rotate, flip, fit)

    def __bool__(self) -> bool:
        return self != AskedGeometry()

    @property
    def pixels(self) -> bool:
        """Whether it depends on the size of the frame."""
        return any(crop.pixels for crop in self.crops)

    def single(self, what: str) -> AskedGeometry:
        """Itself. Raises UsageError where several regions, or one with a name, are asked for."""
        if any(crop.name for crop in self.crops):
            raise UsageError(
                f"--crop {self.crops[0].name}=...: {what} takes one crop without a name; run takes several"
            )
        return self

    def geometry(self, base: Geometry | None) -> Geometry:
        """What holds for every region: what was asked for in place of what the file says."""
        asked = {name: value for name in ("rotate", "flip", "fit") if (value := getattr(self, name)) is not None}
        return replace(base or _geometry(), **asked)

    def regions(self, base: ResizeRule, rows: int, columns: int) -> tuple[Region, ...]:
        """One for each crop, for frames of that size before any rotation. Raises UsageError.

        A crop that a person gives is looked at as a whole: the central part that `base` may take of a picture does not apply.
        """
        if not self:
            return (Region("", base),)
        common = self.geometry(base.geometry)
        turned_rows, turned_columns = turned_size(rows, columns, common)
        found = [
            Region(crop.name, ruled(base, replace(common, crop=crop.fractions(turned_columns, turned_rows)), True))
            for crop in self.crops
        ]
        return tuple(found) or (Region("", ruled(base, common, False)),)

    def in_fractions(self, base: ResizeRule, rows: int, columns: int) -> AskedGeometry:
        """The same for frames of that size, with crops that no longer depend on it. Raises UsageError."""
        turned_rows, turned_columns = turned_size(rows, columns, self.geometry(base.geometry))
        crops = (AskedCrop(crop.name, crop.fractions(turned_columns, turned_rows), False) for crop in self.crops)
        return replace(self, crops=tuple(crops))

    def for_photos(self, base: ResizeRule, paths: Sequence[Path]) -> AskedGeometry:
        """The same without pixels, for photos that share a size. Raises UsageError where they differ in it."""
        if not self.pixels:
            return self
        size = common_size(paths, str(next(crop for crop in self.crops if crop.pixels)))
        return self if size is None else self.in_fractions(base, *size)

    def rule(self, base: ResizeRule) -> ResizeRule:
        """That of the only crop, which is in fractions."""
        common = self.geometry(base.geometry)
        if not self.crops:
            return ruled(base, common, False) if self else base
        return ruled(base, replace(common, crop=self.crops[0].values), True)

    def describe(self, base: ResizeRule) -> str:
        """What was understood, and what the file was made with, in one line."""
        parts = [
            f"--crop {f'{crop.name}=' if crop.name else ''}{crop} ({'pixels' if crop.pixels else 'fractions of the frame'})"
            for crop in self.crops
        ]
        parts += [
            f"--{name} {value}" for name in ("rotate", "flip", "fit") if (value := getattr(self, name)) is not None
        ]
        own = base.geometry
        return f"{', '.join(parts)}; the file was trained " + (
            "without a crop" if own is None or own.changes_nothing else f"with {described(own)}"
        )


def _crops(value: Any) -> tuple[AskedCrop, ...]:
    if isinstance(value, Mapping):
        found = [AskedCrop.parse(crop, _named(name)) for name, crop in value.items()]
    elif isinstance(value, str):
        found = [AskedCrop.parse(value)] if value else []
    elif isinstance(value, Sequence) and all(isinstance(item, str) for item in value):
        found = [AskedCrop.parse(text) for text in value]
    else:
        found = [AskedCrop.parse(value)] if value is not None else []
    names = [crop.name for crop in found]
    if len(found) > 1 and "" in names:
        raise UsageError("--crop is given twice: name each region, --crop door=... --crop gate=...")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--crop: two regions are called {twice[0]!r}; give each its own name")
    if len(found) > MAX_REGIONS:
        raise UsageError(f"{len(found)} regions; there can be {MAX_REGIONS}")
    return tuple(found)


def _named(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"--crop: {one_line(repr(name))} is no name of a region; take letters, digits, - and _, 40 at most"
        )
    return name


def ruled(base: ResizeRule, geometry: Geometry, cropped: bool) -> ResizeRule:
    """The rule with that geometry. cropped: whether a person gave its crop, which is then looked at as a whole."""
    whole = cropped or geometry.fit != "crop"
    return replace(
        base,
        crop_pct=1.0 if whole else base.crop_pct,
        geometry=None if geometry.changes_nothing else geometry,
    )


def seeing(spec: ModelSpec, rule: ResizeRule) -> ModelSpec:
    """The contract of a model that looks by that rule, which a reader must obey where it turns or crops."""
    needs = [name for name in spec.needs if name != "geometry"]
    if rule.geometry is not None and not rule.geometry.changes_nothing:
        needs.append("geometry")
    return replace(spec, resize=rule, needs=tuple(needs))


def described(geometry: Geometry) -> str:
    """crop 0,0,0.5,1, rotated by 90 degrees, flipped horizontally, letterbox."""
    parts = []
    if tuple(geometry.crop) != WHOLE:
        parts.append(f"crop {','.join(f'{value:.6g}' for value in geometry.crop)}")
    if geometry.rotate:
        parts.append(f"rotated by {geometry.rotate} degrees")
    if geometry.flip != "none":
        parts.append(f"flipped {_FLIPPED[geometry.flip]}")
    if geometry.fit != "crop":
        parts.append(geometry.fit)
    return ", ".join(parts) or "the whole picture"


def seen_in_words(rule: ResizeRule, rows: int, columns: int) -> str:
    """`640x640 px from x 80, y 0 of 1280x720`."""
    height, width = turned_size(rows, columns, rule.geometry)
    box = seen_box(height, width, rule)
    return f"{box.width}x{box.height} px from x {box.x}, y {box.y} of {width}x{height}"
