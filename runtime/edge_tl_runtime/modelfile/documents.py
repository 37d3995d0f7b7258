"""What the contract inside a model file looks like as JSON; `ModelSpec` reads it and checks what types and bounds cannot say."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import NotNegative, Share, one_of
from edge_tl_runtime.modelfile.sections import ARRAY_TYPES, FITS, FLIPS, MAX_HISTORY
from edge_tl_runtime.modelfile.spec import ACTIVATIONS, COLOR_ORDERS, MAX_LABEL, PRECISIONS

_NO_CONTROL = {"not": {"pattern": "[\x00-\x1f\x7f-\x9f\u2028\u2029]"}}

Line = Annotated[str, Meta(extra_json_schema=_NO_CONTROL)]
"""Text without control characters and line breaks."""
Named = Annotated[str, Meta(min_length=1, extra_json_schema=_NO_CONTROL)]
Label = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL, pattern=r"\S", extra_json_schema=_NO_CONTROL)]
Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]
Many = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Precision = Annotated[str, one_of(PRECISIONS)]
Side = Annotated[int, Meta(ge=1, le=4096)]
Positive = Annotated[float, Meta(gt=0)]
ThreeNumbers = Annotated[list[float], Meta(min_length=3, max_length=3)]
Thresholds = dict[Annotated[str, Meta(pattern="^[0-9.eE+-]+$")], float]
"""By the fraction of photos, as text."""


class _Filled(TypedDict, total=False):
    fill: Annotated[int, Meta(ge=0, le=255)] | None


class GeometryDocument(_Filled):
    """What is done to a frame before the crop.

    rotate: degrees clockwise.
    crop: x, y, width, height as fractions of the turned frame.
    fill: grey level of a letterbox.
    """

    rotate: Literal[0, 90, 180, 270]
    flip: Annotated[str, one_of(FLIPS)]
    crop: Annotated[list[Share], Meta(min_length=4, max_length=4)]
    fit: Annotated[str, one_of(FITS)]


class _Turned(TypedDict, total=False):
    geometry: GeometryDocument | None


class ResizeDocument(_Turned):
    """From a frame to the pixels of the network: docs/contract.md.

    geometry: what is done to the frame before; the contract holds it beside this object.
    """

    height: Side
    width: Side
    crop_pct: Annotated[float, Meta(gt=0, le=1)]
    resample: Line
    color_order: Annotated[str, one_of(COLOR_ORDERS)]


class NormalizationDocument(TypedDict):
    """Done inside the graph: (pixel / 255 - mean) / std."""

    mean: ThreeNumbers
    std: Annotated[list[Positive], Meta(min_length=3, max_length=3)]


class ScoresDocument(TypedDict):
    """Softmax(logits / temperature)."""

    activation: Annotated[str, one_of(ACTIVATIONS)]
    temperature: Annotated[float, Meta(ge=1e-6, le=1e6)]


class AccuracyDocument(TypedDict):
    """A figure of this very file.

    data: the photos, in words.
    """

    top1: Share
    ci95: Annotated[list[float], Meta(min_length=2, max_length=2)]
    n: Many
    data: Line


class SelfTestDocument(TypedDict):
    """A picture and the scores of the file for it: as many as there are labels.

    thumbnail: zlib of side x side x 3 bytes.
    """

    thumbnail: Base64
    side: Annotated[int, Meta(ge=1, le=512)]
    top1: Annotated[int, Meta(ge=0)]
    logits: Annotated[list[float], Meta(min_length=1)]
    tolerance: NotNegative


class PhotoHashesDocument(TypedDict):
    """Photos by their hashes.

    n: different files.
    n_pictures: those of them with a picture hash.
    files: 4 bytes a file.
    pictures: 12 bytes a picture.
    """

    n: Many
    n_pictures: Many
    files: Base64
    pictures: Base64


class TrainingImagesDocument(TypedDict):
    """Which photos the model has seen: docs/contract.md.

    radius: bits of a picture hash in which a copy may differ; -1 where copies cannot be told.
    """

    method: Named
    radius: Annotated[int, Meta(ge=-1, le=48)]
    trained_on: PhotoHashesDocument
    validation: PhotoHashesDocument


class FeaturesDocument(TypedDict):
    """A second output of the graph.

    output: its name.
    size: values a picture.
    """

    output: Named
    size: Annotated[int, Meta(ge=1, le=1 << 20)]


class ArrayDocument(TypedDict):
    """Numbers in few bytes, little endian, row by row."""

    dtype: Annotated[str, one_of(ARRAY_TYPES)]
    shape: Annotated[list[Annotated[int, Meta(ge=0, le=1 << 24)]], Meta(max_length=4)]
    data: Base64


class OODScoreDocument(TypedDict):
    """How unlike the photos that the file was evaluated on a photo is.

    score: name of the rule.
    thresholds: fraction of photos to keep, as text, to the lowest score.
    n, data: the photos that they come from.
    """

    score: Named
    parameters: dict[str, float | Line | ArrayDocument]
    thresholds: Thresholds
    n: Many
    data: Line


class LabelSetsDocument(TypedDict):
    """Sets of labels that hold the right one with a stated probability.

    thresholds: coverage, as text, to the value.
    """

    method: Named
    thresholds: Thresholds
    n: Many
    data: Line


class ClassStatisticsDocument(TypedDict):
    """What a head is fitted from without the old photos.

    counts: photos per class.
    """

    counts: list[Many]
    means: ArrayDocument
    covariance: ArrayDocument


class BackgroundDocument(TypedDict):
    """A class of nothing, which is no label.

    index: its place among the logits.
    """

    index: Annotated[int, Meta(ge=0, lt=1 << 24)]


class TeachingDocument(TypedDict):
    """One step in the history of a file."""

    what: Line
    parent_sha256: Line
    photos: Many


class _Sections(TypedDict, total=False):
    needs: list[Line]
    training_images: TrainingImagesDocument | None
    geometry: GeometryDocument | None
    features: FeaturesDocument | None
    ood_score: OODScoreDocument | None
    class_statistics: ClassStatisticsDocument | None
    background: BackgroundDocument | None
    label_sets: LabelSetsDocument | None
    history: Annotated[list[TeachingDocument], Meta(max_length=MAX_HISTORY)]


class ContractDocument(_Sections):
    """Metadata key edge_tl.spec of an ONNX file; docs/contract.md says what each key means.

    version: 3 is written; 2 has one output alone; 1 has none of the sections from needs to history.
    labels: class names in the order of the logits.
    training, export: settings and versions.
    data_fingerprint: SHA-256 over the training photos, or empty.
    parent_sha256: SHA-256 of the file that this one was made from, or empty.
    needs: keys that a reader must obey, or refuse the file.
    history: how the file was taught, oldest first.
    """

    version: Literal[1, 2, 3]
    labels: Annotated[list[Label], Meta(min_length=2, extra_json_schema={"uniqueItems": True})]
    arch: Line
    precision: Precision
    resize: ResizeDocument
    normalization: NormalizationDocument
    scores: ScoresDocument
    validation: AccuracyDocument | None
    training: dict[str, Any]
    export: dict[str, Any]
    data_fingerprint: Line
    parent_sha256: Line
    self_test: SelfTestDocument | None


class InspectDocument(ContractDocument):
    """What edge-tl inspect --json prints: the file, and its contract.

    bytes, sha256: of the file.
    target_warning: why INT8 of the file does not suit this machine; empty where it does.
    """

    bytes: Annotated[int, Meta(ge=1)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    target_warning: str
