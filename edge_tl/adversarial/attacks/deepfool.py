"""DeepFool: how far is it to the border of the class?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.adversarial.attacks.apgd import likeliest_others
from edge_tl.adversarial.attacks.base import Attack, AttackState, Stop, as_bytes
from edge_tl.adversarial.attacks.criteria import Criterion
from edge_tl.adversarial.attacks.model import AttackedModel
from edge_tl.adversarial.attacks.norms import Norm, per_photo

_TINY = 1e-12
_DOUBLINGS = 40
_BISECTIONS = 8


@dataclass(frozen=True, kw_only=True)
class DeepFool(Attack):
    """Goes to the nearest border as if borders were planes, until the file gives in; then back towards the photo.

    Planes are crossed in whole pixel values: a step is just so long that the whole pixels it leads to, and not the point between
    them, are beyond the plane. The way back halves the radius between the photo and the success, asking the file each time. No
    step depends on epsilon: what is found beyond it does not count.

    classes: how many of the likeliest are considered, the photo's own among them. overshoot: how far to go beyond a border, over
    the distance to it. growth: how much further each step goes than the one before: borders so near that whole pixels miss them
    would be paced up and down otherwise. halvings: of the way back.
    """

    paper: ClassVar[str] = "Moosavi-Dezfooli et al. 2016, arXiv 1511.04599"
    finds_smallest: ClassVar[bool] = True

    steps: int = 50
    classes: int = 10
    overshoot: float = 0.02
    growth: float = 0.05
    halvings: int = 10

    def _search(self, search: AttackState, keys: NDArray[np.int64], stop: Stop) -> None:
        photos, norm = search.active, search.norm
        clean, scores = search.tensor(photos), search.clean_scores[photos]
        difference, pixels = torch.zeros_like(clean), clean
        rivals = likeliest_others(scores, search.criterion.classes[photos], self.classes - 1)
        for step in range(self.steps):
            if stop():
                search.unfinished()
                return
            wish = search.criterion.take(photos)
            gap, slope = self._nearest_border(search.model, norm, pixels, scores, wish, rivals)
            before = difference
            beyond = (1 + self.overshoot) * (1 + self.growth) ** step
            difference = cross(norm, clean, difference, slope, gap * beyond)
            pixels = _whole(clean, difference)
            scores = search.ask_smaller(photos, as_bytes(pixels))
            fooled = wish.fooled(scores)
            if fooled.any():
                there = _places(fooled, clean)
                self._shrink(search, photos[fooled], clean[there], difference[there])
            # Where the slope is zero, no further step will lead anywhere.
            left = ~fooled & (difference != before).flatten(1).any(1).cpu().numpy()
            if not left.any():
                return
            kept = _places(left, clean)
            photos, scores, rivals = photos[left], scores[left], rivals[left]
            clean, difference, pixels = clean[kept], difference[kept], pixels[kept]

    def _nearest_border(
        self,
        model: AttackedModel,
        norm: Norm,
        pixels: torch.Tensor,
        scores: NDArray[np.float32],
        wish: Criterion,
        rivals: NDArray[np.int64],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What is missing to the border that is nearest if all are planes, (N,), and the gradient of what is gained."""
        inputs = pixels.detach().requires_grad_()
        logits = model.logits(inputs, scores)
        own = torch.from_numpy(wish.classes).to(logits.device)
        if wish.targeted:
            pairs = [(own, _best_other(logits, own))]
        else:
            pairs = [(rival, own) for rival in torch.from_numpy(np.ascontiguousarray(rivals.T)).to(logits.device)]
        spread = (logits.amax(1) - logits.amin(1)).detach()
        nearest = torch.full_like(spread, torch.inf)
        gap, slope = torch.zeros_like(spread), torch.zeros_like(pixels)
        for place, (above, below) in enumerate(pairs):
            gain = (logits.gather(1, above[:, None]) - logits.gather(1, below[:, None]))[:, 0]
            (gradient,) = torch.autograd.grad(gain.sum(), inputs, retain_graph=place + 1 < len(pairs))
            # A border may be behind in the eyes of these gradients and not in the file's: then on, a little.
            missing = torch.where(gain < 0, -gain, self.overshoot * spread).detach()
            distance = missing / (norm.dual_lengths(gradient) + _TINY)
            nearer = distance < nearest
            nearest, gap = torch.where(nearer, distance, nearest), torch.where(nearer, missing, gap)
            slope = torch.where(per_photo(nearer), gradient, slope)
        return gap, slope

    def _shrink(
        self, search: AttackState, photos: NDArray[np.int64], clean: torch.Tensor, difference: torch.Tensor
    ) -> None:
        """Halve the radius between the photos and these successes, whose pixels the file knows already."""
        norm = search.norm
        change = (_whole(clean, difference) - clean).cpu().numpy()
        low: NDArray[np.float64] = np.zeros(len(photos))
        high = norm.sizes(change)
        for _ in range(self.halvings):
            radius = norm.between(low, high)
            # Linf has no radius left between neighbours.
            still = (low < radius) & (radius < high)
            if not still.any():
                return
            kept = _places(still, clean)
            within = torch.from_numpy(radius[still]).to(clean)
            pixels = norm.on_grid(clean[kept], difference[kept], within)
            scores = search.ask_smaller(photos[still], as_bytes(pixels))
            fooled = np.zeros(len(photos), np.bool_)
            fooled[still] = search.criterion.take(photos[still]).fooled(scores)
            low, high = np.where(still & ~fooled, radius, low), np.where(fooled, radius, high)


def cross(
    norm: Norm, clean: torch.Tensor, difference: torch.Tensor, slope: torch.Tensor, gap: torch.Tensor
) -> torch.Tensor:
    """The shortest step along the steepest ascent after which the whole pixels gain as much as is missing.

    difference: where the photos stand, less the photos. slope: gradient of the gain, which is taken to be constant. gap: what is
    missing, (N,). Without rounding and the limits of pixels the length is gap over the dual norm of the slope (equation 8 of the
    paper, for any norm); with them it is found by bisection. Returns the new differences, not rounded; where no step gains
    enough, the longest.
    """
    direction = norm.steepest(slope)
    start = _whole(clean, difference)

    def enough(length: torch.Tensor) -> torch.Tensor:
        moved = _whole(clean, torch.addcmul(difference, direction, per_photo(length)))
        return moved.sub_(start).mul_(slope).flatten(1).sum(1) >= gap

    high = gap / (norm.dual_lengths(slope) + _TINY)
    # Beyond this length every value that moves has reached 0 or 255.
    longest = 512 / (direction.abs().flatten(1).amax(1) + _TINY)
    low = torch.zeros_like(high)
    for _ in range(_DOUBLINGS):
        short = ~enough(high) & (high < longest)
        if not short.any():
            break
        low, high = torch.where(short, high, low), torch.where(short, 2 * high, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        reached = enough(middle)
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return torch.addcmul(difference, direction, per_photo(high))


def _whole(clean: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    return (clean + difference).round_().clamp_(0, 255)


def _best_other(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return logits.detach().scatter(1, classes[:, None], -torch.inf).argmax(1)


def _places(mask: NDArray[np.bool_], like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.flatnonzero(mask)).to(like.device)
