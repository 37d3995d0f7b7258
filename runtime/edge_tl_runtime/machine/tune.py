"""Find the fastest way to run a model file on this machine, and keep it in a profile beside the file.

A configuration is a provider, a number of threads, and whether idle threads spin. They are timed in turns, in short blocks, so
that a busy moment of the machine hits all alike, and the quieter half of the blocks counts; what is clearly slower drops out
early and leaves its time to the rest.
Single frames are timed at a camera's pace and again in a row: between frames threads fall asleep and caches cool, so what wins
in a row can lose beside a camera. Batches are timed in a row.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, EdgeTLError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.core.progress import Progress, silent
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.inference.providers import computing_providers, find_provider
from edge_tl_runtime.machine.cpu import OtherPrograms, memory
from edge_tl_runtime.machine.settings import TuneSettings
from edge_tl_runtime.machine.tuning_profile import Machine, Profile, TunedChoice, settings_document
from edge_tl_runtime.modelfile.onnx import parse_spec, read_model
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl_runtime.machine.documents import CallsDocument, MeasuredSettingsDocument, TuneDocument

BATCH = 8
"""Photos of a batch; a few more or less do not change which configuration is fastest."""
FRAME_PAUSE_S = 1 / 30
"""Pause between single frames: a camera at 30 frames a second and a model that keeps up with it."""
BUSY = 0.1
"""Part of the processor time taken by other programs above which a measurement is doubtful."""
NEAR = 1.05
"""Configurations within this factor of the fastest count as equally fast; of those the one that costs least is taken."""

_DROP_AFTER = {3: 1.5, 6: 1.3, 12: 1.15}
"""Turns measured, then the factor over the fastest median beyond which a configuration drops out."""
_MIN_TURNS, _MAX_TURNS = 3, 40
_BLOCK_CALLS, _BLOCK_S = 5, 0.2
"""Timed calls of a block: so many, or fewer that fit into the seconds, at least one."""
_OPEN_SHARE = 0.4
"""Part of the time that opening may take."""
_SPARE_BYTES = 200 * 2**20
_MAX_SIBLINGS = 4


@dataclass(frozen=True, slots=True)
class Task:
    """What is timed: calls of so many photos with a pause after each, in that part of the time which is left for it."""

    name: str
    photos: int
    pause_s: float
    share: float


TASKS = (Task("frame", 1, FRAME_PAUSE_S, 0.5), Task("row", 1, 0.0, 0.4), Task("batch", BATCH, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Timing:
    """median_ms: of one call. cpu_ms: processor time a call costs, pause included, all threads together. calls: timed."""

    median_ms: float
    cpu_ms: float
    calls: int

    def to_dict(self) -> CallsDocument:
        return {"median_ms": round(self.median_ms, 4), "cpu_ms": round(self.cpu_ms, 4), "calls": self.calls}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One configuration of one file, by task as in `Profile`. note: why it was not measured to the end, or ""."""

    file: str
    precision: str
    settings: SessionSettings
    frame: Timing | None = None
    row: Timing | None = None
    batch: Timing | None = None
    note: str = ""

    def to_dict(self) -> MeasuredSettingsDocument:
        return {
            "file": self.file,
            "precision": self.precision,
            **settings_document(self.settings),
            "frame": None if self.frame is None else self.frame.to_dict(),
            "row": None if self.row is None else self.row.to_dict(),
            "batch": None if self.batch is None else self.batch.to_dict(),
            "note": self.note,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What `tune` found. faster: files of the same export that answer a frame sooner, with the factor, best first.

    others: part of the machine's processor time, in [0, 1], that other programs took meanwhile; figures above BUSY are doubtful.
    """

    profile: Profile
    measured: tuple[Measured, ...]
    faster: tuple[tuple[Path, float], ...]
    seconds: float
    others: float

    def to_dict(self) -> TuneDocument:
        """The document of `edge-tl tune --json`; the profile's own keys and what was left out of it."""
        return {
            **self.profile.to_dict(),
            "others": round(self.others, 3),
            "faster": [{"file": path.name, "speedup": round(factor, 3)} for path, factor in self.faster],
        }


def tune(path: Path, seconds: float = TuneSettings.seconds, progress: Progress = silent) -> Tuning:
    """Measure every configuration of a model file and of its siblings; the profile is not written yet.

    seconds: of measuring in all; a call at hand is finished, so a large network takes a few more. progress: called with the
    whole seconds that have passed since its last call.
    Raises BadModelError when the file fails its self-test on the plain processor, or in every configuration.
    """
    clock = _Clock(seconds, progress)
    data = read_model(path)
    spec, digest = parse_spec(data, str(path)), sha256(data)
    files = [path, *siblings(path, spec, digest)]
    Classifier(path, SessionSettings(threads=1))  # a file that is bad everywhere is an error, not a table of refusals
    entrants = [_Entrant(file, settings, file == path) for file in files for settings in configurations()]
    opening_ends = clock.at(_OPEN_SHARE)
    for entrant in entrants:
        entrant.open(opening_ends)
        clock.tick()
    order, ranked = entrants, {}
    for task in TASKS:
        ends = clock.now() + task.share * max(0.0, clock.at(1.0) - clock.now())
        ranked[task.name] = left = _race(order, task, ends, clock)
        # Most promising first: of a large network only a few batches fit into the time.
        order = [*left, *(entrant for entrant in order if entrant not in left)]
    own = {task: [entrant for entrant in left if entrant.own] for task, left in ranked.items()}
    if not own["frame"]:
        reasons = "; ".join(dict.fromkeys(entrant.note for entrant in entrants if entrant.own))
        raise BadModelError(f"no configuration of {path} could be measured: {reasons}")
    chosen = {task: _choice(left, task) if left else _choice(own["frame"], "frame") for task, left in own.items()}
    measured = tuple(entrant.measured() for entrant in entrants)
    profile = Profile(
        machine=Machine.here(),
        model=path.name,
        sha256=digest,
        **chosen,
        batch_size=BATCH if own["batch"] else 1,
        measured=tuple(row.to_dict() for row in measured),
        seconds=clock.passed(),
    )
    faster = _faster(ranked["frame"], min(entrant.median("frame") for entrant in own["frame"]))
    return Tuning(
        profile=profile, measured=measured, faster=faster, seconds=clock.passed(), others=clock.other_programs.share()
    )


def configurations(cores: int | None = None) -> tuple[SessionSettings, ...]:
    """What there is to choose from on this machine. cores: None takes those this process may use."""
    counts = thread_counts(cores or usable_cores())
    found: list[SessionSettings] = []
    for name in computing_providers():
        provider = find_provider(name)
        if provider.session_threads:
            # A session of one thread has no others that could spin.
            pairs = [(count, spin) for count in counts for spin in ((False, True) if count > 1 else (False,))]
            found += [SessionSettings(provider=name, threads=count, spin=spin) for count, spin in pairs]
        elif provider.threads_option:
            found += [SessionSettings(provider=name, threads=count) for count in counts]
        else:
            found.append(SessionSettings(provider=name))
    return tuple(found)


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and every core: (1, 2, 4, 6) for six."""
    return tuple(sorted({cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)}))


def siblings(path: Path, spec: ModelSpec, digest: str) -> tuple[Path, ...]:
    """Other model files in the folder of `path` that answer the same question: same export, another precision or target.

    Sameness is read from the contracts: labels, crop and backbone are equal, and one was made from the other or both from the
    same file. Files that are damaged or foreign are passed over; at most _MAX_SIBLINGS are given, in the order of their names.
    """
    found: list[Path] = []
    for other in sorted(path.parent.glob("*.onnx")):
        if other.resolve() == path.resolve() or len(found) == _MAX_SIBLINGS:
            continue
        try:
            data = read_model(other)
            counterpart = parse_spec(data, str(other))
        except EdgeTLError:
            continue
        same = (counterpart.labels, counterpart.resize, counterpart.arch) == (spec.labels, spec.resize, spec.arch)
        one_parent = spec.parent_sha256 != "" and counterpart.parent_sha256 == spec.parent_sha256
        if same and (one_parent or counterpart.parent_sha256 == digest or spec.parent_sha256 == sha256(data)):
            found.append(other)
    return tuple(found)


def _choice(entrants: Sequence[_Entrant], task: str) -> TunedChoice:
    """The fastest, and of those as fast the one that costs least."""
    fastest = min(entrant.median(task) for entrant in entrants)
    near = [(entrant.timing(task), entrant.settings) for entrant in entrants if entrant.median(task) <= NEAR * fastest]
    timing, settings = min(near, key=lambda pair: pair[0].cpu_ms)
    return TunedChoice(settings=settings, median_ms=timing.median_ms, cpu_ms=timing.cpu_ms)


def _faster(ranked: Sequence[_Entrant], fastest: float) -> tuple[tuple[Path, float], ...]:
    best: dict[Path, float] = {}
    for entrant in ranked:
        if not entrant.own:
            best[entrant.path] = min(entrant.median("frame"), best.get(entrant.path, float("inf")))
    factors = [(path, fastest / median) for path, median in best.items() if fastest / median >= NEAR]
    return tuple(sorted(factors, key=lambda item: -item[1]))


class _Clock:
    """Seconds since the start, for deadlines and for the bar."""

    def __init__(self, seconds: float, progress: Progress) -> None:
        self._started, self._seconds, self._progress, self._told = time.monotonic(), seconds, progress, 0
        self.other_programs = OtherPrograms()

    def now(self) -> float:
        return time.monotonic()

    def passed(self) -> float:
        return self.now() - self._started

    def at(self, share: float) -> float:
        """The moment when that part of the time has passed."""
        return self._started + share * self._seconds

    def tick(self) -> None:
        whole = min(int(self.passed()), int(self._seconds))
        if whole > self._told:
            self._progress(whole - self._told)
            self._told = whole


@dataclass(frozen=True, slots=True)
class _Block:
    """A few calls in a row. others: as in Tuning, meanwhile; seconds: of each call; cpu_s: processor time a call cost."""

    others: float
    seconds: tuple[float, ...]
    cpu_s: float


class _Entrant:
    """A configuration of a file, its session and what was timed of it."""

    def __init__(self, path: Path, settings: SessionSettings, own: bool) -> None:
        self.path, self.settings, self.own = path, settings, own
        self.note = self.precision = ""
        self._classifier: Classifier | None = None
        self._pixels: dict[int, NDArray[np.uint8]] = {}
        self._blocks: dict[str, list[_Block]] = {task.name: [] for task in TASKS}
        self._failed: set[str] = set()

    def open(self, deadline: float) -> None:
        """Open the session and check its answer. A refusal is noted, not raised."""
        _, available = memory()
        if time.monotonic() > deadline:
            self.note = "not measured: the time ran out"
        elif available and available < 4 * self.path.stat().st_size + _SPARE_BYTES:
            self.note = "not measured: too little memory"
        else:
            try:
                self._classifier = Classifier(self.path, self.settings)
                self.precision = self._classifier.spec.precision
            except BadModelError as error:
                self.note = f"excluded: {_short(error, self.path)}"
            except EdgeTLError as error:
                self.note = f"refused: {_short(error, self.path)}"

    def block(self, task: Task) -> None:
        """A few timed calls in a row, after one that fills the caches again. A failure of the provider is noted."""
        assert self._classifier is not None
        try:
            pixels = self._input(task.photos)
            expected_s = (self.median(task.name) / 1e3 if self._blocks[task.name] else 0.0) + task.pause_s
            calls = int(min(_BLOCK_CALLS, max(1, _BLOCK_S / expected_s if expected_s else 1)))
            if expected_s < _BLOCK_S:
                self._classifier.logits(pixels)
                _pause(task.pause_s)
            others, cpu_started, seconds = OtherPrograms(), time.process_time(), []
            for _ in range(calls):
                started = time.perf_counter()
                self._classifier.logits(pixels)
                seconds.append(time.perf_counter() - started)
                _pause(task.pause_s)
            cpu_s = (time.process_time() - cpu_started) / calls
            self._blocks[task.name].append(_Block(others.share(), tuple(seconds), cpu_s))
        except EdgeTLError as error:
            self.note = f"{task.name} refused: {_short(error, self.path)}"
            self._failed.add(task.name)

    def runs(self, task: str) -> bool:
        return self._classifier is not None and task not in self._failed

    def median(self, task: str) -> float:
        """Milliseconds of a call, in the quieter half of the blocks: when cores are taken, all configurations look alike."""
        return 1e3 * statistics.median(second for block in self._quiet(task) for second in block.seconds)

    def timed(self, task: str) -> bool:
        return self.runs(task) and bool(self._blocks[task])

    def timing(self, task: str) -> Timing:
        cpu_s = statistics.median(block.cpu_s for block in self._quiet(task))
        return Timing(self.median(task), 1e3 * cpu_s, sum(len(block.seconds) for block in self._blocks[task]))

    def _quiet(self, task: str) -> list[_Block]:
        ranked = sorted(self._blocks[task], key=lambda block: block.others)
        return ranked[: (len(ranked) + 1) // 2]

    def measured(self) -> Measured:
        timings = {task.name: self.timing(task.name) if self.timed(task.name) else None for task in TASKS}
        return Measured(
            file=self.path.name,
            precision=self.precision,
            settings=self.settings,
            note=self.note,
            **timings,
        )

    def _input(self, photos: int) -> NDArray[np.uint8]:
        """The self-test's input and noise, uint8 (photos, H, W, 3). Before the first use, the answer in a batch is checked."""
        assert self._classifier is not None
        if photos not in self._pixels:
            test, rule = self._classifier.spec.self_test, self._classifier.spec.resize
            assert test is not None  # the classifier has run it
            noise = np.random.default_rng(0).integers(0, 256, (photos - 1, rule.height, rule.width, 3), np.uint8)
            pixels = np.concatenate([test.pixels(rule), noise])
            self._classifier.check_answer(self._classifier.logits(pixels)[0])
            self._pixels[photos] = pixels
        return self._pixels[photos]


def _race(entrants: Sequence[_Entrant], task: Task, deadline: float, clock: _Clock) -> list[_Entrant]:
    """Time the entrants in turns until one is left, turns or time are used up. Returns those left in, fastest first.

    Every entrant left in was timed in the same turns as the others, but for the last one when the time ran out.
    """
    left = [entrant for entrant in entrants if entrant.runs(task.name)]
    shuffled = random.Random(0)
    for turn in range(1, _MAX_TURNS + 1):
        order = list(left)
        if turn > 1:  # nobody always comes after the same neighbour
            shuffled.shuffle(order)
        for entrant in order:
            if clock.now() > deadline:
                break
            entrant.block(task)
            clock.tick()
        for entrant in left:
            if entrant.runs(task.name) and not entrant.timed(task.name):
                entrant.note = entrant.note or f"{task.name} not measured: the time ran out"
        left = [entrant for entrant in left if entrant.timed(task.name)]
        if turn in _DROP_AFTER:
            left = _without_slow(left, task.name, _DROP_AFTER[turn])
        if (len(left) < 2 and turn >= _MIN_TURNS) or clock.now() > deadline:
            break
    return sorted(left, key=lambda entrant: entrant.median(task.name))


def _without_slow(entrants: list[_Entrant], task: str, factor: float) -> list[_Entrant]:
    """Those within `factor` of the fastest of their own file; a sibling, also of the fastest of the file that is tuned."""
    best: dict[Path, float] = {}
    for entrant in entrants:
        best[entrant.path] = min(entrant.median(task), best.get(entrant.path, float("inf")))
    own = min((best[e.path] for e in entrants if e.own), default=float("inf"))
    return [e for e in entrants if e.median(task) <= factor * (best[e.path] if e.own else min(own, best[e.path]))]


def _pause(seconds: float) -> None:
    if seconds:  # even to sleep for nothing gives the core away, which flatters threads that sleep
        time.sleep(seconds)


def _short(error: Exception, path: Path) -> str:
    """The reason of an error for a table whose row names the file already."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text.removeprefix(str(path)).lstrip(": ").replace(str(path), "it").split("; ")[0]
