"""One training, step by step: features once, the linear probe, fine-tuning where it pays, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_tl.models import WeightsSource
from edge_tl.models.friendly import describe
from edge_tl.models.network import build_origin
from edge_tl.training import auto_recipe as recipe
from edge_tl.training import run_folder as run
from edge_tl.training.distributed import ProcessGroup
from edge_tl.training.finetune import early
from edge_tl.training.finetune.adapt import PHOTOS, adapt
from edge_tl.training.finetune.adversarial_training import CHOOSE_STEPS, HARDENED, WATCH_STEPS
from edge_tl.training.finetune.choices import default_epochs
from edge_tl.training.finetune.distill import find_teacher
from edge_tl.training.finetune.finetune import Epoch, Finetuner
from edge_tl.training.finetune.further import Finished
from edge_tl.training.finetune.mirror import describe as describe_pairs
from edge_tl.training.finetune.mirror import mirrored_pairs, some_of_each
from edge_tl.training.finetune.optimize import snapshot
from edge_tl.training.kept import Outcome, keep_run, where_from
from edge_tl.training.model_selection import CandidateScore, choose
from edge_tl.training.probe.cross_validation import NAMED, CrossValidated, cross_validate, told_few, wanted
from edge_tl.training.probe.features import FeatureExtractor, Features
from edge_tl.training.probe.probe import Probe, fit_probe
from edge_tl.training.result import TrainResult, figures
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.splits import target_backbone
from edge_tl.training.validation import Validator, mean_loss
from edge_tl_export import Stage
from edge_tl_runtime.evaluation.evaluate import score
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits, load_unlabelled

Say = Callable[[str], None]


class Trainer:
    """One training from its photos to its run; in several processes, one each, which share the work."""

    def __init__(
        self,
        data: Path,
        folder: Path,
        splits: Splits,
        settings: TrainSettings,
        device: torch.device,
        group: ProcessGroup,
        journal: run.Journal | None,
        stage: Stage,
        say: Say,
        finished: Finished | None = None,
    ) -> None:
        """finished: the run that gets more epochs."""
        self.finished = finished
        self.cross_validated: CrossValidated | None = None
        self.data, self.folder, self.splits, self.settings = data, folder, splits, settings
        self.device, self.group, self.journal, self.stage, self._say = device, group, journal, stage, say
        self.seconds: dict[str, float] = {}
        self.decisions: list[str] = []
        self.hardening: dict[str, Any] = {}
        self._hardens = settings.finetune.adversarial != "none"
        torch.manual_seed(settings.seed)
        self.target = target_backbone(settings)
        """What is trained in the end; the network becomes it in `_adapt` if its weights are those of another structure."""
        self.network = build_origin(self.target, WeightsSource.parse(settings.weights, self.target))
        self.changed = False
        self.mirrors = settings.finetune.mirror is not False

    def run(self, state: dict[str, Any] | None) -> TrainResult | None:
        self.say(self.splits.describe())
        if self.group.first:
            early.refuse_full_disk(self.folder, self.network.module, self.settings)
        self.say(
            f"{self.data}: {self.target.name}, weights: {self.network.weights}, {self.device}"
            + (f", {self.group.size} processes" if self.group.size > 1 else "")
        )
        self._adapt()
        features, probe = self._features_and_probe()
        best = self._evaluate_probe(features, probe)
        self._cross_validate(features)
        finetunes = self.finished is not None or self._finetunes(probe, features[0])
        # Where nothing follows it is the result, which is told at the end.
        told = f": val {best.evaluation.describe()}" if finetunes else ""
        self.say(f"linear probe fitted in {self.seconds['probe']:.1f} s{told}")
        if finetunes:
            best = self._finetune(features[0], probe, best, state)
        result = self._finish(features, best) if self.group.first else None
        self.group.share(None)
        return result

    def say(self, line: str) -> None:
        self._say(line)
        if self.journal:
            self.journal.log(line)

    def metric(self, **values: Any) -> None:
        if self.journal:
            self.journal.metric(**values)

    def decide(self, choice: recipe.RecipeChoice) -> bool:
        self.decisions.append(choice.why)
        self.say(f"{self.settings.recipe}: {choice.why}")
        return choice.yes

    def _adapt(self) -> None:
        if self.settings.edge_friendly and self.target.plain is None:
            self.say(f"{self.target.name} is edge-friendly already: it has no layer to replace")
        if self.network.backbone.name == self.target.name:
            return
        started = time.perf_counter()
        photos = self.splits.train
        with self.stage("gates and statistics", min(PHOTOS, len(photos))) as progress:
            made = adapt(self.network, self.target, photos, self.device, self.settings.seed, progress)
        # Every process has its own rounding; they must start from the same weights.
        self.network.module.load_state_dict(self.group.share(snapshot(self.network)))
        self.changed = True
        self.seconds["adapt"] = time.perf_counter() - started
        line = f"made edge-friendly: {describe(made.changes)}"
        gates = sum(change.now == "Identity" for change in made.changes)
        if gates:
            line += f"; {len(made.folded)} of {gates} gates live on as constants in the weights beside them"
        self.decisions.append(line)
        self.say(line)

    def _features_and_probe(self) -> tuple[tuple[Features, Features], Probe]:
        features = self._features()
        probe = self._fit(features[0])
        if self.settings.recipe != "auto" or self.settings.size or self._hardens:
            return features, probe
        error = recipe.held_out_error(probe, features[0].targets)
        larger_input = recipe.try_larger_input_of_changed() if self.changed else recipe.try_larger_input(error)
        if not self.decide(larger_input):
            return features, probe
        own = self.network.backbone
        larger = own.resized(32 * round(own.size * recipe.LARGER / 32))
        self.network.backbone = larger
        features_larger = self._features()
        probe_larger = self._fit(features_larger[0])
        if self.decide(recipe.prefer_larger_input(probe, probe_larger, own.size, larger.size)):
            return features_larger, probe_larger
        self.network.backbone = own
        return features, probe

    def _features(self) -> tuple[Features, Features]:
        started = time.perf_counter()
        train, val, _ = self.splits
        if not self.group.first:
            self.group.share(None)  # the first process fills the cache
        extract = FeatureExtractor(self.network, self.device)
        with self.stage("features", len(train) + len(val)) as progress:
            parts = extract(train, progress), extract(val, progress)
        if self.group.first:
            self.group.share(None)
        seconds = time.perf_counter() - started
        self.seconds["features"] = self.seconds.get("features", 0.0) + seconds
        computed, total = sum(p.computed for p in parts), sum(len(p.names) for p in parts)
        size = self.network.backbone.size
        self.metric(stage="features", photos=total, computed=computed, seconds=seconds, size=size)
        self.say(f"features of {total} photos at {size} px in {seconds:.1f} s ({total - computed} were cached)")
        if extract.cache_problem:
            self.say(f"features were not kept for next time: {extract.cache_problem}")
        return parts

    def _fit(self, features: Features) -> Probe:
        started = time.perf_counter()
        classes = len(self.splits.train.labels)
        probe = self.group.share(
            fit_probe(
                features.values,
                features.targets,
                features.names,
                classes,
                self.settings.finetune.balance,
                groups=features.groups,
            )
            if self.group.first
            else None
        )
        assert probe is not None
        self.seconds["probe"] = self.seconds.get("probe", 0.0) + time.perf_counter() - started
        return probe

    def _evaluate_probe(self, features: tuple[Features, Features], probe: Probe) -> CandidateScore:
        val = features[1]
        self.network.set_head(torch.from_numpy(probe.weight), torch.from_numpy(probe.bias), self.splits.train.labels)
        logits = probe.logits(val.values)
        evaluation = score(
            logits, val.targets, self.splits.train.labels, where_from(self.splits.val), val.skipped, groups=val.groups
        )
        loss = mean_loss(logits, val.targets, evaluation)
        cv_loss = {f"{penalty:g}": round(value, 6) for penalty, value in probe.cv_loss.items()}
        self.metric(stage="probe", **figures(evaluation), val_loss=loss, penalty=probe.penalty, cv_loss=cv_loss)
        return CandidateScore("probe", evaluation, loss)

    def _cross_validate(self, features: tuple[Features, Features]) -> None:
        """Where validation photos are few: what all photos together say of the probe."""
        train, val = features
        targets = np.concatenate([train.targets, val.targets])
        if not self.group.first or self.changed or not wanted(val.targets, len(targets)):
            return
        started = time.perf_counter()
        values = np.concatenate([train.values, val.values])
        labels, balance = self.splits.train.labels, self.settings.finetune.balance
        groups: tuple[str, ...] = ()
        if train.groups or val.groups:
            groups = sum((part.groups or ("",) * len(part.names) for part in features), ())
        self.cross_validated = cross_validate(values, targets, train.names + val.names, len(labels), balance, groups)
        self.seconds["cross-validation"] = time.perf_counter() - started
        if self.cross_validated is None:
            single = ", ".join(repr(labels[target]) for target in np.flatnonzero(np.bincount(targets) == 1)[:NAMED])
            self.say(
                f"a single photo of {single}: nothing can be held out of it, and no figure here says how well it is known"
            )
            return
        self.metric(stage="cross-validation", **self.cross_validated.to_dict())
        self.say(told_few(val.targets, targets, groups, labels))

    def _finetunes(self, probe: Probe, features: Features) -> bool:
        if self.settings.recipe == "auto" and self._hardens:
            return self.decide(HARDENED)
        if self.changed:
            return self.decide(recipe.finetune_changed(self.settings.recipe))
        if self.settings.recipe != "auto":
            return self.settings.recipe == "finetune"
        if self.settings.teacher:
            return True
        error = recipe.held_out_error(probe, features.targets)
        return self.decide(recipe.try_finetuning(error, int(np.bincount(features.targets).min())))

    def _finetune(
        self, features: Features, probe: Probe, best: CandidateScore, state: dict[str, Any] | None
    ) -> CandidateScore:
        started = time.perf_counter()
        train = self.splits.train.subset(features.indices, "train")
        unlabelled = load_unlabelled(Path(self.settings.unlabelled)) if self.settings.unlabelled else None
        if unlabelled is not None:
            self.say(unlabelled.describe())
        settings = self._finetune_settings(train, unlabelled)
        if settings.head_init == "random":
            torch.manual_seed(self.settings.seed)
            head = torch.nn.Linear(probe.weight.shape[1], probe.weight.shape[0])
            self.network.set_head(head.weight, head.bias, train.labels)
        evaluator = Validator(
            self.splits.val, self.network.backbone.resize, where_from(self.splits.val), self.group, self.device.type
        )
        if self.finished is not None:
            self.network.module.load_state_dict(self.finished.state)
            model = self.network.pixel_model(self.device)
            best = CandidateScore(self.finished.best, *evaluator(model.infer))
        with self.stage("teacher", len(train)) as progress:
            teacher = (
                find_teacher(self.settings.teacher, train, self.device, progress) if self.settings.teacher else None
            )

        def make(rate: float) -> Finetuner:
            return Finetuner(
                self.network,
                train,
                evaluator,
                replace(settings, learning_rate=rate),
                self.device,
                seed=self.settings.seed,
                group=self.group,
                teacher=teacher,
                unlabelled=unlabelled,
            )

        tuner = make(self._find_rate(make) if settings.find_rate else settings.learning_rate)
        if self.finished is not None:
            tuner.begin_after(self.finished.epochs)
            self.say(f"epochs done: {self.finished.epochs}; more, with a learning rate that falls from its peak again")
        if len(tuner.targets) < settings.batch_size:
            self.say(f"a batch of {settings.batch_size} holds all {len(tuner.targets)} photos: one step an epoch")
        if state is not None:
            tuner.restore(state)
            self.say(f"going on after epoch {tuner.epoch} of {tuner.total}")
        with self.stage("fine-tuning", len(tuner.targets) * (tuner.total - tuner.epoch)) as progress:
            for epoch in tuner.epochs(progress):
                self._record(epoch, tuner)
        best = self._choose(tuner, evaluator, best)
        if tuner.hardening is not None:
            self.decisions += tuner.hardening.notes
            robust = tuner.hardening.robust.choose(WATCH_STEPS)
            self.hardening = tuner.hardening.describe(robust)
            self.say(f"robust at {settings.eps:g}/255: {robust.describe()}")
        self.seconds["finetune"] = time.perf_counter() - started
        return best

    def _finetune_settings(self, train: LabelledPhotos, unlabelled: LabelledPhotos | None) -> FinetuneSettings:
        """As asked for, with what depends on the photos and the weights decided."""
        settings = self.settings.finetune
        epochs = settings.epochs or default_epochs(len(train) + len(unlabelled or ()), self._hardens)
        settings = replace(settings, epochs=epochs, mirror=self._mirrors(train))
        if self.settings.weights == "none":
            # There is nothing to keep: neither statistics nor a probe on features that say nothing.
            settings = replace(settings, head_init="random", freeze_bn=False)
        return settings

    def _mirrors(self, train: LabelledPhotos) -> bool:
        """Whether views are mirrored: as asked for, otherwise unless mirrored photos look like another class."""
        asked, augment = self.settings.finetune.mirror, self.settings.finetune.augment
        if asked is not None or augment == "none":
            return bool(asked) and augment != "none"
        answer = ""
        if self.group.first:
            with self.stage("mirror images", len(some_of_each(train))) as progress:
                pairs = mirrored_pairs(self.network, train, self.device, progress)
            answer = describe_pairs(pairs) if pairs else ""
        answer = self.group.share(answer)
        if answer:
            self.decisions.append(answer)
            self.say(answer)
        self.mirrors = not answer
        return not answer

    def _find_rate(self, make: Callable[[float], Finetuner]) -> float:
        before = snapshot(self.network)
        curve = make(1.0).range_test()
        self.network.module.load_state_dict(before)
        self.metric(
            stage="rate",
            rates=[rate for rate, _ in curve.points],
            losses=[loss for _, loss in curve.points],
            suggestion=curve.suggestion,
        )
        self.say(f"learning rate found: {curve.suggestion:.2g}")
        return curve.suggestion

    def _record(self, epoch: Epoch, tuner: Finetuner) -> None:
        self.metric(
            stage="finetune",
            epoch=epoch.number,
            loss=epoch.loss,
            learning_rate=epoch.learning_rate,
            seconds=epoch.seconds,
            val_loss=epoch.val_loss,
            **figures(epoch.evaluation),
            **(epoch.robust.to_dict() if epoch.robust else {}),
        )
        self.say(
            f"epoch {epoch.number}: loss {epoch.loss:.3f}, val {epoch.evaluation.describe()}, "
            + (f"{epoch.robust.describe()}, " if epoch.robust else "")
            + f"{epoch.seconds:.1f} s"
        )
        if epoch.note:
            self.say(epoch.note)
        if self.group.first:
            run.write_checkpoint(self.folder, tuner.state())

    def _choose(self, tuner: Finetuner, evaluator: Validator, probe: CandidateScore) -> CandidateScore:
        def tell(candidate: CandidateScore) -> None:
            under = candidate.robust.to_dict() if candidate.robust else {}
            self.metric(
                stage="candidate",
                name=candidate.name,
                val_loss=candidate.loss,
                val_top1=candidate.evaluation.top1,
                **under,
            )

        if tuner.hardening is not None:
            self.say(
                f"choosing by the validation loss under PGD-{CHOOSE_STEPS}: clean photos would choose robustness away"
            )
        beats = (self.settings.recipe == "auto" or self.finished is not None) and not self._hardens
        best = choose(tuner, evaluator, probe if beats else None, tell)
        self.say(f"kept: {best.name}")
        return best

    def _finish(self, features: tuple[Features, Features], kept: CandidateScore) -> TrainResult:
        outcome = Outcome(
            folder=self.folder,
            data=self.data,
            splits=self.splits,
            settings=self.settings,
            network=self.network,
            device=self.device,
            processes=self.group.size,
            features=features,
            kept=kept,
            decisions=tuple(self.decisions),
            mirrors=self.mirrors,
            hardening=self.hardening,
            cross_validated=self.cross_validated,
            seconds=self.seconds,
        )
        return keep_run(outcome, self.say)
