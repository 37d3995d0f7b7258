"""What an evaluation found, as the document that tables, pages and machines read."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.norms import NORMS
from edge_tl.adversarial.document import DOCUMENT, FORMAT
from edge_tl.adversarial.evaluation.alarms import raise_alarms
from edge_tl.adversarial.evaluation.evaluation import Attacked, Evidence, RobustnessEvaluation, Say
from edge_tl.adversarial.evaluation.evidence import SURVIVAL, after_changes
from edge_tl.adversarial.evaluation.gradient_masking import SanityCheck, union
from edge_tl.adversarial.evaluation.int8_vs_fp32 import about_quantization, paired, smallest, transfer
from edge_tl.adversarial.evaluation.presets import QUICK
from edge_tl.adversarial.evaluation.sweep import AttackRun
from edge_tl.adversarial.evaluation.target import CONTROL_KIND
from edge_tl.adversarial.evaluation.words import blocked_values, in_words, still_climbing
from edge_tl.adversarial.settings import AttackSettings
from edge_tl_export import Stage
from edge_tl_runtime.core.files import write_text
from edge_tl_runtime.core.statistics import rate
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.machine.cpu import cpu_features, cpu_name
from edge_tl_runtime.robustness.corrupted_accuracy import corrupted_accuracy
from edge_tl_runtime.robustness.corruptions import SEVERITIES, named_corruptions

if TYPE_CHECKING:
    from edge_tl.adversarial import documents as doc
    from edge_tl_runtime.core.documents import RateDocument
    from edge_tl_runtime.modelfile.documents import ResizeDocument
    from edge_tl_runtime.robustness.documents import (
        AttackSettingsDocument,
        CorruptionsDocument,
        EnvironmentDocument,
        QueriesDocument,
    )


def evaluate_robustness(
    model: Path, data: Path, folder: Path, settings: AttackSettings, stage: Stage, say: Say
) -> doc.RobustnessDocument:
    """Attack a model file on labelled photos; the report, also in folder/robustness.json, with its pictures beside it.

    Goes on with an evaluation of the same that was interrupted in `folder`. Raises UsageError, DataError, BadModelError,
    OutputError.
    """
    evaluation = RobustnessEvaluation(model, data, folder, settings, stage, say)
    document = attack_all(evaluation)[1]
    write_text(folder / DOCUMENT, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    if document["complete"]:
        evaluation.ledger.discard()
    return document


def attack_all(evaluation: RobustnessEvaluation) -> tuple[dict[str, Attacked], doc.RobustnessDocument]:
    """Attack the file, and its FP32 counterpart where there is one, by role; and the report of it."""
    attacked = {"model": evaluation.attack(evaluation.under_test)}
    if evaluation.counterpart is not None:
        attacked["fp32_counterpart"] = evaluation.attack(evaluation.counterpart)
    evidence = evaluation.evidence(attacked["model"])
    sanity = evaluation.sanity(attacked["model"])
    return attacked, _Report(evaluation, attacked, evidence, sanity).document()


class _Report:
    def __init__(
        self,
        evaluation: RobustnessEvaluation,
        attacked: Mapping[str, Attacked],
        evidence: Evidence,
        sanity: Sequence[SanityCheck],
    ) -> None:
        self.evaluation, self.attacked, self.evidence, self.sanity = evaluation, attacked, evidence, sanity
        self.settings, self.photos = evaluation.settings, evaluation.photos
        self.radii = self.settings.radii()
        self.n = len(self.photos)
        self.robust = {role: self._robust(role) for role in attacked}
        self.bound = {role: self._bound(result) for role, result in attacked.items()}
        self.pairs = (
            paired(self.robust["model"], self.robust["fp32_counterpart"]) if "fp32_counterpart" in attacked else {}
        )
        whole = not any(any(short.values()) for short in self.bound.values())
        self.alarms = raise_alarms(evaluation, attacked, self.robust, sanity, self.pairs if whole else {})

    def document(self) -> doc.RobustnessDocument:
        model = self.attacked["model"]
        withheld = {f"{radius:g}" for alarm in self.alarms if alarm.role == "model" for radius in alarm.radii}
        robust = self._worst("model")
        shown = {radius: figure for radius, figure in robust.items() if radius not in withheld}
        proof = model.under_test.faithfulness
        document: doc.RobustnessDocument = {
            "format": FORMAT,
            "model": model.under_test.summary(),
            "fp32_counterpart": self.attacked["fp32_counterpart"].under_test.summary()
            if "fp32_counterpart" in self.attacked
            else None,
            "data": self.photos.data,
            "training_overlap": self.photos.overlap.to_dict(),
            "n": self.n,
            "data_sha256": self.photos.digest,
            "resize": cast("ResizeDocument", self.evaluation.spec.resize.known()),
            "threat": self._threat(),
            "clean_accuracy": rate(int(model.correct.sum()), self.n),
            "robust_accuracy": shown if set(shown) - {"0"} else None,
            "robust_accuracy_withheld": {radius: robust[radius] for radius in robust if radius in withheld} or None,
            "success_rate": self._success_rate(),
            "headline": self._headline(robust, withheld),
            "withheld": bool(withheld),
            "alarms": [alarm.to_dict() for alarm in self.alarms],
            "notes": self._notes(),
            "models_under_test": self._models_under_test(),
            "routes_absent": [{"route": item.name, "why": item.why} for item in model.under_test.absent],
            "faithfulness": None if proof is None else {"text": str(proof), **proof.to_dict()},
            "paired": self.pairs,
            "smallest": smallest(self.attacked, self.settings.seed),
            "quantization": None,
            "transfer": transfer(self.attacked, self.radii[1:]),
            "sanity": [check.to_dict() for check in self.sanity],
            "survival": self._survival(),
            "examples": self._examples(),
            "outcomes": self._outcomes(),
            "corruptions": self._corruptions(),
            "environment": _environment(model, self.evaluation.device),
            "settings": cast("AttackSettingsDocument", asdict(self.settings)),
            "skipped": [item.to_dict() for item in self.photos.skipped],
            "seconds": round(time.monotonic() - self.evaluation.started, 1),
            "complete": not self.evaluation.stop(),
        }
        document["quantization"] = about_quantization(document)
        return document

    def _threat(self) -> doc.ThreatDocument:
        labels, settings = self.evaluation.spec.labels, self.settings
        target = self.evaluation.target
        queries = [attack.queries for attack in self.evaluation.preset.black_box.values() if hasattr(attack, "queries")]
        goal = "any wrong class" if target is None else f"to {labels[target]}"
        source = f", photos of {settings.source} alone" if settings.source else ""
        routes = [f"{route.name}: {route.knows}" for route in self.attacked["model"].under_test.routes]
        return {
            "norm": settings.norm,
            "where": "the pixels the network gets, after crop and resize, whole values 0 to 255",
            "goal": goal + source,
            "knowledge": [*routes, *(f"{name}: scores of the file alone" for name in self.evaluation.preset.black_box)],
            "epsilons": list(self.radii),
            "unit": "/255" if settings.norm == "linf" else "L2 of pixels in 0..1",
            "queries": max(queries, default=0),
        }

    def _robust(self, role: str) -> dict[float, NDArray[np.bool_]]:
        """What stays right under the worst attack, by epsilon. Of the file itself, successes count as they were read from PNG."""
        result = self.attacked[role]
        fooled = {}
        for radius in self.radii[1:]:
            if role == "model":
                fooled[radius] = self.evidence.radii <= radius
            else:
                attacks = [line for line in result.lines if line.kind != CONTROL_KIND]
                fooled[radius] = union(attacks, radius, self.n)
        return {0.0: result.correct, **{radius: result.correct & ~hit for radius, hit in fooled.items()}}

    def _bound(self, result: Attacked) -> dict[float, bool]:
        """Whether an attack was cut short on a photo that is not fooled, so that the figure is an upper bound."""
        short = {0.0: False}
        for radius in self.radii[1:]:
            short[radius] = any(not line.complete[radius].all() for line in result.lines if line.kind != CONTROL_KIND)
        return short

    def _worst(self, role: str) -> dict[str, RateDocument]:
        doubted = any(alarm.role == role for alarm in self.alarms)
        return {
            f"{radius:g}": rate(
                int(robust.sum()),
                self.n,
                bound=self.bound[role][radius] or (doubted and radius > 0 and bool(robust.any())),
            )
            for radius, robust in self.robust[role].items()
        }

    def _success_rate(self) -> dict[str, RateDocument] | None:
        if self.evaluation.target is None:
            return None
        model = self.attacked["model"]
        tried = int(model.attackable.sum())
        return {
            f"{radius:g}": rate(int((model.correct & ~robust).sum()), tried, bound=self.bound["model"][radius])
            for radius, robust in self.robust["model"].items()
        }

    def _models_under_test(self) -> doc.ModelsUnderTestDocument:
        model = self._model_under_test("model")
        return (
            {"model": model, "fp32_counterpart": self._model_under_test("fp32_counterpart")}
            if "fp32_counterpart" in self.attacked
            else {"model": model}
        )

    def _model_under_test(self, role: str) -> doc.ModelUnderTestDocument:
        result = self.attacked[role]
        return {
            "name": result.under_test.name,
            "clean": rate(int(result.correct.sum()), self.n),
            "attackable": int(result.attackable.sum()),
            "worst": self._worst(role),
            "attacks": [self._line(line, int(result.attackable.sum())) for line in result.lines],
        }

    def _line(self, line: AttackRun, tried: int) -> doc.AttackRunDocument:
        success: dict[str, RateDocument] = {}
        queries: dict[str, QueriesDocument] = {}
        curve: dict[str, list[list[int]]] = {}
        plugin = self.evaluation.chosen.added.get(line.name)
        for radius in self.radii[1:]:
            fooled = line.fooled[radius]
            spent = np.sort(line.queries[radius][fooled])
            success[f"{radius:g}"] = rate(int(fooled.sum()), tried, bound=not line.complete[radius].all())
            middle, late = (float(np.quantile(spent, share)) for share in (0.5, 0.9)) if len(spent) else (None, None)
            queries[f"{radius:g}"] = {"median": middle, "p90": late}
            values, counts = np.unique(spent, return_counts=True)
            curve[f"{radius:g}"] = [[int(v), int(c)] for v, c in zip(values, counts.cumsum(), strict=True)]
        return {
            "name": line.name,
            "route": line.route,
            "kind": line.kind,
            "attack": repr(line.attack),
            "paper": getattr(line.attack, "paper", ""),
            "success": success,
            "queries": queries,
            "curve": curve,
            "plugin": None if plugin is None else plugin.to_dict(),
        }

    def _survival(self) -> list[doc.SurvivalDocument]:
        stored, still = self.evidence.stored, self.evidence.still
        if not stored:
            return []
        rows: list[doc.SurvivalDocument] = [
            {"name": "PNG, read back by the runner", "threat": "same", "still": rate(int(still.sum()), len(stored))}
        ]
        result, rule = self.attacked["model"], self.evaluation.spec.resize
        fooled = np.zeros(len(SURVIVAL), np.int64)
        for item in stored:
            scores = result.under_test.without_gradients.evaluated(after_changes(self.evaluation.folder, item, rule))
            fooled += result.sweep.criterion.take(np.full(len(SURVIVAL), item.photo)).fooled(scores)
        return rows + [
            {"name": name, "threat": "weaker", "still": rate(int(count), len(stored))}
            for (name, _), count in zip(SURVIVAL, fooled, strict=True)
        ]

    def _examples(self) -> list[doc.ExampleDocument]:
        result, spec = self.attacked["model"], self.evaluation.spec
        norm, labels = NORMS[self.settings.norm], spec.labels
        examples: list[doc.ExampleDocument] = []
        found = self.evidence
        for item, line, still, logits in zip(found.stored, found.attacks, found.still, found.logits, strict=True):
            if not still:
                continue
            clean = self.photos.pixels[item.photo]
            before = spec.scores.probabilities(result.logits[item.photo])
            now = spec.scores.probabilities(logits)
            size = norm.sizes((item.pixels.astype(np.int64) - clean)[None])[0] / self.settings.unit
            examples.append(
                {
                    "photo": self.photos.names[item.photo],
                    "truth": labels[self.photos.targets[item.photo]],
                    "before": {"label": labels[int(before.argmax())], "confidence": float(before.max())},
                    "after": {"label": labels[int(now.argmax())], "confidence": float(now.max())},
                    "epsilon": item.radius,
                    "size": float(size),
                    "attack": line.name,
                    "route": line.route,
                    "clean": item.clean,
                    "adversarial": item.adversarial,
                }
            )
        return sorted(examples, key=lambda example: -example["after"]["confidence"])

    def _outcomes(self) -> doc.OutcomesDocument:
        def text(flags: NDArray[np.bool_]) -> str:
            return "".join("1" if flag else "0" for flag in flags)

        def of(role: str) -> doc.RoleOutcomesDocument:
            robust = {f"{radius:g}": text(held) for radius, held in self.robust[role].items()}
            return {"correct": text(self.attacked[role].correct), "robust": robust}

        found: doc.OutcomesDocument = {"photos": list(self.photos.names), "model": of("model")}
        return {**found, "fp32_counterpart": of("fp32_counterpart")} if "fp32_counterpart" in self.attacked else found

    def _corruptions(self) -> CorruptionsDocument | None:
        if not self.settings.corruptions:
            return None
        names = named_corruptions(self.settings.corruptions)
        result = self.attacked["model"]
        chosen = self.photos.source
        with self.evaluation.stage("corruptions", len(chosen)) as done:
            found = corrupted_accuracy(
                result.under_test.classifier.logits,
                chosen,
                self.evaluation.spec.resize,
                names,
                SEVERITIES,
                seed=self.settings.seed,
                progress=done,
                stop=self.evaluation.stop,
            )
        return found.to_dict()

    def _notes(self) -> list[str]:
        notes = []
        if self.settings.attacks:
            notes.append(
                f"only the attacks named by --attacks were run ({self.settings.attacks}); other attacks may fool more"
            )
        notes += [f"{plugin}" for plugin in self.evaluation.chosen.added.values()]
        if self.evaluation.stop():
            notes.append("the time limit came first: rates of success are lower bounds, robust accuracies upper bounds")
        lost = len(self.evidence.stored) - int(self.evidence.still.sum())
        if lost:
            notes.append(f"{lost} successes did not fool any more when read back from PNG and are not counted")
        for result in self.attacked.values():
            if result.under_test.constant:
                notes.append(blocked_values(result.under_test))
            notes += [note for line in result.lines if (note := still_climbing(result.under_test.name, line, self.n))]
        if self.evaluation.device != "cpu":
            notes.append(f"gradients on {self.evaluation.device}; every answer that counts is onnxruntime's")
        if self.settings.preset == "quick" and not self.settings.attacks:
            notes.append(QUICK)
        return [*notes, *self.photos.overlap.lines()]

    def _headline(self, robust: Mapping[str, RateDocument], withheld: set[str]) -> str:
        clean = rate(int(self.attacked["model"].correct.sum()), self.n)
        start = f"clean accuracy {in_words(clean)}"
        unit = "/255" if self.settings.norm == "linf" else ""
        shown = [f"{radius:g}" for radius in self.radii[1:4] if f"{radius:g}" not in withheld]
        if self.evaluation.target is not None:
            reached = self._success_rate() or {}
            label = self.evaluation.spec.labels[self.evaluation.target]
            parts = [f"{in_words(reached[key])} at {key}{unit}" for key in shown[:2]]
            told = f"; made into {label}: " + ", ".join(parts)
        else:
            quick = self.settings.preset == "quick"
            parts = [
                ("at most " if quick or robust[key]["bound"] else "") + f"{in_words(robust[key])} at {key}{unit}"
                for key in shown
            ]
            told = "; robust accuracy " + ", ".join(parts) + (", by quick attacks" if quick else "")
        if not withheld:
            return start + told
        names = ", ".join(dict.fromkeys(alarm.name for alarm in self.alarms if alarm.role == "model" and alarm.radii))
        where = ", ".join(f"{key}{unit}" for key in sorted(withheld, key=float))
        return f"{start}{told if parts else ''}; robust accuracy withheld at {where}: {names}"


def _environment(attacked: Attacked, device: str) -> EnvironmentDocument:
    return {
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "features": list(cpu_features()),
        "threads": usable_cores(),
        "provider": attacked.under_test.classifier.session.get_providers()[0],
        "gradients_on": device,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("edge-tl", "onnxruntime", "numpy", "opencv-python", "torch")},
    }
