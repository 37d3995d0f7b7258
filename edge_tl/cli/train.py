"""`edge-tl train DATA -o RUN`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tl.cli.console import percent, progress, say, say_skipped, table


@click.command(short_help="Train a classifier on a folder of photos.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", required=True, type=click.Path(path_type=Path), help="Folder for the run.")
@click.option(
    "--arch", default="efficientnet_lite0", show_default=True, help="Backbone; timm/<name> for any of timm's."
)
@click.option("--weights", default="pretrained", show_default=True, help="pretrained, none, or a file.")
@click.option("--finetune", default=0, show_default=True, type=click.IntRange(0), help="Epochs after the linear probe.")
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1), help="For fine-tuning.")
@click.option("--learning-rate", default=1e-4, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option(
    "--val-fraction",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Held out of each class when DATA has no val folder.",
)
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda", "mps"]))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(data: Path, folder: Path, as_json: bool, **options: object) -> None:
    """Train on DATA: a folder with train/ and val/, or one folder, each with a sub-folder of photos for every class."""
    from edge_tl.train import TrainSettings, train

    result = train(data, folder, TrainSettings(**options), progress, say)  # type: ignore[arg-type]
    say_skipped(result.skipped)
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    low, high = result.evaluation.ci95
    origin = "the linear probe" if result.best == "probe" else result.best
    rows = [
        [row.label, str(row.n), percent(row.recall), percent(row.precision)] for row in result.evaluation.per_class[:50]
    ]
    table("", ["class", "val photos", "recall", "precision"], rows)
    click.echo(
        f"val top-1 {percent(result.evaluation.top1)} of {result.evaluation.n} photos "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}), from {origin}"
    )
    click.echo(f"run: {folder}")
    click.echo(f"next: edge-tl export {folder} --quantize")
