"""What a benchmark on the device looks like as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import AtLeastOne, Count, NotNegative, RateDocument, Sha256, Share, one_of
from edge_tl_runtime.evaluation.documents import OverlapDocument
from edge_tl_runtime.modelfile.documents import Precision
from edge_tl_runtime.robustness.documents import (
    CorruptionsDocument,
    Epsilon,
    Flags,
    Norm,
    QueriesDocument,
    RateByEpsilon,
)

Utc = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
TwoNumbers = Annotated[list[float], Meta(min_length=2, max_length=2)]
Pictures = Annotated[str, one_of(("pack", "data", "random"))]


class SignatureDocument(TypedDict):
    """Who vouches for a result."""

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    value: Annotated[str, Meta(pattern="^[0-9a-f]{128}$")]


class BenchModelDocument(TypedDict):
    """The file that was measured.

    target: the kind of processor that it was quantized for.
    labels: how many.
    input: height and width.
    """

    name: str
    sha256: Sha256
    bytes: AtLeastOne
    arch: str
    precision: Precision
    target: str
    labels: Annotated[int, Meta(ge=2)]
    input: Annotated[list[AtLeastOne], Meta(min_length=2, max_length=2)]
    parent_sha256: str


class BenchPackDocument(TypedDict):
    """The pack that it was measured with.

    photos: how many it holds.
    """

    name: str
    sha256: Sha256
    photos: AtLeastOne


class _Overlap(TypedDict, total=False):
    training_overlap: OverlapDocument | None


class BenchDataDocument(_Overlap):
    """The photos that it was measured with.

    photos: how many.
    digest: of their names and classes, in order.
    training_overlap: what they were to the model; null where that was not asked.
    """

    name: str
    split: str
    photos: AtLeastOne
    digest: Sha256


class BenchSessionDocument(TypedDict):
    """How onnxruntime ran.

    provider: the one that it took.
    asked: the one in the settings.
    spin: whether threads wait awake.
    """

    provider: str
    asked: str
    threads: AtLeastOne
    spin: bool


class BenchMachineDocument(TypedDict):
    """The machine that measured.

    cores: usable by the process.
    """

    cpu: str
    cores: AtLeastOne
    target: str
    providers: list[str]
    features: list[str]
    memory_bytes: Count
    system: str
    architecture: str
    all_cores: AtLeastOne


class BenchSettingsDocument(TypedDict):
    """What was asked for, the short form of --quick applied.

    seconds, sustained: seconds.
    time_limit: minutes.
    """

    quick: bool
    seconds: NotNegative
    calls: AtLeastOne
    batches: str
    frame_size: str
    sustained: NotNegative
    photos: Count
    corruptions: str
    severities: str
    epsilons: str
    queries: AtLeastOne
    parts: str
    time_limit: NotNegative
    seed: Count


class ConditionsDocument(TypedDict):
    """What the kernel says at one moment; null for what it does not say.

    mhz: the fastest core's clock.
    governor: who sets it.
    throttled: of a Raspberry Pi, for heat or a weak supply.
    throttle_events: of x86 cores, since the machine started.
    """

    temperature_c: float | None
    mhz: Count | None
    governor: str | None
    throttled: bool | None
    throttle_events: Count | None


class PartRunDocument(TypedDict):
    """Under what conditions a part was measured.

    others: part of the time of all cores that other programs took.
    """

    started: Utc
    seconds: NotNegative
    others: Share
    before: ConditionsDocument
    after: ConditionsDocument


class DriftDocument(TypedDict):
    """Whether queries became slower; figures are null for a run too short to tell, with the reason.

    window_s: seconds of a window.
    windows: how many.
    first_ms, last_ms: median of the first and the last tenth.
    change: the last tenth over the first, less one.
    ms_per_minute: median slope of all pairs of windows (Theil and Sen).
    p50_ms: median of each window.
    """

    window_s: NotNegative
    windows: Count
    why: str
    first_ms: NotNegative | None
    last_ms: NotNegative | None
    change: float | None
    ms_per_minute: float | None
    ms_per_minute_ci95: TwoNumbers | None
    slowed: bool | None
    p50_ms: list[NotNegative] | None


class EnergyDocument(TypedDict):
    """Joules while something ran; null where no sensor could be read, with the reason.

    sensors: joules by sensor.
    """

    joules: NotNegative | None
    joules_per_query: NotNegative | None
    sensors: dict[str, NotNegative]
    why: str


class PercentilesDocument(TypedDict):
    """Milliseconds that so many percent of the calls stay within."""

    p50_ms: NotNegative
    p90_ms: NotNegative
    p95_ms: NotNegative
    p99_ms: NotNegative


class TimingDocument(PercentilesDocument):
    """Times of single calls, one after the other.

    queries: calls.
    seconds: of all.
    jitter_ms: p99 less p50.
    std_ms: of the calls about their mean.
    iqr_ms: between their quartiles.
    """

    queries: AtLeastOne
    seconds: NotNegative
    mean_ms: NotNegative
    least_ms: NotNegative
    most_ms: NotNegative
    jitter_ms: NotNegative
    std_ms: NotNegative
    iqr_ms: NotNegative
    queries_per_second: NotNegative


class StreamDocument(TimingDocument):
    """Times of single calls, with their drift and energy.

    complete: false where a time limit came first.
    """

    drift: DriftDocument
    energy: EnergyDocument
    complete: bool


class LatencyDocument(StreamDocument):
    """One photo a call, pixels ready.

    pictures: what was shown.
    """

    pictures: Pictures


class FrameLatencyDocument(LatencyDocument):
    """A whole frame as the runner treats it.

    size: of the frame, as 640x480.
    crop_and_session: of it, crop, resize and inference.
    """

    size: Annotated[str, Meta(pattern="^[0-9]+[xX][0-9]+$")]
    crop_and_session: PercentilesDocument


class ThroughputRowDocument(TypedDict):
    """Calls of so many photos; figures are null where they could not be made, with the reason.

    spread: least and most photos a second.
    """

    batch: AtLeastOne
    photos_per_second: NotNegative | None
    spread: Annotated[list[NotNegative], Meta(min_length=2, max_length=2)] | None
    ms_a_photo: NotNegative | None
    why: str


class ThroughputDocument(TypedDict):
    """Photos a second in calls of several photos.

    best: photos a call of the fastest row.
    """

    rows: list[ThroughputRowDocument]
    best: AtLeastOne | None
    complete: bool


class FreshProcessDocument(TypedDict):
    """What a process that has just started pays; null where the kernel does not say.

    load_ms: until the session stands, without the imports and the first query.
    cpu_ms_a_frame: of all threads.
    peak_mb: resident.
    """

    import_ms: NotNegative | None
    load_ms: NotNegative | None
    first_query_ms: NotNegative | None
    cpu_ms_a_frame: NotNegative | None
    peak_mb: NotNegative | None
    threads: NotNegative | None


class ResourcesDocument(FreshProcessDocument):
    """Medians over fresh processes; why: there are none, or fewer.

    processes: how many were counted.
    """

    file_bytes: AtLeastOne
    processes: Count
    most_first_query_ms: NotNegative | None
    why: str
    complete: bool


class RightPhotosDocument(TypedDict):
    """Which photos were right.

    photos: digest of their names and classes.
    right: a 1 or 0 for each.
    """

    photos: Sha256
    right: Flags


class BenchAccuracyDocument(TypedDict):
    """Accuracy on the labelled photos.

    unreadable: photos that could not be read.
    """

    top1: RateDocument
    unreadable: Count
    outcomes: RightPhotosDocument
    complete: bool


class DifferingDocument(TypedDict):
    """A photo and its two labels."""

    photo: str
    here: str
    workstation: str


class AgreementDocument(TypedDict):
    """Whether the file says here what it said on the workstation.

    file: the one that was asked there.
    identical: photos whose scores are the same to the bit.
    spread: of the scores.
    differing: photos with another label, some of them.
    workstation: the machine there.
    """

    file: str
    same_label: RateDocument
    identical: Count
    largest_difference: NotNegative
    median_difference: NotNegative
    spread: NotNegative
    differing: list[DifferingDocument]
    workstation: dict[str, Any]
    complete: bool


class BenchCorruptionsDocument(CorruptionsDocument):
    """Accuracy under corruptions, here; rates and errors are fractions.

    workstation: mean accuracy there; null where it was measured of something else.
    """

    workstation: Share | None


class StoredResultDocument(TypedDict):
    """What the stored pictures of one attack by one route do here.

    control: random noise, which is no attack.
    still: of the pictures, those that fool here too.
    fooled: photos, by epsilon.
    """

    attack: str
    route: str
    kind: str
    control: bool
    still: RateDocument
    fooled: dict[Epsilon, Count]


class _OfTheModel(TypedDict, total=False):
    model: Sha256
    clean_accuracy: RateDocument
    robust_accuracy: RateByEpsilon


class StoredWorkstationDocument(_OfTheModel):
    """The same of the file that the pictures were made for, on the workstation; empty where the pack does not hold it."""


class StoredPicturesDocument(TypedDict):
    """Accuracy left under the stored pictures that fooled the file on the workstation.

    routes: by route alone.
    """

    norm: Norm
    accuracy: RateByEpsilon
    routes: dict[str, RateByEpsilon]
    attacks: list[StoredResultDocument]
    outcomes: dict[Epsilon, RightPhotosDocument]
    workstation: StoredWorkstationDocument
    complete: bool


class SquareDocument(TypedDict):
    """Accuracy left under the Square attack, run here.

    queries: questions for each photo and epsilon.
    """

    queries: AtLeastOne
    norm: Norm
    accuracy: RateByEpsilon
    queries_to_success: dict[Epsilon, QueriesDocument]
    complete: bool


class PartsDocument(TypedDict, total=False):
    """The parts that were measured."""

    latency: LatencyDocument
    sustained: LatencyDocument
    frame: FrameLatencyDocument
    throughput: ThroughputDocument
    resources: ResourcesDocument
    accuracy: BenchAccuracyDocument
    agreement: AgreementDocument
    corruptions: BenchCorruptionsDocument
    stored: StoredPicturesDocument
    square: SquareDocument


class BenchHeaderDocument(TypedDict):
    """What figures depend on, known before anything is measured."""

    format: Literal[1]
    kind: Literal["edge-tl bench"]
    model: BenchModelDocument
    pack: BenchPackDocument | None
    data: BenchDataDocument | None
    session: BenchSessionDocument
    machine: BenchMachineDocument
    versions: dict[str, str]
    settings: BenchSettingsDocument


class _Signed(TypedDict, total=False):
    signature: SignatureDocument


class BenchDocument(BenchHeaderDocument, _Signed):
    """The file that edge-tl bench -o FILE writes; docs/bench.md says what each key means.

    sha256: of the canonical JSON without sha256 and signature.
    complete: false where a time limit came first.
    sittings: starts that it took.
    runs: conditions, by part.
    absent: part, then why it was not measured.
    """

    sha256: Sha256
    complete: bool
    started: Utc
    ended: Utc
    sittings: AtLeastOne
    parts: PartsDocument
    runs: dict[str, PartRunDocument]
    absent: dict[str, str]
