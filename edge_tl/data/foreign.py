"""Photographs of many things, which come with scikit-image: a classifier of something else should call them unknown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_tl_runtime.images.decode import Frame, read_photo

_SHOWS = {
    "astronaut.png": ("person", "woman", "people", "astronaut", "face", "human"),
    "brick.png": ("brick", "wall"),
    "camera.png": ("person", "man", "people", "camera", "human"),
    "clock_motion.png": ("clock", "watch"),
    "coffee.png": ("coffee", "cup", "espresso"),
    "coins.png": ("coin",),
    "grass.png": ("grass", "lawn"),
    "gravel.png": ("gravel", "stone"),
    "hubble_deep_field.jpg": ("star", "galaxy", "sky"),
    "ihc.png": ("tissue", "cell"),
    "moon.png": ("moon",),
    "motorcycle_left.png": ("motor", "bike"),
    "retina.jpg": ("retina", "eye"),
    "rocket.jpg": ("rocket", "missile"),
    "text.png": ("text", "paper", "document"),
}
"""Files of the package, and words in a label that mean it may show a photo of this kind."""


def foreign_photographs(labels: Sequence[str]) -> list[Frame]:
    """Those that show none of the labels, uint8 (H, W, 3), BGR."""
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    named = [label.casefold() for label in labels]
    shown = [
        name
        for name, words in _SHOWS.items()
        if (folder / name).is_file() and not any(word in label for word in words for label in named)
    ]
    return [read_photo(folder / name) for name in shown]
