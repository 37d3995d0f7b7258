"""Fine-tuning: every weight of a network that has a head, an epoch at a time, in one process or several.

What an epoch does depends on the seed and its number alone, so a training that goes on from a stored state ends, on a CPU,
with the same weights as one that was never interrupted.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from edge_tl.models import Network
from edge_tl.training.distributed import ProcessGroup
from edge_tl.training.finetune.adversarial_training import Robust, epsilon_warmup, harden
from edge_tl.training.finetune.batch_norm import accept_single_values
from edge_tl.training.finetune.choices import amp_type, loss_weights, seed_everything, set_dropout
from edge_tl.training.finetune.crops import Canvases, Views
from edge_tl.training.finetune.distill import Teacher
from edge_tl.training.finetune.lr_schedule import RangeTest
from edge_tl.training.finetune.mixing import UNLABELLED, hard_loss, mix, taught_loss
from edge_tl.training.finetune.optimize import State, blend, is_head, make_optimizer, rate_factor, set_rate, snapshot
from edge_tl.training.settings import FinetuneSettings
from edge_tl.training.validation import Validator
from edge_tl_export import PixelModel
from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.evaluation.evaluate import Evaluation
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos

LINE = (0.25, 0.5, 0.75, 1.0)
"""Points tried on the way from the network before fine-tuning (0) to the one after it (1)."""
RANGE_STEPS = 80
CHECK_STEPS = 25
SWA_SHARE = 0.4
"""Late share of the epochs whose weights are averaged."""


@dataclass(frozen=True)
class Epoch:
    """number: 1-based. loss: mean over the training photos. evaluation, val_loss: after the epoch. seconds: training alone.
    robust: under attack, of an adversarial training. note: what its watch had to say."""

    number: int
    loss: float
    learning_rate: float
    evaluation: Evaluation
    val_loss: float
    seconds: float
    robust: Robust | None = None
    note: str = ""


@dataclass(frozen=True)
class OfferedWeights:
    """Weights that fine-tuning offers, and the name of where they come from."""

    name: str
    state: State


class Finetuner:
    """Trains `network` in place.

    tuner = Finetuner(network, train, validator, settings, torch.device("cpu"))
    for epoch in tuner.epochs():
        print(epoch.number, epoch.loss)
    best = tuner.candidates()
    """

    def __init__(
        self,
        network: Network,
        train: LabelledPhotos,
        evaluator: Validator,
        settings: FinetuneSettings,
        device: torch.device,
        *,
        seed: int = 0,
        group: ProcessGroup | None = None,
        teacher: Teacher | None = None,
        unlabelled: LabelledPhotos | None = None,
    ) -> None:
        """train: photos that are known to be readable. settings.epochs must be given."""
        self.network, self.settings, self.evaluator, self.device, self.seed = network, settings, evaluator, device, seed
        self.group, self.teacher = group or ProcessGroup(), teacher
        paths, targets = train.paths, train.targets
        if unlabelled is not None:
            paths, targets = paths + unlabelled.paths, targets + (UNLABELLED,) * len(unlabelled)
        self.targets = np.asarray(targets, np.int64)
        rule = network.backbone.resize
        self.views = Views(
            Canvases(paths, rule, device),
            settings.augment,
            settings.min_area,
            seed,
            settings.disturb,
            settings.mirror is not False,
        )
        self.epoch = 0
        """Epochs done, those of the head included."""
        self.begun = 0
        """Epochs that an earlier training had done, of which this is the continuation; its schedule starts after them."""
        self.steps = len(self._order(0))
        self._weights = loss_weights(self.targets, len(train.labels), settings.balance, device)
        self._model = PixelModel(network.module, network.backbone.normalization)
        self._model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        accept_single_values(self._model)
        self.hardening = harden(settings, self._model, evaluator, device, seed)
        self._optimizer = make_optimizer(network, settings)
        self._amp = amp_type(settings.precision, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._amp is torch.float16)
        self._start = snapshot(network)
        self._ema = {name: tensor.detach().clone() for name, tensor in self._tensors()} if settings.ema else None
        self._swa: State | None = None
        self._swa_count = 0
        self._best_loss, self._stale = math.inf, 0
        set_dropout(network, settings.dropout)

    @property
    def start(self) -> State:
        """The weights before the first step."""
        return self._start

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores by the weights the network holds now."""
        self._model.eval()
        return self._model.infer(pixels)

    @property
    def total(self) -> int:
        """Epochs in all."""
        return self.settings.head_epochs + self.settings.epochs

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has ended."""
        return self.epoch >= self.total or 0 < self.settings.patience <= self._stale

    def epochs(self, progress: Progress = lambda done: None) -> Iterator[Epoch]:
        """The epochs that are left. `progress` is called with photos done.

        Raises EdgeTLError when the loss is no longer a number.
        """
        while not self.finished:
            yield self._run_epoch(progress)

    def candidates(self) -> list[OfferedWeights]:
        """What may be kept after the last epoch, in the order in which equals are preferred."""
        end = snapshot(self.network)
        if self._ema is not None:
            end |= {name: tensor.cpu() for name, tensor in self._ema.items()}
        if self.settings.average == "swa" and self._swa is not None:
            return [OfferedWeights(f"mean of the last {self._swa_count} epochs", self._swa)]
        name = "moving average" if self._ema is not None else f"epoch {self.epoch}"
        if self.settings.average != "line" or self.settings.head_init == "random":
            return [OfferedWeights(name, end)]
        return [
            OfferedWeights(
                name if share == 1 else f"{share:.0%} of the way from probe to {name}", blend(self._start, end, share)
            )
            for share in LINE
        ]

    def range_test(self) -> RangeTest:
        """Raise the rate from 1e-6 to 0.1 step by step until the loss runs away (Smith 2017, section 3.3).

        Meant for a tuner made with a learning rate of 1, which is of no use afterwards.
        """
        model = self._prepare(head_only=False)
        seed_everything(self.seed, 0, self.group.rank)
        batches = [batch for number in range(-(-RANGE_STEPS // self.steps)) for batch in self._order(number)]
        points: list[tuple[float, float]] = []
        for position, batch in enumerate(batches[:RANGE_STEPS]):
            share = batch[self.group.rank :: self.group.size]
            rate = 10 ** (-6 + 5 * position / (RANGE_STEPS - 1))
            set_rate(self._optimizer, rate)
            rng = np.random.default_rng((self.seed, 0, position, self.group.rank))
            chosen = share if len(share) else batch[:1]
            views = self._attacked(self.views.batch(0, chosen), chosen, 1.0, rng)
            loss = self._step(model, views, chosen, len(batch), bool(len(share)), rng)
            points.append((rate, self.group.sum(float(loss))[0] / len(batch)))
            if not math.isfinite(points[-1][1]):
                points.pop()
                break
            if points[-1][1] > 4 * min(value for _, value in points):
                break
        return RangeTest(tuple(points))

    def state(self) -> bytes:
        """Everything a later process needs to go on from here."""
        content = {
            "epoch": self.epoch,
            "network": snapshot(self.network),
            "start": self._start,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "ema": self._ema,
            "swa": self._swa,
            "swa_count": self._swa_count,
            "best_loss": self._best_loss,
            "stale": self._stale,
            "hardening": None if self.hardening is None else self.hardening.state(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.module.load_state_dict(content["network"])
        self._optimizer.load_state_dict(content["optimizer"])
        self._scaler.load_state_dict(content["scaler"])
        self.epoch, self._start = content["epoch"], content["start"]
        self._swa, self._swa_count = content["swa"], content["swa_count"]
        if content["ema"] is not None:
            self._ema = {name: tensor.to(self.device) for name, tensor in content["ema"].items()}
        self._best_loss, self._stale = content["best_loss"], content["stale"]
        if self.hardening is not None:
            self.hardening.restore(content["hardening"])

    def begin_after(self, epoch: int) -> None:
        """Add epochs to a training that ended after `epoch`: views go on from there, the rate falls from its peak once more."""
        self.epoch = self.begun = epoch

    def _tensors(self) -> list[tuple[str, torch.Tensor]]:
        """What averages follow: every tensor but counters."""
        return [(name, t) for name, t in self.network.module.state_dict().items() if t.is_floating_point()]

    def _run_epoch(self, progress: Progress) -> Epoch:
        started = time.perf_counter()
        number = self.epoch + 1
        head_only = number <= self.settings.head_epochs
        self.group.meet()
        step_model = self._prepare(head_only)
        seed_everything(self.seed, number, self.group.rank)
        total, count = torch.zeros((), device=self.device), 0
        batches = self._order(number)
        shares = [batch[self.group.rank :: self.group.size] for batch in batches]
        for position, (batch, share) in enumerate(zip(batches, shares, strict=True)):
            chosen = share if len(share) else batch[:1]
            views = self.views.batch(number, chosen)
            if position + 1 < len(shares):
                self.views.canvases.prefetch(shares[position + 1])
            set_rate(self._optimizer, self._factor(number, position, head_only))
            rng = np.random.default_rng((self.seed, number, position, self.group.rank))
            views = self._attacked(
                views, chosen, epsilon_warmup(number - 1 + (position + 1) / self.steps, self.total), rng
            )
            loss = self._step(step_model, views, chosen, len(batch), bool(len(share)), rng)
            # Looking at the loss waits for the GPU; now and then is enough to stop in time.
            total += loss
            count += len(share)
            progress(len(batch))
            if position % CHECK_STEPS == 0:
                self._require_finite(total)
        losses, seen = self.group.sum(self._require_finite(total), count)
        self.epoch = number
        seconds = time.perf_counter() - started
        robust, note = self._watch()
        self._average(number)
        evaluation, val_loss = self.evaluator(self.infer)
        watched = val_loss if robust is None else robust.loss
        self._stale = 0 if watched < self._best_loss else self._stale + 1
        self._best_loss = min(self._best_loss, watched)
        rate = max(group["lr"] for group in self._optimizer.param_groups)
        return Epoch(number, losses / max(1, seen), float(rate), evaluation, val_loss, seconds, robust, note)

    def _attacked(
        self, views: torch.Tensor, indices: NDArray[np.int64], strength: float, rng: np.random.Generator
    ) -> torch.Tensor:
        if self.hardening is None:
            return views
        labels = torch.from_numpy(self.targets[indices])
        return self.hardening.attack(views, labels.to(self.device), strength, rng, self._precisely)

    def _precisely(self, loss: Callable[[], torch.Tensor]) -> torch.Tensor:
        with torch.autocast(self.device.type, self._amp, enabled=self._amp is not None):
            # Scaled, lest fp16 round the gradient of a sure answer to 0.
            return self._scaler.scale(loss())

    def _watch(self) -> tuple[Robust | None, str]:
        if self.hardening is None:
            return None, ""
        robust, note = self.hardening.check(self.network, self.epoch)
        if note:
            # Moments and averages have followed the collapse.
            self._optimizer.state.clear()
            if self._ema is not None:
                self._ema = {name: tensor.detach().clone() for name, tensor in self._tensors()}
        return robust, note

    def _prepare(self, head_only: bool) -> nn.Module:
        for name, parameter in self.network.module.named_parameters():
            parameter.requires_grad_(not head_only or is_head(self.network, name))
        self._model.train()
        for layer in self._model.modules():
            if isinstance(layer, _BatchNorm) and (self.settings.freeze_bn or head_only):
                layer.eval()
        model: nn.Module = self._model
        if self.group.size > 1:
            # Made anew each epoch: which parameters have gradients differs between the phases.
            ids = [self.device.index or 0] if self.device.type == "cuda" else None
            model = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=not self.settings.freeze_bn)
        return torch.compile(model) if self.settings.compile else model  # type: ignore[return-value]

    def _step(
        self,
        model: nn.Module,
        views: torch.Tensor,
        indices: NDArray[np.int64],
        whole: int,
        counts: bool,
        rng: np.random.Generator,
    ) -> torch.Tensor:
        """One step on this process's share of a batch of `whole` photos; returns its summed loss, still on the device."""
        labels = torch.from_numpy(self.targets[indices]).to(self.device)
        views, targets = mix(views, labels, self.settings.mixup, self.settings.cutmix, rng)
        with torch.autocast(self.device.type, self._amp, enabled=self._amp is not None):
            logits = model(views).float()
        loss = hard_loss(logits, targets, self.settings.label_smoothing, self._weights)
        if self.teacher is not None:
            share = self.settings.distill_weight
            taught = taught_loss(logits, self.teacher(views), self.settings.distill_temperature)
            loss = (1 - share) * loss + share * taught
        loss = loss if counts else 0.0 * loss  # a process whose share of the last batch is empty
        self._optimizer.zero_grad(set_to_none=True)
        # Processes average their gradients; the sum over the whole batch is what must be divided, once.
        self._scaler.scale(loss * (self.group.size / whole)).backward()
        if self.settings.clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], self.settings.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._ema is not None:
            # Short trainings would keep their first weights: the decay rises with the steps done.
            done = self.epoch * self.steps
            share = 1 - min(self.settings.ema, done / (done + 10))
            for name, tensor in self._tensors():
                self._ema[name].lerp_(tensor.detach(), share)
        return loss.detach()

    def _require_finite(self, loss: torch.Tensor) -> float:
        value = float(loss)
        if not math.isfinite(value):
            raise EdgeTLError(
                f"fine-tuning diverged in epoch {self.epoch + 1}: the loss is {value}; lower --learning-rate"
            )
        return value

    def _factor(self, number: int, position: int, head_only: bool) -> float:
        begun = max(self.settings.head_epochs, self.begun)
        first, last = (0, self.settings.head_epochs) if head_only else (begun, self.total)
        step = (number - 1 - first) * self.steps + position
        return rate_factor(step, (last - first) * self.steps, self.settings.warmup)

    def _order(self, number: int) -> list[NDArray[np.int64]]:
        """The epoch's photos in global batches: each once, or drawn with equal chances for every class."""
        rng = np.random.default_rng((self.seed, number))
        count = len(self.targets)
        order = rng.permutation(count)
        if self.settings.balance == "sampling":
            sizes = {target: int((self.targets == target).sum()) for target in np.unique(self.targets)}
            chances = np.asarray([1 / sizes[target] for target in self.targets])
            order = rng.choice(count, count, p=chances / chances.sum())
        size = self.settings.batch_size
        batches = [order[start : start + size] for start in range(0, count, size)]
        if len(batches) > 1 and len(batches[-1]) == 1 < size:
            # A step on one photo is noise, and batch statistics of one are none: it joins the batch before.
            batches[-2:] = [np.concatenate(batches[-2:])]
        return batches

    def _average(self, number: int) -> None:
        if self.settings.average == "swa" and number > self.total - max(1, round(SWA_SHARE * self.settings.epochs)):
            self._swa_count += 1
            now = snapshot(self.network)
            self._swa = now if self._swa is None else blend(self._swa, now, 1 / self._swa_count)
