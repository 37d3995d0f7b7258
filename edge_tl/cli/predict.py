"""`edge-tl predict MODEL IMG...`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import percent, say, say_skipped
from edge_tl.cli.options import options
from edge_tl_runtime.inference.settings import OpenSettings, PredictSettings

if TYPE_CHECKING:
    from edge_tl_runtime.images.datasets.survey import Unreadable
    from edge_tl_runtime.inference.classifier import Prediction


@click.command(short_help="Classify photos.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True)
@options(PredictSettings)
@options(OpenSettings)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per photo, each on a line.")
def command(
    model: Path,
    images: tuple[str, ...],
    top_k: int,
    unknown: float | None,
    coverage: float | None,
    crop: str,
    rotate: int | None,
    flip: str | None,
    fit: str | None,
    threads: int | None,
    provider: str | None,
    profile: bool,
    as_json: bool,
) -> None:
    """Classify IMAGES: photos, folders or patterns.

    The exit code is 1 if a photo that you named cannot be read. In a folder, such a file is skipped and counted.
    """
    from edge_tl_runtime.core.text import shell_command
    from edge_tl_runtime.images.asked_geometry import AskedGeometry
    from edge_tl_runtime.images.datasets.tally import by_note
    from edge_tl_runtime.images.formats.several import SEVERAL
    from edge_tl_runtime.inference.classifier import SessionSettings
    from edge_tl_runtime.machine.open_classifier import open_classifier
    from edge_tl_runtime.sources import Photos
    from edge_tl_runtime.sources.animation import is_animation

    asked = AskedGeometry.parse(crop, rotate, flip, fit).single("predict")
    for image in images:
        _require_photos(image, model)
    classifier = open_classifier(model, threads, provider, profile, "row", SessionSettings(spin=True), say)
    sets = classifier.label_sets(coverage)
    if sets is not None and (note := sets.note()):
        say(note)
    sources = [Photos(image) for image in images]
    if asked:
        say(asked.describe(classifier.spec.resize))
        paths = [path for source in sources for path in source.paths]
        classifier.look_by(asked.for_photos(classifier.spec.resize, paths).rule(classifier.spec.resize))
    keep = classifier.keep(unknown)
    shown, failed = 0, False
    skipped: list[Unreadable] = []
    for source in sources:
        for record in source:
            prediction = classifier.classify(record.frame, top_k, keep, sets)
            shown += 1
            if as_json:
                click.echo(json.dumps({"source": record.source, **prediction.to_dict()}, ensure_ascii=False))
            else:
                click.echo(f"{record.source}: {_in_words(prediction)}")
        skipped += source.skipped
        failed |= bool(source.skipped) and not Path(source.name).is_dir()
    root = Path(images[0]) if len(images) == 1 and Path(images[0]).is_dir() else None
    adjusted = by_note(
        (name, (note,)) for source in sources for note, names in source.adjusted.items() for name in names
    )
    say_skipped(skipped, shown, root, adjusted)
    of_several = (*map(Path, adjusted.get(SEVERAL, ())), *(item.path for item in skipped))
    played = next((path for path in of_several if is_animation(path)), None)
    if played is not None:
        say(f"to have every picture of it: {shell_command('run', model, '--source', played)}")
    if failed or not shown:
        sys.exit(1)


def _in_words(prediction: Prediction) -> str:
    """`dog 98.2 %  (cat 1.8 %)`; of a picture that is like none of the training photos, `unknown  (dog 98.2 %, cat 1.8 %)`; of a
    set of labels, `dog or cat  (dog 60.0 %, cat 40.0 %)`."""
    from edge_tl_runtime.inference.label_sets import in_words

    classes = [f"{score.label} {percent(score.confidence)}" for score in prediction.top]
    several = prediction.label_set is not None and len(prediction.label_set) > 1
    if several:
        shown = [in_words([score.label for score in prediction.label_set or ()])]
    else:
        shown = [prediction.label] if not prediction.known else [classes.pop(0)]
    return "  ".join(shown + ([f"({', '.join(classes)})"] if classes else []))


def _require_photos(image: str, model: Path) -> None:
    """Raises UsageError, with the command that takes it, for a video, a camera or a stream."""
    from edge_tl_runtime.core.errors import UsageError
    from edge_tl_runtime.core.text import shell_command
    from edge_tl_runtime.images.datasets.missing import looks_like_a_file
    from edge_tl_runtime.sources import VIDEO_ENDINGS, source_kind

    is_video = Path(image).suffix.lower() in VIDEO_ENDINGS
    if "://" not in image and not is_video and looks_like_a_file(image) and not Path(image).exists():
        return  # opening it says that it is not there, and what is
    kind = "video" if is_video else source_kind(image)
    if kind == "photos" or (kind == "video" and not is_video):
        return
    shown = {
        "camera": f"the camera {image}",
        "HTTP stream": "an HTTP stream",
        "standard input": kind,
        "video": f"the video {Path(image).name}",
    }
    source: object = Path(image) if kind == "video" else image
    if "://" in image:  # it may hold a password
        shown["video"], source = "a video", "URL"
    given = model if model.suffix.lower() == ".onnx" else "MODEL"
    raise UsageError(
        f"predict takes photos, not {shown.get(kind, f'a {kind}')}; classify it with: "
        f"{shell_command('run', given, '--source', source)}"
    )
