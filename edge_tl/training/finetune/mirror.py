"""Whether a photo's mirror image looks like another class: arrows to the left and to the right, letters, signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import bdtrc
from torch import nn

from edge_tl.models import Network
from edge_tl.training.probe.probe import fit_probe, make_folds
from edge_tl.training.validation import BATCH
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos

PER_CLASS, AT_MOST = 40, 1000
"""Training photos looked at, of each class and in all."""
SMALLEST = 7
"""Side of the smallest map looked at, in cells."""
PENALTY = 0.1
SHARED = 1 / 3
"""Weight of what a photo and its mirror image share. With 1, direction is lost among features of the scene: 46 of 64 arrows on
plates over photos were found to change places, with this 60. With 0 what classes merely lean to is taken for what they are."""
CHANCE = 0.01
"""Probability, over all pairs of classes together, that photos without a direction make a pair look mirrored."""


@dataclass(frozen=True)
class MirroredPair:
    """Two classes whose photos change places in a mirror: `swapped` of `n` photos look more like the other class there."""

    first: str
    second: str
    swapped: int
    n: int


def some_of_each(photos: LabelledPhotos) -> LabelledPhotos:
    """At most `PER_CLASS` photos of a class and `AT_MOST` in all, evenly over each class."""
    targets = np.asarray(photos.targets)
    each = max(1, min(PER_CLASS, AT_MOST // max(1, len(photos.labels))))
    chosen: list[int] = []
    for target in np.unique(targets):
        members = np.flatnonzero(targets == target)
        chosen += members[np.unique(np.linspace(0, len(members) - 1, each).round().astype(np.int64))].tolist()
    return photos.subset(sorted(chosen), photos.split)


def mirrored_pairs(
    network: Network, photos: LabelledPhotos, device: torch.device, progress: Progress = lambda done: None
) -> list[MirroredPair]:
    """Pairs of classes that change places in a mirror, the surest first. photos: training photos that can be read.

    Probes that saw neither a photo nor its image classify both; a pair is found when more than half of the images of either class
    look like the other, the photos themselves do not, and chance explains neither. The mean of the last layer hardly knows left
    from right, so the probes work on what every layer of another resolution saw, before its mean hides where.
    """
    some = some_of_each(photos)
    plain, mirrored, places = _descriptors(network, some, device, progress)
    targets = np.asarray(some.targets, np.int64)[places]
    read = some.subset(places.tolist(), some.split)
    evaluated = _evaluated(plain, mirrored, targets, read.names, len(photos.labels), read.groups)
    return look_alike(*evaluated, targets, photos.labels)


def look_alike(
    plain: NDArray[np.float32], mirrored: NDArray[np.float32], targets: NDArray[np.int64], labels: Sequence[str]
) -> list[MirroredPair]:
    """From scores of photos and of their mirror images, both (N, C), by probes that saw neither."""
    classes = len(labels)
    sizes = np.bincount(targets, minlength=classes)
    right, swapped = np.zeros((classes, classes), np.int64), np.zeros((classes, classes), np.int64)
    for target in np.unique(targets):
        own = targets == target
        right[target] = (plain[own, target, None] > plain[own]).sum(0)
        swapped[target] = (mirrored[own, target, None] < mirrored[own]).sum(0)
    n = sizes[:, None] + sizes
    pairs = classes * (classes - 1) / 2
    clear = (2 * swapped > sizes[:, None]) & (sizes < 2 * swapped.T)
    for count in (right + right.T, swapped + swapped.T):
        clear &= (
            bdtrc(count - 1, n, 0.5) < CHANCE / pairs
        )  # so many or more by chance; scipy.stats has it, and takes long to load
    found = [
        MirroredPair(labels[a], labels[b], int(swapped[a, b] + swapped[b, a]), int(n[a, b]))
        for a, b in np.argwhere(np.triu(clear, 1))
    ]
    return sorted(found, key=lambda pair: (-pair.swapped / pair.n, pair.first, pair.second))


def _evaluated(
    plain: NDArray[np.float32],
    mirrored: NDArray[np.float32],
    targets: NDArray[np.int64],
    names: list[str],
    classes: int,
    groups: Sequence[str] = (),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores of the photos and of their images, each (N, C). groups: as for `make_folds`."""
    folds = make_folds(targets, names, groups=groups)
    scores = [np.zeros((len(targets), classes), np.float32) for _ in range(2)]
    # What a photo shares with its image, and what sets them apart: there the direction is not buried under everything else.
    deviation = plain.std(0) + 1e-6
    same, apart = SHARED * (plain + mirrored) / 2 / deviation, (plain - mirrored) / 2 / deviation
    photos, images = np.hstack([same, apart]), np.hstack([same, -apart])
    for fold in np.unique(folds):
        kept, asked = np.flatnonzero(folds != fold), folds == fold
        if len(np.unique(targets[kept])) < classes:
            continue  # a class of one photo: nothing is known of it, and zeros are no evidence
        probe = fit_probe(photos[kept], targets[kept], [names[i] for i in kept], classes, penalty=PENALTY)
        for out, values in zip(scores, (photos, images), strict=True):
            out[asked] = probe.logits(values[asked])
    return scores[0], scores[1]


@torch.no_grad()
def _descriptors(
    network: Network, photos: LabelledPhotos, device: torch.device, progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """What the layers see of photos and of their mirror images, both float32 (N, D), and the photos' places."""
    model = network.pixel_model(device)
    seen: dict[tuple[int, int], torch.Tensor] = {}

    def watch(layer: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and output.shape[2] >= SMALLEST:
            seen[output.shape[2], output.shape[3]] = output  # the last layer of each resolution stays

    def describe_batch(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.clear()
        model(torch.from_numpy(np.ascontiguousarray(pixels)).to(device))
        parts = [part for layer in seen.values() for part in (layer.mean((2, 3)), layer.amax((2, 3)))]
        return torch.cat(parts, 1).float().cpu().numpy()

    hooks = [layer.register_forward_hook(watch) for layer in network.module.modules() if not list(layer.children())]
    try:
        plain, mirrored = [], []
        places: list[int] = []
        for batch in PixelReader(photos, network.backbone.resize, BATCH[device.type], progress):
            plain.append(describe_batch(batch.pixels))
            mirrored.append(describe_batch(batch.pixels[:, :, ::-1]))
            places += batch.indices
    finally:
        for hook in hooks:
            hook.remove()
    return np.concatenate(plain), np.concatenate(mirrored), np.asarray(places, np.int64)


def describe(pairs: Sequence[MirroredPair]) -> str:
    """Why views are not mirrored, for the person."""
    pair = pairs[0]
    more = f", and {len(pairs) - 1} more pair{'s' if len(pairs) > 2 else ''}" if len(pairs) > 1 else ""
    return (
        f"views are not mirrored: in a mirror {pair.swapped} of {pair.n} photos of {pair.first!r} and {pair.second!r} look like "
        f"the other class{more}; --mirror does it all the same"
    )
