"""The ideal picture of a class by activation maximisation: gradient ascent on the pixels, held to what pictures look like.

The class's logit is raised, not its probability, which rises as well when all other logits fall, and near 1 has no slope
(Simonyan, Vedaldi and Zisserman 2013; Olah, Mordvintsev and Schubert 2017). What holds the picture: total variation (Mahendran
and Vedaldi 2015), a pull towards grey or a photo, and that the network sees it moved, turned and scaled by chance at each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edge_tl.adversarial.dreams.fourier import BASES, natural_noise, to_colours, to_latent
from edge_tl.adversarial.settings import DreamSettings
from edge_tl.training.devices import pick_device
from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.modelfile.spec import ModelSpec

if TYPE_CHECKING:
    from edge_tl.adversarial.documents import DreamScoreDocument


@dataclass(frozen=True, slots=True)
class DreamScore:
    """What the file says of a picture of whole pixel values.

    logit, confidence, rank: of the class that was dreamt of; rank 1 is the likeliest class, `best` its label.
    tv: total variation of the picture, see `total_variation`.
    """

    logit: float
    confidence: float
    rank: int
    best: str
    tv: float

    def to_dict(self) -> DreamScoreDocument:
        return {
            "logit": round(self.logit, 4),
            "confidence": self.confidence,
            "rank": self.rank,
            "best": self.best,
            "tv": round(self.tv, 6),
        }


@dataclass(frozen=True)
class Dream:
    """A picture that was climbed to.

    pixels: uint8 (H, W, 3), in the model's colours. evaluated: by the file. rebuilt_logit: of the graph that gave gradients, for
    the same pixels. start: what the file said of the first frame.
    frames: of the climb, uint8 (H, W, 3), the first the start, the last `pixels`; trace: the step and the verdict of each.
    """

    pixels: NDArray[np.uint8]
    evaluated: DreamScore
    rebuilt_logit: float
    frames: tuple[NDArray[np.uint8], ...]
    trace: tuple[tuple[int, DreamScore], ...]

    @property
    def start(self) -> DreamScore:
        return self.trace[0][1]


def dream(
    graph: nn.Module,
    answer: Logits,
    spec: ModelSpec,
    index: int,
    settings: DreamSettings,
    photo: NDArray[np.uint8] | None = None,
    progress: Progress = lambda done: None,
) -> Dream:
    """Climb to the picture that the graph takes for the best of a class.

    graph: float pixels (N, H, W, 3) in 0..255 to logits (N, C), differentiable; moved to `settings.device`.
    answer: the deployed file, uint8 (N, H, W, 3) to float32 (N, C). Every figure comes from it, for whole pixel values.
    index: of the class. photo: uint8 (H, W, 3) in the model's colour order, to start from and to stay near.
    progress: called with 1 after each step. The same seed gives the same picture on the same machine and thread count.
    Raises BadModelError where a score is not a number, UsageError for a device that is not there.
    """
    device = pick_device(settings.device)
    graph = graph.to(device).eval()
    size = spec.resize.height, spec.resize.width
    random = torch.Generator().manual_seed(settings.seed)
    anchor = torch.full((*size, 3), 127.5, device=device)
    latent = to_latent(anchor)
    if photo is not None:
        anchor = _in_order(torch.from_numpy(np.array(photo)).float().to(device), spec)
        latent = to_latent(anchor)
    elif settings.start == "noise":
        latent = natural_noise(size, random).to(device)
    basis = BASES[settings.basis]
    parameters = basis.parameters(latent).requires_grad_()
    optimizer = torch.optim.Adam([parameters], settings.learning_rate)
    shown = {round(i * settings.steps / (settings.frames - 1)) for i in range(settings.frames)}
    frames, trace = [], []

    def keep(step: int) -> None:
        with torch.no_grad():
            colours = _in_order(to_colours(basis.latent(parameters, size)), spec)
        frames.append(colours.round().to(torch.uint8).cpu().numpy())
        trace.append((step, evaluated(answer, spec, index, frames[-1])))

    keep(0)
    for step in range(1, settings.steps + 1):
        optimizer.param_groups[0]["lr"] = (
            settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / settings.steps))
        )
        colours = to_colours(basis.latent(parameters, size))
        logit = graph(_in_order(_moved(colours, settings, random), spec)[None])[0, index]
        loss = settings.tv * total_variation(colours) + settings.l2 * ((colours - anchor) / 255).square().mean() - logit
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in shown:
            keep(step)
        progress(1)
    with torch.no_grad():
        rebuilt = graph(torch.from_numpy(frames[-1])[None].float().to(device))[0, index]
    return Dream(frames[-1], trace[-1][1], float(rebuilt), tuple(frames), tuple(trace))


def total_variation(colours: torch.Tensor) -> torch.Tensor:
    """Mean over pixels and colours of the squared differences to the pixel on the right and the one below, a scalar.

    colours: (H, W, 3) in 0..255; differences are of colours in 0..1. Mahendran and Vedaldi 2015, section 3, with beta = 2; the
    last row and column, which have one of these neighbours only, count with that one.
    """
    right, below = colours[:, 1:] - colours[:, :-1], colours[1:] - colours[:-1]
    return (right.square().sum() + below.square().sum()) / 255**2 / colours.numel()


def evaluated(answer: Logits, spec: ModelSpec, index: int, pixels: NDArray[np.uint8]) -> DreamScore:
    """The file's verdict. pixels: uint8 (H, W, 3) in its colour order. Raises BadModelError for a score that is not a number."""
    logits = answer(np.ascontiguousarray(pixels[None]))[0]
    if not np.isfinite(logits).all():
        raise BadModelError("the model gave a score that is not a number; export it again")
    probabilities = spec.scores.probabilities(logits)
    return DreamScore(
        logit=float(logits[index]),
        confidence=float(probabilities[index]),
        rank=1 + int((logits > logits[index]).sum()),
        best=spec.labels[int(logits.argmax())],
        tv=float(total_variation(torch.from_numpy(np.array(pixels)).double())),
    )


def _in_order(colours: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """R, G, B to the model's order of colours, or back."""
    return colours if spec.resize.color_order == "RGB" else colours.flip(-1)


def _moved(colours: torch.Tensor, settings: DreamSettings, random: torch.Generator) -> torch.Tensor:
    """The picture (H, W, 3), moved, turned and scaled by chance; what comes in from outside is its mirror image."""
    if not (settings.jitter or settings.scale or settings.rotation):
        return colours
    rows, columns = colours.shape[:2]
    chance = 2 * torch.rand(4, generator=random) - 1
    zoom, angle = 1 + settings.scale * float(chance[0]), math.radians(settings.rotation * float(chance[1]))
    # affine_grid's unit is half a side, so a turn has to know the aspect.
    cosine, sine, aspect = zoom * math.cos(angle), zoom * math.sin(angle), rows / columns
    shift = 2 * settings.jitter * chance[2:] / torch.tensor([columns, rows])
    matrix = torch.tensor([[[cosine, -sine * aspect, shift[0]], [sine / aspect, cosine, shift[1]]]]).to(colours)
    grid = functional.affine_grid(matrix, [1, 3, rows, columns], align_corners=False)
    picture = colours.permute(2, 0, 1)[None]
    moved = functional.grid_sample(picture, grid, padding_mode="reflection", align_corners=False)
    return moved[0].permute(1, 2, 0)
