"""Dreams as files: the picture as the runner reads it, its control, the climb as an animation, and every figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl.adversarial.class_lookup import find_class
from edge_tl.adversarial.document import DREAMS_DOCUMENT, DREAMS_FORMAT
from edge_tl.adversarial.dreams.dream import Dream, DreamScore, dream, evaluated
from edge_tl.adversarial.evaluation.evidence import stem, write_uncropped
from edge_tl.adversarial.evaluation.fp32_counterpart import fp32_counterpart
from edge_tl.adversarial.settings import DreamSettings
from edge_tl_export import Stage
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.core.errors import OutputError, UsageError
from edge_tl_runtime.core.files import atomic_path, make_folder, sha256, write_text
from edge_tl_runtime.core.malloc import keep_heap
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.modelfile.onnx import read_model

if TYPE_CHECKING:
    from edge_tl.adversarial import documents as doc
    from edge_tl_runtime.modelfile.documents import ResizeDocument

FRAME_MS = 80


def write_dreams(
    model: Path, classes: Sequence[str], folder: Path, settings: DreamSettings, photo: Path | None, stage: Stage
) -> doc.DreamsDocument:
    """Dream of each class and write pictures, animations and folder/dream.json, whose document is returned.

    photo: to start from and stay near; None starts as the settings say. Raises UsageError for an unknown class or an FP32 file
    that is not there, BadModelError, ExportError for a graph without gradients, BadImage, OutputError.
    """
    keep_heap()
    classifier = Classifier(model, SessionSettings(spin=True))
    spec = classifier.spec
    indices = [find_class(name, spec.labels) for name in classes]
    data, source = read_model(model), model
    if settings.gradients == "fp32-counterpart":
        counterpart = fp32_counterpart(model, spec)
        if counterpart is None:
            raise UsageError(f"{model} has no FP32 file beside it that it was made from; take --gradients own")
        source = counterpart
    graph = DifferentiableGraph(data if source == model else read_model(source))
    start = None if photo is None else crop_resize(read_photo(photo), spec.resize)
    make_folder(folder)
    dreams: list[doc.DreamDocument] = []
    for index in indices:
        name = stem(index, spec.labels[index])
        with stage(spec.labels[index], settings.steps) as done:
            made = dream(graph, classifier.logits, spec, index, settings, start, done)
        entry: doc.DreamDocument = {
            "label": spec.labels[index],
            "index": index,
            "start": made.start.to_dict(),
            "dream": _written(folder, name, made, classifier, index),
            "trace": [{"step": step, **found.to_dict()} for step, found in made.trace],
        }
        if settings.animation != "none":
            entry["animation"] = _animated(folder / f"{name}.{settings.animation}", made, spec.resize.color_order).name
        if settings.control:
            with stage(f"{spec.labels[index]}, control", settings.steps) as done:
                control = dream(graph, classifier.logits, spec, index, settings.unheld(), start, done)
            entry["control"] = _written(folder, f"{name}-control", control, classifier, index)
        dreams.append(entry)
    document: doc.DreamsDocument = {
        "format": DREAMS_FORMAT,
        "model": str(model),
        "sha256": sha256(data),
        "precision": spec.precision,
        "gradients_of": str(source),
        "resize": cast("ResizeDocument", spec.resize.known()),
        "photo": None if photo is None else str(photo),
        "settings": cast("doc.DreamSettingsDocument", asdict(settings)),
        "dreams": dreams,
        "versions": {name: version(name) for name in ("edge-tl", "onnxruntime", "torch", "opencv-python")},
    }
    write_text(folder / DREAMS_DOCUMENT, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    return document


def _written(folder: Path, name: str, made: Dream, classifier: Classifier, index: int) -> doc.DreamPictureDocument:
    """Write a picture so that the runner's crop finds it again, and say what the file makes of what is read back."""
    spec = classifier.spec
    path = folder / f"{name}.png"
    write_uncropped(path, made.pixels, spec.resize)
    read = crop_resize(read_photo(path), spec.resize)
    verdict: DreamScore = evaluated(classifier.logits, spec, index, read)
    return {"picture": path.name, **verdict.to_dict(), "rebuilt_logit": made.rebuilt_logit}


def _animated(path: Path, made: Dream, order: str) -> Path:
    frames = [np.ascontiguousarray(frame[..., ::-1]) if order == "RGB" else frame for frame in made.frames]
    with atomic_path(path) as partial:
        ready = partial.with_suffix(path.suffix)
        if not (_gif(ready, frames) if path.suffix == ".gif" else _mp4(ready, frames)):
            raise OutputError(f"this OpenCV cannot write {path.suffix[1:]} files; take another --animation")
        ready.replace(partial)
    return path


def _gif(path: Path, frames: Sequence[NDArray[np.uint8]]) -> bool:
    if not hasattr(cv2, "imwriteanimation"):
        return False
    animation = cv2.Animation()
    animation.frames, animation.durations = list(frames), [FRAME_MS] * (len(frames) - 1) + [20 * FRAME_MS]
    return bool(cv2.imwriteanimation(str(path), animation))


def _mp4(path: Path, frames: Sequence[NDArray[np.uint8]]) -> bool:
    size = (frames[0].shape[1], frames[0].shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1000 / FRAME_MS, size)
    if not writer.isOpened():
        return False
    for frame in frames:
        writer.write(frame)
    writer.release()
    return True
