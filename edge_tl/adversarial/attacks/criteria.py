"""When a photo counts as adversarial: what the attacker wants of the scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Criterion(ABC):
    """What counts as success for each of N photos.

    classes: int64 (N,), the class that each photo is measured by: the true one, or the one to reach.
    """

    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, indices: NDArray[np.int64]) -> Criterion:
        """The same wish for some of the photos."""
        return type(self)(self.classes[indices])

    @abstractmethod
    def fooled(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each row of scores, (N, C), is a success. Ties count as the runner's argmax breaks them: for the first."""

    @abstractmethod
    def margin(self, logits: torch.Tensor) -> torch.Tensor:
        """How far each row is beyond the border, (N,): what Carlini and Wagner (2017) maximise. Positive is a success."""

    @property
    @abstractmethod
    def targeted(self) -> bool:
        """Whether one class is to be reached."""


@dataclass(frozen=True)
class Misclassification(Criterion):
    """Anything but the true class. classes: the true ones."""

    targeted = False

    def fooled(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(logits.argmax(1) != self.classes)

    def margin(self, logits: torch.Tensor) -> torch.Tensor:
        own, best_other = own_and_best_other(logits, self.classes)
        return best_other - own


@dataclass(frozen=True)
class TargetedMisclassification(Criterion):
    """One class and no other. classes: those to be reached."""

    targeted = True

    def fooled(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.asarray(logits.argmax(1) == self.classes)

    def margin(self, logits: torch.Tensor) -> torch.Tensor:
        own, best_other = own_and_best_other(logits, self.classes)
        return own - best_other


def own_and_best_other(logits: torch.Tensor, classes: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """The score of each row's class and the best of the other classes, both (N,)."""
    index = torch.from_numpy(classes).to(logits.device)[:, None]
    others = logits.scatter(1, index, -torch.inf)
    return logits.gather(1, index)[:, 0], others.max(1).values
