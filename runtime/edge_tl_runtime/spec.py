"""The contract: everything that training, export, attacks and the device must agree on, in one frozen value.

A ``ModelSpec`` is made once, validated when made, and travels inside the ONNX file (`edge_tl_runtime.onnx_file`) and in the
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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.errors import UNPRINTABLE, BadModelError, UnknownSpecVersion, one_line
from edge_tl_runtime.strict_json import strict_json

SPEC_VERSION = 1
MAX_CONTRACT_BYTES = 4 * 2**20
"""Ninety times the 47 KB of 1000 classes. As Python objects the worst document of this size takes 190 MB."""
MAX_LABEL = 1000
"""Characters in a label: four times the longest name that a folder can have."""

PRECISIONS = ("fp32", "fp16", "int8")
COLOR_ORDERS = ("RGB", "BGR")
ACTIVATIONS = ("softmax",)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise BadModelError(f"model contract: {one_line(message)}")


def _whole(*values: object) -> bool:
    return all(type(x) is int for x in values)


def _numbers(values: Iterable[object]) -> bool:
    """Whether all are finite numbers that a float can hold, which not every int is."""
    return all(isinstance(x, (int, float)) and not isinstance(x, bool) and -1e300 <= x <= 1e300 for x in values)


def _text(*values: object) -> bool:
    return all(isinstance(x, str) and not UNPRINTABLE.search(x) for x in values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeRule:
    """How a frame of any size becomes the network's input: centre crop, then resize.

    height, width: pixels of the network's input.
    crop_pct: side of the crop over the side of the largest centred rectangle of the target's aspect ratio, in (0, 1].
    resample: name of a rule in `edge_tl_runtime.preprocess`.
    color_order: channel order the network expects; frames arrive as OpenCV decodes them, BGR.
    """

    height: int
    width: int
    crop_pct: float
    resample: str
    color_order: str = "RGB"

    def __post_init__(self) -> None:
        _require(_whole(self.height, self.width), "input size is not in whole pixels")
        _require(1 <= self.height <= 4096 and 1 <= self.width <= 4096, f"input size {self.width}x{self.height} px")
        _require(
            _numbers([self.crop_pct]) and 0.0 < self.crop_pct <= 1.0, f"crop_pct {self.crop_pct} is outside (0, 1]"
        )
        _require(self.color_order in COLOR_ORDERS, f"colour order {self.color_order!r} is none of {COLOR_ORDERS}")
        _require(_text(self.resample), "the resampling rule is not a name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """(pixel / 255 - mean) / std per channel, in the network's colour order. It is done inside the graph."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        _require(len(self.mean) == 3 and len(self.std) == 3, "mean and std need three numbers each")
        _require(_numbers(self.mean + self.std), "mean and std must be finite")
        _require(all(s > 0 for s in self.std), f"std {self.std} must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How logits become probabilities: softmax(logits / temperature)."""

    activation: str = "softmax"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        _require(self.activation in ACTIVATIONS, f"activation {self.activation!r} is none of {ACTIVATIONS}")
        _require(_numbers([self.temperature]), "temperature is not a number")
        # Within these bounds no logit of float32 overflows.
        _require(1e-6 <= self.temperature <= 1e6, f"temperature {self.temperature}")

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """logits: (..., C). Returns float64 of the same shape, each row summing to 1."""
        scaled = logits.astype(np.float64) / self.temperature
        exponents = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return np.asarray(exponents / exponents.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A validation figure and what it stands on.

    top1: fraction in [0, 1]; ci95: Wilson interval; n: photos judged; data: where they came from, in words.
    """

    top1: float
    ci95: tuple[float, float]
    n: int
    data: str

    def __post_init__(self) -> None:
        _require(
            _numbers([self.top1, *self.ci95]) and len(self.ci95) == 2 and _whole(self.n), "accuracy has no numbers"
        )
        _require(0.0 <= self.top1 <= 1.0 and 0 <= self.n < 2**63, "accuracy is out of bounds")
        _require(_text(self.data), "what accuracy was measured on is not a line of text")


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
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
        _require(_whole(self.side, self.top1) and isinstance(self.thumbnail, str), "the self-test is damaged")
        _require(_numbers([*self.logits, self.tolerance]), "self-test scores and tolerance must be finite numbers")
        _require(1 <= self.side <= 512, f"self-test thumbnail of side {self.side}")
        _require(0 <= self.top1 < len(self.logits), f"self-test label {self.top1} of {len(self.logits)}")
        _require(self.tolerance >= 0, f"self-test tolerance {self.tolerance}")

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
        _require(len(raw) == size, f"the self-test input has {len(raw)} bytes instead of {size}")
        return spread(np.frombuffer(raw, np.uint8).reshape(self.side, self.side, 3), rule)


def spread(thumbnail: NDArray[np.uint8], rule: ResizeRule) -> NDArray[np.uint8]:
    """Enlarge (S, S, 3) to (1, height, width, 3) by nearest index: the same bytes on every machine."""
    side = thumbnail.shape[0]
    rows = np.arange(rule.height) * side // rule.height
    columns = np.arange(rule.width) * side // rule.width
    return np.ascontiguousarray(thumbnail[rows][:, columns])[None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What a model file says of itself. Equality means: interchangeable on the device.

    labels: class names in the order of the logits, any script, unique.
    arch: backbone name; precision: one of PRECISIONS.
    data_fingerprint: SHA-256 over the training photos, or "" when unknown (weights used as published).
    validation: figure of this very file; None when it was never judged.
    training, export: settings, JSON values only.
    parent_sha256: SHA-256 of the file this one was made from (FP32 twin of an INT8 file, weights of an FP32 file), or "".
    self_test: None only before export.
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
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        _require(len(self.labels) >= 2, f"{len(self.labels)} labels; a classifier needs two")
        _require(all(isinstance(x, str) and x.strip() for x in self.labels), "a label is empty")
        for label in self.labels:
            _require(
                len(label) <= MAX_LABEL, f"a label has {len(label)} characters, more than {MAX_LABEL}: {label[:40]}"
            )
            _require(_text(label), f"the label {label!r} has control characters or line breaks; rename the class")
        duplicates = sorted(label for label, count in Counter(self.labels).items() if count > 1)
        _require(not duplicates, f"labels appear twice: {', '.join(duplicates[:5])}")
        _require(_text(self.arch, self.data_fingerprint, self.parent_sha256), "a name has control characters")
        _require(self.precision in PRECISIONS, f"precision {self.precision!r} is none of {PRECISIONS}")
        for name in ("training", "export"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if self.self_test is not None:
            _require(
                len(self.self_test.logits) == len(self.labels),
                f"{len(self.labels)} labels but {len(self.self_test.logits)} self-test scores",
            )

    def to_dict(self) -> dict[str, Any]:
        """The document as JSON values; `from_dict` of it gives an equal spec."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def to_json(self, more: Mapping[str, Any] | None = None) -> str:
        """more: keys of a later release, kept as they came."""
        return json.dumps(
            {**(more or {}), **self.to_dict()},
            ensure_ascii=False,
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        )

    @classmethod
    def from_dict(cls, document: Any) -> ModelSpec:
        """Raises UnknownSpecVersion for a document from another release, BadModelError for a malformed one."""
        _require(isinstance(document, dict), "the document is not a JSON object")
        version = document.get("version")
        if type(version) is not int or version != SPEC_VERSION:
            raise UnknownSpecVersion(
                f"model contract: version {one_line(repr(version), 40)} in the file, this edge-tl reads version {SPEC_VERSION}; "
                "upgrade edge-tl on this machine or export the model again"
            )
        for name, kind in _KINDS.items():
            value = document.get(name)
            _require(isinstance(value, kind), f"{name} is {type(value).__name__}, not {kind.__name__}")
        try:
            accuracy, self_test = document["validation"], document["self_test"]
            return cls(
                labels=tuple(document["labels"]),
                resize=ResizeRule(**document["resize"]),
                normalization=Normalization(
                    mean=tuple(document["normalization"]["mean"]), std=tuple(document["normalization"]["std"])
                ),
                arch=document["arch"],
                scores=Scores(**document["scores"]),
                precision=document["precision"],
                data_fingerprint=document["data_fingerprint"],
                validation=None if accuracy is None else Accuracy(**{**accuracy, "ci95": tuple(accuracy["ci95"])}),
                training=document["training"],
                export=document["export"],
                parent_sha256=document["parent_sha256"],
                self_test=None
                if self_test is None
                else SelfTest(**{**self_test, "logits": _floats(self_test["logits"])}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise BadModelError(f"model contract: the document is damaged ({reason})") from None

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Raises as `from_dict`, and BadModelError for text that is no JSON, is ambiguous or is larger than a contract."""
        _require(len(text) <= MAX_CONTRACT_BYTES, f"larger than {MAX_CONTRACT_BYTES >> 20} MB")
        try:
            document = strict_json(text)
        except ValueError as error:
            raise BadModelError(f"model contract: {error}") from None
        return cls.from_dict(document)


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


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    values = tuple(values)
    _require(_numbers(values), "self-test scores must be finite numbers")
    return tuple(map(float, values))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
