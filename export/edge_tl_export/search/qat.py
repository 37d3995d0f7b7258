"""Quantization-aware training: a quantized file learns to answer as the FP32 network does, where calibration alone fails."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edge_tl_export.search.compare import in_batches, open_model
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.core.malloc import keep_heap
from edge_tl_runtime.evaluation.evaluate import Logits

Batches = Callable[[int], Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]]]
"""The photos of an epoch, by its number from 0: pixels, uint8 (N, H, W, 3), and targets, int64 (N,)."""

HELD_OUT = 8
"""One photo in so many evaluates and does not train."""
MAX_HELD_OUT = 512
EVALUATED_AT_ONCE = 16
TEMPERATURE = 2.0
LABEL_SHARE = 0.2
"""Of the loss; the rest is distillation. Labels alone fit a new classifier to few photos, one that agrees less with the old."""
SCALE_RATE = 0.5
"""Learning rate of the scales over that of weights: where a weight moves by a hundredth of its step, a scale does by 0.5 %."""
CROWDED = 4.0
"""How much less of its channels' detail a tensor must lose with a narrower range, for it to start from that."""
NARROWINGS = tuple(2 ** (-k / 2) for k in range(25))


@dataclass(frozen=True)
class QATEpoch:
    """One pass. number: from 1; 0: the file as it came. loss: mean over the batches, NaN before the first.

    agreement: share of the held-out photos with the teacher's label. divergence: mean KL from the teacher there, in nats.
    """

    number: int
    loss: float
    agreement: float
    divergence: float


def quantization_aware(
    model: bytes,
    teacher: Logits,
    batches: Batches,
    epochs: int,
    *,
    learning_rate: float = 0.003,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[QATEpoch], None] = lambda epoch: None,
) -> bytes:
    """Train the integers and scales of a file of `qdq.quantized`; the epoch that agrees best with the teacher.

    teacher: the FP32 network. batches: the same photos each epoch, in any order; one in `HELD_OUT` of them, by a hash of its
    pixels and the seed, evaluates instead of training. Where photos are changed at random, those are changed too, and a
    photo may train in another form than it evaluates in. learning_rate: what a weight moves at one batch at most, in steps of
    its integers; a network of few and narrow layers bears 0.1, which ruins mobilenet_v2. device: as PyTorch names it.
    The file given is one of the candidates, so that the result never agrees less on the photos held out.

    Loss: KL from the teacher at a temperature (Hinton, Vinyals and Dean 2015) and cross-entropy with the targets. Scales are
    learned with the weights (Esser et al. 2020), as logarithms: a tensor with one large channel needs a hundredth of its scale,
    which additive steps that are small enough for its neighbours would not reach. Such tensors also start from a narrower range.
    AdamW rather than SGD: a scale's gradient is a sum over a whole tensor, far larger than that of a weight. On one small network
    SGD at its best rate came as near, and fell apart at ten times that rate, where AdamW bore three times its own.

    A loss that is not finite ends the training.

    Batch normalisation is inside the convolutions by now and stays as it was folded. To thaw it would let every batch change the
    weights that are rounded, and statistics of so few photos are worse than those that the network was trained with
    (Krishnamoorthi 2018 freezes it for the same reason once training nears its end).

    The same arguments give the same bytes on the same machine with the same number of threads.
    """
    keep_heap()
    held_out, count = _held_out(batches, seed)
    best = _Best(model, held_out, teacher, progress)
    graph = DifferentiableGraph(model, trainable=True).to(device)
    if epochs < 1 or not count:
        return model
    if _narrow(graph, torch.from_numpy(held_out[:EVALUATED_AT_ONCE]).to(device)):
        best.consider(graph.to_model(), 0, math.nan)
    optimizer = torch.optim.AdamW(
        [
            {"params": [*graph.weights.parameters(), *graph.biases.parameters()], "lr": learning_rate},
            {"params": list(graph.scales.parameters()), "lr": SCALE_RATE * learning_rate},
        ],
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * count)
    for epoch in range(epochs):
        losses = []
        for pixels, targets in _training(batches, epoch, seed):
            wanted = torch.from_numpy(np.asarray(teacher(pixels), np.float32)).to(device)
            logits = graph(torch.from_numpy(pixels).to(device))
            loss = distillation(logits, wanted, torch.from_numpy(targets).to(device))
            if not torch.isfinite(loss):
                return best.model  # the learning rate was too large for this file; what comes after would be no better
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if schedule.last_epoch < epochs * count:
                schedule.step()
            losses.append(float(loss.detach()))
        best.consider(graph.to_model(), epoch + 1, float(np.mean(losses)) if losses else math.nan)
    return best.model


def distillation(logits: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean loss of float32 logits (N, C) against those of the teacher and int64 targets (N,)."""
    soft = functional.kl_div(
        functional.log_softmax(logits / TEMPERATURE, 1),
        functional.log_softmax(teacher / TEMPERATURE, 1),
        reduction="batchmean",
        log_target=True,
    )
    return LABEL_SHARE * functional.cross_entropy(logits, targets) + (1 - LABEL_SHARE) * TEMPERATURE**2 * soft


class _Best:
    """The candidate that diverges least from the teacher, of those that agree most with it on the photos held out.

    Most: all but one photo, since whether a single close call falls this way says less than all the distances together do.
    None agrees less than the first.
    """

    def __init__(
        self, model: bytes, photos: NDArray[np.uint8], teacher: Logits, progress: Callable[[QATEpoch], None]
    ) -> None:
        self._photos, self._progress = photos, progress
        self._expected = in_batches(teacher, photos, EVALUATED_AT_ONCE)
        self._candidates: list[tuple[int, float, bytes]] = []
        self.consider(model, 0, math.nan)

    def consider(self, model: bytes, number: int, loss: float) -> None:
        # The file itself is evaluated, by the runtime that will run it.
        logits = in_batches(open_model(model, "the file in training"), self._photos, EVALUATED_AT_ONCE)
        agreed = int((logits.argmax(1) == self._expected.argmax(1)).sum())
        log_student, log_teacher = (
            functional.log_softmax(torch.from_numpy(x).double(), 1) for x in (logits, self._expected)
        )
        divergence = float(functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True))
        self._candidates.append((agreed, divergence, model))
        self._progress(QATEpoch(number, loss, agreed / len(logits), divergence))

    @property
    def model(self) -> bytes:
        least = max(self._candidates[0][0], max(agreed for agreed, _, _ in self._candidates) - 1)
        return min(
            (divergence, i, model) for i, (agreed, divergence, model) in enumerate(self._candidates) if agreed >= least
        )[2]


def _is_held_out(pixels: NDArray[np.uint8], seed: int) -> NDArray[np.bool_]:
    """Which photos are held out, bool (N,): known by their bytes, in whatever order and company they come."""
    return np.array([zlib.crc32(photo.tobytes(), seed) % HELD_OUT == 0 for photo in pixels], np.bool_)


def _held_out(batches: Batches, seed: int) -> tuple[NDArray[np.uint8], int]:
    """The photos held out, and the number of batches that others are left in. Where chance left none: the first batch."""
    chosen: list[NDArray[np.uint8]] = []
    first: NDArray[np.uint8] | None = None
    count = 0
    for pixels, _ in batches(0):
        first = pixels if first is None else first
        evaluating = _is_held_out(pixels, seed)
        count += not evaluating.all()
        chosen.append(pixels[evaluating])
    if first is None:
        raise ValueError("there are no photos to train on")
    held_out = np.concatenate(chosen)[:MAX_HELD_OUT]
    return (held_out if len(held_out) else first), count


def _training(batches: Batches, epoch: int, seed: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    for pixels, targets in batches(epoch):
        kept = ~_is_held_out(pixels, seed)
        if kept.any():
            yield np.ascontiguousarray(pixels[kept]), np.asarray(targets, np.int64)[kept]


def _narrow(graph: DifferentiableGraph, pixels: torch.Tensor) -> bool:
    """Start tensors that one channel has to itself from the range that serves most channels. Whether any was.

    Each range is evaluated by the share of a channel's energy that rounding and clipping take, averaged over the channels: what
    one large channel loses counts no more than what another does, since the layers after can scale it back. One pass, in
    which each tensor is seen as those before it have been narrowed. pixels: uint8 (N, H, W, 3).
    """
    narrowed = False

    def watch(scale: str, tensor: torch.Tensor) -> None:
        nonlocal narrowed
        if float(graph.scales[scale].detach()):
            return  # of a tensor before, which has the same scale
        step, (low, high) = graph.step(scale), graph.levels(scale)
        channels = tensor.transpose(0, 1).flatten(1).clamp(low * step, high * step)
        energy = channels.square().mean(1)
        alive = energy > 0
        channels, energy = channels[alive], energy[alive]
        if not len(channels):
            return
        lost = []
        for factor in NARROWINGS:
            tried = step * factor
            error = (channels / tried).round_().clamp_(low, high).mul_(tried).sub_(channels).square_().mean(1)
            lost.append(float((error / energy).mean()))
        chosen = int(np.argmin(lost))
        if lost[chosen] * CROWDED < lost[0]:
            narrowed = True
            with torch.no_grad():
                graph.scales[scale].fill_(math.log(NARROWINGS[chosen]))

    with torch.no_grad():
        graph(pixels, watch)
    return narrowed
