"""`edge-tl adopt FILE.onnx -o OUT.onnx --labels LABELS`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tl.cli.console import progress

if TYPE_CHECKING:
    from edge_tl_export.adoption.labels import LabelList
    from edge_tl_export.adoption.loading import LoadedFile
    from edge_tl_export.adoption.measuring import Asked

NORMALIZE = ("imagenet", "0..1", "-1..1", "0..255", "caffe", "openmmlab", "clip", "mnist")
READINGS = ("auto", "logits", "probabilities", "log-probabilities", "sigmoid")


def _figures(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in (1, 3):
        raise click.BadParameter("three numbers with commas between, as 0.485,0.456,0.406, or one for all channels")
    return found


def _size(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Height and width of `224` or, width first as everywhere here, `320x240`."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise click.BadParameter("a side in pixels, as 224, or width x height, as 320x240")
    return int(parts[-1]), int(parts[0])


def _fixed(context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for pair in pairs:
        name, _, number = pair.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise click.BadParameter("NAME=NUMBER, as training=0")
    return found


@click.command(short_help="Turn a classifier from another tool into an edge-tl file.")
@click.argument("original", type=click.Path(path_type=Path))
@click.option("-o", "target", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--labels",
    help="A file (one label per line, JSON, CSV), imagenet, numbers, or metadata.  [default: the file's own metadata]",
)
@click.option(
    "--repeated-labels",
    default="refuse",
    show_default=True,
    type=click.Choice(["refuse", "number"]),
    help="What to do with two equal labels; number: add the index to the second.",
)
@click.option("--background-first", is_flag=True, help="Class 0 is the background, which the labels leave out.")
@click.option(
    "--normalize",
    type=click.Choice(NORMALIZE),
    help="Normalization that the network was trained with; docs/how-to/adopt-a-model.md explains each.",
)
@click.option(
    "--mean", callback=_figures, help="Three numbers, instead of --normalize; of pixels in 0..1 or in 0..255."
)
@click.option("--std", callback=_figures, help="With --mean, in the same unit.")
@click.option(
    "--crop-pct",
    type=click.FloatRange(0.05, 1),
    help="Share of a photo's side that the network sees.  [default: 0.875]",
)
@click.option("--bgr/--rgb", default=None, help="Colour order that the network was trained with.  [default: rgb]")
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    help="Labelled photos. The usual preprocessings are tried on them and the best is taken; one that you give is compared.",
)
@click.option(
    "--count",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    help="Number of photos to use, spread over the classes.",
)
@click.option("--output", default="", help="Name of the output with the scores, if there are several.")
@click.option(
    "--size", callback=_size, help="Input size, such as 224 or 320x240, if the file leaves height and width free."
)
@click.option(
    "--fix", multiple=True, callback=_fixed, metavar="NAME=NUMBER", help="Fix another input to a value; repeatable."
)
@click.option(
    "--scores",
    default="auto",
    show_default=True,
    type=click.Choice(READINGS),
    help="What the output means, if the command cannot find out.",
)
def command(
    original: Path,
    target: Path,
    labels: str | None,
    repeated_labels: str,
    background_first: bool,
    normalize: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    crop_pct: float | None,
    bgr: bool | None,
    photos: Path | None,
    count: int,
    output: str,
    size: tuple[int, int] | None,
    fix: dict[str, float],
    scores: str,
) -> None:
    """Put pixels, crop, labels and a self-test into ORIGINAL, an ONNX classifier, so that every command here can take it.

    The answers stay the original's: both are run and compared before anything is written.
    """
    from edge_tl_export.adoption.adopt import Choices, Original, write_adopted
    from edge_tl_export.adoption.deciding import Witness, decide
    from edge_tl_export.adoption.labels import numbered, with_background
    from edge_tl_export.adoption.loading import load
    from edge_tl_runtime.core.errors import UsageError
    from edge_tl_runtime.core.text import shell_command

    if target.exists() and original.exists() and target.samefile(original):
        raise UsageError(f"{target} is the original itself; give another name with -o")
    asked, said = _asked(normalize, mean, std, crop_pct, bgr)
    loaded = load(original)
    loaded.notes.recognised += said
    listed = _labels(labels, loaded, repeated_labels)
    if listed is not None and background_first:
        listed = with_background(listed)
    choices = Choices(output=output, size=size, fix=fix, scores=scores)
    model = Original(loaded, choices, None if listed is None else len(listed.labels))
    listed = listed or numbered(model.classes)
    loaded.notes.recognised.append(f"{len(listed.labels)} labels from {listed.origin}")
    loaded.notes.recognised += [f"labels: {line}" for line in listed.how]
    model.check_labels(listed.labels)
    witness = None if photos is None else Witness(photos, count)
    with progress("reading photos", count) as done:
        decision = decide(model, listed, asked, witness, arch=original.stem, background=background_first, progress=done)
    adopted = model.adopt(decision.spec, decision.pixels)
    write_adopted(adopted, target)
    for line in adopted.notes.lines():
        click.echo(line)
    if model.reading.two_of_one:
        click.echo(f"labels: score below 0 is {listed.labels[0]!r}, above 0 is {listed.labels[1]!r}")
    click.echo(f"wrote {target}; next: {shell_command('evaluate', target, 'PHOTOS')}")


def _asked(
    normalize: str | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    crop_pct: float | None,
    bgr: bool | None,
) -> tuple[Asked, list[str]]:
    """What the options say of the preprocessing, and a line on how they were understood."""
    from edge_tl_export.adoption.measuring import Asked
    from edge_tl_export.adoption.preprocessing import PRESETS, figures
    from edge_tl_runtime.core.errors import UsageError

    if (mean is None) != (std is None):
        raise UsageError("--mean and --std belong together; give both, or --normalize with a name")
    if normalize is not None and mean is not None:
        raise UsageError("--normalize and --mean say the same thing twice; give one of them")
    order = None if bgr is None else "BGR" if bgr else "RGB"
    if normalize is not None:
        preset = PRESETS[normalize]
        order = order or ("BGR" if preset.order == "BGR" else None)
        return Asked(preset.normalization, order, crop_pct), [f"--normalize {normalize}: {preset.what}"]
    if mean is not None and std is not None:
        normalization, line = figures(mean, std)
        return Asked(normalization, order, crop_pct), [line]
    return Asked(None, order, crop_pct), []


def _labels(labels: str | None, loaded: LoadedFile, repeated: str) -> LabelList | None:
    """The labels, or None for numbers, whose count the graph knows. Raises UsageError where there are none."""
    from edge_tl_export.adoption.labels import LabelList, labels_of_metadata, read_labels
    from edge_tl_runtime.core.errors import UsageError

    if labels == "numbers":
        return None
    if labels == "imagenet":
        from edge_tl.models.weights import imagenet_labels

        return LabelList(imagenet_labels(), "ImageNet's 1000 classes in torchvision's order")
    if labels not in (None, "metadata"):
        return read_labels(Path(str(labels)), repeated)
    found = labels_of_metadata(loaded.metadata, repeated)
    if found is None:
        beside = _beside(Path(loaded.name))
        raise UsageError(
            f"{loaded.name} carries no labels; give --labels FILE, imagenet, or numbers where nobody knows them{beside}"
        )
    return found


def _beside(path: Path) -> str:
    """A file that may hold the labels, for the person to evaluate."""
    names: tuple[str, ...] = ("labels.txt", "classes.txt", "config.json", "labels.json", "imagenet_classes.txt")
    found: Any = next((path.parent / name for name in names if (path.parent / name).is_file()), None)
    return "" if found is None else f" ({found} lies beside it)"
