"""A network small enough to be exported in a moment, its contract, and photos to calibrate it with.

A test module imports the fixtures that it needs: `from tiny_network import network as network`.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import write_photo
from torch import nn

from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, load_training
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

SPEC = ModelSpec(
    labels=("a", "b", "c"),
    resize=ResizeRule(height=32, width=32, crop_pct=1.0, resample="area-cubic"),
    normalization=Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    arch="tiny",
)


@contextmanager
def silent(what: str, total: int):
    """A stage of the export that tells nobody how far it is."""
    yield lambda done: None


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU6(),
        nn.Conv2d(32, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(128, 3),
    ).eval()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return tiny()


def write_patches(root: Path, count: int) -> Path:
    """So many photos of each class of SPEC, which show soft patches of chance. Returns `root`."""
    rng = np.random.default_rng(0)
    for label in SPEC.labels:
        (root / label).mkdir()
        for number in range(count):
            coarse = rng.integers(0, 256, (6, 6, 3), np.uint8)
            write_photo(root / label / f"{number}.png", cv2.resize(coarse, (48, 40), interpolation=cv2.INTER_CUBIC))
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> tuple[LabelledPhotos, LabelledPhotos]:
    """Ten of each class of SPEC: (training, validation)."""
    return load_training(write_patches(tmp_path_factory.mktemp("photos"), 10))
