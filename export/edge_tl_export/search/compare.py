"""Model files side by side on the same photos and the same machine: size, time, accuracy, agreement, and a verdict in words."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.search.fitted_sets import FittedSets, fitted_sets
from edge_tl_export.settings import ExportSettings
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.core.statistics import discordant, group_dependence
from edge_tl_runtime.evaluation.accuracy_claim import AccuracyClaim
from edge_tl_runtime.evaluation.evaluate import Evaluation, Logits, PixelReader, score
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.splitting import photo_origins
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, SessionSettings, open_session
from edge_tl_runtime.inference.ood import OODThresholds, fit_ood_thresholds
from edge_tl_runtime.machine.cpu import OtherPrograms
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule

if TYPE_CHECKING:
    from edge_tl_export.documents import RowDocument

MAX_DROP = ExportSettings().allowed_drop
"""Loss of top-1 against FP32, as a fraction, that a quantized file may have unless the caller says otherwise."""
WARM_UP, RUNS, MOST_RUNS = 10, 60, 20_000
LEAST_SECONDS = 0.1
"""Time that a pair of small files is given at least: the kernel counts in hundredths of a second what other programs take."""
Open = Callable[[bytes, str], Logits]
MAX_KEPT_BYTES = 2**30


@dataclass(frozen=True)
class PairedComparison:
    """Answers of a file against those of FP32 on the same n photos.

    only_fp32, only_this: photos that only one of the two gets right. agreement: share of equal labels. changed: places of the
    photos with another label. dependence: how many photos count as one in the interval (`group_dependence`).
    """

    n: int
    only_fp32: int
    only_this: int
    agreement: float
    changed: tuple[int, ...]
    dependence: float = 1.0

    def claim(self, max_drop: float) -> AccuracyClaim:
        """What these photos show, where a loss of max_drop is allowed."""
        return AccuracyClaim(self.only_fp32, self.only_this, self.n, max_drop, self.dependence)

    @property
    def drop(self) -> float:
        """Top-1 of FP32 minus this file's, a fraction."""
        return (self.only_fp32 - self.only_this) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Of the drop, paired, 95 %."""
        return self.claim(0.0).interval


@dataclass(frozen=True)
class PairedTime:
    """Two files timed in turns on one photo. fp32_ms, this_ms: medians of the same turns, in milliseconds.

    others: part of the machine's processor time, in [0, 1], that other programs took meanwhile.
    """

    fp32_ms: float
    this_ms: float
    others: float = 0.0

    @property
    def speedup(self) -> float:
        """The ratio of the two medians, so that a table never contradicts itself."""
        return self.fp32_ms / self.this_ms

    @property
    def fp32_shown(self) -> str:
        return _shown(self.fp32_ms)

    @property
    def this_shown(self) -> str:
        return _shown(self.this_ms)


def _shown(milliseconds: float) -> str:
    """Two decimals, or three digits where these would hide what a ratio is made of: 17.20, 0.0213."""
    return f"{milliseconds:.2f}" if milliseconds >= 1 else f"{milliseconds:.3g}"


@dataclass(frozen=True)
class CandidateRow:
    """One file of the table.

    time: model alone, one photo, beside FP32; for FP32 itself both are the same.
    evaluation and against are None where there were no evaluation photos, against for FP32 itself too.
    sqnr: signal to quantization noise of the logits, decibels, on the photos that rank candidates; None for FP32, and without
    such photos. max_drop: what the verdict allows. ood_thresholds: from the file's own answers; None where too few photos
    evaluated it. answers: its logits on the evaluation photos, float32 (N, C).
    """

    precision: str
    bytes: int
    time: PairedTime
    evaluation: Evaluation | None = None
    paired: PairedComparison | None = None
    sqnr: float | None = None
    max_drop: float = MAX_DROP
    ood_thresholds: OODThresholds | None = None
    answers: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    @property
    def top1(self) -> float | None:
        return None if self.evaluation is None else self.evaluation.top1

    @property
    def accuracy(self) -> str:
        """Top-1 for a table, with the balanced accuracy where classes are unequal; "n/a" where nothing was evaluated."""
        if self.evaluation is None:
            return "n/a"
        text = f"{100 * self.evaluation.top1:.1f} %"
        return text + (f", balanced {100 * self.evaluation.balanced_accuracy:.1f} %" if self.evaluation.unequal else "")

    @property
    def drop(self) -> float | None:
        return None if self.paired is None else self.paired.drop

    @property
    def speedup(self) -> float:
        return self.time.speedup

    @property
    def claim(self) -> AccuracyClaim | None:
        """What the photos show of its accuracy; None where it was evaluated on none."""
        return None if self.paired is None else self.paired.claim(self.max_drop)

    @property
    def is_accurate(self) -> bool:
        """Whether it was seen to lose no more than allowed, as far as that was evaluated. `claim` says what that shows."""
        return self.claim is None or self.claim.is_within

    @property
    def is_faster(self) -> bool:
        return self.speedup > 1

    @property
    def verdict(self) -> str:
        """In words: whether this file is worth having on this machine."""
        if self.precision == "fp32":
            return "reference"
        speed = "faster" if self.is_faster else f"SLOWER than FP32 ({self.speedup:.2f}x)"
        return f"{speed}; {'accuracy not evaluated' if self.claim is None else self.claim.words}"

    def to_dict(self) -> RowDocument:
        evaluation, paired = self.evaluation, self.paired
        return {
            "precision": self.precision,
            "bytes": self.bytes,
            "top1": None if evaluation is None else round(evaluation.top1, 6),
            "n": None if evaluation is None else evaluation.n,
            "ci95": None if evaluation is None else [round(x, 6) for x in evaluation.ci95],
            "balanced_accuracy": None if evaluation is None else round(evaluation.balanced_accuracy, 6),
            "agreement": None if paired is None else round(paired.agreement, 6),
            "drop": None if paired is None else round(100 * paired.drop, 4),
            "drop_ci95": None if paired is None else [round(100 * x, 4) for x in paired.interval],
            "accuracy_claim": None if self.claim is None else self.claim.to_dict(),
            "sqnr_db": None if self.sqnr is None else round(self.sqnr, 2),
            "latency_ms": round(self.time.this_ms, 5),
            "fp32_latency_ms": round(self.time.fp32_ms, 5),
            "speedup": round(self.speedup, 4),
            "others": round(self.time.others, 3),
            "verdict": self.verdict,
        }


class FileEvaluator:
    """Reads the evaluation photos once, asks every file the same bytes, and compares its answers with FP32's."""

    def __init__(self, photos: LabelledPhotos, rule: ResizeRule) -> None:
        """Pixels are kept up to MAX_KEPT_BYTES, read again beyond."""
        self._photos, self._rule = photos, rule
        self._kept: list[NDArray[np.uint8]] | None = None
        self._targets: NDArray[np.int64] = np.zeros(0, np.int64)
        self._groups: tuple[str, ...] = ()
        self.indices: tuple[int, ...] = ()
        self.skipped: tuple[Unreadable, ...] = ()
        self.reference: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self._photos)

    @property
    def data(self) -> str:
        """Where the photos come from, in words."""
        return f"{self._photos.split} of {self._photos.root.resolve().name}"

    def evaluator(
        self, logits: Logits, progress: Progress = lambda done: None
    ) -> tuple[Evaluation, NDArray[np.float32]]:
        """The evaluation of a file, and its answers, float32 (N, C). progress: called with the photos just answered."""
        rows = []
        for pixels in self.batches():
            rows.append(logits(pixels))
            progress(len(pixels))
        answers = np.concatenate(rows)
        return score(answers, self._targets, self._photos.labels, self.data, groups=self._groups), answers

    def paired(self, answers: NDArray[np.float32]) -> PairedComparison:
        """Answers against those of `reference`, which must be there."""
        assert self.reference is not None
        first, second = self.reference.argmax(1), answers.argmax(1)
        right_first, right_second = first == self._targets, second == self._targets
        only_first, only_second = discordant(right_first, right_second)
        return PairedComparison(
            n=len(answers),
            only_fp32=only_first,
            only_this=only_second,
            agreement=float((first == second).mean()),
            changed=tuple(int(i) for i in np.flatnonzero(first != second)),
            dependence=group_dependence(right_first.astype(np.int64) - right_second, self._groups),
        )

    def pixels(self, place: int) -> NDArray[np.uint8]:
        """The pixels of one evaluated photo, uint8 (H, W, 3), in the network's colour order."""
        one = self._photos.subset([self.indices[place]], self._photos.split)
        (batch,) = PixelReader(one, self._rule)
        pixels: NDArray[np.uint8] = batch.pixels[0]
        return pixels

    def label_sets(self, answers: NDArray[np.float32] | None, spec: ModelSpec) -> FittedSets | None:
        """Sets of labels by a file's answers to the photos, float32 (N, C); None where the photos are too few."""
        return None if answers is None else fitted_sets(answers, self._targets, self._groups, spec, self.data)

    def name(self, place: int) -> str:
        return self._photos.name(self.indices[place])

    def target(self, place: int) -> int:
        return int(self._targets[place])

    @property
    def origins(self) -> tuple[str, ...]:
        """Of the photos that were read, as `LabelledPhotos.groups`."""
        return self._groups

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """Pixels of the photos, uint8 (N, H, W, 3) each."""
        if self._kept is not None:
            yield from self._kept
            return
        reader = PixelReader(self._photos, self._rule)
        rule, kept = self._rule, []
        origins = self._photos.groups or photo_origins(self._photos)
        keep = len(self._photos) * rule.height * rule.width * 3 <= MAX_KEPT_BYTES
        indices: list[int] = []
        for batch in reader:
            indices += batch.indices
            if keep:
                kept.append(batch.pixels)
            self._targets = np.asarray([self._photos.targets[i] for i in indices], np.int64)
            self._groups = tuple(origins[i] for i in indices)
            yield batch.pixels
        self.indices, self.skipped = tuple(indices), tuple(reader.skipped)
        self._kept = kept if keep else None


class Comparison:
    """FP32 and what is measured against it: the same photos, the same machine, in turns."""

    def __init__(
        self,
        fp32: bytes,
        rule: ResizeRule,
        evaluator: FileEvaluator | None,
        open_model: Open,
        max_drop: float = MAX_DROP,
        progress: Progress = lambda done: None,
    ) -> None:
        """evaluator: None measures speed alone. open_model: a session over a serialized model, named for messages.

        progress: called with the number of photos that FP32 has just answered.
        """
        self.evaluator, self.max_drop = evaluator, max_drop
        self.open, self.fp32, self._rule = open_model, open_model(fp32, "fp32"), rule
        evaluation = ood_thresholds = None
        if evaluator is not None:
            evaluation, evaluator.reference = evaluator.evaluator(self.fp32, progress)
            ood_thresholds = fit_ood_thresholds(evaluator.reference, evaluation.data)
        self.reference = CandidateRow(
            "fp32",
            len(fp32),
            paired_time(self.fp32, self.fp32, rule),
            evaluation,
            max_drop=max_drop,
            ood_thresholds=ood_thresholds,
            answers=None if evaluator is None else evaluator.reference,
        )

    def time(self, model: bytes, name: str) -> PairedTime:
        """A file beside FP32, in turns; nothing is evaluated."""
        return paired_time(self.fp32, self.open(model, name), self._rule)

    def row(self, precision: str, model: bytes, name: str, sqnr: float | None = None) -> CandidateRow:
        """A file's row: its answers and its time against those of FP32. sqnr: as in Row, where it is known."""
        logits = self.open(model, name)
        time = paired_time(self.fp32, logits, self._rule)
        row = CandidateRow(precision, len(model), time, sqnr=sqnr, max_drop=self.max_drop)
        if self.evaluator is None:
            return row
        evaluation, answers = self.evaluator.evaluator(logits)
        return replace(
            row,
            evaluation=evaluation,
            paired=self.evaluator.paired(answers),
            ood_thresholds=fit_ood_thresholds(answers, evaluation.data),
            answers=answers,
        )


def sqnr(reference: NDArray[np.float32], answers: NDArray[np.float32]) -> float:
    """Signal to quantization noise of logits, decibels: what a change of weights or ranges costs, without the chance of labels.

    Logits are centred for each photo, since softmax and argmax do not see what all classes share.
    """
    centred = reference - reference.mean(1, keepdims=True)
    noise = answers - answers.mean(1, keepdims=True) - centred
    power = float((noise.astype(np.float64) ** 2).sum())
    signal = float((centred.astype(np.float64) ** 2).sum())
    return 120.0 if power <= signal * 1e-12 else float(10 * np.log10(signal / power)) if signal > 0 else 0.0


def paired_time(
    reference: Logits,
    other: Logits,
    rule: ResizeRule,
    runs: int = RUNS,
    seconds: float = LEAST_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> PairedTime:
    """`reference` and `other` on one photo, in turns: so many runs at least, more of small networks to fill the seconds."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, rule.height, rule.width, 3), np.uint8)
    for _ in range(WARM_UP):
        reference(pixels)
        other(pixels)
    first: list[float] = []
    second: list[float] = []
    watch, started = OtherPrograms(), clock()
    while len(first) < runs or (clock() - started < seconds and len(first) < MOST_RUNS):
        for logits, spent in ((reference, first), (other, second)):
            before = clock()
            logits(pixels)
            spent.append(clock() - before)
    return PairedTime(1e3 * statistics.median(first), 1e3 * statistics.median(second), watch.share())


def open_model(model: bytes, name: str, output: str = OUTPUT_NAME) -> Logits:
    """What a serialized model answers, by the session that the device opens. output: its logits, or another output, (N, D)."""
    # Threads that spin between turns would take the cores from the other session while the two are timed in turns.
    session = open_session(model, name, SessionSettings(spin=False))

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (scores,) = session.run([output], {INPUT_NAME: pixels})
        return np.asarray(scores, np.float32)

    return logits


def in_batches(logits: Logits, pixels: NDArray[np.uint8], size: int = 8) -> NDArray[np.float32]:
    """Answers to any number of pixels, float32 (N, C), `size` photos at once."""
    return np.concatenate([logits(pixels[i : i + size]) for i in range(0, len(pixels), size)])
