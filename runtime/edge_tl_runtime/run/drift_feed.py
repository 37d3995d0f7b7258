"""Feeds the results of a run to what tells drift, and begins it anew with another model file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.core.progress import Say
from edge_tl_runtime.core.text import error_line
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.run.plan import RunPlan
from edge_tl_runtime.scene.drift import Drift, DriftSettings
from edge_tl_runtime.scene.drift_pictures import DriftPictures
from edge_tl_runtime.scene.drift_state import DriftFile
from edge_tl_runtime.scene.events import Look
from edge_tl_runtime.sources import Source

if TYPE_CHECKING:
    from edge_tl_runtime.scene.documents import CameraDriftDocument


class DriftFeed:
    """Looks at a result a second; the others cost a comparison.

    Where there is no `--drift`, none of these is made.
    """

    def __init__(self, plan: RunPlan, source: Source, classifier: Classifier, say: Say) -> None:
        """Raises UsageError for photos, for a rate that is none and for pictures without a file; OutputError for places that
        cannot be used."""
        if not source.sequence:
            raise UsageError("--drift: photos do not follow each other in time; edge-tl evaluate counts unknown ones")
        self._plan, self._source, self._say = plan, source, say
        self._region: str | None = None
        self._classifier = classifier
        self._drift: Drift | None = self._opened(classifier)

    def saw(self, result: Result, classifier: Classifier) -> None:
        """A result and the model that gave it. Its evidence and pixels are used before the next one overwrites them."""
        if classifier is not self._classifier:
            self._renew(classifier)
        if result.region != self._first_region(result):
            return
        drift, record = self._drift, result.record
        if record.camera:  # told by itself: a covered lens is no change of what is before it
            return
        seconds = record.captured if self._source.live else record.seconds
        label = result.decision.index if result.decision.known else -1
        if drift is not None and drift.due(seconds):
            drift.look(self._look(result, seconds, label), lambda: record.frame)

    def _first_region(self, result: Result) -> str:
        if self._region is None:
            self._region = result.region
            if result.region:
                self._say(f"drift: of the regions, {result.region} is watched")
        return self._region

    def document(self) -> CameraDriftDocument | None:
        """None where a new model's could not be begun."""
        return self._drift.document() if self._drift is not None else None

    def close(self) -> None:
        if self._drift is not None:
            self._drift.save()

    def _look(self, result: Result, seconds: float, label: int) -> Look:
        detector, evidence = self._classifier.detector, result.evidence
        if detector is None or evidence is None:
            return Look(seconds, label, np.empty(0), 0.0)
        score = detector.score(evidence)
        if detector.distance is None:
            return Look(seconds, label, np.empty(0), score)
        place = evidence / max(float(np.linalg.norm(evidence)), 1e-6)
        return Look(seconds, label, place, score, detector.distance.places(evidence[None])[0])

    def _renew(self, classifier: Classifier) -> None:
        self.close()
        self._classifier, self._drift = classifier, None
        try:
            self._drift = self._opened(classifier)
        except OutputError as error:
            self._say(f"drift: not told any more: {error_line(error)}")

    def _opened(self, classifier: Classifier) -> Drift:
        plan, spec, keep = self._plan, classifier.spec, classifier.keep(self._plan.unknown)
        assert plan.drift is not None
        watched = [
            name
            for name, there in (
                ("unknown", keep > 0 or plan.threshold > 0),
                ("labels", len(spec.labels) > 1),
                ("picture", classifier.detector is not None),
            )
            if there
        ]
        if "unknown" not in watched:
            self._say(
                "drift: nothing is called unknown here, so its share is not watched; export the model again, or give --unknown"
            )
        settings = DriftSettings(
            false_alarms=plan.drift_false_alarms,
            block_s=plan.drift_day,
            labels=spec.labels,
            promised=round(1 - keep, 9) if keep else None,
            watched=watched,
        )
        identity = {
            "model file": sha256(spec.to_json().encode("utf-8", "backslashreplace")),
            "source": self._source.name,
            "where it looks": f"{' '.join(plan.crop)}, {plan.rotate}, {plan.flip}, {plan.fit}",
            "length of a day": f"{plan.drift_day:g} s",
            "rule for unknown": f"{keep:g}, {plan.threshold:g}, {plan.labels}",
        }
        pictures = DriftPictures(plan.drift_pictures) if plan.drift_pictures else None
        wall = time.time if self._source.live else None
        return Drift(settings, DriftFile(plan.drift, identity), pictures, wall=wall, say=self._say)
