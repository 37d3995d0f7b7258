"""What `edge-tl report --json` prints: a list of these, one for each result."""

from __future__ import annotations

from typing import TypedDict

from edge_tl.adversarial.documents import AttackedModelDocument
from edge_tl.training.documents import FiguresDocument
from edge_tl_runtime.bench.documents import BenchModelDocument
from edge_tl_runtime.core.documents import AtLeastOne, Count, Interval, NotNegative, RateDocument, Sha256, Share
from edge_tl_runtime.robustness.documents import Epsilon, RateByEpsilon


class PairedDocument(TypedDict):
    """The same photos by the first result and by this one.

    only_first, only_this: photos that only the one gets right.
    difference: this one minus the first.
    p: exact two-sided McNemar test.
    """

    only_first: Count
    only_this: Count
    n: AtLeastOne
    difference: float
    ci95: Interval
    p: Share


class _Parts(TypedDict, total=False):
    val: FiguresDocument
    test: FiguresDocument


class RunComparedDocument(_Parts):
    """A run beside the first.

    size: side of the input in pixels.
    best: where the weights come from, in words.
    val, test: absent where the run keeps no answers for such photos.
    ece: expected calibration error on the test photos, or else the validation photos; null without stored answers.
    p: null for the first run and where photos differ.
    """

    run: str
    arch: str
    size: AtLeastOne
    best: str
    ece: NotNegative | None
    only_first: Count
    only_this: Count
    p: Share | None


class AttackComparedDocument(TypedDict):
    """A robustness evaluation beside the first.

    robust: by epsilon; empty where an alarm withholds it.
    alarms: that withhold it.
    pairs: by epsilon.
    unpaired: why some are missing; empty where none is.
    """

    attack: str
    model: AttackedModelDocument
    clean: RateDocument
    robust: RateByEpsilon
    alarms: list[str]
    pairs: dict[Epsilon, PairedDocument]
    unpaired: str


class BenchComparedDocument(TypedDict):
    """A result of the benchmark beside the first; null where it was not measured.

    sha256: of the result.
    machine: its processor.
    stored, square: accuracy left by epsilon, under stored pictures and the Square attack.
    pairs: by epsilon of stored pictures, 0 for clean photos.
    unpaired: why there are none; empty where there are.
    """

    result: str
    sha256: Sha256
    model: BenchModelDocument
    machine: str
    p50_ms: NotNegative | None
    p99_ms: NotNegative | None
    photos_per_second: NotNegative | None
    top1: RateDocument | None
    stored: RateByEpsilon
    square: RateByEpsilon
    pairs: dict[Epsilon, PairedDocument]
    unpaired: str
