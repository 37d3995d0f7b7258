"""A classifier from another tool becomes an edge-tl file, as one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tl.api.model import Model
from edge_tl.api.reporter import Reporter, reporter
from edge_tl.api.settings import PathLike, settings_of
from edge_tl.api.train_extra import train_extra
from edge_tl_export.adoption.settings import AdoptSettings
from edge_tl_runtime.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from edge_tl_export.adoption.adopt import Adopted
    from edge_tl_export.adoption.labels import LabelList
    from edge_tl_export.adoption.loading import LoadedFile
    from edge_tl_export.adoption.measuring import Asked

LABEL_FILES = ("labels.txt", "classes.txt", "config.json", "labels.json", "imagenet_classes.txt")


def adopt(
    original: PathLike,
    target: PathLike,
    *,
    labels: PathLike | Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    color_order: str | None = None,
    photos: PathLike | None = None,
    size: int | tuple[int, int] | None = None,
    fix: Mapping[str, float] | None = None,
    progress: bool | Reporter = False,
    **settings: Any,
) -> Model:
    """Put pixels, crop, labels and a self-test into an ONNX classifier and write the file; as `edge-tl adopt`.

    labels: a list, a file, "imagenet", "numbers" or "metadata"; None: the file's own metadata. mean, std: three numbers, or one
    for all channels, in place of `normalize`. color_order: "RGB" or "BGR". photos: labelled; the usual preprocessings are
    tried on some of them, and the file learns from them what it calls unknown. size: pixels, or (width, height), where the
    file leaves them free. fix: values of other inputs. settings: fields of `edge_tl_export.adoption.settings.AdoptSettings`,
    such as normalize, crop_pct, scores. The lines on what was recognised, changed and measured, and on what is not known, go
    to `progress`.
    Raises UsageError, DataError, BadModelError, ExportError, OutputError, MissingPackage.
    """
    path, written, report = Path(original), Path(target), reporter(progress)
    made = settings_of(AdoptSettings, settings, "adopt")
    if written.exists() and path.exists() and written.samefile(path):
        raise UsageError(f"{written} is the original itself; give another name for the new file")
    with train_extra("adopt"):
        from edge_tl_export.adoption.adopt import Choices, Original, write_adopted
        from edge_tl_export.adoption.deciding import MeasuringPhotos, decide
        from edge_tl_export.adoption.labels import numbered, with_background
        from edge_tl_export.adoption.loading import load
    sides = _height_width(size)
    asked, said = _asked(made, mean, std, color_order)
    loaded = load(path)
    loaded.notes.recognised += said
    listed = _labels(labels, loaded, made.repeated_labels)
    if listed is not None and made.background_first:
        listed = with_background(listed)
    choices = Choices(output=made.output, size=sides, fix=fix or {}, scores=made.scores)
    model = Original(loaded, choices, None if listed is None else len(listed.labels))
    listed = listed or numbered(model.classes)
    loaded.notes.recognised.append(f"{len(listed.labels)} labels from {listed.origin}")
    loaded.notes.recognised += [f"labels: {line}" for line in listed.how]
    model.check_labels(listed.labels)
    measuring = None if photos is None else MeasuringPhotos(Path(photos), made.count)
    with report.stage("reading photos", made.count) as done:
        decision = decide(
            model, listed, asked, measuring, arch=path.stem, background=made.background_first, progress=done
        )
    adopted = model.adopt(decision.spec, decision.pixels)
    if measuring is not None:
        adopted = _with_detector(adopted, measuring.folder, made.background_first, report)
    write_adopted(adopted, written)
    for line in adopted.notes.lines():
        report.say(line)
    if model.reading.two_of_one:
        report.say(f"labels: score below 0 is {listed.labels[0]!r}, above 0 is {listed.labels[1]!r}")
    return Model(written)


def _with_detector(adopted: Adopted, folder: Path, background: bool, report: Reporter) -> Adopted:
    """With what tells unknown pictures, by the photos; what it notices, or why there is none, is in the notes."""
    from edge_tl.data.foreign import foreign_photographs
    from edge_tl_export.detection.adding import add_detector
    from edge_tl_export.detection.detector import FIT_PHOTOS
    from edge_tl_runtime.images.datasets.dataset import load_labelled

    notes, labels = adopted.notes, adopted.spec.labels
    try:
        photos = load_labelled(folder, labels[1:] if background else labels, "all")
    except DataError as error:
        notes.unknown.append(f"what shows none of its classes: {error}")
        return adopted
    with report.stage("learning what is known", min(FIT_PHOTOS, len(photos))) as done:
        found = add_detector(adopted.model, adopted.spec, photos, foreign_photographs(labels), done)
    if isinstance(found, str):
        notes.unknown.append(f"what shows none of its classes: {found}")
        return adopted
    model, spec, detection = found
    notes.measured.append(f"it {detection.describe()}")
    notes.measured += filter(None, [*detection.odd, detection.caution])
    return replace(adopted, model=model, spec=spec)


def _height_width(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Height and width in pixels of a side, or of (width, height)."""
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= 4096 for side in sides):
        raise UsageError(f"size is {size!r}; give a side in pixels, such as 224, or (width, height)")
    return sides[1], sides[0]


def _asked(
    made: AdoptSettings, mean: Sequence[float] | None, std: Sequence[float] | None, order: str | None
) -> tuple[Asked, list[str]]:
    """What the call says of the preprocessing, and a line on how it was understood."""
    from edge_tl_export.adoption.measuring import Asked
    from edge_tl_export.adoption.preprocessing import PRESETS, figures

    if (mean is None) != (std is None):
        raise UsageError("mean and std belong together; give both, or normalize with a name")
    if made.normalize is not None and mean is not None:
        raise UsageError("normalize and mean say the same thing twice; give one of them")
    if order not in (None, "RGB", "BGR"):
        raise UsageError(f"color_order is {order!r}; there are RGB, BGR")
    if made.normalize is not None:
        preset = PRESETS[made.normalize]
        order = order or ("BGR" if preset.order == "BGR" else None)
        return Asked(preset.normalization, order, made.crop_pct), [f"--normalize {made.normalize}: {preset.what}"]
    if mean is not None and std is not None:
        normalization, line = figures(mean, std)
        return Asked(normalization, order, made.crop_pct), [line]
    return Asked(None, order, made.crop_pct), []


def _labels(labels: PathLike | Sequence[str] | None, loaded: LoadedFile, repeated: str) -> LabelList | None:
    """The labels, or None for numbers, whose count the graph knows. Raises UsageError where there are none."""
    from edge_tl_export.adoption.labels import LabelList, checked, labels_of_metadata, read_labels

    if labels == "numbers":
        return None
    if labels == "imagenet":
        from edge_tl.models.weights import imagenet_labels

        return LabelList(imagenet_labels(), "ImageNet's 1000 classes in torchvision's order")
    if labels is not None and labels != "metadata":
        if isinstance(labels, (str, os.PathLike)):
            return read_labels(Path(labels), repeated)
        return checked(list(labels), "the list of labels", repeated)
    found = labels_of_metadata(loaded.metadata, repeated)
    if found is None:
        beside = (Path(loaded.name).parent / name for name in LABEL_FILES)
        hint = next((f" ({path} lies beside it)" for path in beside if path.is_file()), "")
        raise UsageError(
            f"{loaded.name} carries no labels; give --labels FILE, imagenet, or numbers where nobody knows them{hint}"
        )
    return found
