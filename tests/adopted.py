"""Small foreign classifiers as `adopt` takes them: their contract, their input by hand, their answers."""

from __future__ import annotations

import numpy as np
import onnx
from foreign import LABELS

from edge_tl_export.adoption.adopt import Adopted, Choices, adopt, write_adopted
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))

SPEC = ModelSpec(
    labels=LABELS,
    resize=ResizeRule(height=1, width=1, crop_pct=1.0, resample="area-linear"),
    normalization=Normalization(mean=tuple(MEAN), std=tuple(STD)),
    arch="foreign",
)


def spec(labels=LABELS, normalization=SPEC.normalization, order="RGB") -> ModelSpec:
    rule = ResizeRule(height=1, width=1, crop_pct=1.0, resample="area-linear", color_order=order)
    return ModelSpec(labels=labels, resize=rule, normalization=normalization, arch="foreign")


def values(x: np.ndarray, planar: bool = True) -> np.ndarray:
    """By hand: ImageNet's normalisation in float64, rounded once."""
    normalized = ((x / 255.0 - MEAN) / STD).astype(np.float32)
    return normalized.transpose(0, 3, 1, 2) if planar else normalized


def opened(adopted: Adopted, tmp_path) -> Classifier:
    write_adopted(adopted, tmp_path / "ours.onnx")
    return Classifier(tmp_path / "ours.onnx")


def taken(model: onnx.ModelProto, tmp_path, contract=SPEC, **choices) -> tuple[Adopted, Classifier]:
    adopted = adopt(model.SerializeToString(), contract, choices=Choices(**choices))
    return adopted, opened(adopted, tmp_path)


def probabilities(classifier: Classifier, x: np.ndarray) -> np.ndarray:
    return classifier.spec.scores.probabilities(classifier.logits(x))
