"""A benchmark pack: photos, what the workstation made of them, and pictures made to mislead the model, in one file.

`docs/pack.md` describes the file; `edge-tl pack` writes it. Pixels are stored as PNG at the size the network gets, so that no
decoder or resize of the device comes between.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.bench.pack.archive import Archive
from edge_tl_runtime.core.errors import BadImage, BadModelError, BadPackError
from edge_tl_runtime.core.formats import format_problem, renamed
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.images.decode import Frame, decode_photo
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule

FORMAT: Final = 2
KIND: Final = "edge-tl pack"
FORMATS = (1, 2)
"""Of the list of contents, that this release reads; it writes the last."""
MODEL, SIBLING = "model", "sibling"
"""Roles: the file that was attacked, and one that was made from the same weights."""
_EARLIER_KEYS = {"twin": "fp32_counterpart", "subject": "role"}
_EARLIER_VALUES = {("role", "twin"): SIBLING, ("subject", "twin"): "fp32_counterpart"}
"""Of format 1, to those of format 2."""
ZERO = 128
"""Of a stored difference: a colour value that did not change."""


@dataclass(frozen=True, slots=True)
class PackedPhoto:
    """name: relative to the folder it came from. target: index of its class. pixels, frame: members."""

    name: str
    target: int
    pixels: str
    frame: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What a file said on the workstation. role: MODEL or SIBLING. logits: a member."""

    role: str
    name: str
    sha256: str
    precision: str
    logits: str


@dataclass(frozen=True, slots=True)
class Adversarial:
    """A picture that fooled the file on the workstation. photo: its place; epsilon: the smallest that was tried and fooled."""

    photo: int
    epsilon: float
    picture: str


@dataclass(frozen=True, slots=True)
class StoredAttack:
    """The successes of one attack by one route, each photo's smallest. control: random noise, which is no attack."""

    attack: str
    route: str
    kind: str
    control: bool
    pictures: tuple[Adversarial, ...]


@dataclass(frozen=True)
class Pack:
    """An opened pack; members are read when they are asked for.

    sha256: of the whole. epsilons: ascending, above 0: in /255 for the norm linf, of pixels in 0..1 for l2. workstation: machine,
    and what `edge-tl attack` reports there. corruptions: those that its photos are meant for, "names", "severities", "seed".
    """

    archive: Archive
    labels: tuple[str, ...]
    resize: ResizeRule
    arch: str
    photos: tuple[PackedPhoto, ...]
    expected: tuple[Expected, ...]
    stored: tuple[StoredAttack, ...]
    norm: str
    epsilons: tuple[float, ...]
    corruptions: Mapping[str, Any]
    workstation: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> Pack:
        """Raises BadPackError for what is no pack, is damaged or altered, or of another release."""
        archive = Archive(path)
        document = archive.manifest
        if document.get("kind") != KIND:
            raise BadPackError(f"{path} is no pack of edge-tl")
        if problem := format_problem(document.get("format"), FORMATS, "make the pack again: edge-tl pack MODEL DATA"):
            raise BadPackError(f"{path} {problem}")
        if document["format"] == 1:
            document = renamed(document, _EARLIER_KEYS, _EARLIER_VALUES)
        try:
            pack = _parsed(archive, document)
        except (KeyError, TypeError, ValueError, AttributeError, BadModelError) as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise BadPackError(f"{path}: its list of contents is damaged ({reason}); make it again") from None
        return pack

    @property
    def path(self) -> Path:
        return self.archive.path

    @property
    def sha256(self) -> str:
        return self.archive.sha256

    @property
    def targets(self) -> NDArray[np.int64]:
        return np.array([photo.target for photo in self.photos], np.int64)

    def require_fits(self, spec: ModelSpec) -> None:
        """Raises BadPackError for a model of other classes, or whose pixels are made otherwise."""
        if spec.labels != self.labels:
            raise BadPackError(
                f"{self.path} is for a model of {len(self.labels)} classes ({one_line(self.labels[0], 30)}, ...), and this one "
                f"has {len(spec.labels)} ({one_line(spec.labels[0], 30)}, ...); make a pack of this model"
            )
        if spec.resize != self.resize:
            raise BadPackError(
                f"{self.path} holds photos of {self.resize.width}x{self.resize.height} px as {self.resize.color_order}, cropped "
                f"by another rule than this model's ({spec.resize.width}x{spec.resize.height}); make a pack of this model"
            )

    def expected_of(self, sha256: str) -> Expected | None:
        """What the file of this digest said on the workstation; None for a file that was not there."""
        return next((item for item in self.expected if item.sha256 == sha256), None)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """A photo as the network gets it, uint8 (H, W, 3), in its colour order."""
        return self._picture(self.photos[index].pixels)

    def frame(self, index: int) -> Frame:
        """A photo as a camera gives it, uint8 (H, W, 3), BGR."""
        return self._decoded(self.photos[index].frame)

    def logits(self, expected: Expected) -> NDArray[np.float32]:
        """What a file said of the photos on the workstation, float32 (N, C)."""
        data = self.archive.read(expected.logits)
        try:
            found = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise BadPackError(f"{self.path}: {expected.logits} is damaged ({one_line(error)})") from None
        shape = (len(self.photos), len(self.labels))
        if found.shape != shape or found.dtype != np.float32 or not np.isfinite(found).all():
            raise BadPackError(f"{self.path}: {expected.logits} holds {found.dtype} {found.shape}, not scores {shape}")
        return np.asarray(found, np.float32)

    def adversarial(self, picture: Adversarial) -> NDArray[np.uint8]:
        """An adversarial picture as the network gets it, uint8 (H, W, 3): the photo and the stored difference."""
        # Differences wrap around, as they do where they are made.
        return np.asarray(self.pixels(picture.photo) + self._picture(picture.picture) - np.uint8(ZERO), np.uint8)

    def _picture(self, member: str) -> NDArray[np.uint8]:
        pixels = self._decoded(member)
        if pixels.shape[:2] != (self.resize.height, self.resize.width):
            raise BadPackError(f"{self.path}: {member} has {pixels.shape[1]}x{pixels.shape[0]} px")
        return np.ascontiguousarray(pixels[..., ::-1]) if self.resize.color_order == "RGB" else pixels

    def _decoded(self, member: str) -> Frame:
        try:
            return decode_photo(self.archive.read(member))
        except BadImage as error:
            raise BadPackError(f"{self.path}: {member}: {error}") from None


def _parsed(archive: Archive, document: Mapping[str, Any]) -> Pack:
    labels = tuple(_text(label) for label in document["labels"])
    photos = tuple(
        PackedPhoto(
            _text(item["name"]),
            _place(item["target"], len(labels)),
            _member(archive, item["pixels"], "png"),
            _member(archive, item["frame"], "png"),
        )
        for item in document["photos"]
    )
    expected = tuple(
        Expected(
            role=_text(item["role"]),
            name=_text(item["name"]),
            sha256=_text(item["sha256"]),
            precision=_text(item["precision"]),
            logits=_member(archive, item["logits"], "npy"),
        )
        for item in document["expected"]
    )
    stored = tuple(_stored(archive, item, len(photos)) for item in document["stored"])
    epsilons = tuple(_positive(value) for value in document["epsilons"])
    if not photos or len(labels) < 2 or list(epsilons) != sorted(set(epsilons)):
        raise ValueError(f"{len(photos)} photos of {len(labels)} classes, epsilons {epsilons}")
    return Pack(
        archive,
        labels,
        ResizeRule.from_dict(document["resize"], "resize"),
        _text(document["arch"]),
        photos,
        expected,
        stored,
        _text(document["norm"]),
        epsilons,
        _object(document["corruptions"]),
        _object(document["workstation"]),
    )


def _stored(archive: Archive, item: Mapping[str, Any], photos: int) -> StoredAttack:
    pictures = tuple(
        Adversarial(_place(place, photos), _positive(epsilon), _member(archive, picture, "png"))
        for place, epsilon, picture in item["pictures"]
    )
    if len({picture.photo for picture in pictures}) < len(pictures):
        raise ValueError("an attack has two pictures of a photo")
    return StoredAttack(
        _text(item["attack"]), _text(item["route"]), _text(item["kind"]), _truth(item["control"]), pictures
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{one_line(value, 40)} is no text")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{one_line(value, 40)} is neither true nor false")
    return value


def _place(value: object, count: int) -> int:
    if type(value) is not int or not 0 <= value < count:
        raise ValueError(f"{one_line(value, 40)} is no place among {count}")
    return value


def _positive(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1e6:
        raise ValueError(f"{one_line(value, 40)} is no epsilon")
    return float(value)


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{one_line(value, 40)} is no object")
    return value


def _member(archive: Archive, name: object, ending: str) -> str:
    if not isinstance(name, str) or not name.endswith("." + ending) or name not in archive:
        raise ValueError(f"{one_line(name, 60)} is no member of it")
    return name
