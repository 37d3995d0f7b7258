"""The photos of a training, read and split."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.data.grouping import finder
from edge_tl.models import WeightsSource, find_backbone
from edge_tl.models.backbones import Backbone, friendly
from edge_tl.models.network import build_origin
from edge_tl.training.probe.features import FeatureExtractor
from edge_tl.training.settings import TrainSettings
from edge_tl_export import Stage
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits, load_splits


def load_photos(root: Path, settings: TrainSettings, device: torch.device, stage: Stage) -> Splits:
    """The photos as the settings split them. Raises DataError."""
    describe = None if settings.weights == "none" else partial(_features, settings, device)
    return load_splits(
        root,
        val_fraction=settings.val_fraction,
        test=settings.test,
        seed=settings.seed,
        group=settings.group,
        find_alike=finder(stage, describe),
    )


def target_backbone(settings: TrainSettings) -> Backbone:
    """What is trained in the end."""
    backbone = find_backbone(settings.arch)
    return (friendly(backbone) if settings.edge_friendly else backbone).resized(settings.size)


def _features(settings: TrainSettings, device: torch.device, photos: LabelledPhotos) -> NDArray[np.float32]:
    """By the network that is to be trained; they are kept, so training does not compute them again."""
    backbone = target_backbone(settings)
    network = build_origin(backbone, WeightsSource.parse(settings.weights, backbone))
    return FeatureExtractor(network, device)(photos).values
