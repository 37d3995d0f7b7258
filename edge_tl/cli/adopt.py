"""`edge-tl adopt FILE.onnx -o OUT.onnx --labels LABELS`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_tl.cli.console import progress
from edge_tl.cli.options import options
from edge_tl_export.adoption.settings import AdoptSettings
from edge_tl_runtime.core.text import shell_command


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
    """Width and height of `224` or `320x240`."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise click.BadParameter("a side in pixels, as 224, or width x height, as 320x240")
    return int(parts[0]), int(parts[-1])


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
@options(AdoptSettings, "repeated_labels", "background_first", "normalize")
@click.option(
    "--mean", callback=_figures, help="Three numbers, instead of --normalize; of pixels in 0..1 or in 0..255."
)
@click.option("--std", callback=_figures, help="With --mean, in the same unit.")
@options(AdoptSettings, "crop_pct")
@click.option("--bgr/--rgb", default=None, help="Colour order that the network was trained with.  [default: rgb]")
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    help="Labelled photos. The usual preprocessings are tried on them and the best is taken; one that you give is compared. The "
    "file learns from them what to call unknown.",
)
@options(AdoptSettings, "count", "output")
@click.option(
    "--size", callback=_size, help="Input size, such as 224 or 320x240, if the file leaves height and width free."
)
@click.option(
    "--fix", multiple=True, callback=_fixed, metavar="NAME=NUMBER", help="Fix another input to a value; repeatable."
)
@options(AdoptSettings, "scores")
def command(
    original: Path,
    target: Path,
    bgr: bool | None,
    **values: Any,
) -> None:
    """Put pixels, crop, labels and a self-test into ORIGINAL, an ONNX classifier, so that every command here can take it.

    The answers stay the original's: both are run and compared before anything is written.
    """
    from edge_tl.api.adopting import adopt
    from edge_tl.api.reporter import Reporter

    order = None if bgr is None else "BGR" if bgr else "RGB"
    adopt(original, target, color_order=order, progress=Reporter(progress, click.echo), **values)
    click.echo(f"wrote {target}; next: {shell_command('evaluate', target, 'PHOTOS')}")
