"""Accuracy on labelled photos, clean and under corruptions: what `edge-tl evaluate` and `Model` share."""

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
from edge_tl_runtime.images.asked_geometry import AskedGeometry, seeing
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.inference.label_sets import LabelSetRule
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl_runtime.inference.classifier import Classifier
    from edge_tl_runtime.robustness.corrupted_accuracy import CorruptedAccuracy


def known_logits(classifier: Classifier) -> KnownLogits | None:
    """Logits that also count what the file would call unknown; None where it does not tell that by its features."""
    keep = classifier.keep(None)
    return KnownLogits(classifier.answers, classifier.is_known(keep), keep) if keep else None


def evaluate_on(
    spec: ModelSpec,
    logits: Logits,
    data: Path,
    split: str,
    count: int | None,
    report: Reporter,
    known: KnownLogits | None = None,
    sets: LabelSetRule | None = None,
    asked: AskedGeometry = AskedGeometry(),
) -> tuple[ModelSpec, Evaluation, LabelledPhotos]:
    """The model as it looked at the photos, the figures, and the photos, without those that the model was trained on.

    split: one of SPLITS. count: so many photos only, spread over the classes. known: as `evaluate_model`. sets: of
    `Classifier.label_sets`, to count what they hold. asked: where to look, in place of what the file says. Raises DataError when
    nothing could be read, UsageError for a crop in pixels of photos that differ in size.
    """
    if sets is not None and (note := sets.note()):
        report.say(note)
    if split not in SPLITS:
        raise UsageError(f"split is {split!r}; there are {', '.join(SPLITS)}")
    photos = photos_to_evaluate(spec, data, split)
    report.say(photos.describe())
    if asked:
        report.say(asked.describe(spec.resize))
        spec = seeing(spec, asked.for_photos(spec.resize, photos.paths).rule(spec.resize))
    total, some = len(photos), ""
    left_out: tuple[str, ...] = ()
    if count is not None and count < total:
        wanted = count
        photos, overlap = unseen(photos, spec, split, lambda rest: rest.spread(wanted))
        left_out = overlap.left_out
        some = f"{len(photos)} photos of {total}, "
    with report.stage("evaluating", len(photos)) as done:
        evaluation = evaluate_model(spec, logits, photos, split, data.resolve().name, done, left_out, known, sets)
    evaluation = replace(evaluation, data=some + evaluation.data)
    return spec, evaluation, evaluation.overlap.without(photos) if evaluation.overlap else photos


def named(corruptions: str, severities: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Corruptions and severities by what a person writes. Raises UsageError for what is none."""
    from edge_tl_runtime.robustness.corruptions import named_corruptions, named_severities

    return named_corruptions(corruptions), named_severities(severities)


def corrupted_on(
    spec: ModelSpec,
    logits: Logits,
    photos: LabelledPhotos,
    wanted: tuple[tuple[str, ...], tuple[int, ...]],
    seed: int,
    report: Reporter,
) -> CorruptedAccuracy:
    """Accuracy on the photos of `evaluate_on`, each under every corruption. wanted: of `named`."""
    from edge_tl_runtime.robustness.corrupted_accuracy import corrupted_accuracy

    with report.stage("under corruptions", len(photos)) as done:
        return corrupted_accuracy(logits, photos, spec.resize, *wanted, seed=seed, progress=done)
