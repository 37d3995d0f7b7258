"""Adversarial training: every view is moved, within a small ball, to where the network errs most, before it is learnt from.

    fgsm    one step of 1.25 eps from a random start (Wong, Rice and Kolter 2020, algorithm 3); twice the time of plain training
    pgd     several shorter steps (Madry et al. 2018); steps + 1 times the time

Single steps can fail all at once ("catastrophic overfitting", Wong et al. 2020, section 5): the network learns to mislead the
step, not to withstand the attack. `Hardening` looks for that after every epoch, goes back and takes PGD from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from edge_tl.models import Network
from edge_tl.training.auto_recipe import RecipeChoice
from edge_tl.training.finetune.optimize import State, snapshot
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.validation import BATCH, Validator
from edge_tl_export import PixelModel
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.choosing import spread_over

Loss = Callable[[torch.Tensor], torch.Tensor]
"""float32 pixels (B, H, W, 3) to a sum over the batch, differentiable."""
Arithmetic = Callable[[Callable[[], torch.Tensor]], torch.Tensor]
"""Computes a loss in the precision of the training, scaled as that needs; of the gradient only the sign counts."""

SINGLE_STEP = 1.25
"""Length of FGSM's step over eps: the best of Wong et al. 2020, figure 1; from 1.5 on they found it to collapse."""
PATH = 2.5
"""Length of all PGD's steps together over eps: it can cross the ball and come back (Madry et al. 2018, section 5)."""
RISING = 0.5
"""Share of the epochs over which eps rises to its full size. Too much at once and every answer becomes the commoner class and
stays it: seen on hymenoptera with the full size after the first epoch, and with this and a learning rate of 5e-4."""
WATCHED, WATCH_STEPS = 64, 10
"""Validation photos looked at after every epoch, and the steps of PGD they are attacked with."""
CHOOSING, CHOOSE_STEPS = 256, 5
"""At most so many validation photos choose among the candidates, under so many steps of PGD."""
FGSM_STAYS = 0.1
PGD_FALLS = 0.15
"""What a collapse looks like on 64 photos: FGSM's figure holds (to 6 photos) while PGD's halves and loses 10 photos or more. Ten
photos changing sides in one direction by chance is a matter of 1 in 1024; a healthy network's two figures move together."""

HARDENED = RecipeChoice(True, "every weight is trained: the features of a frozen backbone do not withstand an attack")


def refuse_impossible(settings: TrainSettings) -> None:
    """Raises UsageError for what cannot be had together with adversarial training."""
    tuning = settings.finetune
    if tuning.adversarial == "none":
        return
    if settings.recipe == "probe":
        raise UsageError(
            "--adversarial moves every weight, which --recipe probe freezes; use --recipe finetune or auto"
        )
    mixed = [f"--set finetune.{name}" for name, on in (("mixup", tuning.mixup), ("cutmix", tuning.cutmix)) if on]
    mixed += ["--teacher"] if settings.teacher else []
    if mixed:
        raise UsageError(
            f"--adversarial attacks plain labels and cannot be joined with {mixed[0]}; leave one of them out"
        )


def perturb(
    loss: Loss, clean: torch.Tensor, start: torch.Tensor, eps: float, steps: int, length: float
) -> torch.Tensor:
    """Climb `loss` by the signs of its gradient, `steps` times by `length`, within eps of `clean` and within 0..255.

    clean, start: float32 (B, H, W, 3), 0 to 255; start: at most eps from clean. eps, length: in pixel values. The gradient is
    taken towards the pixels alone: no parameter's `grad` is touched, and none is computed.
    """
    low, high = (clean - eps).clamp_(min=0), (clean + eps).clamp_(max=255)
    views = start.clamp(low, high)
    for _ in range(steps):
        views.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(views), views)
        views = (views.detach() + length * gradient.sign()).clamp_(low, high)
    return views


def epsilon_warmup(done: float, epochs: int) -> float:
    """Share of eps that the attack may use. done: epochs, fractions included."""
    return min(1.0, done / (RISING * epochs))


def random_start(clean: torch.Tensor, eps: float, rng: np.random.Generator) -> torch.Tensor:
    """Anywhere in the ball, evenly; drawn on the host, so every device starts alike."""
    noise = (2 * rng.random(tuple(clean.shape), np.float32) - 1) * np.float32(eps)
    return clean + torch.from_numpy(noise).to(clean.device)


@contextlib.contextmanager
def kept_statistics(model: nn.Module) -> Iterator[None]:
    """Batch normalisation by its running figures, and they stay: attacked views are no sample of the photos."""
    training = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.training]
    for layer in training:
        layer.eval()
    try:
        yield
    finally:
        for layer in training:
            layer.train()


@dataclass(frozen=True)
class Robust:
    """How n validation photos fare under attack. correct: right under PGD of `steps` steps, with the mean cross-entropy `loss`.

    fgsm: right under the single step that trains, None where it was not asked.
    """

    n: int
    steps: int
    correct: int
    loss: float
    fgsm: int | None = None

    @property
    def top1(self) -> float:
        return self.correct / self.n

    def describe(self) -> str:
        return f"{self.top1:.1%} under PGD-{self.steps} ({self.correct} of {self.n})"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        fgsm = {} if self.fgsm is None else {"fgsm_top1": round(self.fgsm / self.n, 6)}
        ci95 = [round(x, 6) for x in wilson(self.correct, self.n)]
        return {
            "robust_top1": round(self.top1, 6),
            "robust_n": self.n,
            "robust_ci95": ci95,
            "robust_loss": self.loss,
        } | fgsm


def collapsed(now: Robust, healthy: Robust) -> bool:
    """Whether the network stopped to withstand PGD since it was healthy, and still looks as good under the single step."""
    assert now.fgsm is not None
    assert healthy.fgsm is not None
    stays = now.fgsm >= healthy.fgsm - FGSM_STAYS * now.n
    falls = healthy.correct - now.correct >= PGD_FALLS * now.n
    return stays and falls and 2 * now.correct <= healthy.correct


class RobustValidator:
    """Attacks the same validation photos the same way each time; several processes share the work."""

    def __init__(self, model: PixelModel, evaluator: Validator, eps: float, device: torch.device, seed: int) -> None:
        self.model, self.evaluator, self.eps, self.device, self.seed = model, evaluator, eps, device, seed
        self._photos: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None

    def watch(self) -> Robust:
        """A few photos under the single step and under PGD."""
        fgsm = self._attacked(WATCHED, 1, SINGLE_STEP)
        pgd = self._attacked(WATCHED, WATCH_STEPS, PATH / WATCH_STEPS)
        return Robust(pgd[0], WATCH_STEPS, pgd[1], pgd[2], fgsm[1])

    def choose(self, steps: int = CHOOSE_STEPS) -> Robust:
        """More photos, under PGD alone."""
        n, correct, loss = self._attacked(CHOOSING, steps, PATH / steps)
        return Robust(n, steps, correct, loss)

    def _attacked(self, at_most: int, steps: int, relative: float) -> tuple[int, int, float]:
        """Photos, how many are right, and their mean cross-entropy."""
        pixels, targets = self._fixed()
        places = np.asarray(spread_over(targets.tolist(), at_most), np.int64)
        group = self.evaluator.group
        size = BATCH[self.device.type]
        self.model.eval()
        correct, loss = 0, 0.0
        for number, first in enumerate(range(0, len(places), size)):
            if number % group.size != group.rank:
                continue
            part = places[first : first + size]
            logits = self._scores(pixels[part], targets[part], steps, relative, int(part[0]))
            labels = torch.from_numpy(targets[part])
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(cross_entropy(logits, labels, reduction="sum"))
        all_correct, all_loss = group.sum(correct, loss)
        return len(places), int(all_correct), all_loss / len(places)

    def _scores(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.int64], steps: int, relative: float, key: int
    ) -> torch.Tensor:
        clean = torch.from_numpy(pixels).to(self.device).float()
        labels = torch.from_numpy(targets).to(self.device)

        def loss(views: torch.Tensor) -> torch.Tensor:
            return cross_entropy(self.model(views).float(), labels, reduction="sum")

        start = random_start(clean, self.eps, np.random.default_rng((self.seed, key)))
        views = perturb(loss, clean, start, self.eps, steps, relative * self.eps)
        with torch.no_grad():
            logits: torch.Tensor = self.model(views).float().cpu()
            return logits

    def _fixed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if self._photos is None:
            photos = self.evaluator.photos
            chosen = np.asarray(spread_over(photos.targets, CHOOSING), np.int64)
            batches = list(PixelReader(photos.subset(chosen.tolist(), photos.split), self.evaluator.rule))
            readable = np.concatenate([batch.indices for batch in batches])
            targets = np.asarray(photos.targets, np.int64)[chosen][readable]
            self._photos = np.concatenate([batch.pixels for batch in batches]), targets
        return self._photos


class Hardening:
    """What adversarial training adds to fine-tuning: the attack on each batch, and the watch after each epoch.

    method: "fgsm" or "pgd", as now in use. notes: what happened that a person should know.
    """

    def __init__(self, settings: FinetuneSettings, model: PixelModel, robust: RobustValidator) -> None:
        self.settings, self.model, self.robust = settings, model, robust
        self.method = settings.adversarial
        self.notes: list[str] = []
        self._healthy: tuple[Robust, State] | None = None

    def attack(
        self,
        views: torch.Tensor,
        labels: torch.Tensor,
        strength: float,
        rng: np.random.Generator,
        arithmetic: Arithmetic,
    ) -> torch.Tensor:
        """The views to learn from. labels: int64 (B,). strength: share of eps, see `epsilon_warmup`."""
        eps = strength * self.settings.eps
        steps, length = (1, SINGLE_STEP * eps)
        if self.method == "pgd":
            steps, length = self.settings.adversarial_steps, PATH / self.settings.adversarial_steps * eps

        def loss(pixels: torch.Tensor) -> torch.Tensor:
            return arithmetic(lambda: cross_entropy(self.model(pixels).float(), labels, reduction="sum"))

        with kept_statistics(self.model):
            return perturb(loss, views, random_start(views, eps, rng), eps, steps, length)

    def check(self, network: Network, epoch: int) -> tuple[Robust, str]:
        """How the network fares after an epoch; where it collapsed, put the last healthy weights back and say so.

        Returns the figures of the weights that the network then holds, and the note ("" for none).
        """
        now = self.robust.watch()
        if self.method == "fgsm" and self._healthy is not None and collapsed(now, self._healthy[0]):
            before, state = self._healthy
            network.module.load_state_dict(state)
            self.method = "pgd"
            self.notes.append(
                f"epoch {epoch} overfitted to the single step ({now.fgsm} of {now.n} right under it, {now.correct} under "
                f"PGD-{now.steps}, {before.correct} an epoch before): back to the weights of the epoch before, on with "
                f"PGD-{self.settings.adversarial_steps}"
            )
            return before, self.notes[-1]
        self._healthy = (now, snapshot(network)) if self.method == "fgsm" else None
        return now, ""

    def state(self) -> dict[str, Any]:
        healthy = None if self._healthy is None else {"figures": asdict(self._healthy[0]), "state": self._healthy[1]}
        return {"method": self.method, "notes": self.notes, "healthy": healthy}

    def restore(self, content: dict[str, Any]) -> None:
        self.method, self.notes = content["method"], list(content["notes"])
        healthy = content["healthy"]
        self._healthy = None if healthy is None else (Robust(**healthy["figures"]), healthy["state"])

    def describe(self, robust: Robust) -> dict[str, Any]:
        """For the contract: how it was trained and what that gave, on validation photos."""
        keys = ("adversarial", "eps", "adversarial_steps")
        settings = {key: getattr(self.settings, key) for key in keys}
        return settings | {"ended_with": self.method, "attack": f"PGD-{robust.steps}", **robust.to_dict()}


def harden(
    settings: FinetuneSettings, model: PixelModel, evaluator: Validator, device: torch.device, seed: int
) -> Hardening | None:
    """None where no adversarial training is asked for."""
    if settings.adversarial == "none":
        return None
    return Hardening(settings, model, RobustValidator(model, evaluator, settings.eps, device, seed))
