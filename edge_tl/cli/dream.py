"""`edge-tl dream MODEL --class C`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_tl.adversarial.settings import DreamSettings
from edge_tl.cli.console import percent, progress, say, table
from edge_tl.cli.options import options


@click.command(short_help="The picture that a model takes for the best of a class.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--class", "classes", multiple=True, required=True, help="A label, a word of one, or an index; repeatable."
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
@click.option("--photo", type=click.Path(path_type=Path), help="A photo to start from and to stay near.")
@options(DreamSettings)
@click.option("--json", "as_json", is_flag=True, help="Print the document as JSON.")
def command(
    model: Path, classes: tuple[str, ...], folder: Path, photo: Path | None, as_json: bool, **values: Any
) -> None:
    """Climb to the picture that MODEL, an ONNX file, takes for the best of a class, through INT8 too.

    The confidence is that of the file itself for the picture as it was written and read back. The control, climbed to with
    nothing that holds it to what pictures look like, shows how sure a model can be of noise.
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
