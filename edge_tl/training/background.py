"""Photos of the empty scene and of other things: no class of their own, they choose how much is called unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_tl.training.settings import TrainSettings
from edge_tl_export.settings import LEAST_BACKGROUND
from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError, UsageError
from edge_tl_runtime.core.progress import Stage
from edge_tl_runtime.core.text import plural, shell_command
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos, Splits, load_unlabelled
from edge_tl_runtime.images.decode import decode_photo, read_file
from edge_tl_runtime.images.fingerprint import distances, file_key, picture_hash

SAME_BITS = 4
"""Of 96, in which the hashes of a photo and of a copy of it differ at most."""


def load_background(folder: Path) -> LabelledPhotos:
    """The photos of a folder and its sub-folders. Raises DataError for too few."""
    photos = load_unlabelled(folder)
    if len(photos) < LEAST_BACKGROUND:
        raise DataError(
            f"{folder} holds {plural(len(photos), 'background photo')}, and {LEAST_BACKGROUND} are the least: half of them "
            f"choose, the others are the check; take more with: {shell_command('collect', '--background', folder)}"
        )
    return photos


def check_background(splits: Splits, settings: TrainSettings, stage: Stage) -> tuple[str, ...]:
    """What is to be said of the background photos of a training; () without any.

    Raises DataError for too few, and for a photo that is in a class too; UsageError for a folder inside of the photos.
    """
    if not settings.background:
        return ()
    background = load_background(Path(settings.background))
    classes = [photos for photos in splits if photos is not None]
    inside = {path.resolve() for photos in classes for path in photos.paths} & {p.resolve() for p in background.paths}
    if inside:
        raise UsageError(
            f"{len(inside)} photos of {settings.background} are photos of a class at the same time, such as {min(inside)}; keep "
            "background photos in a folder of their own, outside of the classes"
        )
    with stage("photos in classes and background", len(background) + sum(map(len, classes))) as done:

        def looked_at(photos: LabelledPhotos) -> list[tuple[int, np.ndarray | None] | None]:
            found = []
            for item in map_in_order(_look, photos.paths):
                done(1)
                found.append(item)
            return found

        own = looked_at(background)
        known = [(photos, place, item) for photos in classes for place, item in enumerate(looked_at(photos)) if item]
    keys = {item[0]: (photos, place) for photos, place, item in known}
    twice = [(place, keys[item[0]]) for place, item in enumerate(own) if item and item[0] in keys]
    if twice:
        place, (photos, other) = twice[0]
        raise DataError(
            f"{plural(len(twice), 'photo')} of {settings.background} are in a class too: {background.name(place)} is "
            f"{photos.name(other)} ({photos.labels[photos.targets[other]]}); remove one of each"
        )
    readable = [item for item in own if item]
    lines = [f"background: {plural(len(readable), 'photo')} of {background.root.name}, no class of its own"]
    if len(own) > len(readable):
        lines.append(f"{plural(len(own) - len(readable), 'background photo')} could not be read and count for nothing")
    hashes = [item[1] for item in readable if item[1] is not None]
    others = [item[1] for _, _, item in known if item[1] is not None]
    if hashes and others:
        alike = int((distances(np.stack(hashes), np.stack(others)).min(1) <= SAME_BITS).sum())
        if alike:
            lines.append(
                f"{plural(alike, 'background photo')} look like a photo of a class, saved anew; they would teach that it is "
                "unknown: look at them"
            )
    return tuple(lines)


def _look(path: Path) -> tuple[int, np.ndarray | None] | None:
    try:
        data = read_file(path)
        return file_key(data), picture_hash(decode_photo(data)[:, :, :3])
    except (BadImage, BadFrame):
        return None
