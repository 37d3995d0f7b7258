"""A robustness evaluation of a deployed file: which attacks run, in which order, on which photos."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.base import Attack
from edge_tl.adversarial.attacks.criteria import Criterion, Misclassification, TargetedMisclassification
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.attacks.pgd import PGD
from edge_tl.adversarial.class_lookup import find_class
from edge_tl.adversarial.evaluation.checkpoint import Checkpoint
from edge_tl.adversarial.evaluation.chosen_attacks import choose_attacks
from edge_tl.adversarial.evaluation.evidence import StoredExample, store
from edge_tl.adversarial.evaluation.fp32_counterpart import fp32_counterpart
from edge_tl.adversarial.evaluation.gradient_masking import SanityCheck
from edge_tl.adversarial.evaluation.presets import CONTROL, SMALLEST
from edge_tl.adversarial.evaluation.sweep import AttackRun, AttackSweep
from edge_tl.adversarial.evaluation.target import BLACK_BOX, CONTROL_KIND, WHITE_BOX, LoadedModel, ModelUnderTest
from edge_tl.adversarial.settings import AttackSettings
from edge_tl.training.devices import pick_device
from edge_tl_export import Stage
from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError
from edge_tl_runtime.core.files import make_folder, sha256
from edge_tl_runtime.core.malloc import keep_heap
from edge_tl_runtime.evaluation.evaluate import PixelReader, photos_to_evaluate
from edge_tl_runtime.evaluation.training_overlap import TrainingOverlap, unseen
from edge_tl_runtime.images.datasets.choosing import spread_over
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.decode import read_photo

Say = Callable[[str], None]

PROVEN_ON = 32
"""Photos on which the differentiable rebuild must agree with the file before its gradients are used."""
SANITY_PHOTOS = 16
LARGE = 128
PGD_NAME = "pgd"
"""Of the attack with gradients that checks its own sanity."""
"""An epsilon within which any photo can become nearly any picture."""
FAR = 30.0
"""The longest smallest perturbation that is looked for, in L2 of pixels in 0..1."""


@dataclass(frozen=True)
class AttackedImages:
    """The photos under attack. labels: those of the model; names: relative to the folder. pixels: uint8 (N, H, W, 3).

    overlap: what they were to the model.
    """

    source: LabelledPhotos
    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    skipped: tuple[Any, ...]
    overlap: TrainingOverlap

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def data(self) -> str:
        """Where they come from, in words."""
        return self.overlap.in_words(self.source.split, self.source.root.resolve().name)

    @cached_property
    def digest(self) -> str:
        return sha256(self.pixels.tobytes() + self.targets.tobytes())


@dataclass(frozen=True)
class Attacked:
    """One file after its attacks. logits: of the clean photos. smallest: see `Evaluation._smallest`."""

    under_test: ModelUnderTest
    logits: NDArray[np.float32]
    correct: NDArray[np.bool_]
    attackable: NDArray[np.bool_]
    sweep: AttackSweep
    lines: tuple[AttackRun, ...]
    smallest: NDArray[np.float64] | None


@dataclass(frozen=True)
class Evidence:
    """What all attacks together found on the file, read back from PNG.

    attacks, logits, still: of each stored picture, who made it, what the file says of it, whether it fools. radii: of each photo,
    the smallest epsilon that fools, inf for none.
    """

    stored: tuple[StoredExample, ...]
    attacks: tuple[AttackRun, ...]
    logits: NDArray[np.float32]
    still: NDArray[np.bool_]
    radii: NDArray[np.float64]


class RobustnessEvaluation:
    """Everything between opening the files and writing the report; `edge_tl.adversarial.evaluation.report` puts it into words."""

    def __init__(self, model: Path, data: Path, folder: Path, settings: AttackSettings, stage: Stage, say: Say) -> None:
        """Raises UsageError, DataError and BadModelError before anything is attacked."""
        self.started = time.monotonic()
        keep_heap()
        self.settings, self.stage = settings, stage
        self.device = str(pick_device(settings.device))
        self.chosen = choose_attacks(settings)
        self.preset = self.chosen.preset
        itself = LoadedModel(model)
        self.spec = itself.classifier.spec
        self.target = find_class(settings.target, self.spec.labels) if settings.target else None
        self.photos = self._read(data, say)
        sample = self.photos.pixels[spread_over(self.photos.targets.tolist(), PROVEN_ON)]
        counterpart = fp32_counterpart(model, self.spec)
        opened = None if counterpart is None else LoadedModel(counterpart)
        for file in (itself, *([opened] if opened else [])):
            file.rebuild(self.device, sample)
        self.under_test = itself.under_test(opened, self.device)
        self.counterpart = None if opened is None else opened.under_test(None, self.device)
        self.folder = make_folder(folder)
        identity = {
            "plugins": {name: plugin.to_dict() for name, plugin in self.chosen.added.items()},
            "settings": {k: v for k, v in asdict(settings).items() if k not in ("time_limit", "device", "corruptions")},
            "model": self.under_test.sha256,
            "fp32_counterpart": self.counterpart and self.counterpart.sha256,
            "photos": self.photos.digest,
        }
        self.ledger = Checkpoint(self.folder, identity)
        if self.ledger.resumed:
            say(f"going on with the evaluation in {self.folder}")

    def stop(self) -> bool:
        """Whether the time is up."""
        limit = 60 * self.settings.time_limit
        return 0 < limit <= time.monotonic() - self.started

    def attack(self, under_test: ModelUnderTest) -> Attacked:
        """All attacks of the preset on one file."""
        logits = under_test.without_gradients.evaluated(self.photos.pixels)
        correct = logits.argmax(1) == self.photos.targets
        attackable = correct if self.target is None else correct & (logits.argmax(1) != self.target)
        sweep = AttackSweep(
            under_test.name,
            self.photos.pixels,
            self._criterion(),
            attackable,
            self.settings.radii()[1:],
            self.settings.unit,
            self.ledger,
            self.stop,
            lambda done: None,
        )
        lines = []
        for route in under_test.routes:
            own = route is under_test.routes[0] and route.kind == WHITE_BOX
            for name, attack in self.preset.gradient.items():
                if own or name in self.preset.borrowed:
                    lines.append(self._line(sweep, name, route.name, route.kind, attack, route.model))
        for name, attack in self.preset.black_box.items():
            lines.append(self._line(sweep, name, "", BLACK_BOX, attack, under_test.without_gradients))
        for name, attack in CONTROL.items():
            lines.append(self._line(sweep, name, "", CONTROL_KIND, attack, under_test.without_gradients))
        smallest = self._smallest(sweep, under_test) if self.preset.smallest and self.target is None else None
        return Attacked(under_test, logits, correct, attackable, sweep, tuple(lines), smallest)

    def sanity(self, attacked: Attacked) -> list[SanityCheck]:
        """Checks whose answer is known."""
        sweep, under_test = attacked.sweep, attacked.under_test
        route = under_test.routes[0] if under_test.routes else None
        model = route.model if route else under_test.without_gradients
        unharmed = PGD(norm=self.settings.norm).run(
            model, self.photos.pixels, Misclassification(self.photos.targets), 0
        )
        same = int((~unharmed.fooled == attacked.correct).sum())
        alike = f"{same} of {len(self.photos)} photos alike"
        found = [SanityCheck("epsilon 0 is the clean accuracy", alike, same == len(self.photos))]
        few = np.flatnonzero(attacked.attackable)[:SANITY_PHOTOS]
        mask = np.zeros(len(self.photos), np.bool_)
        mask[few] = True
        everything = LARGE if self.settings.norm == "linf" else LARGE / 255 * self.photos.pixels[0].size ** 0.5
        large = replace(sweep, attackable=mask, radii=(float(everything),))
        trials: list[tuple[str, str, Attack, AttackedModel]] = []
        if route is not None:
            trials.append((PGD_NAME, route.name, PGD(steps=20, restarts=2, loss="margin"), route.model))
        if self.target is None:
            trials += [
                (name, "", attack, under_test.without_gradients)
                for name, attack in self.preset.black_box.items()
                if name not in self.chosen.added  # how strong another package's attack is, nobody knows
            ]
        for name, way, attack, used in trials:
            line = large.run(f"{name}, large", way, WHITE_BOX, self._made_for_norm(attack), used)
            fooled, tried = int(line.fooled[everything].sum()), len(few)
            complete = bool(line.complete[everything][few].all())
            text = f"{fooled} of {tried} photos fooled at epsilon {everything:g}" + ("" if complete else ", cut short")
            holds = True if fooled == tried else False if complete else None
            if not tried:
                text, holds = "no photo is right without an attack, so nothing can be told", None
            found.append(SanityCheck(f"a large epsilon fools all: {name}", text, holds, large=name))
        return found

    def evidence(self, attacked: Attacked) -> Evidence:
        """Write the smallest success of every photo as PNG, read it back, and ask the file again."""
        best: dict[int, AttackRun] = {}
        for line in attacked.lines:
            for photo, (_, _, radius) in line.found.items():
                if line.kind != CONTROL_KIND and (photo not in best or radius < best[photo].found[photo][2]):
                    best[photo] = line
        written: dict[int, StoredExample] = {}
        with self.stage("writing and reading back", len(best)) as done:
            for line in attacked.lines:
                chosen = [photo for photo, found_by in best.items() if found_by is line]
                for photo, adversarial in attacked.sweep.successes(line, chosen):
                    pixels, frame = (self.photos.pixels[photo], adversarial), _frame(self.photos.paths[photo])
                    name, radius = self.photos.names[photo], line.found[photo][2]
                    written[photo] = store(self.folder, name, photo, radius, pixels, self.spec.resize, frame)
                    done(1)
        stored = [written[photo] for photo in sorted(written)]
        radii = np.full(len(self.photos), np.inf)
        still: NDArray[np.bool_] = np.zeros(len(stored), np.bool_)
        logits = attacked.logits[:0]
        if stored:
            logits = attacked.under_test.without_gradients.evaluated(np.stack([item.pixels for item in stored]))
            places = np.array([item.photo for item in stored])
            still = self._criterion().take(places).fooled(logits)
            radii[places[still]] = np.array([item.radius for item in stored])[still]
        return Evidence(tuple(stored), tuple(best[item.photo] for item in stored), logits, still, radii)

    def _line(
        self, sweep: AttackSweep, name: str, route: str, kind: str, attack: Attack, model: AttackedModel
    ) -> AttackRun:
        line = f"{sweep.model_name} {name}" + (f" ({route})" if route else "")
        with self.stage(line, int(sweep.attackable.sum()) * len(sweep.radii)) as done:
            ready = replace(sweep, progress=done)
            return self.chosen.guarded(name, lambda: ready.run(name, route, kind, self._made_for_norm(attack), model))

    def _made_for_norm(self, attack: Attack) -> Attack:
        return replace(attack, norm=self.settings.norm, seed=self.settings.seed)

    def _smallest(self, sweep: AttackSweep, under_test: ModelUnderTest) -> NDArray[np.float64] | None:
        """L2 of the smallest perturbation found of each photo, of pixels in 0..1; NaN where none was, None without gradients."""
        if not under_test.routes or under_test.routes[0].kind != WHITE_BOX:
            return None
        route = under_test.routes[0]
        # The same photos for the file and its counterpart, whichever of them each gets right.
        some = np.zeros(len(self.photos), np.bool_)
        some[spread_over(self.photos.targets.tolist(), self.preset.smallest)] = True
        some &= sweep.attackable
        with self.stage(f"{under_test.name} smallest perturbations", int(some.sum())) as done:
            apart = replace(sweep, attackable=some, radii=(FAR,), unit=255.0, progress=done)
            line = apart.run("smallest", route.name, WHITE_BOX, replace(SMALLEST, seed=self.settings.seed), route.model)
        sizes = np.full(len(self.photos), np.nan)
        for photo, (_, _, size) in line.found.items():
            sizes[photo] = size
        return sizes

    def _criterion(self) -> Criterion:
        if self.target is None:
            return Misclassification(self.photos.targets)
        return TargetedMisclassification(np.full(len(self.photos), self.target, np.int64))

    def _read(self, data: Path, say: Say) -> AttackedImages:
        split = self.settings.split
        found = photos_to_evaluate(self.spec, data, split)
        say(found.describe())
        photos, overlap = unseen(found, self.spec, split, self._chosen)
        if line := overlap.left_out_line():
            say(line)
        parts: list[NDArray[np.uint8]] = []
        places: list[int] = []
        with self.stage("reading", len(photos)) as done:
            reader = PixelReader(photos, self.spec.resize, progress=done)
            for batch in reader:
                parts.append(batch.pixels)
                places += batch.indices
        return AttackedImages(
            photos,
            np.concatenate(parts),
            np.array([photos.targets[i] for i in places], np.int64),
            tuple(photos.name(i) for i in places),
            tuple(photos.paths[i] for i in places),
            tuple(reader.skipped),
            overlap,
        )

    def _chosen(self, photos: LabelledPhotos) -> LabelledPhotos:
        """Those of the source class, not those of the target, and no more than asked for, spread over the rest."""
        source = find_class(self.settings.source, self.spec.labels) if self.settings.source else None
        wanted = [i for i, target in enumerate(photos.targets) if target != self.target and source in (None, target)]
        if not wanted:
            raise DataError(
                f"{photos.root} has no photo to attack: none of {self.settings.source or 'another class than the target'}; "
                "choose another --source, --target or --split"
            )
        count = self.settings.photos or self.preset.photos or len(wanted)
        return photos.subset(wanted, photos.split).spread(count)


def _frame(path: Path) -> NDArray[np.uint8] | None:
    try:
        return read_photo(path)
    except (BadImage, BadFrame):
        return None
