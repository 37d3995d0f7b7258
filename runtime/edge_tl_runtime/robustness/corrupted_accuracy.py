"""Accuracy of a classifier under corruptions, on the same photos as its clean accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError
from edge_tl_runtime.core.progress import Progress, silent
from edge_tl_runtime.core.statistics import discordant, paired_interval, wilson
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.modelfile.spec import ResizeRule
from edge_tl_runtime.robustness.corruptions import CAMERA, IMAGENET_C, MIN_SIDE, corrupt, find_corruption

if TYPE_CHECKING:
    from edge_tl_runtime.core.documents import HitsDocument
    from edge_tl_runtime.robustness.documents import (
        CorruptedHitsDocument,
        CorruptionDocument,
        CorruptionsDocument,
        MeansDocument,
    )

CAMERA_SIDE = 480
"""Lines of the frame that camera corruptions are applied to; a larger photo is shrunk to it first."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Hits:
    """`count` of `n` photos classified right."""

    count: int
    n: int

    @property
    def rate(self) -> float:
        return self.count / self.n

    @property
    def ci95(self) -> tuple[float, float]:
        return wilson(self.count, self.n)

    def to_dict(self) -> HitsDocument:
        return {"rate": self.rate, "count": self.count, "n": self.n, "ci95": list(self.ci95)}


@dataclass(frozen=True, slots=True, eq=False)
class CorruptedAccuracy:
    """Which of n photos were classified right, clean and under each of K corruptions at S severities.

    clean_right: bool (n,). right: bool (n, K, S). complete: False when `stop` came before every photo was evaluated. Errors are
    fractions of photos, 1 - accuracy.

    There is no "mCE": it is defined on the files of ImageNet-C, by the errors of AlexNet on them. What compares models here is
    the mean corrupted accuracy (mCA), and by how much the error grows.
    """

    names: tuple[str, ...]
    severities: tuple[int, ...]
    clean_right: NDArray[np.bool_]
    right: NDArray[np.bool_]
    seed: int = 0
    complete: bool = True
    skipped: tuple[Unreadable, ...] = ()

    @property
    def n(self) -> int:
        return len(self.clean_right)

    @property
    def clean(self) -> Hits:
        return Hits(int(self.clean_right.sum()), self.n)

    @property
    def by(self) -> dict[str, dict[int, Hits]]:
        """Hits by corruption and severity."""
        counts = self.right.sum(0)
        return {
            name: {severity: Hits(int(counts[k, s]), self.n) for s, severity in enumerate(self.severities)}
            for k, name in enumerate(self.names)
        }

    def mean(self, *names: str) -> float:
        """Mean accuracy over severities and the corruptions named; over all without a name."""
        return float(self._of(names).mean())

    @property
    def mean_accuracy(self) -> float:
        """Mean over corruptions and severities (mCA)."""
        return self.mean()

    def mean_ci95(self, *names: str) -> tuple[float, float]:
        """Interval of a mean: that of one answer a photo, rather too wide, since a photo's many answers vary less."""
        return wilson(round(self.mean(*names) * self.n), self.n)

    def error_over_clean(self, *names: str) -> float:
        """Error that corruptions add: mean corrupted error less clean error."""
        return self.clean.rate - self.mean(*names)

    def error_ratio(self, *names: str) -> float | None:
        """Mean corrupted error over clean error; None where the clean error is 0."""
        clean = 1 - self.clean.rate
        return (1 - self.mean(*names)) / clean if self.clean.count < self.n else None

    @property
    def sets(self) -> dict[str, tuple[str, ...]]:
        """The sets of which every corruption was measured: "imagenet-c", "camera"."""
        return {
            name: members
            for name, members in (("imagenet-c", IMAGENET_C), ("camera", CAMERA))
            if set(members) <= set(self.names)
        }

    def to_dict(self) -> CorruptionsDocument:
        """The document `corruptions` of `edge-tl evaluate --json`; rates and errors are fractions."""
        return {
            "clean": self.clean.to_dict(),
            "mean_accuracy": self.mean_accuracy,
            "mean_accuracy_ci95": list(self.mean_ci95()),
            "mean_error_over_clean": self.error_over_clean(),
            "mean_error_ratio": self.error_ratio(),
            "sets": {name: self._means(members) for name, members in self.sets.items()},
            "rows": [self._row(name) for name in self.names],
            "severities": list(self.severities),
            "camera_side": CAMERA_SIDE,
            "seed": self.seed,
            "complete": self.complete,
            "skipped": [item.to_dict() for item in self.skipped],
        }

    def _row(self, name: str) -> CorruptionDocument:
        corruption = find_corruption(name)
        cells: dict[str, CorruptedHitsDocument] = {}
        for s, (severity, hits) in enumerate(self.by[name].items()):
            lost, won = discordant(self.clean_right, self.right[:, self.names.index(name), s])
            cells[str(severity)] = {
                **hits.to_dict(),
                "error_over_clean": self.clean.rate - hits.rate,
                "error_over_clean_ci95": list(paired_interval(lost, won, self.n)),
            }
        return {
            "name": name,
            "group": corruption.group,
            "stage": corruption.stage,
            "source": corruption.source,
            "by_severity": cells,
            **self._means((name,)),
        }

    def _means(self, names: Sequence[str]) -> MeansDocument:
        return {
            "mean": self.mean(*names),
            "mean_ci95": list(self.mean_ci95(*names)),
            "error_over_clean": self.error_over_clean(*names),
            "error_ratio": self.error_ratio(*names),
        }

    def _of(self, names: Sequence[str]) -> NDArray[np.bool_]:
        return self.right[:, [self.names.index(name) for name in names or self.names]]


def corrupted_accuracy(
    logits: Logits,
    photos: LabelledPhotos,
    rule: ResizeRule,
    names: Sequence[str],
    severities: Sequence[int],
    *,
    seed: int = 0,
    batch: int = 8,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
) -> CorruptedAccuracy:
    """Evaluate on photos, clean and under each corruption at each severity.

    A corruption of the network's pixels comes after crop and resize, as in ImageNet-C; one of the camera's frame before, on a
    frame of at most CAMERA_SIDE lines. Each photo is decoded once; how much memory that takes does not grow with their number,
    nor with that of corruptions. batch: pictures a call of `logits`. progress: called with 1 for each photo. stop: asked before
    each photo after the first.
    Photos that cannot be read, or have a side below MIN_SIDE, are left out of every figure and listed. Raises DataError when none
    is left, BadFrame for a network whose input has a side below MIN_SIDE.
    """
    names, severities = tuple(dict.fromkeys(names)), tuple(dict.fromkeys(severities))
    reader = _Reader(photos, replace(rule, color_order="BGR"), progress, stop)
    right = right_under(logits, reader, photos.targets, rule, names, severities, seed=seed, batch=batch)
    if not reader.read:
        first = f"; the first: {reader.skipped[0]}" if reader.skipped else ""
        raise DataError(f"none of the {len(photos)} photos in {photos.root} could be evaluated{first}")
    grid = right[:, 1:].reshape(len(right), len(names), len(severities))
    return CorruptedAccuracy(names, severities, right[:, 0], grid, seed, reader.complete, tuple(reader.skipped))


@dataclass(frozen=True, slots=True)
class CleanPhoto:
    """A photo as the network gets it, and as a camera gives it; both uint8 BGR. place: its index among the targets."""

    place: int
    name: str
    pixels: NDArray[np.uint8]
    frame: Frame


def right_under(
    logits: Logits,
    photos: Iterable[CleanPhoto],
    targets: Sequence[int] | NDArray[np.int64],
    rule: ResizeRule,
    names: Sequence[str],
    severities: Sequence[int],
    *,
    seed: int = 0,
    batch: int = 8,
) -> NDArray[np.bool_]:
    """Whether each photo is classified right clean, and under each corruption at each severity: bool (n, 1 + K * S).

    targets: classes by the photos' places. The random part of a corruption follows from the photo's name and the seed.
    """
    plain = replace(rule, color_order="BGR")
    variants: list[_Variant] = [None, *((name, severity) for name in names for severity in severities)]
    jobs = (_Job(photo, number, variant, plain, seed) for photo in photos for number, variant in enumerate(variants))
    rows: dict[int, NDArray[np.bool_]] = {}
    for group in _batches(map_in_order(_Job.made, jobs), batch):
        pixels = np.stack([made for _, _, made in group])
        answers = logits(np.ascontiguousarray(pixels[..., ::-1]) if rule.color_order == "RGB" else pixels).argmax(1)
        for (place, number, _), answer in zip(group, answers, strict=True):
            rows.setdefault(place, np.zeros(len(variants), np.bool_))[number] = answer == targets[place]
    return np.stack(list(rows.values())) if rows else np.zeros((0, len(variants)), np.bool_)


_Variant = tuple[str, int] | None
"""A corruption and its severity; None is the clean photo."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A photo in one variant."""

    photo: CleanPhoto
    number: int
    variant: _Variant
    rule: ResizeRule
    seed: int

    def made(self) -> tuple[int, int, NDArray[np.uint8]]:
        """The photo's place, the variant's number, and pixels, uint8 (height, width, 3), BGR."""
        return self.photo.place, self.number, self._pixels()

    def _pixels(self) -> NDArray[np.uint8]:
        if self.variant is None:
            return self.photo.pixels
        name, severity = self.variant
        if find_corruption(name).stage == "frame":
            return crop_resize(corrupt(self.photo.frame, name, severity, self.photo.name, self.seed), self.rule)
        return corrupt(self.photo.pixels, name, severity, self.photo.name, self.seed)


class _Reader:
    """Photos, one after the other. read: the places of those that were given."""

    def __init__(self, photos: LabelledPhotos, rule: ResizeRule, progress: Progress, stop: Callable[[], bool]) -> None:
        self.photos, self.rule, self.progress, self.stop = photos, rule, progress, stop
        self.read: list[int] = []
        self.skipped: list[Unreadable] = list(photos.skipped)
        self.complete = True

    def __iter__(self) -> Iterator[CleanPhoto]:
        for place, path in enumerate(self.photos.paths):
            if self.read and self.stop():
                self.complete = False
                return
            try:
                photo = self._photo(place)
            except (BadImage, BadFrame) as error:
                self.skipped.append(Unreadable(path, str(error)))
            else:
                self.read.append(place)
                yield photo
            self.progress(1)

    def _photo(self, place: int) -> CleanPhoto:
        frame = read_photo(self.photos.paths[place])
        if min(frame.shape[:2]) < MIN_SIDE:
            raise BadFrame(f"{frame.shape[1]}x{frame.shape[0]} px is too small; sides of {MIN_SIDE} are needed")
        return CleanPhoto(place, self.photos.name(place), crop_resize(frame, self.rule), camera_frame(frame))


def camera_frame(photo: Frame) -> Frame:
    """A photo as a camera of CAMERA_SIDE lines would give it: its shorter side shrunk to that where it is longer."""
    rows, columns = photo.shape[:2]
    scale = CAMERA_SIDE / min(rows, columns)
    if scale >= 1:
        return photo
    size = max(CAMERA_SIDE, round(columns * scale)), max(CAMERA_SIDE, round(rows * scale))
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    source = iter(items)
    while group := list(islice(source, size)):
        yield group
