"""What the list of contents of a pack looks like as JSON; `Pack` reads it and checks what types and bounds cannot say."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.bench.pack.archive import MAX_MEMBER, MAX_MEMBERS
from edge_tl_runtime.bench.pack.pack import MODEL, SIBLING
from edge_tl_runtime.core.documents import Count, Labels, RateDocument, Sha256, one_of
from edge_tl_runtime.evaluation.documents import OverlapDocument
from edge_tl_runtime.modelfile.documents import Precision, ResizeDocument
from edge_tl_runtime.robustness.documents import (
    AlarmDocument,
    AttackKind,
    AttackSettingsDocument,
    CorruptionsDocument,
    EnvironmentDocument,
    Norm,
    RateByEpsilon,
    Severity,
    UnplacedModelDocument,
)

_MEMBER = "^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9._-]*)*"
PictureMember = Annotated[str, Meta(pattern=rf"{_MEMBER}\.png$")]
LogitsMember = Annotated[str, Meta(pattern=r"^expected/[a-z0-9._-]+\.npy$")]
Radius = Annotated[float, Meta(gt=0, le=1e6)]


class PackedPhotoDocument(TypedDict):
    """A photo of the pack.

    name: relative to the folder that it came from.
    target: index of its label.
    pixels: as the network gets it.
    frame: as a camera gives it.
    """

    name: str
    target: Count
    pixels: PictureMember
    frame: PictureMember


class ExpectedDocument(TypedDict):
    """What a file said of the photos on the workstation.

    role: sibling: another file of the same weights.
    right: photos.
    """

    role: Annotated[str, one_of((MODEL, SIBLING))]
    name: str
    sha256: Sha256
    precision: Precision
    logits: LogitsMember
    right: Count


class _Stored(TypedDict):
    attack: str
    route: str
    kind: AttackKind
    control: bool


class StoredAttackDocument(_Stored):
    """The smallest success of one attack by one route on each photo.

    control: random noise, which is no attack.
    pictures: place of the photo, epsilon, member.
    """

    pictures: list[tuple[Count, Radius, PictureMember]]


class StoredCountDocument(_Stored):
    """How many pictures one attack by one route left.

    control: random noise, which is no attack.
    """

    pictures: Count


class AskedCorruptionsDocument(TypedDict):
    """The corruptions that the photos are meant for."""

    names: list[str]
    severities: list[Severity]
    seed: Count


class PackedAttackDocument(TypedDict):
    """One attack by one route on the workstation.

    success: of the photos that were right without an attack.
    """

    name: str
    route: str
    kind: AttackKind
    attack: str
    success: RateByEpsilon


class _Later(TypedDict, total=False):
    training_overlap: OverlapDocument | None
    notes: list[str]


class WorkstationDocument(_Later):
    """Where the pack was made, and what edge-tl attack reports there.

    data: the photos, in words.
    robust_accuracy: at the epsilons where no alarm withholds it; null where one does at all.
    robust_accuracy_withheld: at the epsilons where an alarm withholds it, null where none does.
    fp32_counterpart: the FP32 file that a quantized one was made from, null where there is none.
    complete: false where a time limit came first.
    """

    data: str
    data_sha256: Sha256
    clean_accuracy: RateDocument
    robust_accuracy: RateByEpsilon | None
    robust_accuracy_withheld: RateByEpsilon | None
    headline: str
    alarms: list[AlarmDocument]
    corruptions: CorruptionsDocument | None
    complete: bool
    machine: EnvironmentDocument
    model: UnplacedModelDocument
    fp32_counterpart: UnplacedModelDocument | None
    attacks: list[PackedAttackDocument]
    settings: AttackSettingsDocument


class _OfAPack(TypedDict):
    format: Literal[2]
    arch: str
    norm: Norm
    epsilons: Annotated[list[Radius], Meta(extra_json_schema={"uniqueItems": True})]
    expected: list[ExpectedDocument]
    workstation: WorkstationDocument


class PackContentsDocument(_OfAPack):
    """What a pack holds, without the list of its members.

    epsilons: above 0, ascending: in /255 for linf, of pixels in 0..1 for l2.
    """

    kind: Literal["edge-tl pack"]
    labels: Labels
    resize: ResizeDocument
    photos: Annotated[list[PackedPhotoDocument], Meta(min_length=1)]
    stored: list[StoredAttackDocument]
    corruptions: AskedCorruptionsDocument


class MemberDocument(TypedDict):
    """A file in the pack."""

    name: Annotated[str, Meta(pattern=rf"{_MEMBER}\.(png|npy|json)$")]
    bytes: Annotated[int, Meta(ge=0, le=MAX_MEMBER)]
    sha256: Sha256


class PackDocument(PackContentsDocument):
    """The list of contents inside a file of edge-tl pack; docs/pack.md says what each key means."""

    members: Annotated[list[MemberDocument], Meta(max_length=MAX_MEMBERS - 1)]


class PackSummaryDocument(_OfAPack):
    """What edge-tl pack --json prints: the contents, with numbers in place of the long lists.

    sha256: the identity of the pack.
    complete: false where a time limit came first.
    """

    file: str
    sha256: Sha256
    bytes: Count
    photos: Count
    labels: Count
    stored: list[StoredCountDocument]
    complete: bool
