"""Which photos belong together, by their names and by what they look like: what `train --group auto` keeps on one side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_tl.data.duplicates import near_groups
from edge_tl.data.pictures import ImageRecord, look_at
from edge_tl_export import Stage
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.grouping import joined
from edge_tl_runtime.images.datasets.splitting import Finder, photo_origins

Describe = Callable[[LabelledPhotos], NDArray[np.float32]]
"""Features of photos that can all be read, float32 (N, D), by a network that was trained on others."""

BITS, COSINE = 24, 0.8
"""Wider than for duplicates, since to keep two photos together by mistake costs little. Of bursts cut from 74 photos of pets,
8 frames each, all were found whole, and no two photos were taken for one (docs/decisions/0016)."""


def finder(stage: Stage, describe: Describe | None = None) -> Finder:
    """A function that gives each photo a key: equal for photos of one origin by name, and for those that look alike.

    describe: None compares perceptual hashes alone, which finds copies and few bursts. It reads every photo, so it is for the
    workstation; what it decided is kept in the run (`Grouping.record`).
    """

    def find(photos: LabelledPhotos) -> list[str]:
        pictures: list[ImageRecord] = []
        places: list[int] = []
        with stage("photos that look alike", len(photos)) as progress:
            for place, looked in enumerate(map_in_order(look_at, photos.paths)):
                progress(1)
                if isinstance(looked, ImageRecord):
                    pictures.append(looked)
                    places.append(place)
        features = None if describe is None else describe(photos.subset(places, photos.split))
        alike = list(photos.names)
        for group in near_groups(pictures, features, BITS, COSINE):
            for member in group:
                alike[places[member]] = photos.name(places[group[0]])
        return joined(photo_origins(photos), alike)

    return find
