"""What may be wrong with a set of labelled photos, found before it is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.data.duplicates import exact_groups, near_groups
from edge_tl.data.grouping import BITS, COSINE
from edge_tl.data.pictures import ImageRecord, look_at
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training.calibrate import calibrate
from edge_tl.training.probe.features import FeatureExtractor
from edge_tl.training.probe.probe import fit_probe
from edge_tl_export import Stage
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.choosing import spread_over
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits, load_splits
from edge_tl_runtime.images.datasets.grouping import joined
from edge_tl_runtime.images.datasets.splitting import photo_origins
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.modelfile.spec import Scores

if TYPE_CHECKING:
    from edge_tl.audit.documents import CheckDocument

EXAMPLES, LEAST_EXAMPLES, EXAMPLES_IN_ALL = 24, 3, 720
"""Photos of a class on its contact sheet: at most, at least, and of all classes together."""
UNEVEN = 5.0
"""Photos of the largest class over those of the smallest at which a remark is made."""


@dataclass(frozen=True)
class Photo:
    """One readable photo. split: "train", "val" or "test"."""

    path: Path
    name: str
    label: str
    split: str

    @property
    def place(self) -> str:
        """Split and name, the split once."""
        return self.name if self.name.startswith(self.split + "/") else f"{self.split}: {self.name}"


@dataclass(frozen=True)
class Repeated:
    """Photos that show the same. exact: their files are equal."""

    photos: tuple[Photo, ...]
    exact: bool

    @property
    def leaks(self) -> bool:
        """Whether they lie in more than one split: then a model is evaluated on what it was trained on."""
        return len({photo.split for photo in self.photos}) > 1

    @property
    def contradicts(self) -> bool:
        """Whether they carry different labels."""
        return len({photo.label for photo in self.photos}) > 1


@dataclass(frozen=True)
class Odd:
    """A photo and what is odd about it."""

    photo: Photo
    why: tuple[str, ...]


@dataclass(frozen=True)
class Suspect:
    """A photo whose label a probe that never saw it contradicts. given, suggested: probabilities of the two labels."""

    photo: Photo
    suggestion: str
    given: float
    suggested: float


@dataclass(frozen=True)
class Findings:
    """counts: photos that can be read, by split and label. held_out: accuracy of the cross-validated probe, None where none was
    made.

    used: photos that can be read. adjusted: those whose pixels had to be changed for that, by what was done.
    layout: the line that says what was understood. examples: readable photos of each class, spread over it.
    """

    root: Path
    labels: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    unreadable: tuple[Unreadable, ...]
    repeated: tuple[Repeated, ...]
    odd: tuple[Odd, ...]
    suspects: tuple[Suspect, ...]
    held_out: float | None
    used: int
    adjusted: dict[str, tuple[Photo, ...]]
    layout: str = ""
    examples: dict[str, tuple[Photo, ...]] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        """The folder below which paths are told: of a list, the one that it lies in."""
        return self.root if self.root.is_dir() else self.root.parent

    @property
    def leaks(self) -> tuple[Repeated, ...]:
        return tuple(group for group in self.repeated if group.leaks)

    @property
    def contradictions(self) -> tuple[Repeated, ...]:
        return tuple(group for group in self.repeated if group.contradicts)

    @property
    def imbalance(self) -> float:
        """Photos of the largest class over those of the smallest, in the training part."""
        return max(self._sizes.values()) / max(1, min(self._sizes.values()))

    @property
    def extremes(self) -> tuple[str, str]:
        """`bees with 30`, `ants with 2`: the largest class of the training part and the smallest, with their photos."""
        sizes = self._sizes
        largest, smallest = max(sizes, key=sizes.__getitem__), min(reversed(sizes), key=sizes.__getitem__)
        return f"{largest} with {sizes[largest]}", f"{smallest} with {sizes[smallest]}"

    @property
    def _sizes(self) -> dict[str, int]:
        return self.counts["train"]

    def to_dict(self) -> CheckDocument:
        """The document of `edge-tl data check --json`."""
        return {
            "data": str(self.root),
            "layout": self.layout,
            "counts": self.counts,
            "imbalance": round(self.imbalance, 3),
            "used": self.used,
            "unreadable": [item.to_dict() for item in self.unreadable],
            "adjusted": {note: [str(photo.path) for photo in photos] for note, photos in self.adjusted.items()},
            "duplicates": [
                {
                    "photos": [str(p.path) for p in g.photos],
                    "exact": g.exact,
                    "leaks": g.leaks,
                    "contradicts": g.contradicts,
                }
                for g in self.repeated
            ],
            "odd": [{"path": str(item.photo.path), "why": list(item.why)} for item in self.odd],
            "label_suspects": [
                {
                    "path": str(s.photo.path),
                    "label": s.photo.label,
                    "suggestion": s.suggestion,
                    "given": round(s.given, 4),
                    "suggested": round(s.suggested, 4),
                }
                for s in self.suspects
            ],
            "held_out_top1": self.held_out,
        }


def check(
    root: Path,
    arch: str,
    weights: str,
    stage: Stage,
    device: torch.device,
    say: Callable[[str], None] = lambda line: None,
) -> Findings:
    """Look at every photo of a folder or list, in all its splits. Raises DataError for what cannot be trained on."""
    splits = load_splits(root)
    say(splits.describe())  # before decoding, so that a misreading of the folder is seen at once
    # One folder without parts is split for training alone: a copy in both halves leaks all the same.
    parts = [part for part in splits if part is not None]
    entries = [(part, index) for part in parts for index in range(len(part))]
    with stage("looking", len(entries)) as progress:
        looked: list[ImageRecord | Unreadable] = []
        for result in map_in_order(lambda entry: look_at(entry[0].paths[entry[1]]), entries):
            looked.append(result)
            progress(1)
    photos = [
        Photo(part.paths[i], part.name(i), part.labels[part.targets[i]], part.split)
        for (part, i), result in zip(entries, looked, strict=True)
        if isinstance(result, ImageRecord)
    ]
    pictures = [result for result in looked if isinstance(result, ImageRecord)]
    used = _decoded(splits, looked)
    features = _features(photos, splits.train, arch, weights, stage, device)
    exact = {frozenset(group) for group in exact_groups(pictures)}
    repeated = tuple(
        Repeated(tuple(photos[i] for i in group), frozenset(group) in exact)
        for group in near_groups(pictures, features)
    )
    suspects, held_out = _suspects(photos, features, splits.train.labels, _groups(used, photos, pictures, features))
    counts = {part.split: Counter(part.labels[target] for target in part.targets) for part in used if part is not None}
    return Findings(
        root,
        splits.train.labels,
        {split: {label: count[label] for label in splits.train.labels} for split, count in counts.items()},
        used.skipped,
        tuple(sorted(repeated, key=lambda g: (not g.leaks, not g.contradicts, g.photos[0].name))),
        tuple(Odd(photo, p.oddities) for photo, p in zip(photos, pictures, strict=True) if p.oddities),
        suspects,
        held_out,
        len(photos),
        _adjusted(photos, pictures),
        used.describe(decoded=True),
        _examples(photos, splits.train.labels),
    )


def _decoded(splits: Splits, looked: Sequence[ImageRecord | Unreadable]) -> Splits:
    """The photos that could be decoded, and all others among those passed over. looked: of each photo, part after part."""
    results = iter(looked)

    def decoded(part: LabelledPhotos) -> LabelledPhotos:
        own = [next(results) for _ in range(len(part))]
        damaged = tuple(result for result in own if isinstance(result, Unreadable))
        readable = [place for place, result in enumerate(own) if isinstance(result, ImageRecord)]
        return replace(part.subset(readable, part.split), skipped=(*part.skipped, *damaged))

    train, val = decoded(splits.train), decoded(splits.val)
    return Splits(train, val, None if splits.test is None else decoded(splits.test))


def _adjusted(photos: Sequence[Photo], pictures: Sequence[ImageRecord]) -> dict[str, tuple[Photo, ...]]:
    found: dict[str, tuple[Photo, ...]] = {}
    for photo, picture in zip(photos, pictures, strict=True):
        for note in picture.notes:
            found[note] = (*found.get(note, ()), photo)
    return found


def _examples(photos: Sequence[Photo], labels: Sequence[str]) -> dict[str, tuple[Photo, ...]]:
    """As many photos of each class as a page can show."""
    count = min(EXAMPLES, max(LEAST_EXAMPLES, EXAMPLES_IN_ALL // max(1, len(labels))))
    by_label: dict[str, list[Photo]] = {label: [] for label in labels}
    for photo in photos:
        by_label[photo.label].append(photo)
    return {
        label: tuple(members[place] for place in spread_over([0] * len(members), count))
        for label, members in by_label.items()
    }


def _features(
    photos: Sequence[Photo], train: LabelledPhotos, arch: str, weights: str, stage: Stage, device: torch.device
) -> NDArray[np.float32]:
    backbone = find_backbone(arch)
    network = build_network(backbone, WeightsSource.parse(weights, backbone))
    targets = tuple(train.labels.index(photo.label) for photo in photos)
    everything = LabelledPhotos(train.root, train.labels, tuple(p.path for p in photos), targets)
    with stage("features", len(photos)) as progress:
        return FeatureExtractor(network, device)(everything, progress).values


def _groups(
    used: Splits, photos: Sequence[Photo], pictures: Sequence[ImageRecord], features: NDArray[np.float32]
) -> list[str]:
    """What each photo stems from, by names or a column and by its looks: one copy must not be held out while another teaches."""
    known: list[str] = []
    for part in used:
        if part is not None:
            given = part.groups or photo_origins(part)
            known += [key or name for key, name in zip(given, part.names, strict=True)]
    alike = [photo.place for photo in photos]
    for group in near_groups(pictures, features, BITS, COSINE):
        for member in group:
            alike[member] = photos[group[0]].place
    found = joined(known, alike)
    several = Counter(found)
    return [key if several[key] > 1 else "" for key in found]


def _suspects(
    photos: Sequence[Photo], features: NDArray[np.float32], labels: tuple[str, ...], groups: Sequence[str]
) -> tuple[tuple[Suspect, ...], float | None]:
    """Confident learning (Northcutt et al. 2021) on the probabilities of folds that left each photo's group out."""
    from cleanlab.filter import find_label_issues

    targets = np.asarray([labels.index(photo.label) for photo in photos], np.int64)
    probe = fit_probe(features, targets, [photo.name for photo in photos], len(labels), groups=groups)
    if probe.held_out is None:
        return (), None
    scores = Scores(temperature=calibrate(probe.held_out, targets).temperature)
    probabilities = scores.probabilities(probe.held_out)
    answers = probabilities.argmax(1)
    ranked = find_label_issues(targets, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    suspects = tuple(
        Suspect(photos[i], labels[answers[i]], float(probabilities[i, targets[i]]), float(probabilities[i, answers[i]]))
        for i in ranked.tolist()
        if answers[i] != targets[i]
    )
    return suspects, float((answers == targets).mean())
