"""The photos of a training, read and split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from edge_tl_runtime.images.asked_geometry import AskedGeometry
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
    backbone = _input_of(settings)
    return backbone.with_rule(asked_geometry(settings).rule(backbone.resize))


def _input_of(settings: TrainSettings) -> Backbone:
    backbone = find_backbone(settings.arch)
    return (friendly(backbone) if settings.edge_friendly else backbone).resized(settings.size)


def asked_geometry(settings: TrainSettings) -> AskedGeometry:
    """Where to look in each photo. Raises UsageError."""
    asked = AskedGeometry.parse(settings.crop, settings.rotate, settings.flip, settings.fit).single("train")
    # What training does not turn or fit is as it has always been: nothing is asked.
    return replace(
        asked,
        rotate=asked.rotate or None,
        flip=None if asked.flip == "none" else asked.flip,
        fit=None if asked.fit == "crop" else asked.fit,
    )


def in_fractions(settings: TrainSettings, splits: Splits, say: Callable[[str], None]) -> TrainSettings:
    """The settings with a crop that holds for photos of any size, and what was understood, said.

    Raises UsageError for a crop in pixels of photos that differ in size, and for one that leaves them.
    """
    asked = asked_geometry(settings)
    if not asked:
        return settings
    rule = _input_of(settings).resize
    say(asked.describe(rule).partition(";")[0])
    paths = [path for part in splits if part is not None for path in part.paths]
    fixed = asked.for_photos(rule, paths)
    return replace(settings, crop=",".join(map(repr, fixed.crops[0].values))) if fixed.crops else settings


def _features(settings: TrainSettings, device: torch.device, photos: LabelledPhotos) -> NDArray[np.float32]:
    """By the network that is to be trained, of whole photos; where it sees them whole they are not computed again."""
    backbone = _input_of(settings)
    network = build_origin(backbone, WeightsSource.parse(settings.weights, backbone))
    return FeatureExtractor(network, device)(photos).values
