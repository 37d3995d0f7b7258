"""The contract: everything that training, export, attacks and the device must agree on, in one frozen value.

A ``ModelSpec`` is made once, validated when made, and travels inside the ONNX file (`edge_tl_runtime.modelfile.onnx`) and in the
header of a run's weights. No stage passes loose tuples of mean and std.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, UnknownSpecVersion
from edge_tl_runtime.core.strict_json import strict_json
from edge_tl_runtime.core.text import one_line, without_invisible
from edge_tl_runtime.modelfile.sections import (
    MAX_HISTORY,
    Background,
    ClassStatistics,
    FeatureOutput,
    Geometry,
    LabelSets,
    OODScore,
    Section,
    Teaching,
    numbers,
    plain,
    require,
    text,
    unknown,
    whole,
)
from edge_tl_runtime.modelfile.training_images import TrainingImages

SPEC_VERSION = 3
VERSIONS = (1, 2, 3)
"""Of the documents that this release reads, without gaps; it writes the last."""
MAX_CONTRACT_BYTES = 4 * 2**20
"""Ninety times the 47 KB of 1000 classes. As Python objects the worst document of this size takes 190 MB."""
MAX_LABEL = 1000
"""Characters in a label: four times the longest name that a folder can have."""

PRECISIONS = ("fp32", "fp16", "int8")
COLOR_ORDERS = ("RGB", "BGR")
ACTIVATIONS = ("softmax",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeRule(Section):
    """How a frame of any size becomes the network's input: centre crop, then resize.

    height, width: pixels of the network's input.
    crop_pct: side of the crop over the side of the largest centred rectangle of the target's aspect ratio, in (0, 1].
    resample: name of a rule in `edge_tl_runtime.images.crop`.
    color_order: channel order the network expects; frames arrive as OpenCV decodes them, BGR.
    geometry: what is done to the frame first; None: nothing. The contract holds it beside `resize`, other documents in it.
    """

    INNER: ClassVar[Mapping[str, type[Section]]] = {"geometry": Geometry}

    height: int
    width: int
    crop_pct: float
    resample: str
    color_order: str = "RGB"
    geometry: Geometry | None = None

    def __post_init__(self) -> None:
        require(whole(self.height, self.width), "input size is not in whole pixels")
        require(1 <= self.height <= 4096 and 1 <= self.width <= 4096, f"input size {self.width}x{self.height} px")
        require(numbers([self.crop_pct]) and 0.0 < self.crop_pct <= 1.0, f"crop_pct {self.crop_pct} is outside (0, 1]")
        require(self.color_order in COLOR_ORDERS, f"colour order {self.color_order!r} is none of {COLOR_ORDERS}")
        require(text(self.resample), "the resampling rule is not a name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization(Section):
    """(pixel / 255 - mean) / std per channel, in the network's colour order. It is done inside the graph."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        require(len(self.mean) == 3 and len(self.std) == 3, "mean and std need three numbers each")
        require(numbers(self.mean + self.std), "mean and std must be finite")
        require(all(s > 0 for s in self.std), f"std {self.std} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores(Section):
    """How logits become probabilities: softmax(logits / temperature)."""

    activation: str = "softmax"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require(self.activation in ACTIVATIONS, f"activation {self.activation!r} is none of {ACTIVATIONS}")
        require(numbers([self.temperature]), "temperature is not a number")
        # Within these bounds no logit of float32 overflows.
        require(1e-6 <= self.temperature <= 1e6, f"temperature {self.temperature}")

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """logits: (..., C). Returns float64 of the same shape, each row summing to 1."""
        scaled = logits.astype(np.float64) / self.temperature
        exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy(Section):
    """A validation figure and what it stands on.

    top1: fraction in [0, 1]; ci95: Wilson interval; n: photos evaluated; data: where they came from, in words.
    """

    top1: float
    ci95: tuple[float, float]
    n: int
    data: str

    def __post_init__(self) -> None:
        require(numbers([self.top1, *self.ci95]) and len(self.ci95) == 2 and whole(self.n), "accuracy has no numbers")
        require(0.0 <= self.top1 <= 1.0 and 0 <= self.n < 2**63, "accuracy is out of bounds")
        require(text(self.data), "what accuracy was measured on is not a line of text")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest(Section):
    """A stored input with the answer the file gave when it was made.

    thumbnail: uint8 (S, S, 3) in the network's colour order, zlib-compressed and base64-coded. It is spread over the input by
        nearest index, so a few kilobytes exercise the whole graph and no image decoder takes part.
    logits: the C expected scores. tolerance: largest allowed absolute difference in any of them.
    """

    thumbnail: str
    side: int
    top1: int
    logits: tuple[float, ...]
    tolerance: float

    def __post_init__(self) -> None:
        require(whole(self.side, self.top1) and isinstance(self.thumbnail, str), "the self-test is damaged")
        require(numbers([*self.logits, self.tolerance]), "self-test scores and tolerance must be finite numbers")
        require(1 <= self.side <= 512, f"self-test thumbnail of side {self.side}")
        require(0 <= self.top1 < len(self.logits), f"self-test label {self.top1} of {len(self.logits)}")
        require(self.tolerance >= 0, f"self-test tolerance {self.tolerance}")

    @staticmethod
    def encode(thumbnail: NDArray[np.uint8]) -> str:
        return base64.b64encode(zlib.compress(np.ascontiguousarray(thumbnail).tobytes(), 9)).decode("ascii")

    def pixels(self, rule: ResizeRule) -> NDArray[np.uint8]:
        """The stored input at the network's size: uint8 (1, height, width, 3)."""
        size = self.side * self.side * 3
        try:
            inflater = zlib.decompressobj()
            raw = inflater.decompress(base64.b64decode(self.thumbnail, validate=True), size + 1)
        except (ValueError, zlib.error) as error:
            raise BadModelError(f"model contract: the self-test input cannot be decoded ({error})") from None
        require(len(raw) == size, f"the self-test input has {len(raw)} bytes instead of {size}")
        return spread(np.frombuffer(raw, np.uint8).reshape(self.side, self.side, 3), rule)


def spread(thumbnail: NDArray[np.uint8], rule: ResizeRule) -> NDArray[np.uint8]:
    """Enlarge (S, S, 3) to (1, height, width, 3) by nearest index: the same bytes on every machine."""
    side = thumbnail.shape[0]
    rows = np.arange(rule.height) * side // rule.height
    columns = np.arange(rule.width) * side // rule.width
    return np.ascontiguousarray(thumbnail[rows][:, columns])[None]


def _require_seen(labels: tuple[str, ...]) -> None:
    """No label without a letter that is seen, no two that are one to whoever reads them: the rule of folders and lists too."""
    seen: dict[str, str] = {}
    for label in labels:
        shown = without_invisible(label)
        require(bool(shown), f"the label {label!a} has no letter that can be seen; rename the class")
        other = seen.setdefault(shown, label)
        require(other == label, f"the labels {other!a} and {label!a} differ only in what is not seen; rename one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a model file says of itself. Equality means: interchangeable on the device.

    labels: class names in the order of the logits, any script, unique.
    arch: backbone name; precision: one of PRECISIONS.
    data_fingerprint: SHA-256 over the training photos, or "" when unknown (weights used as published).
    validation: figure of this very file; None when it was never evaluated.
    training, export: settings, JSON values only.
    parent_sha256: SHA-256 of the file this one was made from (FP32 counterpart of an INT8 file, weights of an FP32 file), or "".
    self_test: None only before export.
    features to label_sets: sections of version 2, None where they are not used; history: how the file was taught, oldest first.
    needs: keys that a reader must obey or refuse the file. extra: keys that this release does not know, JSON values.
    version: of the document that was read; what is written is of SPEC_VERSION (`current`).
    """

    labels: tuple[str, ...]
    resize: ResizeRule
    normalization: Normalization
    arch: str
    scores: Scores = field(default_factory=Scores)
    precision: str = "fp32"
    data_fingerprint: str = ""
    validation: Accuracy | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    parent_sha256: str = ""
    self_test: SelfTest | None = None
    features: FeatureOutput | None = None
    ood_score: OODScore | None = None
    class_statistics: ClassStatistics | None = None
    training_images: TrainingImages | None = None
    background: Background | None = None
    label_sets: LabelSets | None = None
    history: tuple[Teaching, ...] = ()
    needs: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        require(len(self.labels) >= 2, f"{len(self.labels)} labels; a classifier needs two")
        require(all(isinstance(x, str) and x.strip() for x in self.labels), "a label is empty")
        duplicates = sorted(label for label, count in Counter(self.labels).items() if count > 1)
        require(not duplicates, f"labels appear twice: {', '.join(label[:40] for label in duplicates[:5])}")
        _require_seen(self.labels)
        for label in self.labels:
            require(
                len(label) <= MAX_LABEL, f"a label has {len(label)} characters, more than {MAX_LABEL}: {label[:40]}"
            )
            require(text(label), f"the label {label!r} has control characters or line breaks; rename the class")
        require(text(self.arch, self.data_fingerprint, self.parent_sha256), "a name has control characters")
        require(self.precision in PRECISIONS, f"precision {self.precision!r} is none of {PRECISIONS}")
        for name in ("training", "export", "extra"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        require(len(self.history) <= MAX_HISTORY, f"a history of {len(self.history)} steps")
        if self.self_test is not None:
            require(
                len(self.self_test.logits) == len(self.labels),
                f"{len(self.labels)} labels but {len(self.self_test.logits)} self-test scores",
            )
        for name, changes in (
            ("geometry", self.geometry is not None and not self.geometry.changes_nothing),
            ("background", self.background is not None),
        ):
            # Another release would crop otherwise, or take the background for a label, and no one would see it.
            require(not changes or name in self.needs, f"{name} changes every answer and is not named in needs")

    @property
    def geometry(self) -> Geometry | None:
        """What is done to a frame before the crop of `resize`, of which it is a part; None: nothing."""
        return self.resize.geometry

    def current(self) -> ModelSpec:
        """The same as a document of this release's version."""
        return dataclasses.replace(self, version=SPEC_VERSION)

    def unused(self) -> list[str]:
        """Keys of the document that this release keeps and does not act upon."""
        present = [
            name for name in (*_OPTIONAL, "history") if getattr(self, name) and name not in {*_OBEYED, *_ON_REQUEST}
        ]
        return sorted([*present, *self.extra])

    def to_dict(self) -> dict[str, Any]:
        """The document as JSON values; `from_dict` of it gives an equal spec. Sections that are not used are left out."""
        names = [item.name for item in dataclasses.fields(self) if item.name != "extra"]
        absent = {name for name in (*_OPTIONAL, "history", "needs") if not getattr(self, name)}
        document = {**plain(self.extra), **{name: plain(getattr(self, name)) for name in names if name not in absent}}
        geometry = document["resize"].pop("geometry", None)
        return document if geometry is None else {**document, "geometry": geometry}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_dict(cls, document: Any) -> ModelSpec:
        """Raises UnknownSpecVersion for a document from another release, BadModelError for a malformed one."""
        require(isinstance(document, dict), "the document is not a JSON object")
        _require_version(document.get("version"))
        for name, kind in _KINDS.items():
            value = document.get(name)
            require(isinstance(value, kind), f"{name} is {type(value).__name__}, not {kind.__name__}")
        for name in ("validation", "self_test"):
            require(name in document, f"{name} is missing")
        try:
            sections = {
                name: kind.from_dict(document[name], name)
                for name, kind in {**_CORE, **_OPTIONAL}.items()
                if document.get(name) is not None
            }
            history, needs = (tuple(_list(document, name)) for name in ("history", "needs"))
            require(text(*needs), "needs is not a list of names")
            _require_understood(needs)
            names = {item.name for item in dataclasses.fields(cls)} - {"extra"} | {"geometry"}
            require("geometry" not in document["resize"], "geometry stands beside resize, not in it")
            sections["resize"] = dataclasses.replace(sections["resize"], geometry=sections.pop("geometry", None))  # type: ignore[call-arg]
            return cls(
                **{name: document[name] for name in (*_PLAIN, "version")},
                **sections,  # type: ignore[arg-type]
                labels=tuple(document["labels"]),
                history=tuple(Teaching.from_dict(step, "history") for step in history),
                needs=needs,
                extra=unknown(document, names),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise BadModelError(f"model contract: the document is damaged ({reason})") from None

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Raises as `from_dict`, and BadModelError for text that is no JSON, is ambiguous or is larger than a contract."""
        require(len(text) <= MAX_CONTRACT_BYTES, f"larger than {MAX_CONTRACT_BYTES >> 20} MB")
        try:
            document = strict_json(text)
        except ValueError as error:
            raise BadModelError(f"model contract: {error}") from None
        return cls.from_dict(document)


def _require_version(version: object) -> None:
    """Raises UnknownSpecVersion that says which side is older, BadModelError for what is no version."""
    shown = one_line(repr(version), 40)
    known = f"this edge-tl reads versions {VERSIONS[0]} to {VERSIONS[-1]}"
    require(type(version) is int, f"version {shown} in the file is no number; {known}; export the model again")
    assert isinstance(version, int)
    if version > VERSIONS[-1]:
        raise UnknownSpecVersion(
            f"model contract: the file is newer than this edge-tl: version {shown} in the file, {known}; "
            "upgrade edge-tl on this machine, or export the model again with the release that is installed here"
        )
    if version < VERSIONS[0]:
        raise UnknownSpecVersion(
            f"model contract: the file is older than any that this edge-tl can read: version {shown} in the file, {known}; "
            "export the model again; upgrading edge-tl on this machine does not help"
        )


def _require_understood(needs: Iterable[str]) -> None:
    foreign = sorted(set(needs) - _OBEYED)
    if foreign:
        raise UnknownSpecVersion(
            f"model contract: the file needs {', '.join(map(one_line, foreign[:5]))}, which this edge-tl cannot apply, "
            "and its answers would be wrong without; the file is newer: upgrade edge-tl on this machine"
        )


def _list(document: Mapping[str, Any], name: str) -> list[Any]:
    values = document.get(name, [])
    require(isinstance(values, list), f"{name} is {type(values).__name__}, not a list")
    assert isinstance(values, list)
    return values


_KINDS: dict[str, type] = {
    "labels": list,
    "resize": dict,
    "normalization": dict,
    "scores": dict,
    "training": dict,
    "export": dict,
    "arch": str,
    "precision": str,
    "data_fingerprint": str,
    "parent_sha256": str,
}
_PLAIN = ("training", "export", "arch", "precision", "data_fingerprint", "parent_sha256")
_CORE: dict[str, type[Section]] = {
    "resize": ResizeRule,
    "normalization": Normalization,
    "scores": Scores,
    "validation": Accuracy,
    "self_test": SelfTest,
}
_OPTIONAL: dict[str, type[Section]] = {
    "geometry": Geometry,
    "features": FeatureOutput,
    "ood_score": OODScore,
    "class_statistics": ClassStatistics,
    "training_images": TrainingImages,
    "background": Background,
    "label_sets": LabelSets,
}
"""Sections that a document of version 2 may have."""
_OBEYED = frozenset({*_KINDS, *_CORE, "version", "training_images", "geometry"})
"""What `needs` may name for this release to go on."""
_ON_REQUEST = ("features", "ood_score", "label_sets")
"""Sections that are acted upon where a person asks for it; the rest is kept and not acted upon."""
