"""From a trained network to its edge-friendly variant, as near as the weights come without training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from edge_tl.models import Backbone, Network
from edge_tl.models.friendly import Change, fold_gates, watch_gates
from edge_tl_export import PixelModel
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.choosing import spread_over
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos

PHOTOS = 256
"""Training photos that gates and statistics are taken from."""
BATCH = 32


@dataclass(frozen=True)
class Adaptation:
    """changes: what was replaced. folded: names of the gates whose constants live on in the weights beside them."""

    changes: tuple[Change, ...]
    folded: tuple[str, ...]


def adapt(
    network: Network,
    friendly: Backbone,
    photos: LabelledPhotos,
    device: torch.device,
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Adaptation:
    """Turn `network`, which has `friendly.plain`'s structure and trained weights, into `friendly`, in place.

    Gates become their best constants over some training photos, then the statistics of batch normalisation are taken anew:
    those of the old activations are wrong for the new ones. The head stays.
    Raises DataError when not one photo can be read.
    """
    chosen = np.random.default_rng(seed).permutation(spread_over(photos.targets, PHOTOS))
    reader = PixelReader(photos.subset(chosen.tolist(), photos.split), friendly.resize, BATCH, progress)
    pixels = np.concatenate([batch.pixels for batch in reader])
    # Batches of nearly one size: statistics are averaged over batches, and one photo alone has none.
    batches = np.array_split(pixels, -(-len(pixels) // BATCH))
    with watch_gates(network.module) as meter:
        _run(network.pixel_model(device), batches)
    folded = fold_gates(network.module, meter.constants())
    changes = network.make_edge_friendly(friendly)
    if len(pixels) > 1:
        restate(network, batches, device)
    return Adaptation(changes, folded)


def restate(network: Network, batches: list[NDArray[np.uint8]], device: torch.device) -> None:
    """Take the statistics of batch normalisation from these photos, uint8 (N, H, W, 3) each, in place of the old ones."""
    model = network.pixel_model(device)
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    _run(model, batches)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    model.eval()


@torch.no_grad()
def _run(model: PixelModel, batches: list[NDArray[np.uint8]]) -> None:
    for batch in batches:
        model(torch.from_numpy(batch).to(model.scale.device))
