"""Fine-tuning of a whole network that already has a fitted head, keeping the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_tl.models import Network
from edge_tl.models._torchvision import import_torchvision
from edge_tl_export import PixelModel
from edge_tl_runtime.dataset import LabelledPhotos
from edge_tl_runtime.errors import BadImage, EdgeTLError
from edge_tl_runtime.evaluate import Evaluation, Progress, evaluate
from edge_tl_runtime.photos import Unreadable, map_in_order, read_photo


@dataclass(frozen=True)
class FinetuneSettings:
    """epochs: passes over the training photos. learning_rate: of the backbone; the head's is ten times that.

    min_area: smallest part of a photo a random crop may show, in (0, 1].
    """

    epochs: int
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    batch_size: int = 32
    label_smoothing: float = 0.1
    min_area: float = 0.35
    warmup: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Epoch:
    """number: 1-based. loss: mean over the training photos. evaluation: on the validation photos, after the epoch."""

    number: int
    loss: float
    learning_rate: float
    evaluation: Evaluation
    skipped: tuple[Unreadable, ...]


def finetune(
    network: Network,
    train: LabelledPhotos,
    val: LabelledPhotos,
    settings: FinetuneSettings,
    device: torch.device,
    progress: Progress = lambda done: None,
) -> Iterator[Epoch]:
    """Train every weight, an epoch at each step of the iterator; the network is left as the last epoch made it.

    Statistics of batch normalisation stay frozen: a few photos estimate them badly, and weights with normalisation folded
    in have none to learn. Random resized crops and mirroring (torchvision v2); AdamW without decay on norms and biases;
    linear warm-up, then cosine. Raises EdgeTLError when the loss is no longer a number.
    """
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    model = PixelModel(network.module, network.backbone.normalization)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_groups(network, settings), betas=(0.9, 0.999))
    steps = max(1, math.ceil(len(train) / settings.batch_size)) * settings.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.warmup))
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    augment = _augmentation(network, settings)

    for number in range(1, settings.epochs + 1):
        model.train()
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
        order = rng.permutation(len(train))
        total, seen = 0.0, 0
        skipped: list[Unreadable] = []
        seeds = rng.integers(0, 2**63, len(train))
        for pixels, targets in _batches(train, order, seeds, settings.batch_size, augment, skipped, progress):
            loss = criterion(model(torch.from_numpy(pixels).to(device)), torch.from_numpy(targets).to(device))
            if not torch.isfinite(loss):
                raise EdgeTLError(
                    f"fine-tuning diverged in epoch {number}: the loss is {loss.item()}; lower --learning-rate"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(targets)
            seen += len(targets)
        model.eval()
        evaluation = evaluate(model.infer, val, network.backbone.resize, f"val of {val.root.name}")
        yield Epoch(number, total / max(1, seen), float(schedule.get_last_lr()[0]), evaluation, tuple(skipped))


def _rate(step: int, steps: int, warmup: float) -> float:
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _groups(network: Network, settings: FinetuneSettings) -> list[dict[str, object]]:
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.module.named_parameters():
        parameter.requires_grad_(True)
        groups.setdefault((name.startswith(network.head_path + "."), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.learning_rate * (10 if is_head else 1),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]


def _augmentation(network: Network, settings: FinetuneSettings) -> Callable[[Path, int], NDArray[np.uint8]]:
    import_torchvision()
    from torchvision.transforms import v2

    rule = network.backbone.resize

    def augment(path: Path, seed: int) -> NDArray[np.uint8]:
        frame = read_photo(path)
        if rule.color_order == "RGB":
            frame = frame[:, :, ::-1]
        photo = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)
        # Crop and mirror are drawn here, from the photo's own seed: threads make the order of a global generator random.
        generator = np.random.default_rng(seed)
        top, left, height, width = _random_crop(photo.shape[1], photo.shape[2], settings.min_area, generator)
        crop = v2.functional.resized_crop(photo, top, left, height, width, [rule.height, rule.width], antialias=True)
        if generator.random() < 0.5:
            crop = v2.functional.horizontal_flip(crop)
        return np.asarray(crop.permute(1, 2, 0).contiguous().numpy(), np.uint8)

    return augment


def _random_crop(height: int, width: int, min_area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height, width of a crop of random area and aspect ratio 3:4 to 4:3 (Szegedy et al. 2015, section 6)."""
    area = height * width * rng.uniform(min_area, 1.0)
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    crop_width = min(width, max(1, round(math.sqrt(area * aspect))))
    crop_height = min(height, max(1, round(math.sqrt(area / aspect))))
    return (
        int(rng.integers(0, height - crop_height + 1)),
        int(rng.integers(0, width - crop_width + 1)),
        crop_height,
        crop_width,
    )


def _batches(
    photos: LabelledPhotos,
    order: NDArray[np.int64],
    seeds: NDArray[np.int64],
    size: int,
    augment: Callable[[Path, int], NDArray[np.uint8]],
    skipped: list[Unreadable],
    progress: Progress,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    def one(position: int) -> NDArray[np.uint8] | Unreadable:
        path = photos.paths[order[position]]
        try:
            return augment(path, int(seeds[position]))
        except BadImage as error:
            return Unreadable(path, str(error))

    pixels: list[NDArray[np.uint8]] = []
    targets: list[int] = []
    for position, result in enumerate(map_in_order(one, range(len(order)))):
        progress(1)
        if isinstance(result, Unreadable):
            skipped.append(result)
            continue
        pixels.append(result)
        targets.append(photos.targets[order[position]])
        if len(pixels) == size:
            yield np.stack(pixels), np.asarray(targets, np.int64)
            pixels, targets = [], []
    if pixels:
        yield np.stack(pixels), np.asarray(targets, np.int64)
