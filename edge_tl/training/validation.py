"""Validation photos kept ready, so that evaluating after every epoch costs forward passes only."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.training.distributed import ProcessGroup
from edge_tl.training.probe.balance import class_weights
from edge_tl_runtime.evaluation.evaluate import Evaluation, Logits, PixelReader, score
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.modelfile.spec import ResizeRule

KEPT_BYTES = 1 << 30
BATCH = {"cpu": 8, "cuda": 128, "mps": 32}


def mean_loss(logits: NDArray[np.float32], targets: NDArray[np.int64], evaluation: Evaluation) -> float:
    """Mean cross-entropy of logits (N, C), every class with equal say where the classes of `evaluation` are unequal."""
    losses = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets), reduction="none")
    if not evaluation.unequal:
        return float(losses.mean())
    weights = class_weights(evaluation.confusion.sum(1))[targets]
    return float(losses.numpy() @ weights / weights.sum())


class Validator:
    """Scores networks on the same photos, the same bytes each time; several processes share the work.

    The pixels are those that the device will see (`edge_tl_runtime.images.crop`).
    """

    def __init__(
        self,
        photos: LabelledPhotos,
        rule: ResizeRule,
        data: str,
        group: ProcessGroup | None = None,
        device: str = "cpu",
    ) -> None:
        """photos: at least one readable. data: where they come from, in words."""
        self.photos, self.rule, self.data, self.group = photos, rule, data, group or ProcessGroup()
        self.reader = PixelReader(photos, rule, batch=BATCH[device])
        self._kept: list[tuple[NDArray[np.uint8], tuple[int, ...]]] | None = None

    def logits(self, network: Logits) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """float32 (N, C) for the readable photos, and their places in `photos`."""
        scores: list[NDArray[np.float32]] = []
        indices: list[int] = []
        for number, (pixels, places) in enumerate(self._batches()):
            if number % self.group.size == self.group.rank:
                scores.append(network(pixels))
                indices += places
        parts = self.group.gather((np.concatenate(scores) if scores else None, indices))
        places_all = np.asarray([place for _, part in parts for place in part], np.int64)
        rows = np.concatenate([part for part, _ in parts if part is not None])
        order = np.argsort(places_all)
        return rows[order], places_all[order]

    def __call__(self, network: Logits) -> tuple[Evaluation, float]:
        """The accuracy of `network` and its mean cross-entropy: over photos, or over classes where these are unequal."""
        rows, places = self.logits(network)
        targets = np.asarray(self.photos.targets, np.int64)[places]
        groups = [self.photos.groups[place] for place in places] if self.photos.groups else ()
        evaluation = score(rows, targets, self.photos.labels, self.data, tuple(self.reader.skipped), groups=groups)
        return evaluation, mean_loss(rows, targets, evaluation)

    def _batches(self) -> list[tuple[NDArray[np.uint8], tuple[int, ...]]]:
        if self._kept is not None:
            return self._kept
        self.reader.skipped = list(self.photos.skipped)
        batches = [(batch.pixels, batch.indices) for batch in self.reader]
        if sum(pixels.nbytes for pixels, _ in batches) <= KEPT_BYTES:
            self._kept = batches
        return batches
