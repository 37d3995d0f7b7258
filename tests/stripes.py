"""Stripes of three directions in two colours, a network that tells them apart, and what takes long to make of them: made once.

A test module imports the fixtures that it needs: `from stripes import pair as pair`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from edge_tl.adversarial.evaluation.report import evaluate_robustness
from edge_tl.adversarial.packing import write_pack
from edge_tl.adversarial.settings import AttackSettings
from edge_tl.cli.console import silent
from edge_tl_export import make_self_test, quantize, to_onnx
from edge_tl_export.search.compare import open_model
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule


def patches(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stripes of three directions in two pairs of colours, uint8 (N, 32, 32, 3), and which of the six each is."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 6, count)
    rows, columns = np.mgrid[:32, :32]
    angle = (targets % 3) * np.pi / 3 + rng.normal(0, 0.12, count)
    period, phase = rng.uniform(5, 9, count), rng.uniform(0, 2 * np.pi, count)
    along = np.cos(angle)[:, None, None] * rows + np.sin(angle)[:, None, None] * columns
    wave = np.sin(2 * np.pi * along / period[:, None, None] + phase[:, None, None])
    colours = np.array([[1.0, 0.4, -0.6], [-0.6, 0.4, 1.0]])[targets // 3] + rng.normal(0, 0.35, (count, 3))
    pixels = 128 + 45 * wave[..., None] * colours[:, None, None] + rng.normal(0, 30, (count, 32, 32, 3))
    return pixels.clip(0, 255).astype(np.uint8), targets.astype(np.int64)


def write_stripes(root: Path, count: int, seed: int) -> None:
    """`patches` as PNG files in a folder for each class."""
    for place, (picture, target) in enumerate(zip(*patches(count, seed), strict=True)):
        folder = root / SPEC.labels[target]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{place}.png").write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


SPEC = ModelSpec(
    labels=("warm 0", "warm 60", "warm 120", "cold 0", "cold 60", "ลายเย็น"),
    resize=ResizeRule(height=32, width=32, crop_pct=0.875, resample="area-cubic"),
    normalization=Normalization(mean=(0.5,) * 3, std=(0.25,) * 3),
    arch="stripes",
)
QUICK = AttackSettings(preset="quick", epsilons="2,8,32", photos=40, split="all")


class Stripes(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 5, 2, 2),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, 6),
        )


def seal(path: Path, model: bytes, precision: str = "fp32", parent: str = "") -> Path:
    logits, samples = open_model(model, path.name), list(patches(8, 5)[0])
    spec = replace(SPEC, precision=precision, parent_sha256=parent)
    path.write_bytes(with_checksum(model, replace(spec, self_test=make_self_test(logits, spec, samples, precision))))
    return path


def evaluate(model: Path, data: Path, folder: Path, settings: AttackSettings = QUICK, **changes) -> dict:
    return evaluate_robustness(model, data, folder, replace(settings, **changes), silent, lambda text: None)


def make_pack(model: Path, data: Path, target: Path, **changes) -> dict:
    return write_pack(model, data, target, replace(QUICK, **changes), silent, lambda text: None)


class Made:
    """Each is made when it is first asked for, in folders of the session."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders

    @cached_property
    def network(self) -> Stripes:
        torch.manual_seed(0)
        network = Stripes()
        pixels, targets = patches(1500, 0)
        inputs = (torch.from_numpy(pixels).float().permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        labels = torch.from_numpy(targets)
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for step in range(160):
            batch = torch.arange(64 * step, 64 * step + 64) % len(labels)
            loss = nn.functional.cross_entropy(network(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return network.eval()

    @cached_property
    def graph(self) -> bytes:
        return to_onnx(self.network, SPEC)

    @cached_property
    def photos(self) -> Path:
        root = self._folders.mktemp("stripes")
        for place, (picture, target) in enumerate(zip(*patches(60, 9), strict=True)):
            folder = root / SPEC.labels[target]
            folder.mkdir(exist_ok=True)
            # With a border, so that the crop has something to cut off.
            framed = cv2.copyMakeBorder(picture[..., ::-1], 3, 2, 3, 2, cv2.BORDER_REFLECT)
            (folder / f"{place}.png").write_bytes(cv2.imencode(".png", framed)[1].tobytes())
        return root

    @cached_property
    def pair(self) -> Path:
        folder = self._folders.mktemp("pair")
        counterpart = seal(folder / "model.onnx", self.graph)
        int8 = quantize(self.graph, [patches(64, 2)[0]])
        return seal(folder / "model-int8.onnx", int8, "int8", sha256(counterpart.read_bytes()))

    @cached_property
    def whole(self) -> tuple[dict, Path]:
        folder = self._folders.mktemp("whole")
        return evaluate(self.pair, self.photos, folder, corruptions="mjpg"), folder

    @cached_property
    def packed(self) -> Path:
        target = self._folders.mktemp("packs") / "bench.pack"
        self.summary = make_pack(self.pair, self.photos, target)
        assert self.summary["complete"]
        assert [path.name for path in target.parent.iterdir()] == ["bench.pack"]
        return target


@pytest.fixture(scope="module")
def graph(one_thread, stripes) -> bytes:
    """A network that was really trained to tell stripes apart."""
    return stripes.graph


@pytest.fixture(scope="module")
def photos(stripes) -> Path:
    """A folder of each of the six classes with some of 60 photos."""
    return stripes.photos


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """240 photos to train with and 150 that trained nothing, in folders train and val of the six classes. Read only."""
    root = tmp_path_factory.mktemp("known")
    write_stripes(root / "train", 240, 1)
    write_stripes(root / "val", 150, 2)
    return root


@pytest.fixture(scope="module")
def pair(one_thread, stripes) -> Path:
    """An INT8 file beside the FP32 file that it was made from. Read only."""
    return stripes.pair


@pytest.fixture(scope="module")
def whole(one_thread, stripes) -> tuple[dict, Path]:
    """The document and the folder of a whole evaluation. Read only."""
    return stripes.whole


@pytest.fixture(scope="module")
def packed(one_thread, stripes) -> Path:
    """A pack of the pair and the photos. Read only."""
    return stripes.packed
