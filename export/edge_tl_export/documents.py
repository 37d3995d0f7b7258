"""What an export looks like as JSON."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import AtLeastOne, Count, Interval, NotNegative, Sha256, Share, one_of
from edge_tl_runtime.evaluation.documents import ClaimDocument
from edge_tl_runtime.images.documents import SkippedDocument
from edge_tl_runtime.machine.cpu import TARGETS
from edge_tl_runtime.modelfile.documents import Precision

Target = Annotated[str, one_of(TARGETS)]


class RuntimeCheckDocument(TypedDict):
    """What another runtime makes of the file.

    reason: why it could not read the file; empty where it could.
    top1_equal: photos that it labels as onnxruntime does.
    top1_least: how many of them there must be.
    """

    runtime: str
    version: str
    max_difference: NotNegative
    tolerance: NotNegative
    top1_equal: Count
    n: Count
    reason: str
    top1_least: Count
    agrees: bool


class RowDocument(TypedDict):
    """One row of the table.

    balanced_accuracy: mean recall over the classes that have photos.
    agreement: share of photos that it labels as FP32 does.
    drop: points of top-1 lost against FP32.
    accuracy_claim: null where no photos evaluated it.
    sqnr_db: signal over quantization noise in the scores, decibels.
    fp32_latency_ms: of FP32, in the same paired run.
    others: part of the processor time that other programs took meanwhile.
    verdict: for a person.
    """

    precision: Precision
    bytes: AtLeastOne
    top1: Share | None
    n: Count | None
    ci95: Interval | None
    balanced_accuracy: Share | None
    agreement: Share | None
    drop: float | None
    drop_ci95: Interval | None
    accuracy_claim: ClaimDocument | None
    sqnr_db: float | None
    latency_ms: NotNegative
    fp32_latency_ms: NotNegative
    speedup: NotNegative
    others: Share
    verdict: str


class KeptDocument(TypedDict):
    """Photos that trained nothing, and how many of them stay known; of background photos, how many are called unknown."""

    noticed: Count
    n: AtLeastOne


class TrialDocument(TypedDict):
    """Pictures of nothing that was trained on, and how many of them are called unknown."""

    kind: str
    noticed: Count
    n: AtLeastOne


class DetectionDocument(TypedDict):
    """What a file tells of pictures that are like none of its training photos.

    keep: fraction of photos like those that should stay known. placed_by: the photos that placed the threshold, in words.
    set_aside: names of evaluation photos that placed nothing, because they are like no other. unknown: of others called unknown.
    """

    keep: Share
    kept: KeptDocument
    placed_by: str
    set_aside: list[str]
    unknown: list[str]
    trials: list[TrialDocument]


class BackgroundTrialDocument(TypedDict):
    """What a file notices of background photos.

    keep: fraction of photos like those of the classes that stays known unless another is asked for.
    chosen_by: photos that chose it, and how many of them are called unknown.
    check: the same of others, which chose nothing.
    """

    keep: Share
    chosen_by: KeptDocument
    check: KeptDocument


class SetsDocument(TypedDict):
    """Sets of labels that hold the right one.

    sizes: labels in a set on average, by coverage.
    n: photos that placed the thresholds.
    """

    sizes: dict[str, NotNegative]
    n: AtLeastOne


class ModelFileDocument(RowDocument):
    """A file that was written. detection: null where it cannot tell unknown pictures. label_sets: null where it has none.
    background: null without background photos."""

    path: str
    sha256: Sha256
    runtime_checks: list[RuntimeCheckDocument]
    detection: DetectionDocument | None
    label_sets: SetsDocument | None
    background: BackgroundTrialDocument | None


class RecipeDocument(TypedDict):
    """How a file was quantized.

    float_nodes: layers that stay in float.
    """

    activations: Annotated[str, one_of(("uint8", "int8"))]
    weight_bits: AtLeastOne
    per_channel: bool
    calibration: str
    pixels: bool
    equalize: NotNegative
    correct_bias: bool
    rounding: str
    hard_swish: bool
    float_nodes: list[str]


class CandidateDocument(TypedDict):
    """A way of quantizing that was tried.

    row: its figures; null where it was not evaluated.
    """

    name: str
    recipe: RecipeDocument
    trained: bool
    bytes: AtLeastOne
    sqnr_db: float | None
    row: RowDocument | None


class LayerDocument(TypedDict):
    """What one layer alone in INT8 costs.

    place: of the layer in the graph, from 0.
    agreement: share of labels kept.
    """

    name: str
    place: Count
    sqnr_db: float
    agreement: Share


class ParityDocument(TypedDict):
    """What was exported against the file, on the same pixels.

    reference: what the file was compared with.
    max_difference: the largest absolute one between two logits.
    """

    reference: Annotated[str, one_of(("PyTorch", "the file"))]
    max_difference: NotNegative
    tolerance: NotNegative
    top1_equal: Count
    n: Count


class ChangedDocument(TypedDict):
    """A photo that the last file labels otherwise."""

    photo: str
    truth: str
    fp32: str
    quantized: str


class ExportDocument(TypedDict):
    """What edge-tl export writes as export.json and prints with --json; docs/export.md says what each key means.

    models: files that were written, FP32 first.
    drop: points of top-1 that the last file loses against FP32.
    others: the largest of what is shown; above 0.1 figures of speed are doubtful.
    max_drop: points.
    refused: why the kind that was asked for was not written; empty when it was.
    front: names of the candidates that none beats in both accuracy and speed.
    changed: photos that the last file labels otherwise.
    warnings: lines for a person.
    skipped: files that were passed over, each with the reason.
    """

    format: Literal[2]
    models: Annotated[list[ModelFileDocument], Meta(min_length=1)]
    drop: float | None
    speedup: NotNegative
    others: Share
    size_ratio: NotNegative
    max_drop: NotNegative
    target: Target
    machine: str
    refused: str
    parity: ParityDocument
    calibration_photos: Count
    candidates: list[CandidateDocument]
    front: list[str]
    layers: list[LayerDocument]
    changed: list[ChangedDocument]
    warnings: list[str]
    skipped: list[SkippedDocument]


class FaithfulnessDocument(TypedDict):
    """A network that was rebuilt from a file against that file, on the same photos.

    largest: the largest difference between two scores.
    step: of the scores, where the file rounds them.
    """

    n: Count
    top1_equal: Count
    largest: NotNegative
    step: NotNegative
    integer: bool
    holds: bool
