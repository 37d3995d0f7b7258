"""What is said of a machine as JSON: how it runs a model fastest, and what it can do."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from edge_tl_runtime.core.documents import AtLeastOne, Count, NotNegative, PluginDocument, Sha256, Share
from edge_tl_runtime.sources.documents import CameraDocument, PiCameraDocument

Threads = Annotated[int, Meta(ge=1, le=1024)]


class MachineDocument(TypedDict):
    """What a measurement of speed stands on.

    cores: usable by the process.
    providers: installed, by their short names.
    """

    cpu: str
    cores: AtLeastOne
    target: str
    onnxruntime: str
    providers: list[str]


class SessionSettingsDocument(TypedDict):
    """How onnxruntime runs.

    threads: null: its own choice.
    spin: whether threads wait awake.
    """

    threads: Threads | None
    spin: bool
    provider: str


class TunedChoiceDocument(SessionSettingsDocument):
    """The fastest settings for a task.

    median_ms: of a call.
    cpu_ms: of processor time that a call costs.
    """

    median_ms: NotNegative
    cpu_ms: NotNegative


class TunedBatchDocument(TunedChoiceDocument):
    """The fastest settings for calls of several photos.

    photos: of a call.
    """

    photos: AtLeastOne


class CallsDocument(TypedDict):
    """Calls that were timed.

    cpu_ms: of processor time that a call costs.
    """

    median_ms: NotNegative
    cpu_ms: NotNegative
    calls: AtLeastOne


class MeasuredSettingsDocument(SessionSettingsDocument):
    """One file with one way to run it; null where a task was not timed.

    frame: single frames at a camera's pace.
    row: single frames one after another.
    batch: several photos a call.
    note: why it was not measured to the end; empty where it was.
    """

    file: str
    precision: str
    frame: CallsDocument | None
    row: CallsDocument | None
    batch: CallsDocument | None
    note: str


class ProfileDocument(TypedDict):
    """The profile that edge-tl tune keeps beside a model file.

    model: name of the file.
    sha256: of the file.
    frame: for single frames at a camera's pace.
    row: for single frames one after another.
    batch: for several photos a call.
    seconds: that the measuring took.
    """

    version: Literal[2]
    model: str
    sha256: Sha256
    machine: MachineDocument
    frame: TunedChoiceDocument
    row: TunedChoiceDocument
    batch: TunedBatchDocument
    measured: list[MeasuredSettingsDocument]
    seconds: NotNegative


class FasterDocument(TypedDict):
    """A file of the same export that answers a frame sooner."""

    file: str
    speedup: NotNegative


class TuneDocument(ProfileDocument):
    """What edge-tl tune --json prints: the profile, and what is left out of it.

    others: part of the processor time that other programs took meanwhile.
    faster: best first.
    """

    others: Share
    faster: list[FasterDocument]


class MemoryDocument(TypedDict):
    """Bytes; 0 where they are not known."""

    total: Count
    available: Count


class OpenCVDocument(TypedDict):
    """The OpenCV that is installed.

    packages: distributions that installed it.
    gui: its toolkit; empty where it has none.
    window_obstacle: why no window can be shown; empty where one can.
    ffmpeg: whether videos and network cameras can be read.
    """

    version: str
    packages: list[str]
    gui: str
    window_obstacle: str
    ffmpeg: bool


class FoundPluginDocument(PluginDocument):
    """An installed plugin.

    problem: why it cannot be used; empty where it can.
    """

    kind: str
    problem: str


class ModelCheckDocument(TypedDict):
    """Whether a model file runs here.

    settings: how it would run, in words.
    problem: why it cannot be used; empty where it can.
    warning: why it suits this machine badly; empty where it suits.
    """

    path: str
    ok: bool
    precision: str
    settings: str
    problem: str
    warning: str


class DoctorDocument(TypedDict):
    """What edge-tl doctor --json prints where the libraries can be imported.

    cores: usable by the process.
    sources: what run --source takes here.
    training: version of each package for training; empty for one that is not installed.
    live: whether the packages of an extra are there.
    temperature_c: of the processor, null where it cannot be read.
    model: null where none was asked about.
    problems: each with what to do about it.
    """

    cpu: str
    features: list[str]
    cores: AtLeastOne
    target: str
    memory: MemoryDocument
    python: str
    onnxruntime: str
    providers: list[str]
    opencv: OpenCVDocument
    cameras: list[CameraDocument]
    pi_cameras: list[PiCameraDocument]
    sources: list[str]
    training: dict[str, str]
    live: dict[str, bool]
    temperature_c: float | None
    gpus: list[str]
    model: ModelCheckDocument | None
    plugins: list[FoundPluginDocument]
    problems: list[str]


class BrokenLibrariesDocument(TypedDict):
    """What edge-tl doctor --json prints where a library that it needs cannot be imported.

    broken: by library, what is wrong and what to do.
    problems: the same lines.
    """

    broken: dict[str, str]
    problems: list[str]
