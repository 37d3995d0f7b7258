"""Model files side by side on the same photos and the same machine: size, time, accuracy, agreement, and a verdict in words."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.classifier import INPUT_NAME, OUTPUT_NAME, SessionSettings, open_session
from edge_tl_runtime.dataset import LabelledPhotos
from edge_tl_runtime.evaluate import Evaluation, Logits, PixelReader, Progress, score
from edge_tl_runtime.familiarity import Familiarity, fit_familiarity
from edge_tl_runtime.photos import Unreadable
from edge_tl_runtime.spec import ResizeRule
from edge_tl_runtime.statistics import discordant, paired_interval

MAX_DROP = 0.005
"""Loss of top-1 against FP32, as a fraction, that a quantized file may have unless the caller says otherwise."""
WARM_UP, RUNS = 10, 60
Open = Callable[[bytes, str], Logits]
MAX_KEPT_BYTES = 2**30


@dataclass(frozen=True)
class Against:
    """Answers of a file against those of FP32 on the same n photos.

    drop: top-1 of FP32 minus this file's, as a fraction, with its paired 95 % interval. agreement: share of equal labels.
    only_fp32, only_this: photos that only one of the two gets right. changed: places of the photos with another label.
    """

    drop: float
    interval: tuple[float, float]
    agreement: float
    only_fp32: int
    only_this: int
    changed: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One file of the table.

    latency_ms: median, one photo, model alone. speedup: median of paired ratios FP32 / this.
    evaluation and against are None where there were no photos to judge on, against for FP32 itself too.
    sqnr: signal to quantization noise of the logits, decibels; None for FP32. max_drop: what the verdict allows.
    familiarity: thresholds from the file's own answers; None where too few photos judged it.
    """

    precision: str
    bytes: int
    latency_ms: float
    speedup: float
    evaluation: Evaluation | None = None
    against: Against | None = None
    sqnr: float | None = None
    max_drop: float = MAX_DROP
    familiarity: Familiarity | None = None

    @property
    def top1(self) -> float | None:
        return None if self.evaluation is None else self.evaluation.top1

    @property
    def accuracy(self) -> str:
        """Top-1 for a table, with the balanced accuracy where classes are unequal; "n/a" where nothing was judged."""
        if self.evaluation is None:
            return "n/a"
        text = f"{100 * self.evaluation.top1:.1f} %"
        return text + (f", balanced {100 * self.evaluation.balanced_accuracy:.1f} %" if self.evaluation.unequal else "")

    @property
    def drop(self) -> float | None:
        return None if self.against is None else self.against.drop

    @property
    def is_accurate(self) -> bool:
        """Whether it lost no more than allowed, as far as that was judged."""
        return self.drop is None or self.drop <= self.max_drop + 1e-9

    @property
    def is_faster(self) -> bool:
        return self.speedup > 1

    @property
    def verdict(self) -> str:
        """In words: whether this file is worth having on this machine."""
        if self.precision == "fp32":
            return "reference"
        said = []
        if not self.is_faster:
            said.append(f"SLOWER than FP32 ({self.speedup:.2f}x)")
        if not self.is_accurate:
            said.append(f"{100 * (self.drop or 0):.1f} points LESS ACCURATE than FP32")
        if said:
            return " and ".join(said)
        return "faster, accuracy not judged" if self.drop is None else "faster, accuracy kept"

    def to_dict(self) -> dict[str, Any]:
        evaluation, against = self.evaluation, self.against
        return {
            "precision": self.precision,
            "bytes": self.bytes,
            "top1": None if evaluation is None else round(evaluation.top1, 6),
            "n": None if evaluation is None else evaluation.n,
            "ci95": None if evaluation is None else [round(x, 6) for x in evaluation.ci95],
            "balanced_accuracy": None if evaluation is None else round(evaluation.balanced_accuracy, 6),
            "agreement": None if against is None else round(against.agreement, 6),
            "drop": None if against is None else round(100 * against.drop, 4),
            "drop_ci95": None if against is None else [round(100 * x, 4) for x in against.interval],
            "sqnr_db": None if self.sqnr is None else round(self.sqnr, 2),
            "latency_ms": round(self.latency_ms, 4),
            "speedup": round(self.speedup, 4),
            "verdict": self.verdict,
        }


class Judge:
    """Reads the photos to judge on once, asks every file the same bytes, and compares its answers with FP32's."""

    def __init__(self, photos: LabelledPhotos, rule: ResizeRule) -> None:
        """Pixels are kept up to MAX_KEPT_BYTES, read again beyond."""
        self._photos, self._rule = photos, rule
        self._kept: list[NDArray[np.uint8]] | None = None
        self._targets: NDArray[np.int64] = np.zeros(0, np.int64)
        self.indices: tuple[int, ...] = ()
        self.skipped: tuple[Unreadable, ...] = ()
        self.reference: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self._photos)

    def judge(self, logits: Logits, progress: Progress = lambda done: None) -> tuple[Evaluation, NDArray[np.float32]]:
        """The evaluation of a file, and its answers, float32 (N, C). progress: called with the photos just answered."""
        rows = []
        for pixels in self._batches():
            rows.append(logits(pixels))
            progress(len(pixels))
        answers = np.concatenate(rows)
        data = f"{self._photos.split} of {self._photos.root.resolve().name}"
        return score(answers, self._targets, self._photos.labels, data), answers

    def against(self, answers: NDArray[np.float32]) -> Against:
        """Answers against those of `reference`, which must be there."""
        assert self.reference is not None
        first, second = self.reference.argmax(1), answers.argmax(1)
        right_first, right_second = first == self._targets, second == self._targets
        only_first, only_second = discordant(right_first, right_second)
        n = len(answers)
        return Against(
            drop=(only_first - only_second) / n,
            interval=paired_interval(only_first, only_second, n),
            agreement=float((first == second).mean()),
            only_fp32=only_first,
            only_this=only_second,
            changed=tuple(int(i) for i in np.flatnonzero(first != second)),
        )

    def pixels(self, place: int) -> NDArray[np.uint8]:
        """The pixels of one judged photo, uint8 (H, W, 3), in the network's colour order."""
        one = self._photos.subset([self.indices[place]], self._photos.split)
        (batch,) = PixelReader(one, self._rule)
        pixels: NDArray[np.uint8] = batch.pixels[0]
        return pixels

    def name(self, place: int) -> str:
        return self._photos.name(self.indices[place])

    def target(self, place: int) -> int:
        return int(self._targets[place])

    def _batches(self) -> Iterator[NDArray[np.uint8]]:
        if self._kept is not None:
            yield from self._kept
            return
        reader = PixelReader(self._photos, self._rule)
        rule, kept = self._rule, []
        keep = len(self._photos) * rule.height * rule.width * 3 <= MAX_KEPT_BYTES
        indices: list[int] = []
        for batch in reader:
            indices += batch.indices
            if keep:
                kept.append(batch.pixels)
            self._targets = np.asarray([self._photos.targets[i] for i in indices], np.int64)
            yield batch.pixels
        self.indices, self.skipped = tuple(indices), tuple(reader.skipped)
        self._kept = kept if keep else None


class Comparison:
    """FP32 and what is measured against it: the same photos, the same machine, in turns."""

    def __init__(
        self,
        fp32: bytes,
        rule: ResizeRule,
        judge: Judge | None,
        open_model: Open,
        max_drop: float = MAX_DROP,
        progress: Progress = lambda done: None,
    ) -> None:
        """judge: None measures speed alone. open_model: a session over a serialized model, named for messages.

        progress: called with the number of photos that FP32 has just answered.
        """
        self.judge, self.max_drop = judge, max_drop
        self.open, self.fp32, self._rule = open_model, open_model(fp32, "fp32"), rule
        evaluation = familiarity = None
        if judge is not None:
            evaluation, judge.reference = judge.judge(self.fp32, progress)
            familiarity = fit_familiarity(judge.reference, evaluation.data)
        milliseconds, _, _ = paired_latency(self.fp32, self.fp32, rule)
        self.reference = Row(
            "fp32", len(fp32), milliseconds, 1.0, evaluation, max_drop=max_drop, familiarity=familiarity
        )

    def row(self, precision: str, model: bytes, name: str) -> Row:
        """A file's row: its answers and its time against those of FP32."""
        logits = self.open(model, name)
        _, milliseconds, speedup = paired_latency(self.fp32, logits, self._rule)
        row = Row(precision, len(model), milliseconds, speedup, max_drop=self.max_drop)
        if self.judge is None:
            return row
        evaluation, answers = self.judge.judge(logits)
        assert self.judge.reference is not None
        return replace(
            row,
            evaluation=evaluation,
            against=self.judge.against(answers),
            sqnr=sqnr(self.judge.reference, answers),
            familiarity=fit_familiarity(answers, evaluation.data),
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


def paired_latency(reference: Logits, other: Logits, rule: ResizeRule, runs: int = RUNS) -> tuple[float, float, float]:
    """Median milliseconds of `reference` and of `other` for one photo, taken in turns, and the median of reference / other."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, rule.height, rule.width, 3), np.uint8)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(WARM_UP + runs):
        for logits, spent in zip((reference, other), times, strict=True):
            seconds = _timed(logits, pixels)
            if turn >= WARM_UP:
                spent.append(seconds)
    first, second = (1e3 * statistics.median(spent) for spent in times)
    return first, second, statistics.median(a / b for a, b in zip(*times, strict=True))


def _timed(function: Callable[[NDArray[np.uint8]], object], pixels: NDArray[np.uint8]) -> float:
    started = time.perf_counter()
    function(pixels)
    return time.perf_counter() - started


def open_model(model: bytes, name: str) -> Logits:
    """What a serialized model answers, by the session that the device opens."""
    # Threads that spin between turns would take the cores from the other session while the two are timed in turns.
    session = open_session(model, name, SessionSettings(spin=False))

    def logits(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (scores,) = session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        return np.asarray(scores, np.float32)

    return logits


def in_batches(logits: Logits, pixels: NDArray[np.uint8], size: int = 8) -> NDArray[np.float32]:
    """Answers to any number of pixels, float32 (N, C), `size` photos at once."""
    return np.concatenate([logits(pixels[i : i + size]) for i in range(0, len(pixels), size)])
