"""What an attack finds looks like as JSON."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from edge_tl_export.documents import FaithfulnessDocument
from edge_tl_runtime.core.documents import (
    AtLeastOne,
    Count,
    Interval,
    NotNegative,
    PluginDocument,
    RateDocument,
    Sha256,
    Share,
    one_of,
)
from edge_tl_runtime.evaluation.documents import OverlapDocument
from edge_tl_runtime.images.documents import SkippedDocument
from edge_tl_runtime.modelfile.documents import Precision, ResizeDocument
from edge_tl_runtime.robustness.documents import (
    AlarmDocument,
    AttackKind,
    AttackSettingsDocument,
    CorruptionsDocument,
    EnvironmentDocument,
    Epsilon,
    Flags,
    Norm,
    QueriesDocument,
    RateByEpsilon,
    UnplacedModelDocument,
)


class AttackedModelDocument(UnplacedModelDocument):
    """A model file."""

    path: str


class ThreatDocument(TypedDict):
    """What an attacker may do.

    queries: the most questions to the file for each photo.
    """

    norm: Norm
    where: str
    goal: str
    knowledge: list[str]
    epsilons: Annotated[list[NotNegative], Meta(min_length=2)]
    unit: str
    queries: Count


class _Added(TypedDict, total=False):
    plugin: PluginDocument | None


class AttackRunDocument(_Added):
    """One attack by one route.

    paper: where the attack was published.
    success: of the photos that were right without an attack.
    curve: pairs: questions asked, photos fooled within so many.
    plugin: the package that adds this attack; null for one of edge-tl.
    """

    name: str
    route: str
    kind: AttackKind
    attack: str
    paper: str
    success: RateByEpsilon
    queries: dict[Epsilon, QueriesDocument]
    curve: dict[Epsilon, list[Annotated[list[Count], Meta(min_length=2, max_length=2)]]]


class ModelUnderTestDocument(TypedDict):
    """One of the files that were attacked.

    attackable: photos that were right without an attack, or those to be made into another class.
    worst: what stays right under the worst attack.
    """

    name: str
    clean: RateDocument
    attackable: Count
    worst: RateByEpsilon
    attacks: list[AttackRunDocument]


class _Counterpart(TypedDict, total=False):
    fp32_counterpart: ModelUnderTestDocument


class ModelsUnderTestDocument(_Counterpart):
    """The files that were attacked; fp32_counterpart: the FP32 file that a quantized one was made from."""

    model: ModelUnderTestDocument


class AbsentRouteDocument(TypedDict):
    """A way of attacking that was not possible."""

    route: str
    why: str


class FaithfulnessTextDocument(FaithfulnessDocument):
    """Whether the network that gradients were taken from is the file.

    text: in words.
    """

    text: str


class PairDocument(TypedDict):
    """A file beside its FP32 counterpart on the same photos.

    only_model: photos that only this file gets right.
    difference: of robust accuracy, this file minus its counterpart.
    p: McNemar's test.
    """

    only_model: Count
    only_fp32_counterpart: Count
    n: AtLeastOne
    difference: float
    ci95: Interval
    p: Share


class QuantilesDocument(TypedDict):
    """Of the smallest perturbations found."""

    p10: NotNegative
    median: NotNegative
    p90: NotNegative
    n: AtLeastOne


class _BesideCounterpart(TypedDict, total=False):
    fp32_counterpart: QuantilesDocument
    ratio: NotNegative
    ci95: Interval
    pairs: AtLeastOne


class SmallestDocument(_BesideCounterpart):
    """The smallest perturbations found.

    ratio: of this file over its FP32 counterpart, geometric mean over pairs.
    """

    norm: str
    unit: str
    model: QuantilesDocument


class TransferDocument(TypedDict):
    """Successes of one file's gradients, shown to both files.

    made: how many there are.
    fooled: share that fools each file, by its name.
    """

    epsilon: NotNegative
    crafted_on: str
    made: AtLeastOne
    fooled: dict[str, RateDocument]


class SanityDocument(TypedDict):
    """A check whose answer is known.

    holds: null where time ended before that was known.
    """

    name: str
    text: str
    holds: bool | None


class SurvivalDocument(TypedDict):
    """How many successes still fool the file after a change.

    threat: same: what the file is attacked with; weaker: more than the attacker planned for.
    """

    name: str
    threat: Annotated[str, one_of(("same", "weaker"))]
    still: RateDocument


class AnswerDocument(TypedDict):
    """A label and its probability."""

    label: str
    confidence: Share


class ExampleDocument(TypedDict):
    """A photo that was fooled.

    size: of the change, in the unit of epsilon.
    clean, adversarial: names of the pictures in the folder.
    """

    photo: str
    truth: str
    before: AnswerDocument
    after: AnswerDocument
    epsilon: NotNegative
    size: NotNegative
    attack: str
    route: str
    clean: str
    adversarial: str


class RoleOutcomesDocument(TypedDict):
    """A 1 for each photo that is right, in the order of photos.

    robust: under the worst attack.
    """

    correct: Flags
    robust: dict[Epsilon, Flags]


class _CounterpartOutcomes(TypedDict, total=False):
    fp32_counterpart: RoleOutcomesDocument


class OutcomesDocument(_CounterpartOutcomes):
    """Which photos are right; photos: their names."""

    photos: list[str]
    model: RoleOutcomesDocument


class RobustnessDocument(TypedDict):
    """What edge-tl attack writes as robustness.json; docs/attack.md says what each key means.

    fp32_counterpart: the FP32 file that a quantized one was made from, null where there is none.
    data: the photos, in words.
    robust_accuracy: at the epsilons where no alarm withholds it; null where one does at all.
    robust_accuracy_withheld: at the epsilons where an alarm withholds it, null where none does.
    withheld: whether an alarm withholds a figure.
    success_rate: of attacks to one class; null otherwise.
    paired: this file beside its FP32 counterpart, by epsilon.
    quantization: what quantization did to robustness, in words.
    outcomes: a 1 for each photo that is right, in the order of photos.
    skipped: files that were passed over, each with the reason.
    complete: false where a time limit came first.
    """

    format: Literal[2]
    model: AttackedModelDocument
    fp32_counterpart: AttackedModelDocument | None
    data: str
    training_overlap: OverlapDocument | None
    n: AtLeastOne
    data_sha256: Sha256
    resize: ResizeDocument
    threat: ThreatDocument
    clean_accuracy: RateDocument
    robust_accuracy: RateByEpsilon | None
    robust_accuracy_withheld: RateByEpsilon | None
    success_rate: RateByEpsilon | None
    headline: str
    withheld: bool
    alarms: list[AlarmDocument]
    notes: list[str]
    models_under_test: ModelsUnderTestDocument
    routes_absent: list[AbsentRouteDocument]
    faithfulness: FaithfulnessTextDocument | None
    paired: dict[Epsilon, PairDocument]
    smallest: SmallestDocument | None
    quantization: str | None
    transfer: list[TransferDocument]
    sanity: list[SanityDocument]
    survival: list[SurvivalDocument]
    examples: list[ExampleDocument]
    outcomes: OutcomesDocument
    corruptions: CorruptionsDocument | None
    environment: EnvironmentDocument
    settings: AttackSettingsDocument
    skipped: list[SkippedDocument]
    seconds: NotNegative
    complete: bool


class DreamScoreDocument(TypedDict):
    """What the file says of a picture.

    logit, confidence, rank: of the class; rank 1 is the likeliest.
    best: the likeliest class.
    tv: total variation of the picture.
    """

    logit: float
    confidence: Share
    rank: AtLeastOne
    best: str
    tv: NotNegative


class DreamStepDocument(DreamScoreDocument):
    """What the file said after a step of the climb."""

    step: Count


class DreamPictureDocument(DreamScoreDocument):
    """A picture in the folder, and what the file says of it.

    picture: its name.
    rebuilt_logit: of the network that gave the gradients.
    """

    picture: str
    rebuilt_logit: float


class _Shown(TypedDict, total=False):
    animation: str
    control: DreamPictureDocument


class DreamDocument(_Shown):
    """The pictures of one class.

    index: of the label.
    start: what the file said before the climb.
    animation: the climb, by the name of its file.
    control: made without the terms that keep it looking like a photo.
    """

    label: str
    index: Count
    start: DreamScoreDocument
    dream: DreamPictureDocument
    trace: list[DreamStepDocument]


class DreamSettingsDocument(TypedDict):
    """What was asked for; edge-tl dream --help says what each means."""

    steps: AtLeastOne
    learning_rate: NotNegative
    basis: str
    tv: NotNegative
    l2: NotNegative
    jitter: Count
    scale: Share
    rotation: NotNegative
    start: str
    gradients: Annotated[str, one_of(("own", "fp32-counterpart"))]
    control: bool
    animation: str
    frames: AtLeastOne
    seed: Count
    device: str


class DreamsDocument(TypedDict):
    """What edge-tl dream writes as dream.json and prints with --json.

    model, sha256: the file that was asked.
    gradients_of: the file whose gradients were climbed.
    photo: that was started from; null where there was none.
    """

    format: Literal[2]
    model: str
    sha256: Sha256
    precision: Precision
    gradients_of: str
    resize: ResizeDocument
    photo: str | None
    settings: DreamSettingsDocument
    dreams: list[DreamDocument]
    versions: dict[str, str]
