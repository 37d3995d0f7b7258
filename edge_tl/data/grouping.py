"""Which photos belong together, by their names and by what they look like: what `train --group auto` keeps on one side."""

from __future__ import annotations

from edge_tl.data.duplicates import near_groups
from edge_tl.data.pictures import Picture, look_at
from edge_tl_export import Stage
from edge_tl_runtime.dataset import LabelledPhotos
from edge_tl_runtime.images.grouping import joined
from edge_tl_runtime.images.splitting import Finder, photo_origins
from edge_tl_runtime.photos import map_in_order


def finder(stage: Stage) -> Finder:
    """A function that gives each photo a key: equal for photos of one origin by name, and for near duplicates.

    It reads every photo, so it is for the workstation; what it decided is kept in the run (`Grouping.record`).
    """

    def find(photos: LabelledPhotos) -> list[str]:
        pictures: list[Picture] = []
        places: list[int] = []
        with stage("photos that look alike", len(photos)) as progress:
            for place, looked in enumerate(map_in_order(look_at, photos.paths)):
                progress(1)
                if isinstance(looked, Picture):
                    pictures.append(looked)
                    places.append(place)
        alike = list(photos.names)
        for group in near_groups(pictures, None):
            for member in group:
                alike[places[member]] = photos.name(places[group[0]])
        return joined(photo_origins(photos), alike)

    return find
