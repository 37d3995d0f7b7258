"""The parts of a model's contract that version 2 added: typed, checked when they are there, absent until they are used.

Every object of the contract is a `Section`: what it knows is a field, what it does not know is kept in `extra` and written again,
so a file that passes through an older release loses nothing. What a reader may not ignore is named in the contract's `needs`.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.text import UNPRINTABLE, one_line

_Section = TypeVar("_Section", bound="Section")

FITS = ("crop", "letterbox", "stretch")
FLIPS = ("none", "horizontal", "vertical", "both")
ARRAY_TYPES = ("float16", "float32", "int8", "uint8", "uint32")
TURNS = (0, 90, 180, 270)
FILL = 114
"""Grey level of a letterbox's edges: the mean of ImageNet's photos."""
MAX_HISTORY = 1000
MAX_KEY = 200


def require(condition: bool, message: str) -> None:
    """Raises BadModelError unless the condition holds."""
    if not condition:
        raise BadModelError(f"model contract: {one_line(message)}")


def whole(*values: object) -> bool:
    """Whether all are integers; true and false are none."""
    return all(type(x) is int for x in values)


def numbers(values: Iterable[object]) -> bool:
    """Whether all are finite numbers that a float can hold, which not every int is."""
    return all(isinstance(x, (int, float)) and not isinstance(x, bool) and -1e300 <= x <= 1e300 for x in values)


def text(*values: object) -> bool:
    """Whether all are lines of text that can be printed."""
    return all(isinstance(x, str) and not UNPRINTABLE.search(x) for x in values)


def unknown(document: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The rest of an object. Raises BadModelError for a key that is no short line of text: it could not be shown."""
    rest = {key: value for key, value in document.items() if key not in set(known)}
    for key in rest:
        require(text(key) and len(key) <= MAX_KEY, f"a key of {len(key)} characters: {key[:40]!r}")
    return rest


def plain(value: Any) -> Any:
    """As JSON values: sections and mappings become dicts, tuples become lists."""
    if isinstance(value, Section):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """An object of the contract. What was read is written again as it was; a section of version 2 fills in nothing.

    extra: keys that this release does not know, JSON values; two sections that differ in them alone are equal.
    """

    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    INNER: ClassVar[Mapping[str, type[Section]]] = {}
    """Fields that are sections themselves."""

    @classmethod
    def from_dict(cls: type[_Section], document: Any, name: str) -> _Section:
        """name: of the key, for messages. Raises BadModelError, and TypeError or ValueError for values of the wrong type."""
        require(isinstance(document, dict), f"{name} is {type(document).__name__}, not an object")
        known = {item.name for item in dataclasses.fields(cls)} - {"extra"}
        values = {
            key: cls.INNER[key].from_dict(value, f"{name}.{key}") if key in cls.INNER else _frozen(value)
            for key, value in document.items()
            if key in known
        }
        return cls(**values, extra=unknown(document, known))

    def known(self) -> dict[str, Any]:
        """What this release understands, as JSON values; fields without a value are left out."""
        names = [item.name for item in dataclasses.fields(self) if item.name != "extra"]
        return {name: plain(value) for name in names if (value := getattr(self, name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """The object as it is written; `from_dict` of it gives an equal section with the same `extra`."""
        return {**plain(self.extra), **self.known()}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry(Section):
    """Which part of a frame is looked at, and how: applied in this order before the crop and resize of `resize`.

    rotate: degrees clockwise, 0, 90, 180 or 270. flip: one of FLIPS. crop: x, y, width, height as fractions of the turned frame.
    fit: one of FITS; "crop" takes the centre crop of `resize`, "letterbox" and "stretch" all there is. fill: grey level of a
    letterbox's edges, FILL where it is None.
    """

    rotate: int
    flip: str
    crop: tuple[float, float, float, float]
    fit: str
    fill: int | None = None

    def __post_init__(self) -> None:
        require(whole(self.rotate) and self.rotate in TURNS, f"geometry turns by {self.rotate!r} degrees")
        require(self.flip in FLIPS, f"geometry flips {self.flip!r}, which is none of {FLIPS}")
        require(self.fit in FITS, f"geometry fits by {self.fit!r}, which is none of {FITS}")
        require(len(self.crop) == 4 and numbers(self.crop), "the crop of geometry is not four numbers")
        x, y, width, height = self.crop
        inside = 0 <= x < 1 and 0 <= y < 1 and 0 < width <= 1 and 0 < height <= 1
        require(inside and x + width <= 1 + 1e-9 and y + height <= 1 + 1e-9, f"the crop {self.crop} leaves the frame")
        require(self.fill is None or (whole(self.fill) and 0 <= self.fill <= 255), f"geometry fills with {self.fill!r}")

    @property
    def changes_nothing(self) -> bool:
        return (self.rotate, self.flip, tuple(self.crop), self.fit) == (0, "none", (0, 0, 1, 1), "crop")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOutput(Section):
    """A second output of the graph, float32 (N, size): what the head sees. output: its name."""

    output: str
    size: int

    def __post_init__(self) -> None:
        require(text(self.output) and bool(self.output), "the output of features has no name")
        require(whole(self.size) and 1 <= self.size <= 1 << 20, f"features of size {self.size!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Array(Section):
    """Numbers in few bytes. dtype: one of ARRAY_TYPES, little endian; data: base64 of them, row by row."""

    dtype: str
    shape: tuple[int, ...]
    data: str

    def __post_init__(self) -> None:
        require(self.dtype in ARRAY_TYPES, f"an array of {self.dtype!r}, which is none of {ARRAY_TYPES}")
        require(len(self.shape) <= 4 and whole(*self.shape), "the shape of an array is not a few whole numbers")
        require(all(0 <= side <= 1 << 24 for side in self.shape), f"an array of shape {self.shape}")
        size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        require(len(decoded(self.data, "an array")) == size, f"an array of shape {self.shape} has other bytes")

    @classmethod
    def of(cls, values: NDArray[Any], dtype: str) -> Array:
        """The numbers as `dtype`, one of ARRAY_TYPES."""
        little = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
        return cls(dtype=dtype, shape=values.shape, data=base64.b64encode(little.tobytes()).decode("ascii"))

    def array(self) -> NDArray[Any]:
        little = np.dtype(self.dtype).newbyteorder("<")
        return np.frombuffer(base64.b64decode(self.data), little).reshape(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Thresholds(Section):
    """thresholds: fractions of photos, as text, to the value that keeps so many. n, data: photos they come from, in words."""

    thresholds: Mapping[str, float]
    n: int
    data: str

    def __post_init__(self) -> None:
        require(isinstance(self.thresholds, Mapping), "thresholds are not an object")
        require(all(map(_fraction, self.thresholds)), "a threshold is not for a fraction between 0 and 1")
        require(numbers(self.thresholds.values()), "a threshold is not a number")
        require(whole(self.n) and 0 <= self.n < 2**63 and text(self.data), "what thresholds come from is not said")


@dataclass(frozen=True, slots=True, kw_only=True)
class OODScore(_Thresholds):
    """How unlike the training photos a frame is. score: name of the rule; parameters: what it needs, numbers, text or arrays."""

    score: str
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        _Thresholds.__post_init__(self)
        require(text(self.score) and bool(self.score), "the out-of-distribution score has no name")
        require(isinstance(self.parameters, Mapping), "parameters of the out-of-distribution score are not an object")
        for name, value in self.parameters.items():
            if isinstance(value, Mapping):
                Array.from_dict(value, f"ood_score.parameters.{name}")
            else:
                require(numbers([value]) or text(value), f"the parameter {name} is no number, text or array")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSets(_Thresholds):
    """Sets of labels that hold the right one with a stated probability (conformal prediction). method: name of the rule."""

    method: str

    def __post_init__(self) -> None:
        _Thresholds.__post_init__(self)
        require(text(self.method) and bool(self.method), "the method of label sets has no name")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassStatistics(Section):
    """What a head can be fitted again from without the old photos. counts: photos per class; means: (C, D); covariance: (D, D),
    or a factor (K, D) of it."""

    INNER: ClassVar[Mapping[str, type[Section]]] = {"means": Array, "covariance": Array}

    counts: tuple[int, ...]
    means: Array
    covariance: Array

    def __post_init__(self) -> None:
        require(whole(*self.counts) and all(0 <= n < 2**63 for n in self.counts), "photos per class are not counts")
        shapes = self.means.shape, self.covariance.shape
        fits = [len(shape) for shape in shapes] == [2, 2] and shapes[0][0] == len(self.counts)
        require(fits and shapes[0][1] == shapes[1][1], f"class statistics of shapes {shapes} do not fit each other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Background(Section):
    """A class of nothing, which is no label. index: its place among the logits, one more than there are labels."""

    index: int

    def __post_init__(self) -> None:
        require(whole(self.index) and 0 <= self.index < 1 << 24, f"the background is at place {self.index!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching(Section):
    """One step in the history of a file. what: in words; parent_sha256: the file before it; photos: how many taught."""

    what: str
    parent_sha256: str
    photos: int

    def __post_init__(self) -> None:
        require(text(self.what, self.parent_sha256), "a step of the history is not a line of text")
        require(whole(self.photos) and 0 <= self.photos < 2**63, "a step of the history has no count of photos")


def decoded(data: object, what: str) -> bytes:
    """Bytes of base64. Raises BadModelError."""
    require(isinstance(data, str), f"{what} is not text")
    assert isinstance(data, str)
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise BadModelError(f"model contract: {what} cannot be decoded ({one_line(error)})") from None


def _fraction(key: object) -> bool:
    try:
        return isinstance(key, str) and text(key) and 0 < float(key) < 1
    except ValueError:
        return False
