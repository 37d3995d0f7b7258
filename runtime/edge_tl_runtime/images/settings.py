"""The options that say which part of a picture is looked at: what commands share of them."""

from __future__ import annotations

from typing import Any

from edge_tl_runtime.core.settings import option
from edge_tl_runtime.modelfile.sections import FITS, FLIPS, TURNS


def crop_option(several: bool = False) -> Any:
    """several: whether regions with names may be asked for."""
    text = "Part of the picture to look at: x,y,w,h in pixels (200,0,720,720) or as fractions (0,0,0.5,1)."
    if several:
        text += " NAME=x,y,w,h, given again, classifies several regions of one picture."
    metavar = "[NAME=]X,Y,W,H" if several else "X,Y,W,H"
    return option((), text, metavar=metavar) if several else option("", text, metavar=metavar)


def rotate_option(default: int | None = None) -> Any:
    """default: None where a file says it."""
    return option(default, "Rotate the picture first, degrees clockwise; --flip mirrors it.", *TURNS, kind=int)


def flip_option(default: str | None = None, hidden: bool = False) -> Any:
    return option(default, "Flip the picture after --rotate.", *FLIPS, kind=str, hidden=hidden)


def fit_option(default: str | None = None, hidden: bool = False) -> Any:
    return option(
        default,
        "How the part fits the input of the model: its centre, all of it with grey edges, or all of it stretched.",
        *FITS,
        kind=str,
        hidden=hidden,
    )
