"""`edge-tl dream MODEL --class C`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_tl.adversarial.settings import DreamSettings
from edge_tl.cli.console import percent, progress, say, table
from edge_tl.cli.options import options


@click.command(short_help="Make the picture that a model takes for the best example of a class.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--class",
    "classes",
    multiple=True,
    required=True,
    help="Class to show: a label, a word of a label, or an index; repeatable.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("dreams"),
    show_default=True,
    help="Folder for the pictures.",
)
@click.option("--photo", type=click.Path(path_type=Path), help="Start from this photo and stay close to it.")
@options(DreamSettings)
@click.option("--json", "as_json", is_flag=True, help="Print the document as JSON.")
def command(
    model: Path, classes: tuple[str, ...], folder: Path, photo: Path | None, as_json: bool, **values: Any
) -> None:
    """Make the picture that MODEL, an ONNX file (INT8 too), takes for the best example of a class.

    The confidence is the file's own, for the picture after it was written and read back. The control is made without the terms
    that keep it looking like a photo; it shows how sure a model can be of noise.
    """
    from edge_tl.adversarial.document import DREAMS_DOCUMENT
    from edge_tl.api.dreaming import dream
    from edge_tl.api.reporter import Reporter

    document = dream(model, classes, folder, photo=photo, progress=Reporter(progress, say), **values).document
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    rows = []
    for item in document["dreams"]:
        for name in ("start", "dream", "control"):
            if name in item:
                found = item[name]
                rank = f"{found['rank']} ({found['best']} first)" if found["rank"] > 1 else "1"
                rows.append([f"{item['label']}: {name}", f"{found['logit']:.2f}", percent(found["confidence"]), rank])
    table("", ["picture", "logit", "confidence", "rank"], rows)
    click.echo(
        f"wrote {', '.join(item['dream']['picture'] for item in document['dreams'])} and {DREAMS_DOCUMENT} in {folder}"
    )
