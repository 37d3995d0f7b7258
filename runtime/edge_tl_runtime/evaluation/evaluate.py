"""Evaluate a classifier on labelled photos. Works with anything that turns pixels into logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError
from edge_tl_runtime.core.html import html_table
from edge_tl_runtime.core.progress import Progress, silent
from edge_tl_runtime.core.statistics import group_dependence, mean_of_rates, wilson
from edge_tl_runtime.core.text import percent
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.evaluation.covered import Coverage, Sets, coverage_of
from edge_tl_runtime.evaluation.reliability import Reliability, reliability
from edge_tl_runtime.evaluation.training_overlap import (
    TrainingOverlap,
    asks_for_training_photos,
    counted,
    nothing_left,
    what_is_known,
)
from edge_tl_runtime.evaluation.unknown import KnownLogits, UnknownCount
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_labelled
from edge_tl_runtime.images.datasets.grouping import Grouping
from edge_tl_runtime.images.datasets.splitting import photo_origins
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.datasets.tally import by_note
from edge_tl_runtime.images.decode import decode_noted, read_file
from edge_tl_runtime.images.fingerprint import ROLES, Role, SeenPhotos
from edge_tl_runtime.modelfile.spec import Accuracy, ModelSpec, ResizeRule, Scores

if TYPE_CHECKING:
    from edge_tl_runtime.evaluation.documents import EvaluationDocument

UNEQUAL = 2.0
"""Photos of the largest class over those of the smallest, above which one class can hide behind another in top-1."""

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pixels, uint8 (N, H, W, 3), to scores, float32 (N, C)."""


@dataclass(frozen=True, slots=True)
class PixelBatch:
    """Some photos as the network sees them. pixels: uint8 (N, H, W, 3); indices: their places in the LabelledPhotos."""

    pixels: NDArray[np.uint8]
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One row of the per-class table: `correct` of `n` photos of this class, `predicted` times named."""

    label: str
    n: int
    correct: int
    predicted: int

    @property
    def recall(self) -> float:
        return self.correct / self.n if self.n else 0.0

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """confusion[i, j]: photos of class i named class j, int64 (C, C). top5 is a fraction, or None below six classes.

    reliability: of the probabilities, None where the model did not say how logits become probabilities.
    overlap: which photos the model has seen, None where that was not asked. adjusted: names of photos whose pixels had to be
    changed to be read, by what was done (`images.formats.pixels`). unknown: how many would be called unknown; None where that
    was not asked. coverage: of sets of labels; None where that was not asked. dependence: how many photos count as one in the
    intervals, since those of one origin are right or wrong together (`group_dependence`).
    """

    labels: tuple[str, ...]
    confusion: NDArray[np.int64]
    top5: float | None
    data: str
    skipped: tuple[Unreadable, ...] = ()
    reliability: Reliability | None = None
    overlap: TrainingOverlap | None = None
    adjusted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: UnknownCount | None = None
    coverage: Coverage | None = None
    dependence: float = 1.0

    @property
    def n(self) -> int:
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(np.trace(self.confusion))

    @property
    def top1(self) -> float:
        return self.correct / self.n

    @property
    def ci95(self) -> tuple[float, float]:
        return wilson(self.correct / self.dependence, self.effective_n)

    @property
    def effective_n(self) -> float:
        """How many photos of different origins would say as much."""
        return self.n / self.dependence

    @property
    def unequal(self) -> bool:
        """Whether the classes differ so much in size that top-1 alone misleads."""
        return unequal(self.confusion.sum(1))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have photos."""
        return mean_of_rates(*self._recalls)[0]

    @property
    def balanced_ci95(self) -> tuple[float, float]:
        right, sizes = self._recalls
        return mean_of_rates(right / self.dependence, sizes / self.dependence)[1:]

    @property
    def _recalls(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        sizes = self.confusion.sum(1)
        return np.diag(self.confusion)[sizes > 0], sizes[sizes > 0]

    def describe(self) -> str:
        """`top-1 94.8 % (145 of 153, 95 % interval 90.0 to 97.3)`; with the balanced accuracy where classes are unequal."""
        low, high = self.ci95
        text = (
            f"top-1 {100 * self.top1:.1f} % "
            f"({self.correct} of {self.n}, {told_dependence(self.n, self.dependence)}"
            f"95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )
        if not self.unequal:
            return text
        low, high = self.balanced_ci95
        return (
            f"{text}, balanced accuracy {100 * self.balanced_accuracy:.1f} % "
            f"(mean recall per class, {100 * low:.1f} to {100 * high:.1f})"
        )

    @property
    def accuracy(self) -> Accuracy:
        low, high = self.ci95
        return Accuracy(top1=round(self.top1, 6), ci95=(round(low, 6), round(high, 6)), n=self.n, data=self.data)

    @property
    def per_class(self) -> list[ClassResult]:
        rows, columns, right = self.confusion.sum(1), self.confusion.sum(0), np.diag(self.confusion)
        return [
            ClassResult(label, int(rows[i]), int(right[i]), int(columns[i]))
            for i, label in enumerate(self.labels)
            if rows[i] or columns[i]
        ]

    def to_dict(self) -> EvaluationDocument:
        """The document of `edge-tl evaluate --json`; the confusion matrix is given for up to 100 classes."""
        return {
            "top1": round(self.top1, 6),
            "n": self.n,
            "effective_n": round(self.effective_n, 3),
            "ci95": [round(x, 6) for x in self.ci95],
            "balanced_accuracy": round(self.balanced_accuracy, 6),
            "balanced_ci95": [round(x, 6) for x in self.balanced_ci95],
            "top5": self.top5,
            "per_class": [
                {
                    "label": row.label,
                    "n": row.n,
                    "recall": round(row.recall, 6),
                    "precision": round(row.precision, 6),
                }
                for row in self.per_class
            ],
            "labels": list(self.labels),
            "confusion": self.confusion.tolist() if len(self.labels) <= 100 else None,
            "ece": None if self.reliability is None else round(self.reliability.ece, 6),
            "data": self.data,
            "skipped": [item.to_dict() for item in self.skipped],
            "adjusted": {note: list(names) for note, names in self.adjusted.items()},
            "unknown": None if self.unknown is None else self.unknown.to_dict(),
            "coverage": None if self.coverage is None else self.coverage.to_dict(),
            "training_overlap": None if self.overlap is None else self.overlap.to_dict(),
        }

    def __str__(self) -> str:
        return self.describe()

    def _repr_html_(self) -> str:
        lines = [
            self.describe() + (f"; {self.data}" if self.data else ""),
            *([self.unknown.describe()] if self.unknown else []),
            *([self.coverage.describe()] if self.coverage else []),
            *(self.overlap.lines() if self.overlap else ()),
        ]
        rows = [(row.label, row.n, percent(row.recall), percent(row.precision)) for row in self.per_class]
        return html_table(". ".join(lines), ["class", "photos", "recall", "precision"], rows)


def unequal(counts: NDArray[np.int64]) -> bool:
    """Whether the largest class has more than `UNEQUAL` times the photos of the smallest that has any. counts: int64 (C,)."""
    present = counts[counts > 0]
    return bool(len(present) and present.max() > UNEQUAL * present.min())


class PixelReader:
    """Reads, crops and resizes labelled photos batch by batch; files that cannot be read are left out and listed.

    skipped: grows while iterating; starts with the files passed over because of their kind. notes: what was done to the pixels of
    photos that are not ordinary, by place. roles: of the photos read, by place. left_out: places of photos that the model was
    trained on; both need `seen`.
    """

    def __init__(
        self,
        photos: LabelledPhotos,
        rule: ResizeRule,
        batch: int = 8,
        progress: Progress = silent,
        seen: SeenPhotos | None = None,
        with_trained_on: bool = False,
    ):
        """batch: photos a step, small enough for the caches of small CPUs. progress: called with 1 for each photo.

        seen: leave out the photos that the model was trained on, unless `with_trained_on`.
        """
        self.photos, self.rule, self.batch, self.progress = photos, rule, batch, progress
        self.seen, self.with_trained_on = seen, with_trained_on
        self.skipped: list[Unreadable] = list(photos.skipped)
        self.notes: dict[int, tuple[str, ...]] = {}
        self.roles: dict[int, Role] = {}
        self.left_out: list[int] = []

    def __iter__(self) -> Iterator[PixelBatch]:
        """Raises DataError when not one photo could be read, or the model was trained on all."""
        pixels: list[NDArray[np.uint8]] = []
        indices: list[int] = []
        for index, result in enumerate(map_in_order(self._read, self.photos.paths)):
            self.progress(1)
            if result is None:
                self.left_out.append(index)
                continue
            if isinstance(result, Unreadable):
                self.skipped.append(result)
                continue
            picture, self.roles[index], notes = result
            if notes:
                self.notes[index] = notes
            pixels.append(picture)
            indices.append(index)
            if len(pixels) == self.batch:
                yield PixelBatch(np.stack(pixels), tuple(indices))
                pixels, indices = [], []
        if pixels:
            yield PixelBatch(np.stack(pixels), tuple(indices))
        if not self.roles and self.left_out:
            raise nothing_left(self.photos, len(self.left_out))
        if not self.roles:
            first = f"; the first: {self.skipped[0]}" if self.skipped else ""
            raise DataError(f"none of the {len(self.photos)} photos in {self.photos.root} could be read{first}")

    def adjusted(self) -> dict[str, tuple[str, ...]]:
        """Names of the photos read whose pixels had to be changed, by what was done."""
        return by_note((self.photos.name(place), notes) for place, notes in self.notes.items())

    def _read(self, path: Path) -> tuple[NDArray[np.uint8], Role, tuple[str, ...]] | Unreadable | None:
        """None for a photo that the model was trained on. A file that was seen as it is need not be decoded to know that."""
        try:
            data = read_file(path)
            role = self.seen.role_of_file(data) if self.seen is not None else "new"
            if role == "trained_on" and not self.with_trained_on:
                return None
            frame, notes = decode_noted(data)
            if role is None:
                assert self.seen is not None
                role = self.seen.role_of_picture(frame)
                if role == "trained_on" and not self.with_trained_on:
                    return None
            return crop_resize(frame, self.rule), role, notes
        except (BadImage, BadFrame) as error:
            return Unreadable(path, str(error))


def photos_to_evaluate(spec: ModelSpec, data: Path, split: str) -> LabelledPhotos:
    """The photos of DATA to evaluate a model on. Of a folder without parts that it was trained on: those that validated then.

    A model that lists its training photos needs no split for that: all photos are given, and whoever evaluates leaves out those
    that it was trained on (`evaluate_model`, `edge_tl_runtime.evaluation.training_overlap.unseen`). Raises DataError.
    """
    training, known = spec.training, what_is_known(spec)
    fraction = training.get("val_fraction") if training.get("data") == data.resolve().name else None
    if split == "val" and not known.unknown and known.listed == 1:
        fraction = None
    grouping = Grouping.of(training) if fraction is not None else Grouping()
    return load_labelled(
        data, spec.labels, split, val_fraction=fraction, seed=training.get("seed", 0), grouping=grouping
    )


def evaluate(logits: Logits, photos: LabelledPhotos, rule: ResizeRule, data: str) -> Evaluation:
    """Evaluate `logits` on photos, a few at a time. data: names them in words. Raises DataError when nothing could be read."""
    return _evaluate(logits, PixelReader(photos, rule), data, None).evaluation


def evaluate_model(
    spec: ModelSpec,
    logits: Logits,
    photos: LabelledPhotos,
    split: str,
    name: str,
    progress: Progress = silent,
    left_out: Sequence[str] = (),
    known: KnownLogits | None = None,
    sets: Sets | None = None,
) -> Evaluation:
    """Evaluate a model on photos that it was not trained on; on all of them where `split` asks for "train" or "all".

    name: of the data, for the person. left_out: names of photos that were left out before. known: asked in place of `logits`
    where the file tells what is unknown, which `Evaluation.unknown` then counts. sets: count what they hold.
    `Evaluation.overlap` says which photos were left out and which of the others the model has seen. Raises DataError when
    nothing could be read, or the model was trained on all.
    """
    seen = SeenPhotos.of(spec.training_images)
    reader = PixelReader(
        photos, spec.resize, progress=progress, seen=seen, with_trained_on=asks_for_training_photos(split)
    )
    found = _evaluate(known or logits, reader, "", spec.scores)
    evaluation, right = found.evaluation, (found.answers.argmax(1) == found.truth).tolist()
    if known is not None:
        evaluation = replace(evaluation, unknown=known.counted(right))
    overlap = what_is_known(spec)
    roles = list(reader.roles.values())
    if sets is not None:
        probabilities = spec.scores.probabilities(found.answers)
        covered = coverage_of(sets, probabilities, found.truth, spec.labels, found.groups, roles)
        evaluation = replace(evaluation, coverage=covered)
    if seen is not None:
        correct = {role: sum(ok for ok, own in zip(right, roles, strict=True) if own == role) for role in ROLES}
        names = (*left_out, *(photos.name(place) for place in reader.left_out))
        overlap = replace(overlap, left_out=names, counts=counted(roles), correct=correct)
    return replace(evaluation, data=overlap.in_words(photos.split, name), overlap=overlap)


@dataclass(frozen=True, slots=True)
class _Answered:
    """The figures, and of each photo read its logits, (N, C), its class, (N,), and its origin."""

    evaluation: Evaluation
    answers: NDArray[np.float32]
    truth: NDArray[np.int64]
    groups: list[str]


def _evaluate(logits: Logits, reader: PixelReader, data: str, scores: Scores | None) -> _Answered:
    rows, targets = [], []
    for batch in reader:
        rows.append(logits(batch.pixels))
        targets += [reader.photos.targets[i] for i in batch.indices]
    answers, truth = np.concatenate(rows), np.asarray(targets, np.int64)
    known = reader.photos.groups or photo_origins(reader.photos)
    groups = [known[place] for place in reader.roles]
    evaluation = score(answers, truth, reader.photos.labels, data, tuple(reader.skipped), scores, groups)
    return _Answered(replace(evaluation, adjusted=reader.adjusted()), answers, truth, groups)


def score(
    logits: NDArray[np.float32],
    targets: NDArray[np.int64],
    labels: tuple[str, ...],
    data: str,
    skipped: tuple[Unreadable, ...] = (),
    scores: Scores | None = None,
    groups: Sequence[str] = (),
) -> Evaluation:
    """Compare logits, float32 (N, C), with targets, int64 (N,). groups: origins, as in `group_dependence`."""
    classes = len(labels)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (targets, logits.argmax(1)), 1)
    top5 = None
    if classes > 5:
        best = np.argpartition(-logits, 5, axis=1)[:, :5]
        top5 = round(float((best == targets[:, None]).any(1).mean()), 6)
    evaluated = None if scores is None else reliability(scores.probabilities(logits), targets)
    dependence = group_dependence(logits.argmax(1) == targets, groups)
    return Evaluation(labels, confusion, top5, data, skipped, evaluated, dependence=dependence)


def told_dependence(n: int, dependence: float) -> str:
    """For the middle of a line: `which say as much as 12 of different origins, `; "" where photos count one by one."""
    return "" if dependence <= 1 else f"which say as much as {n / dependence:.0f} of different origins, "
