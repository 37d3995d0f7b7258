"""How the numbers that are optimised make a picture: the bases of activation maximisation.

A basis is a preconditioner. Whatever picture one can make, the other can; they differ in which pictures lie a short way downhill
(Olah, Mordvintsev and Schubert 2017, "Feature Visualization").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

OHTA = ((1 / 3, 1 / 3, 1 / 3), (1 / 2, 0, -1 / 2), (-1 / 4, 1 / 2, -1 / 4))
"""Rows are brightness, red against blue, green against both, from red, green and blue (Ohta, Kanade and Sakai 1980)."""
OHTA_SPREAD = (0.245, 0.085, 0.031)
"""Standard deviations of these in photos whose colours are in 0..1: 100 of ImageNet's, where no two correlate above 0.06."""
DARKEST = 0.5 / 255
"""A photo's 0 and 255 as a picture starts from them: a sigmoid never gives 0 or 1."""

NOISE = 0.01
"""Strength of `natural_noise`: a standard deviation of about 5 of 255 at 224 x 224 px."""


@dataclass(frozen=True)
class Basis:
    """Two functions that undo each other between parameters and a latent picture, float32 (3, H, W) in R, G, B.

    A latent picture is any real number a pixel; its sigmoid is the colour in 0..1.
    parameters: of a latent picture. latent: of parameters, given the size (H, W) of the picture.
    """

    parameters: Callable[[torch.Tensor], torch.Tensor]
    latent: Callable[[torch.Tensor, tuple[int, int]], torch.Tensor]


def to_colours(latent: torch.Tensor) -> torch.Tensor:
    """Colours in 0..255, (H, W, 3), of a latent picture."""
    return 255 * torch.sigmoid(latent).permute(1, 2, 0)


def to_latent(colours: torch.Tensor) -> torch.Tensor:
    """The latent picture of colours in 0..255, (H, W, 3): `to_colours` gives them back but for the outermost half step."""
    return torch.logit((colours / 255).clamp(DARKEST, 1 - DARKEST)).permute(2, 0, 1)


def natural_noise(size: tuple[int, int], random: torch.Generator) -> torch.Tensor:
    """A latent picture (3, H, W) of faint noise whose frequencies are as strong as in photos, the same for a seed anywhere."""
    rows, columns = size
    return _from_spectrum(NOISE * torch.randn((3, rows, columns // 2 + 1, 2), generator=random), size)


def _spectrum(latent: torch.Tensor) -> torch.Tensor:
    """Fourier coefficients of decorrelated colours, over their usual size: float32 (3, H, W // 2 + 1, 2)."""
    plain = torch.einsum("ck,khw->chw", torch.linalg.inv(_colours(latent)), latent)
    coefficients = torch.fft.rfft2(plain, norm="ortho") / _usual_size(latent.shape[1:], latent.device)
    return torch.view_as_real(coefficients).clone()


def _from_spectrum(spectrum: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    coefficients = torch.view_as_complex(spectrum) * _usual_size(size, spectrum.device)
    plain = torch.fft.irfft2(coefficients, s=size, norm="ortho")
    return torch.einsum("kc,chw->khw", _colours(spectrum), plain)


def _usual_size(size: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """1 / frequency, as in photos, for each coefficient of `rfft2`; the mean's as that of one period over the picture."""
    rows, columns = size
    vertical = torch.fft.fftfreq(rows, device=device)[:, None]
    horizontal = torch.fft.rfftfreq(columns, device=device)[None]
    return 1 / torch.sqrt(vertical**2 + horizontal**2).clamp_min(1 / max(rows, columns))


def _colours(like: torch.Tensor) -> torch.Tensor:
    """From uncorrelated colours of spread 1 for brightness to red, green and blue: (3, 3)."""
    spread = torch.tensor(OHTA_SPREAD, device=like.device) / OHTA_SPREAD[0]
    colours: torch.Tensor = torch.linalg.inv(torch.tensor(OHTA, device=like.device)) * spread
    return colours


BASES: dict[str, Basis] = {
    "fourier": Basis(_spectrum, _from_spectrum),
    "pixels": Basis(lambda latent: latent.clone(), lambda parameters, size: parameters),
}
