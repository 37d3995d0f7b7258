"""Accuracy on labelled photos, of anything with a contract: what `evaluate` and `Model.evaluate` share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tl.api.reporter import Reporter
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.evaluation.evaluate import Evaluation, Logits, evaluate_model, photos_to_evaluate
from edge_tl_runtime.evaluation.settings import SPLITS
from edge_tl_runtime.evaluation.training_overlap import unseen
from edge_tl_runtime.evaluation.unknown import KnownLogits
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl_runtime.inference.classifier import Classifier


def known_logits(classifier: Classifier) -> Logits:
    """Logits that also count what the file would call unknown, where it tells that by its features."""
    keep = classifier.keep(None)
    return KnownLogits(classifier.answers, classifier.is_known(keep), keep) if keep else classifier.logits


def evaluate_on(
    spec: ModelSpec, logits: Logits, data: Path, split: str, count: int | None, report: Reporter
) -> tuple[Evaluation, LabelledPhotos]:
    """The figures, and the photos they are of, without those that the model was trained on.

    split: one of SPLITS. count: so many photos only, spread over the classes. Raises DataError when nothing could be read.
    """
    if split not in SPLITS:
        raise UsageError(f"split is {split!r}; there are {', '.join(SPLITS)}")
    photos = photos_to_evaluate(spec, data, split)
    report.say(photos.describe())
    total, some = len(photos), ""
    left_out: tuple[str, ...] = ()
    if count is not None and count < total:
        wanted = count
        photos, overlap = unseen(photos, spec, split, lambda rest: rest.spread(wanted))
        left_out = overlap.left_out
        some = f"{len(photos)} photos of {total}, "
    with report.stage("evaluating", len(photos)) as done:
        evaluation = evaluate_model(spec, logits, photos, split, data.resolve().name, done, left_out)
    evaluation = replace(evaluation, data=some + evaluation.data)
    return evaluation, evaluation.overlap.without(photos) if evaluation.overlap else photos
