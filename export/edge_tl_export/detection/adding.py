"""Puts what tells unknown pictures into one file that is there already, by photos of its classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_tl_export.detection.detector import FIT_PHOTOS, Detection, Fitting
from edge_tl_export.search.compare import FileEvaluator
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference import feature_distance, ood
from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.modelfile.spec import ModelSpec

HELD_OUT = 3
"""One photo of so many is held out; the others are training photos, though nothing is known of the training."""
LEAST = HELD_OUT * max(feature_distance.MIN_PHOTOS, ood.MIN_PHOTOS)


def add_detector(
    model: bytes,
    spec: ModelSpec,
    photos: LabelledPhotos,
    foreign: Sequence[Frame] = (),
    done: Callable[[int], None] = lambda count: None,
) -> tuple[bytes, ModelSpec, Detection] | str:
    """The file with features, its contract and what it notices; or why there is none, in words.

    model: a serialized file whose contract is `spec`; its logits stay as they are. photos: of its classes, at best not those that
    it was trained on, which would lie nearer than new ones.
    """
    some = photos.spread(min(FIT_PHOTOS, len(photos)))
    held = set(some.spread(len(some) // HELD_OUT).paths) if len(some) >= HELD_OUT else set()
    places = range(len(some))
    training = some.subset([place for place in places if some.paths[place] not in held], "photos")
    held_out = some.subset([place for place in places if some.paths[place] in held], "photos")
    fitting = Fitting({spec.precision: model}, spec.resize)
    found = fitting.fit(training, FileEvaluator(held_out, spec.resize), foreign, done, frozen=True)
    if not found:
        few = len(photos) < LEAST
        return f"{len(photos)} photos are too few to learn it from; {LEAST} are the least" if few else fitting.why_none
    detection = found[spec.precision]
    score = replace(detection.ood_score, data=held_out.root.resolve().name)
    detection = replace(detection, ood_score=score, why="photos that were given, each compared with the others")
    told = replace(spec, features=detection.features, ood_score=detection.ood_score)
    return with_checksum(detection.model, told), told, detection
