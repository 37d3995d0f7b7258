"""How the input of an adopted file is made: as the person says, as photos show, or as the graph lets one guess."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_tl_export.adoption.labels import LabelList
from edge_tl_export.adoption.measuring import CROPS, Asked, InputRecipe, MeasuredInputs, measure
from edge_tl_export.adoption.preprocessing import check_channels, for_channels, name_of
from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.images.crop import DEFAULT_RESAMPLE
from edge_tl_runtime.images.datasets.csv_manifest import is_manifest
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.datasets.survey import require_folder, survey, why_none_of
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule

if TYPE_CHECKING:
    from edge_tl_export.adoption.adopt import Original

KEY = "adopted"
"""Of the contract's `export`: what is known of where an adopted file is from."""


@dataclass(frozen=True)
class MeasuringPhotos:
    """Labelled photos that a person offers. count: at most so many are looked at, spread over all."""

    folder: Path
    count: int = 200


@dataclass(frozen=True)
class AdoptionDecision:
    """spec: the contract, but for size and self-test. pixels: real photos as the network will see them, or None."""

    spec: ModelSpec
    pixels: NDArray[np.uint8] | None = None
    measured: MeasuredInputs | None = None


def decide(
    original: Original,
    labels: LabelList,
    asked: Asked = Asked(),
    measuring: MeasuringPhotos | None = None,
    *,
    arch: str,
    background: bool = False,
    progress: Progress = lambda done: None,
) -> AdoptionDecision:
    """The contract of an original, with what was measured and what is not known in its notes.

    background: the first label is one for the background, which folders and numbers of photos do not count.
    Raises UsageError for figures that the picture cannot have, DataError for a folder without photos.
    """
    picture, notes = original.picture, original.notes
    if picture.whole and asked.normalization is not None:
        notes.unknown.append(f"it takes {picture.kind} pixels as they are, so the normalisation asked for has no place")
        asked = replace(asked, normalization=None)
    if asked.normalization is not None:
        check_channels(asked.normalization, picture.channels, original.name)
    guess = InputRecipe(asked.normalization or original.assumed, asked.order or "RGB", asked.crop_pct or CROPS[0])
    if original.inside is not None:
        notes.recognised.append(
            f"it begins with {', '.join(original.inside.operators)} on stored numbers: it normalises inside"
        )
    measured = None if measuring is None else _measured(original, labels, asked, measuring, background, progress)
    if measured is None or measured.why_not:
        if measured is not None:
            notes.unknown.append(f"which preprocessing is right: {measured.why_not}")
        notes.unknown.append(_unsaid(original, asked, guess))
        return AdoptionDecision(_spec(original, labels, guess, arch, {}), _samples(measured, guess), measured)
    chosen = measured.best(asked.fits)
    notes.measured += measured.lines(chosen)
    if measured.skipped:
        notes.measured.append(f"{len(measured.skipped)} photos could not be read; the first: {measured.skipped[0]}")
    figures = {"validation": measured.accuracy(chosen, chose=not asked)}
    return AdoptionDecision(
        _spec(original, labels, chosen.way, arch, figures), _samples(measured, chosen.way), measured
    )


def _measured(
    original: Original,
    labels: LabelList,
    asked: Asked,
    measuring: MeasuringPhotos,
    background: bool,
    progress: Progress,
) -> MeasuredInputs | None:
    """None where the folder's labels are not the model's, which is said."""
    folder = measuring.folder
    if not is_manifest(folder):
        files, passed_over = survey(require_folder(folder))
        if not files:
            raise DataError(f"no photos in {folder}{why_none_of(passed_over)}; give a folder of labelled photos")
    known = labels.labels[1:] if background else labels.labels
    try:
        photos = load_labelled(folder, known, "val")
    except DataError as error:
        original.notes.unknown.append(f"which preprocessing is right, for nothing was measured: {error}")
        return None
    original.notes.recognised.append(photos.describe())
    if background:
        photos = replace(photos, labels=labels.labels, targets=tuple(target + 1 for target in photos.targets))
    return measure(original.logits, original.picture, photos, measuring.count, asked, progress)


def _samples(measured: MeasuredInputs | None, way: InputRecipe) -> NDArray[np.uint8] | None:
    pixels = None if measured is None else measured.samples.get(way.crop_pct)
    if pixels is None:
        return None
    return pixels if way.order == "RGB" else np.ascontiguousarray(pixels[..., ::-1])


def _unsaid(original: Original, asked: Asked, guess: InputRecipe) -> str:
    """What the contract now claims that nobody has checked."""
    said = guess.describe(original.picture)
    if asked.normalization is not None or original.picture.whole:
        return f"whether the input is right ({said}): give --photos FOLDER with labelled photos, and it is measured"
    names = for_channels(original.picture.channels)
    why = (
        "as the graph normalises inside" if original.inside and original.inside.preset() else "for it is the commonest"
    )
    return (
        f"how the input is made: {said} was taken, {why}; say --normalize {', '.join(names)}, "
        "or give --photos FOLDER with labelled photos, and it is measured"
    )


def _spec(original: Original, labels: LabelList, way: InputRecipe, arch: str, figures: Mapping[str, Any]) -> ModelSpec:
    origin = {
        "producer": original.producer,
        "opset": original.opset,
        "normalize": name_of(way.normalization) if not original.picture.whole else "none",
        "input": original.picture.describe(),
        "scores": original.reading.meaning,
    }
    return ModelSpec(
        labels=labels.labels,
        # The size is the graph's own, put in when it is adopted.
        resize=ResizeRule(height=1, width=1, crop_pct=way.crop_pct, resample=DEFAULT_RESAMPLE, color_order=way.order),
        normalization=way.normalization,
        arch=arch,
        export={KEY: origin},
        **figures,
    )
