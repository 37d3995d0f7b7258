"""Which photos a training has seen, for the contract of what it makes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open

from edge_tl.models.weights import CONTRACT_KEY
from edge_tl.training.probe.features import Features
from edge_tl.training.settings import TrainSettings
from edge_tl_runtime.core.errors import BadImage, DataError
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits, load_unlabelled
from edge_tl_runtime.images.decode import read_file
from edge_tl_runtime.images.fingerprint import SeenFiles, fingerprint_photos
from edge_tl_runtime.modelfile.onnx import RUN_WEIGHTS
from edge_tl_runtime.modelfile.spec import ModelSpec
from edge_tl_runtime.modelfile.training_images import TrainingImages


def list_seen_photos(splits: Splits, features: tuple[Features, Features], settings: TrainSettings) -> TrainingImages:
    """Training photos, those without labels too, and validation photos, among which background
    photos count, and what the weights of an earlier run had seen.

    features: of the training and validation photos of `splits`, in this order.
    """
    taught, chose = (
        {digest: photos.paths[place] for digest, place in zip(part.digests, part.indices, strict=True)}
        for photos, part in zip(splits[:2], features, strict=True)
    )
    if settings.unlabelled:
        taught |= _digests(load_unlabelled(Path(settings.unlabelled)))
    chose |= _background(settings)
    earlier = seen_by_weights(Path(settings.weights))
    return fingerprint_photos(SeenFiles(taught, chose), [earlier] if earlier is not None else [])


def background_digests(settings: TrainSettings) -> list[str]:
    """SHA-256 of the background photos of a training that can be read; [] without any."""
    return list(_background(settings))


def _background(settings: TrainSettings) -> dict[str, Path]:
    """By digest. A folder that went away since the training began is no reason to lose the training; its export says so."""
    try:
        return _digests(load_unlabelled(Path(settings.background))) if settings.background else {}
    except DataError:
        return {}


def _digests(photos: LabelledPhotos) -> dict[str, Path]:
    digests = map_in_order(_digest, photos.paths)
    return {digest: path for digest, path in zip(digests, photos.paths, strict=True) if digest}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except BadImage:
        return ""


def seen_by_weights(weights: Path) -> TrainingImages | None:
    """What a run had seen, by its folder or weights file; None for other weights, as "pretrained"."""
    file = weights / RUN_WEIGHTS if weights.is_dir() else weights
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as content:
            contract = (content.metadata() or {}).get(CONTRACT_KEY)
    except (SafetensorError, OSError):
        return None
    return None if contract is None else ModelSpec.from_json(contract).training_images
