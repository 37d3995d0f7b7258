"""Which preprocessing a file was made for, told by labelled photos: nothing in the file says it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.adoption.picture import WHOLE, ImageInput
from edge_tl_export.adoption.preprocessing import PRESETS, for_channels, name_of
from edge_tl_runtime.core.errors import BadImage, DataError
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.core.statistics import discordant, mcnemar, significantly_more, wilson
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.crop import DEFAULT_RESAMPLE, crop_resize
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.modelfile.spec import Accuracy, Normalization, ResizeRule

CROPS = (0.875, 1.0)
"""What the contract can hold of the usual rules: 224 of 256, and the whole of the shorter side. Stretching it cannot hold."""
BATCH = 4
STAGES = (12, 24, 48, 80, 130)
"""Photos on which combinations are tried before all: after each stage those that lose clearly are tried no further."""
TEMPERATURES = tuple(2.0**power for power in range(-6, 11, 2))
CLEAR = 0.001
"""Chance below which a combination has lost on the first photos."""
SAMPLES = 8
"""Photos kept for the comparison with the original."""
ENOUGH = 20
"""Photos below which no difference is worth a word."""

Logits = Callable[[NDArray[np.generic]], NDArray[np.float64]]
"""Values as the original takes them to scores of which the largest names the class: (N, ...) to (N, C)."""


@dataclass(frozen=True)
class InputRecipe:
    """One way to make the input from a photo."""

    normalization: Normalization
    order: str
    crop_pct: float

    def describe(self, picture: ImageInput) -> str:
        parts = [] if picture.whole else [name_of(self.normalization)]
        if picture.channels == 3:
            parts.append(self.order)
        return ", ".join([*parts, f"crop {self.crop_pct:g}"])


@dataclass(frozen=True)
class Trial:
    """A way and how it did. right: bool (n,), on the first n photos.

    losses: (T, n), -log p of the truth at every temperature. loss: their mean at the one that suits it best, for a larger scale
    of the input is no merit.
    """

    way: InputRecipe
    right: NDArray[np.bool_]
    losses: NDArray[np.float64]

    @property
    def n(self) -> int:
        return len(self.right)

    @property
    def loss(self) -> float:
        return float(self.losses.mean(1).min())

    @property
    def correct(self) -> int:
        return int(self.right.sum())

    def describe(self, picture: ImageInput) -> str:
        low, high = wilson(self.correct, self.n)
        return (
            f"{self.way.describe(picture)}: top-1 {100 * self.correct / self.n:.1f} % "
            f"({self.correct} of {self.n}, 95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )


@dataclass(frozen=True)
class MeasuredInputs:
    """trials: best first. why_not: why nothing can be told from them, "" where something can. skipped: photos not read.

    samples: some of the photos as the network would see them, uint8 (N, H, W, 3), RGB, by crop.
    """

    trials: tuple[Trial, ...]
    picture: ImageInput
    data: str
    why_not: str = ""
    skipped: tuple[Unreadable, ...] = ()
    samples: Mapping[float, NDArray[np.uint8]] = field(default_factory=dict)

    def best(self, fits: Callable[[InputRecipe], bool] = lambda way: True) -> Trial:
        """The best of those that fit."""
        return next(trial for trial in self.trials if fits(trial.way))

    def lines(self, chosen: Trial) -> list[str]:
        """What a person is told: the chosen one, the next ones, ties, and whether another is better."""
        told = [f"{chosen.describe(self.picture)}, on {self.data}"]
        others = [trial for trial in self.trials if trial is not chosen]
        tied = [trial for trial in others if not _differ(chosen, trial)]
        better = [trial for trial in others if _beats(trial, chosen)]
        worse = [trial for trial in others if trial not in tied and trial not in better]
        if better:
            told.append(
                f"WARNING: {better[0].describe(self.picture)}, which is better than what was asked for "
                f"({_against(better[0], chosen)}); leave the options out to have it"
            )
        if tied:
            names = "; ".join(f"{trial.way.describe(self.picture)} ({_share(trial)})" for trial in tied[:4])
            more = f"; and {len(tied) - 4} more" if len(tied) > 4 else ""
            told.append(f"not shown to be different on these photos: {names}{more}")
        if worse and not better:
            told.append(f"next: {worse[0].describe(self.picture)}; {_against(chosen, worse[0])}")
        return told

    def accuracy(self, trial: Trial, chose: bool) -> Accuracy:
        low, high = wilson(trial.correct, trial.n)
        also = ", which also chose the preprocessing" if chose else ""
        return Accuracy(
            top1=round(trial.correct / trial.n, 6),
            ci95=(round(low, 6), round(high, 6)),
            n=trial.n,
            data=f"{self.data}{also}",
        )


def _share(trial: Trial) -> str:
    return f"{100 * trial.correct / trial.n:.1f} %" + (f" of {trial.n}" if trial.n else "")


def _pair(first: Trial, second: Trial) -> tuple[int, int]:
    n = min(first.n, second.n)
    return discordant(first.right[:n], second.right[:n])


def _differ(first: Trial, second: Trial) -> bool:
    return mcnemar(*_pair(first, second)) < 0.05


def _beats(first: Trial, second: Trial) -> bool:
    return significantly_more(*_pair(first, second))


def _against(first: Trial, second: Trial) -> str:
    gained, lost = _pair(first, second)
    n = min(first.n, second.n)
    return f"of {n} photos {gained} only by the first, {lost} only by the second, p = {mcnemar(gained, lost):.2g}"


@dataclass(frozen=True)
class Asked:
    """What a person says of the preprocessing; None where nothing was said."""

    normalization: Normalization | None = None
    order: str | None = None
    crop_pct: float | None = None

    def __bool__(self) -> bool:
        return any(part is not None for part in (self.normalization, self.order, self.crop_pct))

    def fits(self, way: InputRecipe) -> bool:
        """Whether a way is as was asked, as far as something was."""
        pairs = (
            (self.normalization, way.normalization),
            (self.order, way.order),
            (self.crop_pct, way.crop_pct),
        )
        return all(asked is None or asked == is_so for asked, is_so in pairs)


def ways(picture: ImageInput, asked: Asked) -> list[InputRecipe]:
    """Every usual way whose input differs from the others', and those that were asked for."""
    kinds = [WHOLE] if picture.whole else [PRESETS[name].normalization for name in for_channels(picture.channels)]
    if asked.normalization is not None and not picture.whole:
        kinds.insert(0, asked.normalization)
    orders = [asked.order or "RGB"] if picture.channels == 1 else ["RGB", "BGR"]
    crops = [*CROPS, *([asked.crop_pct] if asked.crop_pct is not None else [])]
    every = [InputRecipe(kind, order, crop) for kind in kinds for order in orders for crop in crops]
    first: dict[str, InputRecipe] = {}
    for way in every:
        first.setdefault(way.describe(picture), way)
    return list(first.values())


def measure(
    logits: Logits,
    picture: ImageInput,
    photos: LabelledPhotos,
    count: int,
    asked: Asked = Asked(),
    progress: Progress = lambda done: None,
) -> MeasuredInputs:
    """Try every way on up to `count` of the photos, spread over all; the network runs once for each input that differs.

    asked: the best of the ways that fit it is tried to the end. progress: called with 1 for each photo read.
    Raises DataError where not one photo can be read.
    """
    chosen = photos.spread(count)
    # Losers are dropped on the first photos, so these must be like all: an order that the names have nothing to do with.
    order = np.random.default_rng(0).permutation(len(chosen)).tolist()
    chosen = chosen.subset(order, chosen.split)
    todo = ways(picture, asked)
    crops = sorted({way.crop_pct for way in todo})
    read = _read(picture, chosen, crops, progress)
    if not len(read.truth):
        first = f"; the first: {read.skipped[0]}" if read.skipped else ""
        raise DataError(f"none of the {len(chosen)} photos in {photos.root} could be read{first}")
    total = len(read.truth)
    ends = [*(end for end in STAGES if end < total), total]
    trials = _tried(logits, picture, read, todo, 0, ends[0])
    for start, end in pairwise(ends):
        running = [trial for trial in trials if trial.n == start]
        kept = _not_beaten(running) | _not_beaten([trial for trial in running if asked and asked.fits(trial.way)])
        going_on = [way for way in todo if way in kept]
        more = {trial.way: trial for trial in _tried(logits, picture, read, going_on, start, end)}
        trials = [_joined(trial, more[trial.way]) if trial.way in more else trial for trial in trials]
    # Of those that nothing tells apart, the one that is used most: the order of the presets.
    trials.sort(key=lambda t: (-t.n, -t.correct, round(t.loss, 3), todo.index(t.way)))
    _commoner_first(trials)
    samples = {crop: pixels[:SAMPLES] for crop, pixels in read.by_crop.items()}
    data = f"{total} photos of {photos.root.resolve().name}"
    return MeasuredInputs(tuple(trials), picture, data, _why_not(trials, read), tuple(read.skipped), samples)


def _commoner_first(trials: list[Trial]) -> None:
    """Where the best has figures that few use, the best of the others goes before it unless that is shown to be worse."""
    rare = {preset.normalization for preset in PRESETS.values() if preset.rare}
    if trials[0].way.normalization not in rare:
        return
    other = next((trial for trial in trials if trial.way.normalization not in rare), None)
    if other is not None and not _beats(trials[0], other):
        trials.remove(other)
        trials.insert(0, other)


def _not_beaten(trials: Sequence[Trial]) -> set[InputRecipe]:
    """Ways that the best one does not beat clearly."""
    if not trials:
        return set()
    leader = max(trials, key=lambda trial: (trial.correct, -trial.loss))
    return {t.way for t in trials if t.correct == leader.correct or mcnemar(*_pair(leader, t)) >= CLEAR}


@dataclass
class _Pixels:
    """by_crop: uint8 (N, H, W, 3), RGB. truth: int64 (N,)."""

    by_crop: dict[float, NDArray[np.uint8]]
    truth: NDArray[np.int64]
    skipped: list[Unreadable]


def _read(picture: ImageInput, photos: LabelledPhotos, crops: Sequence[float], progress: Progress) -> _Pixels:
    """Each photo decoded once and cropped every way."""
    rules = [
        ResizeRule(height=picture.height, width=picture.width, crop_pct=crop, resample=DEFAULT_RESAMPLE)
        for crop in crops
    ]

    def one(index: int) -> list[NDArray[np.uint8]] | Unreadable:
        try:
            frame = read_photo(photos.paths[index])
        except BadImage as error:
            return Unreadable(photos.paths[index], str(error))
        return [crop_resize(frame, rule) for rule in rules]

    found: list[list[NDArray[np.uint8]]] = []
    truth: list[int] = []
    skipped: list[Unreadable] = []
    for index, result in enumerate(map_in_order(one, range(len(photos)))):
        progress(1)
        if isinstance(result, Unreadable):
            skipped.append(result)
        else:
            found.append(result)
            truth.append(photos.targets[index])
    by_crop = {crop: np.stack([item[i] for item in found]) for i, crop in enumerate(crops)} if found else {}
    return _Pixels(by_crop, np.asarray(truth, np.int64), skipped)


def _tried(
    logits: Logits, picture: ImageInput, read: _Pixels, todo: Sequence[InputRecipe], start: int, end: int
) -> list[Trial]:
    """A trial of each way on photos start..end. Batches run beside each other, one thread each."""
    batches = [(way, pixels, truth) for way in todo for pixels, truth in _batches(read, way, start, end)]

    def one(
        batch: tuple[InputRecipe, NDArray[np.uint8], NDArray[np.int64]],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        way, pixels, truth = batch
        scores = logits(picture.values(pixels, way.order, way.normalization))
        return scores.argmax(1) == truth, _losses(scores, truth)

    found: dict[InputRecipe, list[tuple[NDArray[np.bool_], NDArray[np.float64]]]] = {way: [] for way in todo}
    for (way, _, _), result in zip(batches, map_in_order(one, batches), strict=True):
        found[way].append(result)
    return [
        Trial(way, np.concatenate([right for right, _ in parts]), np.concatenate([loss for _, loss in parts], 1))
        for way, parts in found.items()
    ]


def _losses(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """-log p of the truth at every temperature: (T, N)."""
    shifted = scores - scores.max(1, keepdims=True)
    below = shifted[np.arange(len(truth)), truth]
    rows = [np.log(np.exp(shifted / t).sum(1)) - below / t for t in TEMPERATURES]
    return np.asarray(np.minimum(np.stack(rows), 50.0))


def _batches(
    read: _Pixels, way: InputRecipe, start: int, end: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    pixels = read.by_crop[way.crop_pct]
    for at in range(start, end, BATCH):
        part = pixels[at : min(at + BATCH, end)]
        yield (part if way.order == "RGB" else part[..., ::-1]), read.truth[at : min(at + BATCH, end)]


def _joined(first: Trial, second: Trial) -> Trial:
    return replace(
        first,
        right=np.concatenate([first.right, second.right]),
        losses=np.concatenate([first.losses, second.losses], 1),
    )


def _why_not(trials: Sequence[Trial], read: _Pixels) -> str:
    """Why the best of these trials may be luck. "" where it is better than naming the commonest class, by more than chance."""
    n = len(read.truth)
    if n < ENOUGH:
        return f"{n} photos are too few to tell; give {ENOUGH} or more, better 200"
    best = max(trials, key=lambda trial: (trial.n, trial.correct))
    guess = max(np.bincount(read.truth).max() / n, 1e-3)
    luck = sum(math.comb(best.n, k) * guess**k * (1 - guess) ** (best.n - k) for k in range(best.correct, best.n + 1))
    if luck * len(trials) < 0.05:
        return ""
    return (
        f"the best of {len(trials)} ways names {best.correct} of {best.n} right, which is no more than luck: "
        "these photos show none of its classes, or its labels are in another order"
    )
